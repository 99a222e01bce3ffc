"""People's verdicts on edits: one of each reviewer, the latest."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import Connection, select

from vseam_core.store import schema
from vseam_core.store.migrations import now

Verdict = Literal["accepted", "rejected"]


def read_all(connection: Connection) -> dict[str, list[dict[str, str]]]:
    """Every verdict by the edit's identifier: reviewer, verdict, comment and when."""
    edits, reviews = schema.edits, schema.edit_reviews
    columns = [reviews.c[name] for name in ("reviewer", "verdict", "comment", "reviewed")]
    query = select(edits.c.identifier, *columns).join(reviews, reviews.c.edit_id == edits.c.id).order_by(reviews.c.id)
    found: dict[str, list[dict[str, str]]] = {}
    for row in connection.execute(query).mappings():
        found.setdefault(row["identifier"], []).append({column.name: row[column.name] for column in columns})
    return found


def verdicts_on(connection: Connection, edit: str) -> set[str]:
    """What was said of an edit, whoever said it."""
    edits, reviews = schema.edits, schema.edit_reviews
    query = select(reviews.c.verdict).join(edits, reviews.c.edit_id == edits.c.id).where(edits.c.identifier == edit)
    return set(connection.execute(query).scalars())


def put(connection: Connection, edit: str, verdict: Verdict, reviewer: str, comment: str) -> bool:
    """Store a verdict in the place of the reviewer's earlier one; False where there is no such edit."""
    edits, reviews = schema.edits, schema.edit_reviews
    known = connection.execute(select(edits.c.id).where(edits.c.identifier == edit)).scalar_one_or_none()
    if known is None:
        return False
    connection.execute(reviews.delete().where(reviews.c.edit_id == known, reviews.c.reviewer == reviewer))
    row = {"edit_id": known, "reviewer": reviewer, "verdict": verdict, "comment": comment, "reviewed": now()}
    connection.execute(reviews.insert().values(**row))
    return True
