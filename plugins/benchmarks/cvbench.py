"""CV-Bench: multiple choice about counts, places, depths and distances (Tong et al. 2024)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vseam_core.api.types import Answered, Level, Sample
from vseam_core.datasets.answer_rules import leading_letter
from vseam_core.datasets.choices import INSTRUCTION, asked_with, options_of, right_letter
from vseam_core.datasets.file_benchmark import FileBenchmark
from vseam_core.datasets.records import Record
from vseam_plugins.benchmarks.layouts import mean_or_none, with_shared_images

_LEVELS: Mapping[str, Level] = {"Count": "object", "Relation": "relation", "Depth": "relation", "Distance": "relation"}


class CvBenchmark(FileBenchmark):
    """CV-Bench, from the authors' parquet files (`prompt` asks the options in brackets) or a TSV.

    The official figures are `accuracy 2D` (the mean of ADE20K's and COCO's accuracy), `accuracy 3D` (Omni3D's) and their mean `cv_bench`;
    a figure whose sources were not all asked is None. Its authors publish no rule that reads a letter from an answer: ours does.
    """

    asks_options = True
    source_split = "test"
    choice_rules = {**FileBenchmark.choice_rules, "lmms-eval": leading_letter}  # noqa: RUF012
    question_files = ("cvbench/test.parquet", "cvbench/CV-Bench.tsv", "cvbench")
    image_places = ("cvbench/img", "cvbench/images", "cvbench")
    obtain = "https://huggingface.co/datasets/nyu-visionx/CV-Bench"

    def __init__(self, **options: Any):
        super().__init__("cvbench", level="relation", category="cvbench", **options)

    def records(self) -> Iterator[Record]:
        """The rows of the file."""
        yield from with_shared_images(super().records())

    def sample_of(self, record: Record) -> Sample:
        """The sample of a row."""
        options, task = options_of(record), record.text("task", "category")
        asked = asked_with(f"{record.text('question')} Select from the following choices.", options, form="({letter}) {option}")
        image, content = record.image("image", "filename")
        return self.make(
            record,
            question_id=record.text("idx", "index"),
            image=image,
            image_content=content,
            question=record.text("prompt") or asked,
            answer=right_letter(record, record.fields.get("answer"), options),
            level=_LEVELS.get(task, self.level),  # type: ignore[arg-type]
            category=task or None,
            options=options,
            instruction=INSTRUCTION,
        )

    def metrics(self, answered: Sequence[Answered]) -> Mapping[str, float | None]:
        """Accuracy by dimension, and the official mean."""
        marks: dict[str, list[bool]] = defaultdict(list)
        for item in answered:
            marks[str(item.sample.metadata.get("source") or "")].append(self.judge(item.sample, item.text))
        means = {source: mean_or_none(right) for source, right in marks.items()}
        flat = _mean_of_all(means.get("ADE20K"), means.get("COCO"))
        deep = means.get("Omni3D")
        figures = {"accuracy 2D": flat, "accuracy 3D": deep, "cv_bench": _mean_of_all(flat, deep)}
        return {**super().metrics(answered), **figures} if answered else {}


def _mean_of_all(*values: float | None) -> float | None:
    """The mean, None where a value is not known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None
