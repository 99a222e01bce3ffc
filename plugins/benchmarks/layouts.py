"""What several multiple choice benchmarks have in common: VLMEvalKit's table layout, and names for images that stand in the file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from vseam_core.datasets.records import Record

_LONGEST_INDEX = 64
"""A cell of `image` that is no longer names the row whose image it shares, as in VLMEvalKit's files."""


def with_shared_images(records: Iterable[Record]) -> Iterator[Record]:
    """The rows of a table, each with its own image where it names the row that holds it, and without cells that say "nan".

    Rows that carry their image otherwise than as text are passed on one by one: such files may be larger than memory.
    """
    rows = (Record(row.place, {name: value for name, value in row.fields.items() if value not in ("", "nan")}) for row in records)
    for row in rows:
        if isinstance(row.fields.get("image"), str):
            whole = [row, *rows]
            held = {str(one.fields.get("index")): one.fields.get("image") for one in whole}
            yield from (Record(one.place, {**one.fields, **_own_image(one.fields.get("image"), held)}) for one in whole)
        else:
            yield row


def _own_image(cell: Any, held: Mapping[str, Any]) -> dict[str, Any]:
    other = held.get(str(cell)) if isinstance(cell, (str, int)) and len(str(cell)) <= _LONGEST_INDEX else None
    return {"image": other} if other is not None and len(str(other)) > _LONGEST_INDEX else {}


def image_of(record: Record, *names: str) -> tuple[str, bytes | None]:
    """The image of a record; one that stands in the file is named by its bytes: copies of a question share it, whatever their paths."""
    name, content = record.image(*names)
    return (hashlib.sha256(content).hexdigest()[:16] if content else name), content


def mean_or_none(marks: Iterable[float]) -> float | None:
    """The mean of some marks, None of none."""
    known = list(marks)
    return sum(known) / len(known) if known else None
