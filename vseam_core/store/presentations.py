"""How the effects of a run are shown: kept beside the run and outside its identity, since words change no number."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, select

from vseam_core.errors import StoreError
from vseam_core.store import schema
from vseam_core.store.codec import decode_json, encode_json


def put_presentation(connection: Connection, run_id: int, record: Mapping[str, Any], gathered: Collection[str] = ()) -> None:
    """Keep the latest presentation of a run; the mappings `gathered` are added to what is stored of them.

    Raises `StoreError` where there is no such run.
    """
    if gathered:
        stored = read_presentation(connection, run_id) or {}
        record = {**record, **{name: _together(stored.get(name), record.get(name)) for name in gathered}}
    table, text = schema.runs, encode_json(record, "the presentation of a run")
    if connection.execute(table.update().where(table.c.id == run_id).values(presentation=text)).rowcount == 0:
        raise StoreError(f"there is no run {run_id} in this results database")


def read_presentation(connection: Connection, run_id: int) -> dict[str, Any] | None:
    """The presentation that a run was stored with; None for runs without one."""
    table = schema.runs
    text = connection.execute(select(table.c.presentation).where(table.c.id == run_id)).scalar_one_or_none()
    return None if text is None else decode_json(text, f"the presentation of run {run_id}")


def _together(stored: Any, new: Any) -> list[list[Any]]:
    """Two mappings, written as pairs, as one; sorted, so that it does not matter who was first."""
    return sorted(map(list, {**dict(stored or ()), **dict(new or ())}.items()))
