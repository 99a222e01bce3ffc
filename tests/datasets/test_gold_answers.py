"""Gold answers as files hold them: typed values, several references, options; what is no answer is said, never turned into text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vseam_core.api.types import Sample
from vseam_core.datasets.answers import gold_answer, normal_answer, other_word
from vseam_core.datasets.checking import check_dataset
from vseam_core.datasets.records import read_records
from vseam_core.errors import SampleError, VseamError
from vseam_core.experiments.encoding import ask
from vseam_core.plugins.discovery import build_plugins
from vseam_core.plugins.registry import Registry
from vseam_plugins.benchmarks.gqa import GqaBenchmark
from vseam_plugins.benchmarks.mme import MmeBenchmark
from vseam_plugins.benchmarks.pope import PopeBenchmark
from vseam_plugins.benchmarks.table import TableBenchmark
from vseam_plugins.benchmarks.vqa import VqaBenchmark


def written(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8", newline="")
    return path


def own(path: Path, *rows: dict[str, Any], **options: Any) -> list[Sample]:
    """The samples of a table with these rows; one of them has image "1"."""
    whole = [{"question": "Is it red?", "image": "1", **row} for row in rows]
    return list(TableBenchmark(questions=written(path / "own.json", whole), **options).samples("all"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Yes.", "Yes"), (" Purple. ", "Purple"), ("U.S.", "U.S."), (True, "yes"), (False, "no"), (3, "3"), (3.0, "3"), (2.5, "2.5"),
        ("1", "1"),
    ],
)  # fmt: skip
def test_a_gold_answer_is_the_text_that_it_means(value: Any, expected: str) -> None:
    assert gold_answer(value) == expected


@pytest.mark.parametrize("value", [1, "1", "true", "True", 1.0, True, "1.0"])
def test_one_and_true_are_yes_in_a_yes_no_benchmark(value: Any) -> None:
    assert gold_answer(value, yes_no=True) == "yes"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "missing"),
        (float("nan"), "the number nan"),
        (float("inf"), "inf"),
        (["yes"], "a list"),
        ({"a": 1}, "an object"),
        ("", "empty"),
    ],
)
def test_what_is_no_answer_is_refused_with_the_reason(value: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        gold_answer(value)


@pytest.mark.parametrize(("answer", "other"), [("Yes.", "No"), ("no.", "yes"), ("YES", "NO")])
def test_a_full_stop_hides_no_yes(answer: str, other: str) -> None:
    assert (other_word(answer), normal_answer(answer)) == (other, normal_answer(answer.rstrip(".")))


def test_a_gold_answer_with_a_full_stop_is_judged_like_one_without(tmp_path: Path) -> None:
    yes, purple, boolean = own(tmp_path, {"answer": "Yes."}, {"answer": "Purple."}, {"answer": True})
    benchmark = TableBenchmark(questions=tmp_path / "own.json")
    assert [(one.answer, one.form, one.competitor) for one in (yes, purple, boolean)] == [
        ("Yes", "yes_no", "No"), ("Purple", "open", None), ("yes", "yes_no", "no"),
    ]  # fmt: skip
    assert benchmark.judge(yes, "yes")
    assert benchmark.judge(purple, "purple.")
    assert benchmark.judge(boolean, "Yes")


def test_records_without_an_answer_are_unusable_and_counted_with_the_reason(tmp_path: Path) -> None:
    rows = [{"answer": "yes"}, {"answer": float("nan")}, {"answer": ["yes", "no"]}, {"answer": None}, {"answer": ""}]
    samples = own(tmp_path, *rows)
    found = check_dataset(samples)
    assert found.problems["unusable records"].count == 4
    reasons = " ".join(what for _, what in found.problems["unusable records"].examples)
    for said in ("the number nan", "a list", "missing", "is empty"):
        assert said in reasons
    for sample, reason in zip(samples[1:], ("nan", "a list", "missing", "is empty"), strict=True):
        with pytest.raises(SampleError, match=reason):
            sample.image.load()


def test_zeros_and_ones_answer_yes_no_benchmarks_and_a_table_that_says_so(tmp_path: Path) -> None:
    line = {"question_id": 1, "image": "COCO_val2014_000000000042.jpg", "text": "Is there a dog in the image?"}
    pope = written(tmp_path / "p.json", [line | {"label": value} for value in (1, 0, True, "no", "maybe")])
    samples = list(PopeBenchmark("random", questions=pope).samples("all"))
    assert [sample.answer for sample in samples] == ["yes", "no", "yes", "no", ""]
    assert "'maybe' is neither yes nor no" in samples[-1].metadata["problem"]
    gqa = written(tmp_path / "g.json", [{"question_id": "1", "image_id": "7", "question": "Is it red?", "answer": 0}])
    (sample,) = GqaBenchmark("color", questions=gqa).samples("all")
    assert (sample.answer, sample.image_id) == ("no", "7")
    assert [one.answer for one in own(tmp_path, {"answer": 1}, {"answer": 0})] == ["1", "0"]
    assert [one.answer for one in own(tmp_path, {"answer": 1}, {"answer": 0}, yes_no=True)] == ["yes", "no"]


def test_answers_as_json_text_are_a_list(tmp_path: Path) -> None:
    words = ["cat"] * 7 + ["dog"] * 3
    rows = [
        {"question_id": 1, "image": "1", "question": "What?", "answers": json.dumps(words)},
        {"question_id": 2, "image": "1", "question": "What?", "answers": json.dumps([{"answer": word} for word in words])},
        {"question_id": 3, "image": "1", "question": "What?", "answers": "cat"},
        {"question_id": 4, "image": "1", "question": "What?", "answers": "['cat', 'dog']"},
        {"question_id": 5, "image": "1", "question": "What?", "answers": [None] * 10},
    ]
    benchmark = VqaBenchmark("textvqa", questions=written(tmp_path / "v.json", rows))
    first, second, third, fourth, fifth = benchmark.samples("all")
    assert (first.answer, second.answer, third.answer) == ("cat", "cat", "cat")
    assert benchmark.score(first, "dog") == benchmark.score(second, "dog") == pytest.approx(0.9)
    assert benchmark.score(third, "cat") == 1.0
    assert "begins as a JSON list and is none" in fourth.metadata["problem"]
    assert "answers: one is missing" in fifth.metadata["problem"]


def test_ten_times_yes_is_answered_right_by_yes(tmp_path: Path) -> None:
    row = {"question_id": 1, "image": "1", "question": "Is it?", "answers": ["Yes"] * 10}
    benchmark = VqaBenchmark("textvqa", questions=written(tmp_path / "v.json", [row]))
    (sample,) = benchmark.samples("all")
    for answer, right in (("Yes", True), ("yes", True), ("Yes.", True), ("No", False)):
        assert (benchmark.judge(sample, answer), benchmark.score(sample, answer)) == (right, float(right)), answer


def test_a_most_frequent_answer_is_counted_whatever_its_case(tmp_path: Path) -> None:
    row = {"question_id": 1, "image": "1", "question": "Is it?", "answers": ["No"] * 3 + ["no"] * 3 + ["yes"] * 4}
    (sample,) = VqaBenchmark("textvqa", questions=written(tmp_path / "v.json", [row])).samples("all")
    assert (sample.answer, sample.competitor) == ("No", "Yes")


def test_pope_as_the_hub_has_it_is_read(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    Image.new("RGB", (8, 6), "red").save(tmp_path / "x.png")
    image = {"bytes": (tmp_path / "x.png").read_bytes(), "path": None}
    row = {"question_id": "1", "question": "Is there a dog in the image?", "answer": "yes", "image_source": "COCO_val2014_000000000042"}
    rows = [row | {"image": image, "category": category} for category in ("random", "popular")]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "pope.parquet")
    (sample,) = PopeBenchmark("random", questions=tmp_path / "pope.parquet").samples("all")
    assert (sample.question_id, sample.answer, sample.image.load().size) == ("42-dog", "yes", (8, 6))
    assert sample.image_id == "COCO_val2014_000000000042"


def test_line_ends_are_those_of_the_format_and_others_are_data(tmp_path: Path) -> None:
    text = "Is\u2028it\u0085red\u000b?"
    lines = written(tmp_path / "l.json", "".join(json.dumps({"question": text}, ensure_ascii=False) + "\r\n" for _ in range(2)))
    table = written(tmp_path / "t.csv", f'question,answer\r\n{text},yes\r\n"{text}",no\r\n')
    for file in (lines, table):
        assert [record.fields["question"] for record in read_records(file)] == [text, text], file.name
    mme = tmp_path / "mme" / "color"
    mme.mkdir(parents=True)
    written(mme / "1.txt", f"{text}\tYes\n{text}\tNo\n")
    assert [sample.question for sample in MmeBenchmark(questions=tmp_path / "mme").samples("all")] == [text, text]


@pytest.mark.parametrize(
    ("fields", "letter"),
    [
        ({"options": ["red", "blue"], "answer": "B"}, "B"),
        ({"options": '["red", "blue"]', "answer": "blue"}, "B"),
        ({"choices": "['red', 'blue']", "answer": 1}, "B"),
        ({"A": "red", "B": "blue", "C": None, "answer": "(b)"}, "B"),
        ({"choice_a": "red", "choice_b": "blue", "answer": "B"}, "B"),
    ],
)
def test_the_options_of_a_multiple_choice_question_are_asked(tmp_path: Path, fields: dict[str, Any], letter: str) -> None:
    (sample,) = own(tmp_path, {"question": "What colour is it?", **fields})
    assert (sample.answer, sample.competitor) == (letter, "A")
    assert sample.question.splitlines()[:3] == ["What colour is it?", "A. red", "B. blue"]
    benchmark = TableBenchmark(questions=tmp_path / "own.json")
    for answer, right in (
        ("B", True),
        ("(b)", True),
        ("B. blue", True),
        ("Blue.", True),
        ("A", False),
        ("red", False),
        ("", False),
        ("both", False),
    ):
        assert benchmark.judge(sample, answer) is right, answer


def test_options_that_cannot_be_asked_are_refused_with_the_reason(tmp_path: Path) -> None:
    rows = [
        {"options": ["red", "blue"], "answer": "green"}, {"options": ["red"], "answer": "A"}, {"options": ["b", "a"], "answer": "a"},
    ]  # fmt: skip
    problems = [sample.metadata.get("problem", "") for sample in own(tmp_path, *rows)]
    for problem, reason in zip(problems, ("none of the options", "2 to 26 different options", "by its text, another by"), strict=True):
        assert reason in problem
    record = {"question_id": "1", "imageId": "1", "question": "What?", "answer": "A", "options": ["red", "blue"]}
    (sample,) = GqaBenchmark(questions=written(tmp_path / "g.json", [record])).samples("all")
    assert "multiple choice" in sample.metadata["problem"]


@pytest.mark.parametrize("fields", [{"image": ["1", "2"]}, {"image": '["1", "2"]'}, {"image": None, "image_1": "1", "image_2": "2"}])
def test_several_images_in_one_record_are_one_clear_line(tmp_path: Path, fields: dict[str, Any]) -> None:
    (sample,) = own(tmp_path, {"answer": "yes", **fields})
    assert "a question is asked about one image" in sample.metadata["problem"]


def test_a_list_of_one_image_is_that_image(tmp_path: Path) -> None:
    (sample,) = own(tmp_path, {"answer": "yes", "image": ["7.png"]})
    assert sample.image_id == "7"


def test_fields_of_another_kind_make_one_record_unusable_not_the_dataset(tmp_path: Path) -> None:
    record = {"question_id": "1", "imageId": "1", "question": "Is it red?", "answer": "yes"}
    bad = [
        {"object_positions": 3},
        {"annotations": ["x"]},
        {"question": ["a"]},
        {"involved_objects": "dog"},
        {"annotations": {"question": "x"}},
    ]
    rows = [record, *(record | one for one in bad), record | {"types": "attr"}]
    graphs = written(tmp_path / "graphs.json", {"1": {"objects": {}}})
    samples = list(GqaBenchmark(questions=written(tmp_path / "g.json", rows), scene_graphs=graphs).samples("all"))
    assert ["problem" in sample.metadata for sample in samples] == [False, True, True, True, True, True, False]
    assert (samples[-1].level, samples[-1].category) == ("attribute", "attr")


def test_an_unusable_record_is_skipped_with_its_true_reason(tmp_path: Path) -> None:
    (sample,) = own(tmp_path, {"answer": ["yes"]})
    nobody: Any = None  # the model is not asked
    with pytest.raises(SampleError, match="is a list, not a text or a number"):
        ask(nobody, sample)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"imagse": "x"}, "unknown option 'imagse'; did you mean 'images'"),
        ({"questions": 3}, "option questions is 3, expected a path or null"),
        ({"images": [1]}, r"option images is \[1\], expected a path"),
        ({"dedup": "yes"}, "option dedup is 'yes', expected true or false"),
    ],
)
@pytest.mark.parametrize("name", ["table", "gqa/color", "pope/random", "cocoqa", "vqav2", "mme", "clevr"])
def test_an_option_that_a_dataset_does_not_have_is_one_line_at_loading(name: str, options: dict[str, Any], expected: str) -> None:
    with pytest.raises(VseamError, match=expected) as caught:
        Registry(build_plugins()).load_dataset(name, **options)
    assert "\n" not in str(caught.value)
