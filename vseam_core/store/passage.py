"""Rows on their way from one database to another: the numbers by which they refer to one another are those of the target."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Select, Table, select

from vseam_core.errors import StoreError
from vseam_core.store.shared_rows import insert

Row = Mapping[Any, Any]

_AT_ONCE = 500
_RUN_NUMBERS = ("compared_with", "fitted_run")
"""Columns that name a run without being a reference; 0 is none."""


@dataclass
class Passage:
    """The database that is read, whether its latest result is newer than any of the target, and its row ids beside the target's."""

    old: Connection
    newer: bool
    ids: dict[str, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))

    def row(self, table: Table, row: Row) -> dict[str, Any]:
        """A row of the source as the target holds it, without its id. Raises `StoreError` for a reference to nothing."""
        values = {name: value for name, value in row.items() if name != "id"}
        for column in table.c:
            for key in column.foreign_keys:
                number, target = values[column.name], key.column.table.name
                if number is not None and number not in self.ids[target]:
                    raise StoreError(f"{table.name} refers to a row of {target} that is not there: `vseam db check` lists all that do")
                values[column.name] = None if number is None else self.ids[target][number]
        for name in _RUN_NUMBERS:
            if name in values:
                values[name] = self.ids["runs"].get(values[name], 0)
        return values


def part_by_part(connection: Connection, query: Select[Any]) -> Iterator[Sequence[Row]]:
    """The rows of a query, some hundred at a time."""
    yield from connection.execute(query, execution_options={"yield_per": _AT_ONCE}).mappings().partitions()


def put(
    passage: Passage,
    new: Connection,
    table: Table,
    key: Sequence[str],
    *,
    newer: Callable[[Row, Row], bool] = lambda theirs, ours: False,
    without: Sequence[str] = (),
) -> None:
    """Bring the rows of a table that the target lacks by `key`, and note their ids.

    Of a row that both have, a value that is missing on one side is that of the other; the source's take the place of the target's where
    `newer(theirs, ours)`.
    """
    for part in part_by_part(passage.old, select(table)):
        rows: dict[tuple[Any, ...], tuple[Any, dict[str, Any]]] = {}
        for row in part:
            values = {name: value for name, value in passage.row(table, row).items() if name not in without}
            rows[tuple(values[name] for name in key)] = (row.get("id"), values)
        stored = _stored(new, table, key, rows)
        insert(new, table, [values for place, (_, values) in rows.items() if place not in stored])
        for place, ours in stored.items():
            changed = _changed(rows[place][1], ours, newer(rows[place][1], ours))
            if changed:
                here = [table.c[name] == value for name, value in zip(key, place, strict=True)]
                new.execute(table.update().where(*here).values(**changed))
        if "id" in table.c:
            after = _stored(new, table, key, rows)
            passage.ids[table.name].update({number: after[place]["id"] for place, (number, _) in rows.items()})


def _stored(new: Connection, table: Table, key: Sequence[str], places: Mapping[tuple[Any, ...], Any]) -> dict[tuple[Any, ...], Row]:
    query = select(table).where(table.c[key[0]].in_({place[0] for place in places}))
    found = {tuple(row[name] for name in key): dict(row) for row in new.execute(query).mappings()}
    return {place: row for place, row in found.items() if place in places}


def _changed(theirs: Row, ours: Row, newer: bool) -> dict[str, Any]:
    return {name: value for name, value in theirs.items() if value is not None and value != ours[name] and (newer or ours[name] is None)}
