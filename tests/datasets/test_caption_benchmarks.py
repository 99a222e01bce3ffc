"""MMMU, AMBER and CHAIR from files in their authors' layouts (made here), and their official figures against cases counted by hand."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vseam_core.api.interfaces import Benchmark
from vseam_core.api.types import Answered, Sample
from vseam_core.errors import InvalidFileError
from vseam_core.testing import BenchmarkConformance
from vseam_plugins.benchmarks.amber import AmberBenchmark
from vseam_plugins.benchmarks.chair import ChairBenchmark, singular
from vseam_plugins.benchmarks.mmmu import MmmuBenchmark, mmmu_letter, open_parts, says

pyarrow = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402


def png(number: int) -> dict[str, Any]:
    held = io.BytesIO()
    Image.new("RGB", (3, 2), (number % 256, 9, 7)).save(held, "PNG")
    return {"bytes": held.getvalue(), "path": f"validation_{number}.png"}


def figures(benchmark: Benchmark, samples: Sequence[Sample], answers: Sequence[str]) -> Mapping[str, float | None]:
    return benchmark.metrics([Answered(sample, answer) for sample, answer in zip(samples, answers, strict=True)])


def mmmu(folder: Path, count: int) -> Path:
    """A folder for each subject, as the hub has them: choices as Python text, seven columns for images."""
    for subject in ("Accounting", "Art_Theory"):
        rows, more = [], "" if subject == "Accounting" else " Why?"
        for number in range(1, count + 1):
            kind = "open" if number % 4 == 0 else "multiple-choice"
            images = {f"image_{place}": None for place in range(1, 8)} | {"image_1": png(10 * number + len(subject))}
            if number % 5 == 0:
                images["image_2"] = png(number)
            rows.append(
                {
                    "id": f"validation_{subject}_{number}", "question": f"<image 1> What does line {number} say?" + more,
                    "options": "[]" if kind == "open" else "['it\\'s \"6\"', '$7', 'none']", "explanation": "", **images,
                    "img_type": "['Tables']", "answer": "['0.5', '1/2']" if kind == "open" else "ABC"[number % 3],
                    "topic_difficulty": "Easy", "question_type": kind, "subfield": "x",
                }
            )  # fmt: skip
        (folder / subject).mkdir(parents=True)
        parquet.write_table(pyarrow.Table.from_pylist(rows), folder / subject / "validation-00000-of-00001.parquet")
    return folder


class TestMmmu(BenchmarkConformance):
    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.path = mmmu(tmp_path / "mmmu", 60)

    def make(self) -> Benchmark:
        return MmmuBenchmark(questions=self.path)


def test_mmmu_asks_one_image_and_refuses_several_by_name(tmp_path: Path) -> None:
    benchmark = MmmuBenchmark(questions=mmmu(tmp_path / "mmmu", 6))
    samples = list(benchmark.samples("all"))
    assert [sample.category for sample in samples[::6]] == ["Accounting", "Art_Theory"]
    first, opened, several = samples[0], samples[3], samples[4]
    assert first.question == 'What does line 1 say?\n\n(A) it\'s "6"\n(B) $7\n(C) none\n'
    assert first.instruction.format(question=first.question).endswith(
        "(C) none\n\n\nAnswer with the option's letter from the given choices directly."
    )
    assert (first.answer, first.options) == ("B", ("A", "B", "C"))
    assert opened.instruction.endswith("single word or phrase.")
    assert (opened.answer, opened.form) == ("0.5", "open")
    assert "several images in one record (image_2)" in several.metadata["problem"]
    assert benchmark.judge(opened, "The answer is 1/2.")
    assert benchmark.judge(opened, "so it is 0.5")
    assert not benchmark.judge(opened, "It is 0.6")
    right = [sample.answer or "-" for sample in samples]
    usable = [index for index, sample in enumerate(samples) if "problem" not in sample.metadata]
    found = figures(benchmark, [samples[i] for i in usable], [right[i] if i < 6 else "Z" for i in usable])
    assert (found["mean_of_subjects"], found["unparsed"]) == (0.5, 4)


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"), ("(B)", "B"), ("B.", "B"), ("The answer is (A), not (C)", "C"), ("A or B", "B"), ("b", None),
        ("I think that the right one is green", "B"), ("green", None),
        ("it is red, or rather blue, I would say", "C"), ("'B'.", "B"), ("B.'", None),
    ],
)  # fmt: skip
def test_mmmu_reads_letters_as_its_authors_do(answer: str, letter: str | None) -> None:
    assert mmmu_letter(answer, ("red", "green", "blue")) == letter


def test_mmmu_reads_open_answers_as_its_authors_do() -> None:
    assert 1234.5 in open_parts("The total is 1,234.5")
    assert open_parts("I cannot tell") == ["i cannot tell"]
    assert says("Therefore x = 24.333", ["24.33"])
    assert not says("Therefore x = 24.34", ["24.33"])
    assert says("so the final answer is a Doric order", ["doric"])
    assert not says("B", ["a"])
    assert says("the value of a is 3", ["3"])


def amber(folder: Path, count: int) -> Path:
    """Questions and, in the folder above, the annotations of all parts, numbered through."""
    kinds = ("hallucination", "attribute-state", "attribute-number", "attribute-action", "relation")
    truths = [{"id": 1, "type": "generative", "truth": ["sky"], "hallu": ["cloud"]}]
    queries = []
    for number in range(2, count + 2):
        kind = kinds[number % 5]
        queries.append({"id": number, "image": f"AMBER_{number}.jpg", "query": f"Is there a thing {number}?"})
        truths.append(
            {"id": number, "type": f"discriminative-{kind}" if kind != "relation" else "relation", "truth": "yes" if number % 2 else "no"}
        )
    (folder / "query").mkdir(parents=True)
    (folder / "annotations.json").write_text(json.dumps(truths), encoding="utf-8")
    (folder / "query" / "query_discriminative.json").write_text(json.dumps(queries), encoding="utf-8")
    return folder / "query" / "query_discriminative.json"


class TestAmber(BenchmarkConformance):
    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.path = amber(tmp_path, 90)

    def make(self) -> Benchmark:
        return AmberBenchmark(questions=self.path)


def test_amber_counts_no_as_positive_and_reads_nothing_but_yes_and_no(tmp_path: Path) -> None:
    benchmark = AmberBenchmark(questions=amber(tmp_path, 5))
    samples = list(benchmark.samples("all"))
    assert [sample.category for sample in samples] == ["number", "action", "relation", "existence", "state"]
    assert [sample.answer for sample in samples] == ["No", "Yes", "No", "Yes", "No"]
    found = figures(benchmark, samples, ["No", "No", "Yes", "Yes", "No."])
    # Two say No, one of them rightly; of three whose answer is no, one is found: "No." is neither word.
    assert (found["precision"], found["recall"], found["unparsed"]) == (0.5, pytest.approx(1 / 3), 1)
    assert found["f1"] == pytest.approx(2 * 0.5 / 3 / (0.5 + 1 / 3 + 0.0001))
    assert not benchmark.judge(samples[4], "No.")
    assert AmberBenchmark(questions=benchmark.question_path(), judge="lmms-eval").judge(samples[4], "No.")
    generative = tmp_path / "query" / "query_generative.json"
    generative.write_text(json.dumps([{"id": 1, "image": "AMBER_1.jpg", "query": "Describe this image."}]), encoding="utf-8")
    with pytest.raises(InvalidFileError, match="query_discriminative"):
        list(AmberBenchmark(questions=generative).samples("all"))


SYNONYMS = (
    "person, man, woman, people, child", "dog, puppy", "dining table, table", "wine glass", "train", "toilet",
    "chair, seat", "bus", "tie", "bird",
)  # fmt: skip


def coco(folder: Path, count: int) -> dict[str, Path]:
    """Captions and instances as COCO writes them, and a list of synonyms in the authors' layout."""
    images = [{"id": number, "file_name": f"COCO_val2014_{number:012d}.jpg"} for number in range(1, count + 1)]
    captions = [{"image_id": number % count + 1, "id": number, "caption": f"A woman beside bus {number}."} for number in range(2 * count)]
    instances = [{"image_id": number, "category_id": 18, "id": number} for number in range(1, count + 1, 2)]
    files = {
        "questions": {"images": images, "annotations": captions},
        "instances": {"images": images, "annotations": instances, "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}]},
    }
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "synonyms.txt").write_text("\n".join(SYNONYMS) + "\n", encoding="utf-8")
    return {name: folder / f"{name}.json" for name in files} | {"synonyms": folder / "synonyms.txt"}


