"""Aggregates: recomputed from effects as often as wanted, replaced whole, marked with the set of samples they came from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import Boolean, Column, Connection, Double, Integer, Table, and_, select

from vseam_core.errors import StoreError, did_you_mean
from vseam_core.store import schema
from vseam_core.store.frames import RunIds, equal_to, frame_of

if TYPE_CHECKING:
    import pandas as pd

# What is replaced together: a frame takes the place of all stored rows that agree with one of its rows in these columns.
_SLICES: dict[str, tuple[str, ...]] = {
    "head_scores": ("run_id", "pool", "operation", "positions", "measure", "stack"),
    "evaluations": ("run_id", "sample_set_hash", "compared_with"),
    "screenings": ("run_id", "pool", "operation", "positions", "measure", "stack"),
    "trace_scores": ("run_id", "tracer", "stack", "site_kind", "direction", "measure", "column_kind", "subset"),
    "shared_head_tests": ("model", "pool", "operation", "positions", "measure", "stack", "sign", "k", "null_name"),
}
_FROM_RUN = ("model", "dataset", "category", "level")


def replace_rows(connection: Connection, name: str, run_id: int | None, frame: pd.DataFrame, sample_set_hash: str) -> None:
    """Put a frame of aggregates in the place of what was stored for the same slices (an empty frame: for the whole run).

    Missing model, dataset, category and level come from the run, other missing columns from the table's default or
    null. Raises `StoreError` for unknown or missing columns, infinity, and null where a number must be.
    """
    table = score_table(name)
    run = _run(connection, run_id, table)
    fixed = {"sample_set_hash": sample_set_hash}
    if run_id is not None:
        fixed["run_id"] = run_id  # type: ignore[assignment]
    rows = [_row(table, {**run, **values, **fixed}, index) for index, values in enumerate(_records(frame))]
    _check_columns(table, frame)
    if not rows and run_id is not None:
        connection.execute(table.delete().where(table.c.run_id == run_id))
    slices = {tuple(row[column] for column in _SLICES[name]) for row in rows}
    for chosen in slices:
        here = [table.c[column] == value for column, value in zip(_SLICES[name], chosen, strict=True)]
        connection.execute(table.delete().where(and_(*here)))
    if rows:
        connection.execute(table.insert(), rows)


def scores_frame(connection: Connection, name: str, run_ids: RunIds, equals: Mapping[str, Any]) -> pd.DataFrame:
    """Stored aggregates in the order they were put in, narrowed to runs and to equal columns (a list: any of them)."""
    table = score_table(name)
    query = select(*[column for column in table.c if column.name != "id"]).order_by(table.c.id)
    if run_ids is not None:
        query = equal_to(query, table.c.run_id, run_ids if isinstance(run_ids, int) else list(run_ids))
    for column, value in equals.items():
        if column not in table.c:
            raise StoreError(f"no column {column!r} in {name}: {did_you_mean(column, table.c.keys())}")
        query = equal_to(query, table.c[column], value)
    return frame_of(connection, query)


def score_table(name: str) -> Table:
    """The table of aggregates of that name. Raises `StoreError` for another one."""
    if name not in _SLICES:
        raise StoreError(f"no table of scores {name!r}: {did_you_mean(name, _SLICES)}")
    return schema.metadata.tables[name]


def _run(connection: Connection, run_id: int | None, table: Table) -> dict[str, Any]:
    if run_id is None:
        return {}
    row = connection.execute(select(schema.runs).where(schema.runs.c.id == run_id)).mappings().one_or_none()
    if row is None:
        raise StoreError(f"there is no run {run_id} in this results database")
    return {name: row[name] for name in _FROM_RUN if name in table.c}


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _check_columns(table: Table, frame: pd.DataFrame) -> None:
    for column in frame.columns:
        if column not in table.c or column == "id":
            known = [known.name for known in table.c if known.name != "id"]
            raise StoreError(f"no column {column!r} in {table.name}: {did_you_mean(str(column), known)}")


def _row(table: Table, values: Mapping[str, Any], index: int) -> dict[str, Any]:
    return {
        column.name: _value(column, values.get(column.name), f"row {index} of {table.name}") for column in table.c if column.name != "id"
    }


def _value(column: Column[Any], value: Any, where: str) -> Any:
    """A cell as the database takes it: NaN is null where null is legal, infinity never is."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or _is_missing(value):
        if column.nullable:
            return None
        if column.server_default is not None:
            return str(getattr(column.server_default, "arg", ""))
        raise StoreError(f"{where} has no {column.name}: expected a value")
    if isinstance(value, float) and math.isinf(value):
        raise StoreError(f"{where}: {column.name} is {value}, expected a finite number")
    try:
        if isinstance(column.type, Boolean):
            return bool(value)
        if isinstance(column.type, Integer):
            return _whole(value)
        return float(value) if isinstance(column.type, Double) else str(value)
    except (TypeError, ValueError):
        expected = "a number" if isinstance(column.type, Double) else "a whole number"
        raise StoreError(f"{where}: {column.name} is {value!r}, expected {expected}") from None


def _whole(value: Any) -> int:
    if int(value) != value:
        raise ValueError(value)
    return int(value)


def _is_missing(value: Any) -> bool:
    """NaN, and pandas' own markers for a missing value, which equal nothing, themselves included."""
    try:
        return bool(value != value)
    except TypeError:
        return True
