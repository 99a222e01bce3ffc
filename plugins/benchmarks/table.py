"""The user's own questions: a table with a mapping of its columns."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vseam_core.api.types import LEVELS, Sample, SceneObject
from vseam_core.datasets.choices import options_of, right_letter
from vseam_core.datasets.file_benchmark import FileBenchmark, spans_of
from vseam_core.datasets.images import ImageFolders, image_folders
from vseam_core.datasets.records import Record
from vseam_core.errors import InvalidFileError, SampleError

# What people call the columns that every row needs.
_OTHER_NAMES = {
    "question": ("question", "prompt", "query", "text"),
    "answer": ("answer", "gold", "label", "target", "ground_truth"),
    "image": ("image", "image_path", "image_file", "file_name", "filename", "file", "path", "img"),
}
_LOG = logging.getLogger(__name__)


class TableBenchmark(FileBenchmark):
    """The user's own table: CSV, JSON, JSON lines or parquet. `columns` says which column is what.

    Known parts are question, answer, image and id (by default columns of these names), and optionally category, level, competitor, options
    and box (`[x0, y0, x1, y1]` in pixels of the upright image, as JSON or a list) with object, its name (without one the box is of
    whatever the question is about). Further columns are kept beside each sample. `yes_no: true` reads the answers 1 and 0 as yes and no.

    Options (a list, or columns A, B … as in MMBench) are asked below the question, each after its letter; an answer is right when it
    chooses the right letter or repeats the right option.

    `rows` are the records themselves where they are in memory already, in the place of a file.
    """

    _PARTS = ("question", "answer", "image", "id", "category", "level", "competitor", "options", "box", "object")
    asks_options = True

    def __init__(
        self,
        name: str = "table",
        columns: Mapping[str, str] | None = None,
        yes_no: bool = False,
        rows: Sequence[Mapping[str, Any]] | None = None,
        **options: Any,
    ):
        super().__init__(name, **options)
        self._rows = rows
        if not isinstance(columns or {}, Mapping):
            raise InvalidFileError(f"dataset {name!r}: columns: expected part: column, got {columns!r:.60}")
        unknown = sorted(map(str, set(columns or ()) - set(self._PARTS)))
        if unknown:
            raise InvalidFileError(f"dataset {name!r}: columns: unknown part {unknown[0]!r}; expected {', '.join(self._PARTS)}")
        self._columns = {part: (columns or {}).get(part, part) for part in self._PARTS}
        self._yes_no = yes_no
        self.obtain = "it is your own file: give its path as the option `questions`"

    def records(self) -> Iterator[Record]:
        """The rows of the file. Raises `InvalidFileError` where the first one lacks a column that every row needs.

        A part whose column is neither named nor there by its own name is looked for by what people call it; that is said.
        """
        for number, record in enumerate(super().records() if self._rows is None else _in_memory(self._rows)):
            for part, names in _OTHER_NAMES.items() if number == 0 else ():
                if self._columns[part] == part not in record.fields:
                    self._columns[part] = self._guessed(part, names, record)
            for part in ("question", "answer") if number == 0 else ():
                if self._columns[part] not in record.fields:
                    known = ", ".join(map(str, record.fields))
                    raise InvalidFileError(f"{self.where()}: no column {self._columns[part]!r}; expected one of {known}, by `columns`")
            yield record

    def where(self) -> str:
        """The file, or the name of rows in memory."""
        return super().where() if self._rows is None else self.name

    def _guessed(self, part: str, names: Sequence[str], record: Record) -> str:
        by_name = {str(column).strip().lower(): str(column) for column in record.fields}
        column = next((by_name[name] for name in names if name in by_name), part)
        if column != part:
            _LOG.warning("%s: the column %r is taken for the %s", self.name, column, part)
        return column

    def sample_of(self, record: Record) -> Sample:
        """The sample of a row."""
        column = self._columns
        asked, thing = record.text(column["question"]), record.text(column["object"])
        options = options_of(record, column["options"])
        answer = self._gold(record, options)
        name, content = record.image(column["image"])
        level = record.text(column["level"])
        if level and level not in LEVELS:
            raise SampleError(f"{record.place}: level: expected one of {', '.join(LEVELS)}, found {level!r:.60}")
        sample = self.make(
            record,
            question_id=record.text(column["id"]) or record.place.rsplit(" ", 1)[-1],
            image=name,
            question=asked,
            answer=answer,
            image_content=content,
            level=level or None,
            category=record.text(column["category"]) or None,
            objects=_boxed(record, column["box"], thing),
            roles=spans_of(asked, (thing, "object")),
            options=options,
        )
        competitor = record.text(column["competitor"])
        return replace(sample, competitor=competitor) if competitor else sample

    @property
    def images(self) -> ImageFolders:
        """The folders of images; rows in memory name them by paths, where no folder is given."""
        return super().images if self._rows is None else image_folders(self._images, beside=Path())

    def _gold(self, record: Record, options: Sequence[str]) -> str:
        if not options:
            return record.answer(self._columns["answer"], yes_no=self._yes_no)
        return right_letter(record, record.fields.get(self._columns["answer"]), options)


def _in_memory(rows: Sequence[Mapping[str, Any]]) -> Iterator[Record]:
    for number, fields in enumerate(rows, 1):
        yield Record(f"row {number}", fields)


def _numbers(text: str) -> Any:
    """What a box is written as in a table: a list, or as `--box` takes it, `82,4,118,38`."""
    return json.loads(text if text.lstrip().startswith("[") else f"[{text}]")


def _boxed(record: Record, column: str, name: str) -> tuple[SceneObject, ...]:
    value = record.fields.get(column)
    if value is None or value == "":
        return ()
    try:
        x0, y0, x1, y1 = (float(number) for number in (_numbers(value) if isinstance(value, str) else value))
        if not all(map(math.isfinite, (x0, y0, x1, y1))):
            raise ValueError
    except (ValueError, TypeError, RecursionError):
        raise SampleError(f"{record.place}: box: expected [x0, y0, x1, y1], found {value!r:.60}") from None
    return (SceneObject(name, (x0, y0, x1, y1)),)
