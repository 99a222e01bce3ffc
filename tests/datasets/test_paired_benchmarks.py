"""Benchmarks of pairs and sets of images from files in their authors' layouts (made here), their figures against cases counted by hand."""

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
from vseam_core.datasets.checking import check_dataset
from vseam_core.errors import InvalidFileError, SampleError
from vseam_core.testing import BenchmarkConformance
from vseam_plugins.benchmarks.hallusionbench import HallusionBench
from vseam_plugins.benchmarks.paired import NaturalBench, Winoground, first_of_two, two_options
from vseam_plugins.benchmarks.vsr import VsrBenchmark
from vseam_plugins.benchmarks.whatsup import WhatsUpBenchmark
from vseam_plugins.editors.paired import PairedEditor

pyarrow = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402


def png(number: int) -> dict[str, Any]:
    """A small image of its own for every number, as `datasets` holds one."""
    held = io.BytesIO()
    Image.new("RGB", (3, 2), (number % 256, number // 256, 7)).save(held, "PNG")
    return {"bytes": held.getvalue(), "path": None}


def lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def figures(benchmark: Benchmark, samples: Sequence[Sample], answers: Sequence[str]) -> Mapping[str, float | None]:
    return benchmark.metrics([Answered(sample, answer) for sample, answer in zip(samples, answers, strict=True)])


def natural(path: Path, groups: int) -> Path:
    """The authors' layout: a group a row; every third group asks for a letter."""
    rows = []
    for number in range(groups):
        choice = number % 3 == 2
        yes, no = ("A", "B") if choice else ("Yes", "No")
        asked = "What is it? Option: A: a dog; B: a cat;" if choice else f"Is it number {number}?"
        rows.append(
            {
                "Index": number, "Question_0": asked, "Question_1": f"{asked} Really?",
                "Image_0": png(2 * number), "Image_1": png(2 * number + 1),
                "Image_0_Question_0": yes, "Image_1_Question_0": no, "Image_0_Question_1": no, "Image_1_Question_1": yes,
                "Question_Type": "multiple_choice" if choice else "yes_no", "Source": "Flickr30K",
            }
        )  # fmt: skip
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


class TestNaturalBench(BenchmarkConformance):
    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.path = natural(tmp_path / "naturalbench.parquet", 30)

    def make(self) -> Benchmark:
        return NaturalBench(questions=self.path)


def test_a_group_of_naturalbench_is_four_samples_of_one_cluster(tmp_path: Path) -> None:
    benchmark = NaturalBench(questions=natural(tmp_path / "n.parquet", 3))
    samples = list(benchmark.samples("all"))
    assert [sample.answer for sample in samples[:4]] == ["Yes", "No", "No", "Yes"]
    assert [sample.image.load().getpixel((0, 0))[0] for sample in samples[:4]] == [0, 1, 0, 1]
    assert len({sample.image_id for sample in samples[:4]}) == 1
    assert samples[0].instruction == "{question} Please answer Yes or No."
    assert (samples[8].options, samples[8].answer, samples[9].answer) == (("A", "B"), "A", "B")
    right = [sample.answer for sample in samples]
    # Group 0 wrong on its second part: one question of two, one image of two, not the group. Group 1 always says yes. Group 2 is right.
    answers = [right[0], "Yes", *right[2:4], "Yes", "Yes", "Yes", "yes it is", "A: a dog", "B", "(B)", "a"]
    found = figures(benchmark, samples, answers)
    assert (found["question_accuracy"], found["image_accuracy"], found["group_accuracy"]) == (3 / 6, 3 / 6, 1 / 3)
    assert figures(benchmark, samples[:3], right[:3])["group_accuracy"] is None, "a group that was not asked whole"
    assert not check_dataset(samples, open_images=True).problems, "two answers to one question are of two images"


def test_the_copy_of_naturalbench_for_a_harness_holds_the_same_groups(tmp_path: Path) -> None:
    whole = list(NaturalBench(questions=natural(tmp_path / "n.parquet", 2)).samples("all"))
    flat = [
        {"Index": n, "Question": sample.question, "Answer": sample.answer, "Image": png(n // 4 * 2 + n % 2), "Question_Type": "yes_no"}
        for n, sample in enumerate(whole)
    ]
    parquet.write_table(pyarrow.Table.from_pylist(flat), tmp_path / "test-00000-of-00001.parquet")
    (tmp_path / "n.parquet").unlink()
    same = list(NaturalBench(questions=tmp_path).samples("all"))
    assert [(one.question, one.answer, one.question_id) for one in same] == [(one.question, one.answer, one.question_id) for one in whole]
    assert [one.image.load().tobytes() for one in same] == [one.image.load().tobytes() for one in whole]
    parquet.write_table(pyarrow.Table.from_pylist(flat[:6]), tmp_path / "test-00000-of-00001.parquet")
    with pytest.raises(InvalidFileError, match=r"expected four rows for each group .*, found 2"):
        list(NaturalBench(questions=tmp_path).samples("all"))


def test_naturalbench_s_rule_takes_whichever_letter_comes_first() -> None:
    assert [first_of_two(answer, ()) for answer in ("B, not A", "a cat, so B", "Bcat", "")] == ["B", "A", None, None]
    assert two_options("Which? Option: A: two; B: three;") == ("two", "three")
    assert two_options("Which?") == ("A", "B")


def test_the_other_image_of_a_group_is_the_corrupt_one(tmp_path: Path) -> None:
    samples = list(NaturalBench(questions=natural(tmp_path / "n.parquet", 3)).samples("all"))
    for first, second in ((0, 1), (3, 2), (8, 9)):
        pair = PairedEditor().edit(samples[first])
        assert pair.corrupt.image.load().tobytes() == samples[second].image.load().tobytes()
        assert (pair.clean.answer, pair.clean.competitor) == (samples[first].answer, samples[second].answer)
        assert (pair.corrupt.answer, pair.corrupt.competitor) == (samples[second].answer, samples[first].answer)
        assert pair.corrupt.question == samples[second].question
    (lone,) = VsrBenchmark(questions=lines(tmp_path / "v.jsonl", [{"image": "1.jpg", "caption": "x", "label": 1}])).samples("all")
    with pytest.raises(SampleError, match="brings no second image"):
        PairedEditor().edit(lone)


def wino(folder: Path, groups: int) -> Path:
    rows = [
        {
            "id": number, "caption_0": f"a dog on {number}", "caption_1": f"{number} on a dog", "image_0": f"ex_{number}_img_0",
            "image_1": f"ex_{number}_img_1", "tag": "Noun", "collapsed_tag": "Object",
        } for number in range(groups)
    ]  # fmt: skip
    return lines(folder / "examples.jsonl", rows)


class TestWinoground(BenchmarkConformance):
    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.path = wino(tmp_path, 30)

    def make(self) -> Benchmark:
        return Winoground(questions=self.path)


def test_winoground_asks_each_caption_of_each_image(tmp_path: Path) -> None:
    Image.new("RGB", (9, 8)).save(tmp_path / "ex_0_img_1.png")
    benchmark = Winoground(questions=wino(tmp_path, 1))
    samples = list(benchmark.samples("all"))
    assert [sample.question for sample in samples] == ['Does this figure show "a dog on 0"?'] * 2 + [
        'Does this figure show "0 on a dog"?'
    ] * 2
    assert [sample.answer for sample in samples] == ["yes", "no", "no", "yes"]
    assert samples[1].image.load().size == (9, 8)
    found = figures(benchmark, samples, ["Yes", "Yes", "No", "Yes"])
    assert (found["question_accuracy"], found["image_accuracy"], found["group_accuracy"]) == (0.5, 0.5, 0.0)
    assert figures(benchmark, samples, ["Yes", "No", "No", "Yes"])["group_accuracy"] == 1.0


def whatsup(path: Path, sets: int) -> Path:
    rows = []
    for number in range(sets):
        places = {"on": "on", "under": "under", "left_of": "to the left of", "right_of": "to the right of"}
        for place in places:
            captions = [f"A cup {words} a chair" for key, words in sorted(places.items(), key=lambda each: each[0] != place)]
            rows.append({"image_path": f"data/controlled_images/cup{number}_{place}_chair.jpeg", "caption_options": captions})
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


class TestWhatsUp(BenchmarkConformance):
    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.path = whatsup(tmp_path / "controlled_images_dataset.json", 30)

    def make(self) -> Benchmark:
        return WhatsUpBenchmark("a", questions=self.path)


def test_whatsup_counts_opposite_places_and_whole_sets(tmp_path: Path) -> None:
    benchmark = WhatsUpBenchmark("a", questions=whatsup(tmp_path / "w.json", 40))
    samples = list(benchmark.samples("all"))
    assert samples[2].metadata["options"]["ABCD".index(samples[2].answer)] == "A cup to the left of a chair"
    assert {sample.answer for sample in samples} == set("ABCD"), "the right caption does not always stand first"
    first, right = samples[:8], [sample.answer for sample in samples[:8]]
    assert len({sample.image_id for sample in first}) == 2
    wrong = "ABCD"[("ABCD".index(right[1]) + 1) % 4]
    # In the first set "under" is wrong: of its two pairs one is right. The second set is right: two pairs.
    found = figures(benchmark, first, [right[0], wrong, *right[2:]])
    assert (found["pair_accuracy"], found["set_accuracy"]) == (3 / 4, 1 / 2)
    assert figures(benchmark, first[:3], right[:3]) == {"unparsed": 0, "pair_accuracy": 1.0, "set_accuracy": None}
    (odd,) = WhatsUpBenchmark("a", questions=lines(tmp_path / "o.json", [{"image_path": "x.jpeg", "question": "?"}])).samples("all")
    assert "thing_place_thing" in odd.metadata["problem"]


def hallusion(path: Path, sets: int) -> Path:
    rows = []
    for number in range(sets):
        for figure in ("0", "1", "2"):
            for question in ("0", "1"):
                about = {"category": "VS" if number % 2 else "VD", "subcategory": "chart", "set_id": str(number), "question_id": question}
                name = f"./hallusion_bench/VD/chart/{number}_{figure}.png" if figure != "0" else None
                about |= {"figure_id": figure, "visual_input": figure, "filename": name, "gt_answer": "1" if figure == "1" else "0"}
                rows.append(about | {"question": f"Is bar {question} the highest?"})
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


class TestHallusionBench(BenchmarkConformance):
    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.path = hallusion(tmp_path / "HallusionBench.json", 30)

    def make(self) -> Benchmark:
        return HallusionBench(questions=self.path)


def test_hallusionbench_counts_figures_and_questions_that_are_right_throughout(tmp_path: Path) -> None:
    (tmp_path / "hallusion_bench" / "VD" / "chart").mkdir(parents=True)
    Image.new("RGB", (6, 5)).save(tmp_path / "hallusion_bench" / "VD" / "chart" / "0_2.png")
    benchmark = HallusionBench(questions=hallusion(tmp_path / "h.json", 1), images=tmp_path / "hallusion_bench")
    samples = list(benchmark.samples("all"))
    assert [sample.question_id for sample in samples] == ["VD_chart_0_1_0", "VD_chart_0_1_1", "VD_chart_0_2_0", "VD_chart_0_2_1"]
    assert [sample.answer for sample in samples] == ["yes", "yes", "no", "no"]
    assert samples[2].image.load().size == (6, 5)
    # Wrong about the second question of the second figure only: one figure of two, one question of two.
    found = figures(benchmark, samples, ["Yes.", "yes, it is", "No", "Yes"])
    assert (found["figure_accuracy"], found["question_accuracy"]) == (0.5, 0.5)
    assert figures(benchmark, samples, ["Yes", "Yes and no", "No", "No"]) == {"figure_accuracy": 0.5, "question_accuracy": 0.5}
    lenient = HallusionBench(questions=tmp_path / "h.json", judge="lmms-eval")
    assert [lenient.judge(sample, "It is unclear") for sample in samples] == [False, False, True, True]


class TestVsr(BenchmarkConformance):
    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        row = {"caption": "The cat is left of the dog.", "relation": "left of", "subj": "cat", "obj": "dog"}
        self.path = lines(tmp_path / "test.jsonl", [row | {"image": f"{n:012}.jpg", "label": n % 2} for n in range(90)])

    def make(self) -> Benchmark:
        return VsrBenchmark(questions=self.path)

    def test_a_caption_is_asked_with_its_relation_in_its_place(self) -> None:
        sample = list(self.make().samples("all"))[1]
        assert (sample.answer, sample.competitor, sample.category) == ("yes", "no", "left of")
        (span,) = sample.roles
        assert sample.question[span.start : span.end] == "left of"
        assert span.role == "relation"
