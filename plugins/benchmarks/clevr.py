"""CLEVR: questions about rendered solids (Johnson et al. 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vseam_core.api.types import Level, Sample
from vseam_core.datasets.file_benchmark import FileBenchmark
from vseam_core.datasets.records import Record, as_mapping

# The last step of a question's program says what it asks for.
_LEVEL_OF_STEP: Mapping[str, Level] = {
    "query_color": "attribute", "query_material": "attribute", "query_size": "attribute", "query_shape": "attribute",
    "equal_color": "relation", "equal_material": "relation", "equal_size": "relation", "equal_shape": "relation",
    "equal_integer": "relation", "less_than": "relation", "greater_than": "relation",
}  # fmt: skip


class ClevrBenchmark(FileBenchmark):
    """CLEVR's official question file; the category of a sample is the last step of its program. Judged by exact match."""

    question_files = ("clevr/questions/CLEVR_val_questions.json", "CLEVR_v1.0/questions/CLEVR_val_questions.json")
    image_places = ("clevr/images/val", "CLEVR_v1.0/images/val")
    obtain = "https://cs.stanford.edu/people/jcjohns/clevr"

    def __init__(self, **options: Any):
        super().__init__("clevr", level="object", category="clevr", **options)

    def sample_of(self, record: Record) -> Sample:
        """The sample of a record."""
        program = record.items("program")
        last = as_mapping(program[-1], f"{record.place}: the last step of program") if program else {}
        step = str(last.get("function") or last.get("type") or "")
        identifier = record.text("question_index") or record.place.rsplit(" ", 1)[-1]
        name, content = record.image("image_filename", "image")
        return self.make(
            record,
            question_id=identifier,
            image=name,
            image_content=content,
            question=record.text("question"),
            answer=record.answer("answer"),
            level=_LEVEL_OF_STEP.get(step, "object"),
            category=step or None,
        )
