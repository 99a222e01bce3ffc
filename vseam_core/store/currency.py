"""Which units of a run are current: what a sample gives now, beside what it gave before its image or its text was changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, select

from vseam_core.store import schema
from vseam_core.store.frames import plain_rows
from vseam_core.store.shared_rows import FEW, chunks


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
        return dict(plain_rows(connection, query))
    wanted = set(keys)
    if len(wanted) > FEW:
        return {key: status for key, status in plain_rows(connection, query) if key in wanted}
    found: dict[str, str] = {}
    for chunk in chunks(wanted):
        found.update((key, status) for key, status in connection.execute(query.where(table.c.key.in_(chunk))).all())
    return found


def outdated(connection: Connection, run_id: int, subjects: Mapping[str, str]) -> tuple[list[Outdated], dict[str, str]]:
    """The rows to change so that of all units about these subjects exactly those with these keys are current.

    Beside them the status of every unit with one of these keys: one look at a run of many units is enough for both.
    """
    table = schema.units
    query = select(table.c.id, table.c.key, table.c.subject, table.c.superseded, table.c.status).where(table.c.run_id == run_id)
    names = set(subjects.values())
    if len(subjects) > FEW:
        rows = plain_rows(connection, query.order_by(table.c.id))
    else:
        found = [plain_rows(connection, query.where(table.c.subject.in_(chunk))) for chunk in chunks(names)]
        found += [plain_rows(connection, query.where(table.c.key.in_(chunk))) for chunk in chunks(subjects)]
        rows = list(dict.fromkeys(row for part in found for row in part))
    statuses = {key: status for _, key, _, _, status in rows if key in subjects}
    # All is as it should be where an earlier call asked for the same: that is seen without a look at each.
    if {key: subject for _, key, subject, superseded, _ in rows if not superseded} == subjects:
        return [], statuses
    wanted: list[Outdated] = []
    for unit, key, subject, superseded, _ in rows:
        if key in subjects:
            if superseded or subject != subjects[key]:
                wanted.append(Outdated(unit, subjects[key], False))
        elif subject in names and not superseded:
            wanted.append(Outdated(unit, subject, True))
    return wanted, statuses


def update(connection: Connection, rows: Iterable[Outdated]) -> None:
    """Write what units are about and whether they are superseded."""
    table = schema.units
    changes: list[dict[str, Any]] = [{"unit": row.unit, "about": row.subject, "old": row.superseded} for row in rows]
    if changes:
        statement = table.update().where(table.c.id == bindparam("unit")).values(subject=bindparam("about"), superseded=bindparam("old"))
        connection.execute(statement, changes)
