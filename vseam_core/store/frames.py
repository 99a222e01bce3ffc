"""Query results as pandas tables with dependable column types: floats stay floats where every value is null."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Boolean, Connection, Double, Integer, Select, select

from vseam_core.errors import StoreError, did_you_mean
from vseam_core.store import schema
from vseam_core.store.codec import decode_json

if TYPE_CHECKING:
    import pandas as pd

RunIds = int | Sequence[int] | None

_LISTS = ("heads", "boxes")
"""Columns of JSON that hold lists; all others hold objects."""
RUN_COLUMNS = ("method", "model", "dataset", "level", "category", "pool", "split")
_RUN_FILTERS = (*RUN_COLUMNS, "weights_hash", "seed", "family", "dtype", "attention", "device")


def frame_of(connection: Connection, query: Select[Any], decode: Sequence[str] = ()) -> pd.DataFrame:
    """Run a query; numbers, counts and flags get their numpy types, the columns named in `decode` are parsed from JSON."""
    import pandas as pd

    result = connection.execute(query)
    frame = pd.DataFrame([tuple(row) for row in result], columns=pd.Index(list(result.keys())))
    for column in query.selected_columns:
        name = column.key or ""
        if isinstance(column.type, Double):
            frame[name] = frame[name].astype("float64")
        elif isinstance(column.type, Integer) and not getattr(column, "nullable", True):
            frame[name] = frame[name].astype("int64")
        elif isinstance(column.type, Boolean):
            # A Boolean that may be null is pandas' nullable one: null is not False.
            frame[name] = frame[name].astype("boolean" if getattr(column, "nullable", True) else "bool")
    for name in decode:
        kind = list if name in _LISTS else dict
        frame[name] = pd.Series([None if _missing(text) else decode_json(text, name, kind) for text in frame[name]], dtype="object")
    return frame


def plain_rows(connection: Connection, query: Select[Any]) -> list[tuple[Any, ...]]:
    """The rows of a query as the database's own driver gives them: flags are 0 and 1 in a file. Half the work where rows are 100,000."""
    result = connection.execute(query)
    try:
        assert result.cursor is not None
        return list(result.cursor.fetchall())
    finally:
        result.close()


def plain_parts(connection: Connection, query: Select[Any], at_once: int = 4096) -> Iterator[list[tuple[Any, ...]]]:
    """`plain_rows`, some at a time: 100,000 of them at once are many small objects that the garbage collector looks at again and again."""
    result = connection.execute(query)
    try:
        assert result.cursor is not None
        while part := result.cursor.fetchmany(at_once):
            yield list(part)
    finally:
        result.close()


def _missing(value: object) -> bool:
    return not isinstance(value, str)


def of_runs(query: Select[Any], run_ids: RunIds, study: int | None, filters: Mapping[str, Any]) -> Select[Any]:
    """Narrow a query that has the `runs` table in it to run ids, a study and equal columns of the run (a list: any of them).

    Raises `StoreError` for a column that runs do not have.
    """
    runs = schema.runs
    if run_ids is not None:
        wanted = [run_ids] if isinstance(run_ids, int) else [int(number) for number in run_ids]
        query = query.where(runs.c.id.in_(wanted))
    if study is not None:
        members = select(schema.study_runs.c.run_id).where(schema.study_runs.c.study_id == study)
        query = query.where(runs.c.id.in_(members))
    for name, value in filters.items():
        if name not in _RUN_FILTERS:
            raise StoreError(f"no filter {name!r} on runs: {did_you_mean(name, _RUN_FILTERS)}")
        query = equal_to(query, runs.c[name], value)
    return query


def equal_to(query: Select[Any], column: Any, value: object) -> Select[Any]:
    """Narrow a query to one value of a column, or to any of a list of values."""
    if isinstance(value, list | tuple | set | frozenset):
        return query.where(column.in_(list(value)))
    return query.where(column == value)


def run_labels() -> list[Any]:
    """The columns that say which run a row belongs to: its id, then method, model, dataset and so on."""
    return [schema.runs.c.id.label("run_id"), *[schema.runs.c[name] for name in RUN_COLUMNS]]