class TestChair(BenchmarkConformance):
    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.files = coco(tmp_path, 90)

    def make(self) -> Benchmark:
        return ChairBenchmark(**self.files)


def test_chair_counts_what_a_caption_makes_up(tmp_path: Path) -> None:
    benchmark = ChairBenchmark(**coco(tmp_path, 2))
    first, second = sorted(benchmark.samples("all"), key=lambda sample: sample.question_id)
    assert first.metadata["objects"] == ("bus", "dog", "person")  # the dog by the instances, the others by the captions
    assert second.metadata["objects"] == ("bus", "person")
    assert first.question == "Please describe this image in detail."
    answers = ["Two women and a puppy wait for the buses.", "A man with a dog, a dog and wine glasses on the tables."]
    assert [benchmark.named(text) for text in answers] == [["person", "dog", "bus"], ["person", "dog", "dog", "wine glass", "dining table"]]
    assert benchmark.made_up(second, answers[1]) == ["dog", "dog", "wine glass", "dining table"]
    found = figures(benchmark, [first, second], answers)
    assert (found["chair_s"], found["chair_i"]) == (0.5, 4 / 8)
    assert found["recall"] == 4 / 5
    assert [benchmark.judge(*each) for each in zip((first, second), answers, strict=True)] == [True, False]


@pytest.mark.parametrize(
    ("caption", "objects"),
    [
        ("a passenger train", ["train"]), ("a baby bird sits", ["bird"]), ("a toilet seat is up", ["toilet"]), ("a bow tie", ["tie"]),
        ("children and people", ["person", "person"]), ("the seat, toilet", ["toilet"]), ("a wine. glass", []), ("nothing at all", []),
    ],
)  # fmt: skip
def test_chair_s_rules_for_words_that_mean_something_else_together(caption: str, objects: list[str], tmp_path: Path) -> None:
    assert ChairBenchmark(**coco(tmp_path, 1)).named(caption) == objects


def test_chair_says_which_of_its_files_is_missing(tmp_path: Path) -> None:
    files = coco(tmp_path, 2)
    with pytest.raises(InvalidFileError, match=r"synonyms file is not there.*LisaAnne"):
        list(ChairBenchmark(questions=files["questions"], instances=files["instances"]).samples("all"))
    with pytest.raises(InvalidFileError, match="expected COCO's instances"):
        list(ChairBenchmark(**{**files, "instances": files["synonyms"]}).samples("all"))
    with pytest.raises(InvalidFileError, match="expected COCO's captions"):
        list(ChairBenchmark(**{**files, "questions": files["synonyms"]}).samples("all"))
    assert [singular(word) for word in ("dogs", "glass", "buses", "people")] == ["dog", "glass", "bus", "person"]
