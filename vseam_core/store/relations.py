"""Everything that a results database shows, as batches of plain rows: tables and views as they are, arrays with their axes beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from sqlalchemy import Boolean, Connection, Double, Integer, LargeBinary, Select, String, Table, column, inspect, select, table

from vseam_core.store import schema
from vseam_core.store.codec import decode_array, decode_head_effect, decode_json
from vseam_core.store.currency import is_current
from vseam_core.store.current_views import view_name
from vseam_core.store.views import VIEWS

Kind = Literal["text", "whole", "number", "flag", "bytes", "texts", "wholes", "matrix"]
Row = tuple[Any, ...]

_AT_ONCE = 2_000
_OWN_BUSINESS = ("schema_migrations", "head_set_sizes")
_ENCODED = ("height", "width", "dtype", "data", "checksum", "measured", "axes_id")
_SQL_TYPES: dict[Kind, Any] = {"text": String, "whole": Integer, "number": Double, "flag": Boolean, "bytes": LargeBinary}
# What SQLite does not say about columns that a view computes; those that are not named here are numbers.
_COMPUTED: dict[str, Kind] = {
    **dict.fromkeys(("sign", "change"), "text"),
    **dict.fromkeys(("head_rank", "claim_rank", "claimed", "resolved", "heads_total", "overlap", "eligible_a", "eligible_b"), "whole"),
}


@dataclass(frozen=True)
class Relation:
    """A table or view: its columns with their kinds, and its rows, read in batches while they are asked for.

    A value is None where there is none. A `matrix` is a float32 array `[layers, columns]` in which NaN stands for what was not measured.
    """

    name: str
    columns: Mapping[str, Kind]
    batches: Iterator[Sequence[Row]]


def relations(connection: Connection) -> Iterator[Relation]:
    """What is current, one relation after another; each is read before the next is asked for. `stored_X` is read as its view X."""
    arrays = {view_name(schema.head_effects): _head_effects, view_name(schema.trace_effects): _trace_effects}
    plain = [name for name in schema.metadata.tables if not name.startswith("stored_") and name not in _OWN_BUSINESS]
    for name in sorted({*plain, *VIEWS}):
        yield arrays[name](connection) if name in arrays else _as_it_is(connection, name)


def _as_it_is(connection: Connection, name: str) -> Relation:
    kinds = {found["name"]: _kind(found["name"], found["type"]) for found in inspect(connection).get_columns(name)}
    asked = table(name, *[column(named, _SQL_TYPES[kind]) for named, kind in kinds.items()])
    result = connection.execute(select(asked), execution_options={"yield_per": _AT_ONCE})
    return Relation(name, kinds, ([tuple(row) for row in part] for part in result.partitions()))


def _kind(name: str, sql_type: Any) -> Kind:
    for kind in ("flag", "whole", "text", "bytes"):
        if isinstance(sql_type, _SQL_TYPES[kind]):
            return kind
    return "number" if isinstance(sql_type, Double) else _COMPUTED.get(name, "number")


def _head_effects(connection: Connection) -> Relation:
    stored, units, samples = schema.head_effects, schema.units, schema.samples
    joined = stored.join(units).join(schema.runs).join(samples, samples.c.id == stored.c.sample_id)
    query = select(*_labels(samples), *stored.c).select_from(joined)

    def axes(row: Mapping[str, Any], what: str) -> Row:
        values = decode_head_effect(row, what)
        return values, list(range(values.shape[0])), list(range(values.shape[1]))

    return _arrays(connection, stored, query, {"values": "matrix", "layers": "wholes", "heads": "wholes"}, axes)


def _trace_effects(connection: Connection) -> Relation:
    stored, units, edits, of_axes = schema.trace_effects, schema.units, schema.edits, schema.trace_axes
    named = [of_axes.c[name] for name in ("layers", "columns", "roles", "column_kind")]
    joined = stored.join(units).join(schema.runs).join(edits, edits.c.id == stored.c.edit_id).join(of_axes)
    query = select(*_labels(edits), *stored.c, *named).select_from(joined)

    def axes(row: Mapping[str, Any], what: str) -> Row:
        lists = [decode_json(row[name], f"the {name} of {what}", list) for name in ("layers", "columns", "roles")]
        return decode_array(row, what), *lists, row["column_kind"]

    kinds: dict[str, Kind] = {"values": "matrix", "layers": "wholes", "columns": "texts", "roles": "texts", "column_kind": "text"}
    return _arrays(connection, stored, query, kinds, axes)


def _labels(about: Table) -> list[Any]:
    """What a user would else have to join: run, model and dataset, and what the array is about."""
    runs = schema.runs
    return [runs.c.id.label("run_id"), runs.c.model, runs.c.dataset, about.c.identifier]


def _arrays(connection: Connection, stored: Table, query: Select[Any], axes: Mapping[str, Kind], read: Any) -> Relation:
    own: dict[str, Kind] = {found.name: _kind(found.name, found.type) for found in stored.c if found.name not in _ENCODED}
    labels: dict[str, Kind] = {"run_id": "whole", "model": "text", "dataset": "text", "identifier": "text"}
    plain = {**labels, **own}
    current = query.where(is_current()).order_by(stored.c.id)
    result = connection.execute(current, execution_options={"yield_per": _AT_ONCE}).mappings()

    def rows(part: Sequence[Any]) -> list[Row]:
        return [(*(row[name] for name in plain), *read(row, f"{stored.name}, row {row['id']}")) for row in part]

    return Relation(view_name(stored), {**plain, **axes}, (rows(part) for part in result.partitions()))


def nested(matrix: np.ndarray) -> list[list[float | None]]:
    """A matrix as lists of rows; None where nothing was measured."""
    return [[None if value != value else value for value in row] for row in matrix.tolist()]
