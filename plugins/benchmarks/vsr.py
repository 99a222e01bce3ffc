"""VSR: captions about where things are, true or false (Liu et al. 2023)."""

from __future__ import annotations

from typing import Any

from vseam_core.api.types import Sample
from vseam_core.datasets.file_benchmark import FileBenchmark, spans_of
from vseam_core.datasets.records import Record


class VsrBenchmark(FileBenchmark):
    """Visual Spatial Reasoning, from the authors' JSON lines (random or zero-shot split). The category of a sample is its relation.

    The published label says whether the caption is true; the question is ours. An answer is judged by exact match; the official
    figure is accuracy.
    """

    question_files = ("vsr/test.jsonl", "vsr/random/test.jsonl", "vsr/zeroshot/test.jsonl")
    image_places = ("vsr/images", "coco/train2017", "coco/val2017")
    obtain = "https://github.com/cambridgeltl/visual-spatial-reasoning"

    def __init__(self, **options: Any):
        super().__init__("vsr", level="relation", category="spatial", **options)

    def sample_of(self, record: Record) -> Sample:
        """The sample of a line."""
        caption, relation = record.text("caption"), record.text("relation")
        question = f"Is the following statement about the image true? {caption}" if caption else ""
        image, content = record.image("image")
        return self.make(
            record,
            question_id=record.place.rsplit(" ", 1)[-1],
            image=image,
            image_content=content,
            question=question,
            answer=record.answer("label", yes_no=True),
            category=relation or None,
            roles=spans_of(question, (relation, "relation")),
            instruction="{question}\nAnswer yes or no.",
        )
