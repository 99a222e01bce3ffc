"""AMBER's generative part from files in its authors' layout (made here): the rule of their script against cases counted by hand."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from vseam_core.api.interfaces import Benchmark
from vseam_core.api.types import Answered, Sample
from vseam_core.errors import InvalidFileError, PluginError
from vseam_core.testing import BenchmarkConformance
from vseam_plugins.benchmarks import amber_generative
from vseam_plugins.benchmarks.amber import AmberBenchmark
from vseam_plugins.benchmarks.amber_generative import AmberDescriptions, NounsAndVectors

RELATIONS = {
    "sky": [], "man": ["person", "boy"], "ship": ["boat", "vessel"], "lake": ["water"], "cloud": [], "bird": ["bill"], "sun": [],
    "car": ["light"], "dog": [], "puppy": [], "child": ["boy"], "tree": ["leave"],
}  # fmt: skip
NOUNS = {"men": "man", "boats": "boat", "ships": "ship", "clouds": "cloud", "dogs": "dog", "birds": "bird", "lights": "light"}
OTHERS = ("a", "the", "and", "leave", "of")
ALIKE = {frozenset(pair) for pair in (("puppy", "dog"), ("vessel", "car"), ("tree", "bird"), ("tree", "sky"))}


class TableOfWords:
    """What a tagger and word vectors say about the few words of these tests."""

    def nouns(self, text: str) -> list[str]:
        return [NOUNS.get(word, word) for word in text.replace(",", "").rstrip(".").split() if word not in OTHERS]

    def alike(self, one: str, other: str) -> bool:
        return one == other or frozenset((one, other)) in ALIKE


def amber(folder: Path, count: int) -> Path:
    """Queries, in the folder above their annotations (beside those of another part), the words of each thing, and the safe words."""
    truths = [
        {"id": number, "type": "generative", "truth": ["sky", "man", "ship", "ship", "lake"], "hallu": ["cloud", "dog", "car"]}
        for number in range(1, count + 1)
    ]
    other = {"id": count + 1, "type": "relation", "truth": "yes"}
    queries = [{"id": one["id"], "image": f"AMBER_{one['id']}.jpg", "query": "Describe this image."} for one in (*truths, other)]
    (folder / "query").mkdir(parents=True)
    for name, content in (("annotations", [*truths, other]), ("relation", RELATIONS), ("query/query_generative", queries)):
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "safe_words.txt").write_text("orange\nlight", encoding="utf-8")
    return folder / "query" / "query_generative.json"


def described(folder: Path, count: int) -> tuple[AmberDescriptions, list[Sample]]:
    """The benchmark with the table of words, and its samples."""
    benchmark = AmberDescriptions(questions=amber(folder, count))
    benchmark.words = TableOfWords()
    return benchmark, list(benchmark.samples("all"))


class TestAmberDescriptions(BenchmarkConformance):
    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = amber(tmp_path, 90)
        monkeypatch.setattr(amber_generative, "NounsAndVectors", lambda vectors: TableOfWords())

    def make(self) -> Benchmark:
        return AmberDescriptions(questions=self.path)


def test_only_generative_queries_are_asked_and_the_other_part_says_where_these_are(tmp_path: Path) -> None:
    benchmark, samples = described(tmp_path, 3)
    assert [(sample.question_id, sample.image_id) for sample in samples] == [("1", "AMBER_1"), ("2", "AMBER_2"), ("3", "AMBER_3")]
    assert (samples[0].question, samples[0].instruction, samples[0].form) == ("Describe this image.", "{question}", "open")
    assert (samples[0].answer, samples[0].competitor) == ("sky, man, ship, ship, lake", None)
    with pytest.raises(InvalidFileError, match="which the dataset amber/generative asks"):
        list(AmberBenchmark(questions=benchmark.question_path()).samples("all"))


# What a description names, what of it is made up, how many of five things it covers, how many of three likely hallucinations it names.
# fmt: off
CASES = [
    ("the sky and a man", ["sky", "man"], [], 2, 0),
    ("a boy, two boats and water", ["boy", "boat", "water"], [], 3, 0),  # by the words that stand for things
    ("ships and a ship", ["ship", "ship"], [], 1, 0),  # the second ship of the annotation is never covered
    ("clouds and a dog", ["cloud", "dog"], ["cloud", "dog"], 0, 2),
    ("a puppy", ["puppy"], ["puppy"], 0, 1),  # like a likely dog, like nothing that is there
    ("the bird", ["bird"], ["bird"], 0, 0),
    ("lights", ["light"], [], 0, 0),  # a safe word, though "car" has it: it counts as named and as nothing else
    ("a tree", ["tree"], [], 1, 0),  # like the sky, which is there
    ("a car and the vessel", ["car", "vessel"], [], 1, 1),  # a likely car, yet like a word for the ship that is there
    ("Sky", [], [], 0, 0),  # with a capital it is not of the list
    ("leave the zebra", [], [], 0, 0),  # no noun, and a noun that is not of the list
    ("", [], [], 0, 0),
]
# fmt: on


@pytest.mark.parametrize(("text", "named", "made_up", "covered", "expected"), CASES)
def test_a_description_is_counted_as_by_hand(
    text: str, named: list[str], made_up: list[str], covered: int, expected: int, tmp_path: Path
) -> None:
    benchmark, samples = described(tmp_path, 1)
    found = benchmark.described(samples[0], text)
    assert (list(found.named), list(found.made_up), found.covered, found.expected) == (named, made_up, covered, expected)
    assert (found.there, found.likely) == (5, 3)
    assert benchmark.judge(samples[0], text) == (bool(named) and not made_up)


def test_the_figures_are_sums_over_descriptions(tmp_path: Path) -> None:
    benchmark, samples = described(tmp_path, 3)
    texts = ("the sky and a man", "clouds and a dog, boats", "")
    found = benchmark.metrics([Answered(sample, text) for sample, text in zip(samples, texts, strict=True)])
    assert found == {"chair": 2 / 5, "cover": 3 / 15, "hal": 1 / 3, "cog": 2 / 9}
    assert benchmark.metrics([Answered(samples[0], "")])["chair"] is None
    assert benchmark.metrics([]) == {}


def test_files_that_are_missing_or_other_ones_are_named(tmp_path: Path) -> None:
    benchmark, samples = described(tmp_path, 1)
    (tmp_path / "relation.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(InvalidFileError, match="a list of words for each thing"):
        benchmark.described(samples[0], "the sky")
    (tmp_path / "safe_words.txt").unlink()
    with pytest.raises(InvalidFileError, match=r"its safe_words file is not there.*AMBER"):
        assert benchmark.safe_words
    (tmp_path / "annotations.json").write_text('[{"id": 1, "type": "generative", "truth": []}]', encoding="utf-8")
    (empty,) = AmberDescriptions(questions=benchmark.question_path()).samples("all")
    assert "nothing is annotated" in empty.metadata["problem"]


def test_a_description_is_judged_by_installed_packages_or_the_line_says_which() -> None:
    if all(map(importlib.util.find_spec, ("nltk", "spacy"))):
        with pytest.raises(PluginError, match="python -m spacy download nowhere"):
            NounsAndVectors("nowhere")
    else:
        with pytest.raises(PluginError, match=r"pip install 'vseam\[amber\]'"):
            NounsAndVectors("nowhere")


@pytest.fixture
def vectors(tmp_path: Path) -> str:
    """A spaCy package with the vectors of three words, saved as spaCy saves packages."""
    spacy = pytest.importorskip("spacy")
    import numpy as np

    pipeline = spacy.blank("en")
    for word, vector in (("dog", (1.0, 0.0)), ("puppy", (0.9, 0.3)), ("sky", (0.0, 1.0))):
        pipeline.vocab.set_vector(word, np.array(vector, dtype=np.float32))
    pipeline.to_disk(tmp_path / "vectors")
    return str(tmp_path / "vectors")


def test_words_are_alike_whose_vectors_have_a_cosine_above_the_authors_threshold(vectors: str) -> None:
    pytest.importorskip("nltk")
    words = NounsAndVectors(vectors)
    assert words.alike("dog", "puppy")  # 0.9 / sqrt(0.9)
    assert not words.alike("puppy", "sky")  # 0.3 / sqrt(0.9)
    assert words.alike("zebra", "zebra")
    assert not words.alike("zebra", "dog")


def test_nouns_are_those_of_the_tagger_as_lemmas(vectors: str) -> None:
    nltk = pytest.importorskip("nltk")
    words = NounsAndVectors(vectors)
    try:
        nltk.data.find("taggers/averaged_perceptron_tagger_eng")
    except LookupError:
        with pytest.raises(PluginError, match=r"python -m nltk\.downloader punkt_tab"):
            words.nouns("Two dogs leave.")
        return
    assert words.nouns("Two dogs leave the boats under a blue sky.") == ["dog", "boat", "sky"]
