"""Multiple choice benchmarks from files in their authors' layouts (made here), and their official figures against cases counted by hand."""

from __future__ import annotations

import base64
import csv
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
from vseam_plugins.benchmarks.cvbench import CvBenchmark
from vseam_plugins.benchmarks.mmbench import MmbenchBenchmark
from vseam_plugins.benchmarks.mmstar import MmstarBenchmark, options_in
from vseam_plugins.benchmarks.scienceqa import ScienceQaBenchmark
from vseam_plugins.benchmarks.seedbench import SeedBenchmark

pyarrow = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402

MILLION = 1_000_000


def png(number: int) -> bytes:
    """A small image of its own for every number."""
    held = io.BytesIO()
    Image.new("RGB", (3, 2), (number % 256, number // 256, 7)).save(held, "PNG")
    return held.getvalue()


def tsv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)
    return path


def figures(benchmark: Benchmark, samples: Sequence[Sample], answers: Sequence[str]) -> Mapping[str, float | None]:
    return benchmark.metrics([Answered(sample, answer) for sample, answer in zip(samples, answers, strict=True)])


def mmbench_rows(count: int, copies: int = 3) -> list[dict[str, Any]]:
    """Questions with three options, each in every order of a turn; copies name the row of the first for their image."""
    rows = []
    texts = ("red", "green", "blue")
    for copy in range(copies):
        for number in range(count):
            options = [texts[(place - copy) % 3] for place in range(3)]
            image = base64.b64encode(png(number)).decode() if copy == 0 else str(number)
            rows.append(
                {
                    "index": number + copy * MILLION, "question": f"Which colour is number {number}?", "hint": "" if number else "Look.",
                    **dict(zip("ABC", options, strict=True)), "D": "", "answer": "ABC"[options.index(texts[number % 3])],
                    "category": "colour" if number % 2 else "number", "L2-category": "x", "image": image,
                }
            )  # fmt: skip
    return rows


class TestMmbench(BenchmarkConformance):
    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.path = tsv(tmp_path / "MMBench.tsv", mmbench_rows(30))

    def make(self) -> Benchmark:
        return MmbenchBenchmark(questions=self.path)


def test_copies_of_a_mmbench_question_follow_it_with_its_image_and_count_together(tmp_path: Path) -> None:
    benchmark = MmbenchBenchmark(questions=tsv(tmp_path / "m.tsv", mmbench_rows(2)))
    samples = list(benchmark.samples("all"))
    assert [sample.question_id for sample in samples] == ["0", "1000000", "2000000", "1", "1000001", "2000001"]
    assert len({sample.image_id for sample in samples[:3]}) == 1
    assert samples[2].image.load().getpixel((0, 0)) == (0, 0, 7)
    assert samples[0].question == "Hint: Look.\nQuestion: Which colour is number 0?\nOptions:\nA. red\nB. green\nC. blue"
    assert samples[0].instruction == "{question}\nPlease select the correct answer from the options above."
    right = [sample.answer for sample in samples]
    assert right[:3] == ["A", "B", "C"]
    assert figures(benchmark, samples, right)["circular_accuracy"] == 1.0
    # The second question is right in its first order only: it counts there and not in the circle.
    found = figures(benchmark, samples, [*right[:4], right[3], right[3]])
    assert (found["circular_accuracy"], found["first_order_accuracy"], found["unparsed"]) == (0.5, 1.0, 0)
    assert figures(benchmark, samples, ["A"] * 6)["circular_accuracy"] == 0, "always A is right once in three orders"
    assert figures(benchmark, samples[:2], right[:2])["circular_accuracy"] is None, "a question that was not asked in every order"


def test_a_mmbench_file_without_copies_is_turned_on_request(tmp_path: Path) -> None:
    path = tsv(tmp_path / "m.tsv", mmbench_rows(2, copies=1))
    assert len(list(MmbenchBenchmark(questions=path).samples("all"))) == 2
    turned = list(MmbenchBenchmark(questions=path, circular=True).samples("all"))
    written = list(MmbenchBenchmark(questions=tsv(tmp_path / "whole.tsv", mmbench_rows(2))).samples("all"))
    assert [(one.question, one.answer, one.question_id) for one in turned] == [
        (one.question, one.answer, one.question_id) for one in written
    ]
    with pytest.raises(InvalidFileError, match="circular must be true or false"):
        MmbenchBenchmark(questions=path, circular="yes")  # type: ignore[arg-type]
    with pytest.raises(InvalidFileError, match="expected the number of the question as index"):
        list(MmbenchBenchmark(questions=tsv(tmp_path / "x.tsv", [{"index": "one", "question": "?", "A": "x", "B": "y"}])).samples("all"))


def test_the_hub_s_copy_of_mmbench_says_nan_where_nothing_is_and_has_no_answers_in_test(tmp_path: Path) -> None:
    row = {
        "index": 5,
        "question": "What?",
        "hint": "nan",
        "A": "x",
        "B": "y",
        "C": "nan",
        "D": "nan",
        "category": "c",
        "image": {"bytes": png(5)},
    }
    parquet.write_table(pyarrow.Table.from_pylist([row | {"answer": "B"}]), tmp_path / "dev-00000-of-00001.parquet")
    parquet.write_table(pyarrow.Table.from_pylist([row | {"answer": "nan"}]), tmp_path / "test-00000-of-00001.parquet")
    (sample,) = MmbenchBenchmark(questions=tmp_path).samples("all")
    assert (sample.answer, sample.metadata["options"], sample.question) == ("B", ("x", "y"), "Question: What?\nOptions:\nA. x\nB. y")
    (hidden,) = MmbenchBenchmark(questions=tmp_path, source_split="test").samples("all")
    assert "gold answer is missing" in hidden.metadata["problem"]


def scienceqa(folder: Path, count: int) -> Path:
    """problems.json, a third of it without an image or of another split; images all have one name, in folders of their own."""
    problems: dict[str, Any] = {}
    for number in range(1, count + 1):
        split = "train" if number % 3 == 0 else "test"
        problems[str(number)] = {
            "question": f"Question {number}?", "choices": ["yes, it is", "no"], "answer": number % 2, "hint": "", "split": split,
            "image": None if number % 5 == 0 else "image.png", "grade": f"grade{number % 12 + 1}", "subject": "natural science",
        }  # fmt: skip
    (folder / "problems.json").write_text(json.dumps(problems), encoding="utf-8")
    return folder / "problems.json"


class TestScienceQa(BenchmarkConformance):
    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.path = scienceqa(tmp_path, 150)

    def make(self) -> Benchmark:
        return ScienceQaBenchmark(questions=self.path)


def test_scienceqa_asks_the_questions_of_a_split_that_have_an_image(tmp_path: Path) -> None:
    path = scienceqa(tmp_path, 8)
    (tmp_path / "test" / "2").mkdir(parents=True)
    Image.new("RGB", (5, 4)).save(tmp_path / "test" / "2" / "image.png")
    benchmark = ScienceQaBenchmark(questions=path)
    samples = list(benchmark.samples("all"))
    assert [sample.question_id for sample in samples] == ["1", "2", "4", "7", "8"]
    assert [sample.answer for sample in samples] == ["B", "A", "A", "B", "A"], "the number of the option, counted from 0"
    assert samples[1].image.load().size == (5, 4)
    assert len({sample.image_id for sample in samples}) == 5
    answers = ["B", "A. yes, it is", "The answer is A.", "(B)", "yes, it is"]
    assert [benchmark.judge(sample, answer) for sample, answer in zip(samples, answers, strict=True)] == [True, True, True, False, False]
    found = figures(benchmark, samples, answers)
    # Grades are 2, 3, 5, 8 and 9: three right of three, none of two.
    assert (found["accuracy grades 1-6"], found["accuracy grades 7-12"], found["unparsed"]) == (1.0, 0.0, 2)
    ours = ScienceQaBenchmark(questions=path, judge="vlmevalkit")
    assert [ours.judge(sample, answer) for sample, answer in zip(samples, answers, strict=True)] == [True] * 5


class TestMmstar(BenchmarkConformance):
    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        rows = [
            {
                "index": number, "question": f"What is number {number}?\nOptions: A: A cat., B: Two cats, or three, C: 10:30, D: None",
                "image": {"bytes": png(number), "path": None}, "answer": "ABCD"[number % 4], "category": "math", "l2_category": "geometry",
            } for number in range(60)
        ]  # fmt: skip
        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "mmstar.parquet")
        self.path = tmp_path / "mmstar.parquet"

    def make(self) -> Benchmark:
        return MmstarBenchmark(questions=self.path)

    def test_options_in_the_question_are_told_apart_and_it_is_asked_as_it_stands(self) -> None:
        sample = next(iter(self.make().samples("all")))
        assert sample.metadata["options"] == ("A cat.", "Two cats, or three", "10:30", "None")
        assert sample.question.endswith("D: None")
        assert (sample.options, sample.competitor) == (("A", "B", "C", "D"), None)


