"""Which units of a run are current: what a sample gives now, beside what it gave before its image or its text was changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, select

from vseam_core.store import schema
from vseam_core.store.shared_rows import chunks


@dataclass(frozen=True)
class Outdated:
    """A unit whose row says something else than it should: its row id, what it is about, and whether it is superseded."""

    unit: int
    subject: str
    superseded: bool


def is_current() -> ColumnElement[bool]:
    """The condition that a unit is current; for every query that has the `units` table in it."""
    return schema.units.c.superseded.is_(False)


def unit_statuses(connection: Connection, run_id: int, keys: Iterable[str] | None) -> dict[str, str]:
    """Unit key → status, of a whole run or of some keys."""
    table = schema.units
    query = select(table.c.key, table.c.status).where(table.c.run_id == run_id).order_by(table.c.id)
    if keys is None:
        return {row.key: row.status for row in connection.execute(query)}
    found: dict[str, str] = {}
    for chunk in chunks(keys):
        found.update((key, status) for key, status in connection.execute(query.where(table.c.key.in_(chunk))))
    return found


def outdated(connection: Connection, run_id: int, subjects: Mapping[str, str]) -> list[Outdated]:
    """The rows to change so that of all units about these subjects exactly those with these keys are current."""
    table = schema.units
    query = select(table.c.id, table.c.key, table.c.subject, table.c.superseded).where(table.c.run_id == run_id)
    wanted: dict[int, Outdated] = {}
    for chunk in chunks(dict.fromkeys(subjects.values())):
        others = connection.execute(query.where(table.c.subject.in_(chunk), is_current()))
        wanted.update((row.id, Outdated(row.id, row.subject, True)) for row in others if row.key not in subjects)
    for chunk in chunks(subjects):
        for row in connection.execute(query.where(table.c.key.in_(chunk))):
            if row.superseded or row.subject != subjects[row.key]:
                wanted[row.id] = Outdated(row.id, subjects[row.key], False)
    return list(wanted.values())


def update(connection: Connection, rows: Iterable[Outdated]) -> None:
    """Write what units are about and whether they are superseded."""
    table = schema.units
    changes: list[dict[str, Any]] = [{"unit": row.unit, "about": row.subject, "old": row.superseded} for row in rows]
    if changes:
        statement = table.update().where(table.c.id == bindparam("unit")).values(subject=bindparam("about"), superseded=bindparam("old"))
        connection.execute(statement, changes)
