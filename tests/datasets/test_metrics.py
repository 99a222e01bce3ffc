"""Official answer rules and metrics against cases worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sklearn.metrics import accuracy_score, f1_score

from vseam_core.api.interfaces import Benchmark
from vseam_core.api.types import Answered, Sample
from vseam_core.datasets.answer_rules import pope_official, yes_or_no
from vseam_core.datasets.answers import other_word
from vseam_core.datasets.vqa_accuracy import normalise_vqa, vqa_accuracy
from vseam_plugins.benchmarks.cocoqa import CocoQaBenchmark
from vseam_plugins.benchmarks.gqa import GqaBenchmark
from vseam_plugins.benchmarks.mme import MmeBenchmark
from vseam_plugins.benchmarks.pope import PopeBenchmark


def sample(answer: str, identifier: str = "1", image: str = "1", category: str = "x", **metadata: object) -> Sample:
    from vseam_core.datasets.images import MissingImage

    return Sample(
        f"d/{identifier}", "d", identifier, image, MissingImage(""), "?", answer, None, "object", category, "test", metadata=metadata
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "official", "strict"),
    [
        ("Yes", "yes", "yes"),
        ("no", "no", "no"),
        ("No, there is not.", "no", "no"),
        ("There is not a dog. Yes.", "no", None),
        ("Yes. No.", "yes", "yes"),
        ("NO", "yes", "no"),
        ("I cannot say", "yes", None),
        ("nothing", "yes", None),
        ("", "yes", None),
    ],
)
def test_pope_reads_answers_as_its_authors_do_or_strictly(text: str, official: str, strict: str | None) -> None:
    assert (pope_official(text), yes_or_no(text)) == (official, strict)


def test_pope_figures_are_those_of_its_definition_and_of_scikit_learn() -> None:
    gold = ["yes"] * 5 + ["no"] * 5
    said = ["Yes", "yes", "Yes.", "No", "no", "No", "no", "not there", "Yes", "perhaps"]
    answered = [Answered(sample(answer, str(number)), text) for number, (answer, text) in enumerate(zip(gold, said, strict=True))]
    benchmark = PopeBenchmark("random")
    found = benchmark.metrics(answered)
    # Said yes: 3 of 5 gold yes, 2 of 5 gold no (the answer "perhaps" counts as yes).
    assert found == {"precision": 3 / 5, "recall": 3 / 5, "f1": pytest.approx(3 / 5), "yes_ratio": 0.5, "unparsed": 2.0}
    read = [benchmark.read(text) for text in said]
    assert found["f1"] == pytest.approx(f1_score(gold, read, pos_label="yes"))
    assert sum(benchmark.judge(item.sample, item.text) for item in answered) / 10 == accuracy_score(gold, read)
    strict = PopeBenchmark("random", reading="strict")
    assert strict.metrics(answered)["yes_ratio"] == 0.4
    assert not strict.judge(answered[-1].sample, "perhaps")
    only_no = strict.metrics([Answered(sample("no"), "no")])
    assert (only_no["precision"], only_no["recall"], only_no["f1"]) == (None, None, None)


@pytest.mark.parametrize(
    ("answer", "references", "expected"),
    [
        ("cat", ["cat"] * 10, 1.0),
        ("cat", ["cat"] * 3 + ["dog"] * 7, 0.9),
        ("cat", ["cat"] * 2 + ["dog"] * 8, 0.6),
        ("cat", ["cat"] + ["dog"] * 9, 0.3),
        ("cow", ["cat"] * 5 + ["dog"] * 5, 0.0),
        ("two", ["2"] * 9 + ["3"], 1.0),
        ("2", ["two"] * 10, 0.0),  # all references agree: nothing is normalised
        ("two", ["two"] * 8 + ["2"] * 2, 1.0),
        ("the dog", ["the dog"] * 9 + ["dog"], 1.0),
        ("don't walk", ["dont walk"] * 7 + ["walk"] * 3, 1.0),
        ("no", ["No"] * 7 + ["no"] * 3, 1.0),
        ("Yes", ["Yes"] * 10, 1.0),
        ("yes", ["Yes."] * 10, 1.0),
        ("yes", ["yes"], 1.0),
        ("yes", ["yes"] * 2, 1.0),
        ("Yes.", ["yes"] * 3, 1.0),
        ("2", ["two", "three"], 1.0),
        ("no", ["yes"] * 3, 0.0),
        ("the dog", ["dog"] * 8 + ["a dog"] * 2, 1.0),
        ("", [], 0.0),
    ],
)
def test_vqa_accuracy_is_the_mean_over_leave_one_out_sets(answer: str, references: list[str], expected: float) -> None:
    assert vqa_accuracy(answer, references) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The dog!", "dog"), ("two dogs", "2 dogs"), ("dont know", "don't know"), ("1,000", "1000"), ("red/blue", "red blue"),
        ("3.5", "3.5"), ("a. b", "b"), ("none", "0"), ("isnt it", "isn't it"), ("red-blue", "red blue"),
    ],
)  # fmt: skip
def test_vqa_answers_are_normalised_as_officially(text: str, expected: str) -> None:
    assert normalise_vqa(text) == expected


@pytest.mark.parametrize(("answer", "other"), [("Yes", "No"), ("no", "yes"), ("NO", "YES"), ("yes ", "no"), ("maybe", None), ("", None)])
def test_the_other_word_is_written_as_the_answer_is(answer: str, other: str | None) -> None:
    assert other_word(answer) == other


def test_gqa_is_matched_exactly_in_lower_case_and_consistency_needs_entailed_questions() -> None:
    benchmark = GqaBenchmark("color")
    assert benchmark.judge(sample("Yes"), " yes. ")
    assert not benchmark.judge(sample("Yes"), "yes it is")
    assert benchmark.metrics([Answered(sample("Yes"), "yes")]) == {"consistency": None, "validity": None, "plausibility": None}
    items = [
        Answered(sample("Yes", "1", entailed=["2", "3", "9"]), "yes"),
        Answered(sample("No", "2", entailed=[]), "no"),
        Answered(sample("red", "3", entailed=["1"]), "blue"),
    ]
    # Question 1 is right and entails 2 (right) and 3 (wrong) of those asked; 3 is wrong and does not count.
    assert benchmark.metrics(items)["consistency"] == 0.5


def test_mme_counts_images_with_both_answers_right() -> None:
    benchmark = MmeBenchmark()
    items = [
        Answered(sample("Yes", "a", "1", "color"), "Yes"), Answered(sample("No", "b", "1", "color"), "No, it is not"),
        Answered(sample("Yes", "c", "2", "color"), "Yes"), Answered(sample("No", "d", "2", "color"), "yes"),
        Answered(sample("Yes", "e", "3", "count"), "maybe"), Answered(sample("No", "f", "3", "count"), "no"),
    ]  # fmt: skip
    assert benchmark.metrics(items) == {
        "mme_score": pytest.approx(100 * (0.75 + 0.5 + 0.5 + 0.0)),
        "accuracy color": 0.75, "accuracy+ color": 0.5, "accuracy count": 0.5, "accuracy+ count": 0.0,
    }  # fmt: skip


def test_wups_is_null_without_wordnet_and_follows_wu_palmer_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from vseam_plugins.benchmarks import cocoqa

    class Sense:
        def __init__(self, depth: float):
            self.depth = depth

        def wup_similarity(self, other: Sense) -> float:
            return min(self.depth, other.depth)

    class WordNet:
        def synsets(self, word: str, pos: str) -> list[Sense]:
            return {"dog": [Sense(0.95), Sense(0.1)], "puppy": [Sense(0.92)], "car": [Sense(0.3)]}.get(word, [])

    benchmark = CocoQaBenchmark("location")
    items = [Answered(sample("dog"), text) for text in ("Dog.", "puppy", "car", "unheard")]
    monkeypatch.setattr(cocoqa, "_wordnet", lambda: None)
    assert benchmark.metrics(items) == {"wups_0.9": None, "wups_0.0": None}
    monkeypatch.setattr(cocoqa, "_wordnet", WordNet)
    cocoqa._similarity.cache_clear()
    found = benchmark.metrics(items)
    cocoqa._similarity.cache_clear()
    assert found["wups_0.0"] == pytest.approx((1 + 0.92 + 0.3 + 0) / 4)
    assert found["wups_0.9"] == pytest.approx((1 + 0.92 + 0.03 + 0) / 4)


def test_a_benchmark_without_a_rule_of_its_own_scores_right_and_wrong(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_text(json.dumps([{"question_id": "1", "imageId": "1", "question": "Is it?", "answer": "Yes"}]))
    benchmark: Benchmark = GqaBenchmark("color", questions=file)
    (one,) = benchmark.samples("all")
    assert (benchmark.score(one, "Yes"), benchmark.score(one, "No")) == (1.0, 0.0)