def test_mmstar_s_figure_is_the_mean_of_categories_by_the_first_character(tmp_path: Path) -> None:
    rows = [
        {"index": n, "question": f"{n}?", "image": base64.b64encode(png(n)).decode(), "answer": "B", "category": "math" if n else "code"}
        for n in range(4)
    ]
    path = tsv(tmp_path / "MMStar.tsv", [row | dict(zip("ABCD", ("w", "x", "y", "z"), strict=True)) for row in rows])
    benchmark = MmstarBenchmark(questions=path)
    samples = list(benchmark.samples("all"))
    found = figures(benchmark, samples, ["B", "b", "The answer is B", "Answer: B"])
    # code 1 of 1; math 2 of 3: "Answer: B" begins with an A.
    assert found["mean_of_categories"] == pytest.approx((1 + 2 / 3) / 2)
    assert samples[0].question == "0?\nA. w\nB. x\nC. y\nD. z"


def test_options_that_cannot_be_told_apart_are_the_letters() -> None:
    for question in (
        "Which?\nOptions: A: x, C: y",
        "Which?",
        "Which?\nOptions: A: , B: y, C: z, D: w",
        "Which?\nOptions: A: x, B: x, C: z, D: w",
    ):
        assert options_in(question) == ("A", "B", "C", "D"), question


