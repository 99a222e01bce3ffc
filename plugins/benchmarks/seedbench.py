"""SEED-Bench: multiple choice about images (Li et al. 2023); its questions about videos are left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vseam_core.api.types import Sample
from vseam_core.datasets.answer_rules import OFFICIAL, first_letter
from vseam_core.datasets.choices import options_of, right_letter
from vseam_core.datasets.file_benchmark import FileBenchmark
from vseam_core.datasets.records import Record
from vseam_plugins.benchmarks.layouts import with_shared_images

# The dimensions by their number in the file (question_type of SEED-Bench.json); from 10 on they are about videos.
_DIMENSIONS: Mapping[str, str] = {
    "1": "Scene Understanding", "2": "Instance Identity", "3": "Instance Attributes", "4": "Instance Location", "5": "Instances Counting",
    "6": "Spatial Relation", "7": "Instance Interaction", "8": "Visual Reasoning", "9": "Text Understanding",
}  # fmt: skip


class SeedBenchmark(FileBenchmark):
    """SEED-Bench's image questions, from SEED-Bench.json, the copies on the hub, or VLMEvalKit's SEEDBench_IMG.tsv.

    Its authors rank the options by likelihood, which is what `first_token_accuracy` does with the letters; the text of an answer is read by
    its first character, as LLaVA and lmms-eval do.
    """

    asks_options = True
    source_split = "test"
    choice_rules = {**FileBenchmark.choice_rules, OFFICIAL: first_letter, "lmms-eval": first_letter}  # noqa: RUF012
    question_files = ("seedbench/SEED-Bench.json", "seedbench/SEEDBench_IMG.tsv", "seedbench")
    image_places = ("seedbench/SEED-Bench-image", "SEED-Bench/SEED-Bench-image")
    obtain = "https://huggingface.co/datasets/AILab-CVC/SEED-Bench"

    def __init__(self, **options: Any):
        super().__init__("seedbench", level="object", category="seedbench", **options)

    def records(self) -> Iterator[Record]:
        """The records about images."""
        for record in with_shared_images(super().records()):
            if record.fields.get("data_type") in (None, "image"):
                yield record

    def sample_of(self, record: Record) -> Sample:
        """The sample of a record; a file's image has the name `data_id`, without an ending."""
        options = options_of(record)
        image, content = record.image("image", "data_id")
        kind = record.text("question_type_id")
        return self.make(
            record,
            question_id=record.text("question_id", "index"),
            image=image,
            image_content=content,
            question=record.text("question"),
            answer=right_letter(record, record.fields.get("answer"), options),
            category=record.text("category") or _DIMENSIONS.get(kind, kind) or None,
            options=options,
        )
