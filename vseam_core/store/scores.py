"""Aggregates: recomputed from effects as often as wanted, replaced whole, marked with the set of samples they came from."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import Boolean, Column, ColumnElement, Connection, Double, Integer, Table, func, literal, select

from vseam_core.errors import StoreError, did_you_mean
from vseam_core.store import schema
from vseam_core.store.current_views import view_name
from vseam_core.store.finding_tables import SLICES as FINDING_SLICES
from vseam_core.store.frames import RunIds, equal_to, frame_of, plain_rows
from vseam_core.store.method_tables import SLICES as METHOD_SLICES
from vseam_core.store.shared_rows import FEW, chunks, insert

if TYPE_CHECKING:
    import pandas as pd

# What is replaced together: a frame takes the place of all stored rows that agree with one of its rows in these columns.
SLICES: dict[str, tuple[str, ...]] = {
    "head_scores": ("run_id", "pool", "operation", "positions", "measure", "stack"),
    "evaluations": ("run_id", "sample_set_hash", "compared_with"),
    "screenings": ("run_id", "operation", "positions", "measure", "stack"),
    "trace_scores": ("run_id", "tracer", "stack", "site_kind", "direction", "measure", "column_kind"),
    "shared_head_tests": ("model", "pool", "operation", "positions", "measure", "stack", "task_a", "task_b", "sign", "k", "null_name"),
    **FINDING_SLICES,
    **METHOD_SLICES,
}
_FROM_RUN = ("model", "dataset", "category", "level")


# Whose rows are all of one aggregation: a frame without rows says that there is nothing in the run to aggregate.
_WHOLE_RUN = (
    *("head_scores", "screenings", "trace_scores", "head_confirmations", "ablation_tests", "strongest_cells"),
    *("comparisons", "direction_scores", "path_screenings", "screened_paths"),
)


def sample_set_hash(keys: Iterable[str]) -> str:
    """The identity of a set of finished units, whatever their order."""
    return hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()


def replace_rows(connection: Connection, name: str, run_id: int | None, frame: pd.DataFrame, keys: Iterable[str]) -> None:
    """Put a frame of aggregates in the place of what was stored for the same slices, and note the units that they rest on.

    A frame without rows clears the run, where all rows of a run are of one aggregation. Missing model, dataset, category and level
    come from the run, other missing columns from the table's default or null. Raises `StoreError` for unknown or missing columns,
    infinity, and null where a number must be.
    """
    replace_tables(connection, run_id, {name: frame}, keys)


def replace_tables(
    connection: Connection,
    run_id: int | None,
    frames: Mapping[str, pd.DataFrame],
    keys: Iterable[str],
    runs: Sequence[int] | None = None,
) -> None:
    """`replace_rows` for frames of several tables that rest on the same units, which are looked up once.

    `runs` are those that the units are of (default: the run of the frames; without one, any).
    """
    units = set(keys)
    digest = sample_set_hash(units)
    rows = {name: _replacing(connection, name, run_id, frame, digest) for name, frame in frames.items()}
    if any(rows.values()):
        _put_sample_set(connection, units, [run_id] if runs is None and run_id is not None else runs, digest)
    for name, some in rows.items():
        insert(connection, score_table(name), some)


def _replacing(connection: Connection, name: str, run_id: int | None, frame: pd.DataFrame, digest: str) -> list[dict[str, Any]]:
    """The rows of a frame, after those in whose place they come are gone."""
    table = score_table(name)
    run = _run(connection, run_id, table)
    fixed: dict[str, Any] = {"sample_set_hash": digest} | ({} if run_id is None else {"run_id": run_id})
    rows = [_row(table, {**run, **values, **fixed}, index) for index, values in enumerate(_records(frame))]
    _check_columns(table, frame)
    if not rows and run_id is not None and name in _WHOLE_RUN:
        connection.execute(table.delete().where(table.c.run_id == run_id))
    for chosen in {tuple(row[column] for column in SLICES[name]) for row in rows}:
        for values in spellings(dict(zip(SLICES[name], chosen, strict=True))):
            connection.execute(table.delete().where(*[table.c[column] == value for column, value in values.items()]))
    return rows


def spellings(chosen: dict[str, Any]) -> list[dict[str, Any]]:
    """A slice as it may have been stored: two tasks are the same pair in either order."""
    if "task_a" not in chosen:
        return [chosen]
    return [chosen, {**chosen, "task_a": chosen["task_b"], "task_b": chosen["task_a"]}]


def _put_sample_set(connection: Connection, keys: set[str], runs: Sequence[int] | None, digest: str) -> None:
    """Note which stored units aggregates rest on, once per set; sets that nothing rests on any more go."""
    sets, members = schema.sample_sets, schema.sample_set_units
    known = connection.execute(select(sets.c.id).where(sets.c.hash == digest)).scalar_one_or_none()
    if known is not None and runs is not None:
        # Units with other keys are never put into it, and those that are deleted go from it: as many as there are keys are all of them.
        there = select(func.count()).select_from(members.join(schema.units))
        if connection.execute(there.where(members.c.sample_set_id == known, schema.units.c.run_id.in_(runs))).scalar_one() == len(keys):
            return
    wanted, others = _unit_ids(connection, keys, runs)
    if known is not None:
        there = select(members.c.unit_id).where(members.c.sample_set_id == known)
        if {unit for (unit,) in plain_rows(connection, there)} == wanted:
            return
        connection.execute(members.delete().where(members.c.sample_set_id == known))
    else:
        drop_unused_sets(connection)
        inserted = connection.execute(sets.insert().values(hash=digest)).inserted_primary_key
        assert inserted is not None
        known = inserted[0]
    if len(wanted) <= FEW or len(others) > FEW:
        insert(connection, members, [{"sample_set_id": known, "unit_id": unit} for unit in wanted])
        return
    # Nearly all that there are: the database knows them itself.
    units = schema.units
    every = select(literal(known), units.c.id)
    connection.execute(members.insert().from_select(members.c.keys(), every if runs is None else every.where(units.c.run_id.in_(runs))))
    for chunk in chunks(others):
        connection.execute(members.delete().where(members.c.sample_set_id == known, members.c.unit_id.in_(chunk)))


def _unit_ids(connection: Connection, keys: set[str], runs: Sequence[int] | None) -> tuple[set[int], list[int]]:
    """The row ids of the units with these keys, of some runs or (where a key stands in several, all of them) of any.

    Beside them, where the keys are many, the ids of all other units of these runs or of any.
    """
    units = schema.units
    query = select(units.c.key, units.c.id)
    if runs is None or len(keys) > FEW:
        # Without its run a key stands in no index, so that asking for some keys is as much work as asking for all.
        rows = plain_rows(connection, query if runs is None else query.where(units.c.run_id.in_(runs)))
        return {number for key, number in rows if key in keys}, [number for key, number in rows if key not in keys]
    found = [plain_rows(connection, query.where(units.c.run_id.in_(runs), units.c.key.in_(chunk))) for chunk in chunks(keys)]
    return {number for part in found for _, number in part}, []


def drop_unused_sets(connection: Connection) -> None:
    """Remove the sets of units that no aggregate rests on any more."""
    sets = schema.sample_sets
    unused = [sets.c.hash.not_in(select(table.c.sample_set_hash)) for table in map(score_table, SLICES)]
    connection.execute(sets.delete().where(*unused))


def scores_frame(connection: Connection, name: str, run_ids: RunIds, equals: Mapping[str, Any]) -> pd.DataFrame:
    """Stored aggregates in the order they were put in, narrowed to runs and to equal columns (a list: any of them)."""
    table = score_table(name)
    query = select(*[column for column in table.c if column.name != "id"]).where(is_up_to_date(table)).order_by(table.c.id)
    if run_ids is not None:
        query = equal_to(query, table.c.run_id, run_ids if isinstance(run_ids, int) else list(run_ids))
    for column, value in equals.items():
        if column not in table.c:
            raise StoreError(f"no column {column!r} in {name}: {did_you_mean(column, table.c.keys())}")
        query = equal_to(query, table.c[column], value)
    return frame_of(connection, query)


def score_table(name: str) -> Table:
    """The table of aggregates of that name. Raises `StoreError` for another one."""
    if name not in SLICES:
        raise StoreError(f"no table of scores {name!r}: {did_you_mean(name, SLICES)}")
    return schema.metadata.tables[f"stored_{name}"]


def is_up_to_date(table: Table) -> ColumnElement[bool]:
    """The condition that an aggregate rests on no unit that is superseded."""
    sets, members, units = schema.sample_sets, schema.sample_set_units, schema.units
    stale = select(sets.c.hash).select_from(sets.join(members).join(units)).where(units.c.superseded)
    return table.c.sample_set_hash.not_in(stale)


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
            raise StoreError(f"no column {column!r} in {view_name(table)}: {did_you_mean(str(column), known)}")


def _row(table: Table, values: Mapping[str, Any], index: int) -> dict[str, Any]:
    where = f"row {index} of {view_name(table)}"
    return {column.name: _value(column, values.get(column.name), where) for column in table.c if column.name != "id"}


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