def seed(folder: Path, count: int) -> Path:
    """SEED-Bench.json: every fourth question is about a video; images have names without an ending."""
    questions = [
        {
            "question_id": str(100 + n), "question": f"{n}?", "choice_a": "One", "choice_b": "Two", "choice_c": "Three", "choice_d": "Four",
            "answer": "ABCD"[n % 4], "data_id": f"{n}_{7 * n}", "data_type": ("image", "image", "image", "video")[n % 4],
            "question_type_id": n % 9 + 1,
        } for n in range(count)
    ]  # fmt: skip
    (folder / "SEED-Bench.json").write_text(
        json.dumps({"question_type": {"Scene Understanding": 1}, "questions": questions}), encoding="utf-8"
    )
    return folder / "SEED-Bench.json"


class TestSeedBench(BenchmarkConformance):
    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.path = seed(tmp_path, 120)

    def make(self) -> Benchmark:
        return SeedBenchmark(questions=self.path)


def test_seedbench_asks_about_images_without_an_ending_and_leaves_out_videos(tmp_path: Path) -> None:
    path = seed(tmp_path, 8)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1_7").write_bytes(png(3))
    benchmark = SeedBenchmark(questions=path, images=tmp_path / "images")
    samples = list(benchmark.samples("all"))
    assert [sample.question_id for sample in samples] == ["100", "101", "102", "104", "105", "106"]
    assert samples[1].image.load().getpixel((0, 0)) == (3, 0, 7)
    assert (samples[1].category, samples[1].answer) == ("Instance Identity", "B")
    assert [benchmark.judge(samples[1], answer) for answer in ("B", "B. Two", "Bananas", "Two", "")] == [True, True, True, False, False]


def cvbench(folder: Path, count: int) -> Path:
    rows = [
        {
            "idx": n, "type": "2D" if n % 3 else "3D", "task": "Count" if n % 3 else "Depth", "image": {"bytes": png(n), "path": None},
            "question": "How many?", "choices": ["2", "1", "3"], "answer": f"({'ABC'[n % 3]})",
            "prompt": "How many? Select from the following choices.\n(A) 2\n(B) 1\n(C) 3", "source": ("Omni3D", "ADE20K", "COCO")[n % 3],
        } for n in range(count)
    ]  # fmt: skip
    parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "test-00000-of-00001.parquet")
    return folder


class TestCvBench(BenchmarkConformance):
    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.path = cvbench(tmp_path, 60)

    def make(self) -> Benchmark:
        return CvBenchmark(questions=self.path)


def test_cvbench_weighs_its_sources_as_its_authors_do(tmp_path: Path) -> None:
    benchmark = CvBenchmark(questions=cvbench(tmp_path, 9))
    samples = list(benchmark.samples("all"))
    assert samples[0].question == "How many? Select from the following choices.\n(A) 2\n(B) 1\n(C) 3"
    assert [sample.answer for sample in samples[:3]] == ["A", "B", "C"], (
        "a gold answer in brackets is the letter, never the number of an option"
    )
    found = figures(benchmark, samples, ["(A)", "(B)", "(C)", "A", "(A)", "3", "(B) 1", "1", "none"])
    # Omni3D: A, A, B against A: 2 of 3. ADE20K: B, A, "1" (which is B) against B: 2 of 3. COCO: C, "3" (which is C), none: 2 of 3.
    assert (found["accuracy 3D"], found["accuracy 2D"]) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    found = figures(benchmark, samples, ["(A)", "(A)", "(C)"] * 3)
    assert (found["accuracy 3D"], found["accuracy 2D"], found["cv_bench"]) == (1.0, 0.5, 0.75)
    assert figures(benchmark, samples[:2], ["A", "B"])["cv_bench"] is None, "COCO was not asked"
    assert CvBenchmark(questions=tmp_path, judge="lmms-eval").judge(samples[1], "But it is one") is True
