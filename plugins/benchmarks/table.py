"""The user's own questions: a table with a mapping of its columns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vseam_core.api.types import Sample, SceneObject
from vseam_core.datasets.file_benchmark import FileBenchmark, spans_of
from vseam_core.datasets.records import Record
from vseam_core.errors import InvalidFileError, SampleError


class TableBenchmark(FileBenchmark):
    """The user's own table: CSV, JSON, JSON lines or parquet. `columns` says which column is what.

    Known parts are question, answer, image and id (by default columns of these names), and optionally category, level, competitor and box
    (`[x0, y0, x1, y1]` in pixels, as JSON or a list) with object, its name (without one the box is of whatever the question is about).
    Further columns are kept beside each sample.
    """

    _PARTS = ("question", "answer", "image", "id", "category", "level", "competitor", "box", "object")

    def __init__(self, name: str = "table", columns: Mapping[str, str] | None = None, **options: Any):
        super().__init__(name, **options)
        unknown = sorted(set(columns or ()) - set(self._PARTS))
        if unknown:
            raise InvalidFileError(f"dataset {name!r}: columns: unknown part {unknown[0]!r}; expected {', '.join(self._PARTS)}")
        self._columns = {part: (columns or {}).get(part, part) for part in self._PARTS}
        self.obtain = "it is your own file: give its path as the option `questions`"

    def sample_of(self, record: Record) -> Sample:
        """The sample of a row."""
        part = {name: record.text(column) for name, column in self._columns.items()}
        if self._columns["question"] not in record.fields:
            known = ", ".join(map(str, record.fields))
            raise InvalidFileError(
                f"{self.question_path()}: no column {self._columns['question']!r}; expected one of {known}, by `columns`"
            )
        content = record.fields.get(self._columns["image"])
        picture = content.get("bytes") if isinstance(content, Mapping) else None
        if isinstance(content, Mapping):
            part["image"] = str(content.get("path") or part["id"])
        objects = _boxed(record, self._columns["box"], part["object"])
        sample = self.make(
            record,
            question_id=part["id"] or record.place.rsplit(" ", 1)[-1],
            image=part["image"],
            question=part["question"],
            answer=part["answer"],
            image_content=picture,
            level=part["level"] or None,  # type: ignore[arg-type]
            category=part["category"] or None,
            objects=objects,
            roles=spans_of(part["question"], (part["object"], "object")),
        )
        return replace(sample, competitor=part["competitor"]) if part["competitor"] else sample


def _boxed(record: Record, column: str, name: str) -> tuple[SceneObject, ...]:
    value = record.fields.get(column)
    if value in (None, ""):
        return ()
    try:
        box = [float(number) for number in (json.loads(value) if isinstance(value, str) else value)]
        x0, y0, x1, y1 = box
    except (ValueError, TypeError):
        raise SampleError(f"{record.place}: box: expected [x0, y0, x1, y1], found {value!r:.60}") from None
    return (SceneObject(name, (x0, y0, x1, y1)),)
