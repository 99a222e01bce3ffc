"""Reading arrays back: trace effects as records, head effects as one stack, both with what the model answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import CompoundSelect, Connection, Select, select, union

from vseam_core.api.types import TraceEffect
from vseam_core.errors import StoreError
from vseam_core.store import schema
from vseam_core.store.codec import decode_array, decode_head_effect, decode_json
from vseam_core.store.currency import is_current
from vseam_core.store.records import HeadEffectSet, TraceRecord
from vseam_core.store.shared_rows import chunks

_SAMPLE_COLUMNS = ("identifier", "image_id", "dataset", "pool", "split", "level", "category", "form", "answer")
_SAME_MODEL = ("weights_hash", "processor_hash", "dtype", "attention")


class _Answers:
    """Whether the run's model answered samples rightly: from the same unit where it says so, else from any run of that model."""

    def __init__(self, connection: Connection, run_id: int, samples: Select[Any] | CompoundSelect[Any]) -> None:
        table, units, runs = schema.baselines, schema.units, schema.runs
        own = connection.execute(select(runs).where(runs.c.id == run_id)).mappings().one_or_none()
        if own is None:
            raise StoreError(f"there is no run {run_id} in this results database")
        query = (
            select(table.c.unit_id, table.c.sample_id, table.c.correct_strict, table.c.correct_published)
            .select_from(table.join(units).join(runs))
            # The sum keeps SQLite from trying every sample in turn for every unit, which takes the product of both.
            .where(*[runs.c[name] == own[name] for name in _SAME_MODEL], (table.c.sample_id + 0).in_(samples), is_current())
            .order_by(table.c.id)
        )
        self._by_unit: dict[tuple[int, int], tuple[bool, bool]] = {}
        self._by_sample: dict[int, tuple[bool, bool]] = {}
        for unit, sample, strict, published in connection.execute(query):
            self._by_unit[unit, sample] = self._by_sample[sample] = (bool(strict), bool(published))

    def of(self, unit: int, sample: int) -> tuple[bool, bool] | tuple[None, None]:
        """Correct by the benchmark's rule, and correct as published; twice None where nothing is known."""
        return self._by_unit.get((unit, sample)) or self._by_sample.get(sample) or (None, None)


def read_trace_effects(
    connection: Connection, run_id: int, keys: Sequence[str] | None, equals: Mapping[str, str | None]
) -> list[TraceRecord]:
    """The trace effects of a run (of some of its units), ordered by pair, whatever the order of saving."""
    table, units, edits, axes = schema.trace_effects, schema.units, schema.edits, schema.trace_axes
    clean, corrupt = schema.samples.alias("clean_sample"), schema.samples.alias("corrupt_sample")
    query = (
        select(
            *[column for column in table.c if column.name != "id"],
            units.c.key,
            *[edits.c[name] for name in ("clean_id", "corrupt_id", "kind", "editor", "source_term", "target_term")],
            edits.c.identifier.label("pair"),
            *[clean.c[name] for name in _SAMPLE_COLUMNS],
            corrupt.c.answer.label("corrupt_answer"),
            *[axes.c[name] for name in ("layers", "columns", "column_kind", "roles")],
        )
        .select_from(table.join(units).join(edits).join(axes))
        .join(clean, clean.c.id == edits.c.clean_id)
        .join(corrupt, corrupt.c.id == edits.c.corrupt_id)
    )
    mine = edits.join(table).join(units)
    images = [select(edits.c[name]).select_from(mine).where(units.c.run_id == run_id) for name in ("clean_id", "corrupt_id")]
    answers = _Answers(connection, run_id, union(*images))
    rows = _rows(connection, _narrowed(query, table, run_id, equals), keys)
    records = [_trace_record(row, answers) for row in rows]
    return sorted(records, key=_trace_order)


def _trace_order(record: TraceRecord) -> tuple[str, ...]:
    effect = record.effect
    return (record.pair, effect.tracer, effect.stack, effect.site_kind, effect.direction, effect.measure, record.key)


def _trace_record(row: Mapping[str, Any], answers: _Answers) -> TraceRecord:
    layers, columns, roles = (decode_json(row[name], f"the {name} of {row['pair']}", list) for name in ("layers", "columns", "roles"))
    effect = TraceEffect(
        tracer=row["tracer"],
        stack=row["stack"],
        site_kind=row["site_kind"],
        direction=row["direction"],
        measure=row["measure"],
        layers=tuple(layers),
        columns=tuple(columns),
        column_kind=row["column_kind"],
        roles=tuple(roles),
        values=decode_array(row, f"{row['tracer']} of {row['pair']}"),
        clean=row["clean"],
        corrupt=row["corrupt"],
    )
    names = ("key", "pair", "kind", "editor", "source_term", "target_term", *_SAMPLE_COLUMNS, "corrupt_answer")
    return TraceRecord(
        **{name: row[name] for name in names},
        clean_correct=answers.of(row["unit_id"], row["clean_id"])[0],
        corrupt_correct=answers.of(row["unit_id"], row["corrupt_id"])[0],
        effect=effect,
    )


def read_head_effects(connection: Connection, run_id: int, keys: Sequence[str] | None, equals: Mapping[str, str | None]) -> HeadEffectSet:
    """The head effects of a run as one stack. Raises `StoreError` where matrices of different shapes were asked for at once."""
    table, units, samples = schema.head_effects, schema.units, schema.samples
    query = select(
        *[column for column in table.c if column.name != "id"],
        units.c.key,
        *[samples.c[name] for name in (*_SAMPLE_COLUMNS, "competitor")],
    ).select_from(table.join(units).join(samples))
    mine = select(table.c.sample_id).select_from(table.join(units)).where(units.c.run_id == run_id)
    answers = _Answers(connection, run_id, mine)
    kind = ("operation", "positions", "measure", "stack")
    kept = _Kept((*_HEAD_COLUMNS, *kind))
    decoded = []
    for row in _rows(connection, _narrowed(query, table, run_id, equals), keys):
        decoded.append((kept.of(row), decode_head_effect(row, f"{row['operation']} of {row['identifier']}")))
    decoded.sort(key=lambda pair: (pair[0]["identifier"], *[pair[0][name] for name in kind], pair[0]["key"]))
    found, matrices = [row for row, _ in decoded], [matrix for _, matrix in decoded]
    shapes = sorted({(row["stack"], *matrix.shape) for row, matrix in zip(found, matrices, strict=True)})
    if len({shape[1:] for shape in shapes}) > 1:
        listed = ", ".join(f"{stack} {height} x {width}" for stack, height, width in shapes)
        raise StoreError(f"the head effects of run {run_id} have several shapes ({listed}): ask for one stack at a time")
    height, width = shapes[0][1:] if shapes else (0, 0)
    values = np.array(matrices, dtype=np.float32).reshape(len(found), height, width)
    base = np.array([row["base"] for row in found], dtype=np.float64)
    return HeadEffectSet(values, base, _head_frame(found, kind, answers))


_HEAD_COLUMNS = ("key", *_SAMPLE_COLUMNS, "competitor", "unit_id", "sample_id", "base")


class _Kept:
    """What is kept of many rows: some columns, and of equal texts one, so that 100,000 rows fit the memory."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns
        self._seen: dict[Any, Any] = {}

    def of(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row with these columns alone."""
        return {name: self._seen.setdefault(row[name], row[name]) if isinstance(row[name], str) else row[name] for name in self._columns}


def _head_frame(found: Sequence[Mapping[str, Any]], kind: Sequence[str], answers: _Answers) -> Any:
    import pandas as pd

    names = ["key", *_SAMPLE_COLUMNS, "competitor", *kind]
    frame = pd.DataFrame([[row[name] for name in names] for row in found], columns=pd.Index(names))
    known = [answers.of(row["unit_id"], row["sample_id"]) for row in found]
    frame["correct_strict"] = pd.array([strict for strict, _ in known], dtype="boolean")
    frame["correct_published"] = pd.array([published for _, published in known], dtype="boolean")
    return frame


def _narrowed(query: Select[Any], table: Any, run_id: int, equals: Mapping[str, str | None]) -> Select[Any]:
    query = query.where(schema.units.c.run_id == run_id, is_current())
    for name, value in equals.items():
        if value is not None:
            query = query.where(table.c[name] == value)
    return query


def _rows(connection: Connection, query: Select[Any], keys: Sequence[str] | None) -> Iterator[Mapping[str, Any]]:
    if keys is None:
        yield from (dict(row) for row in connection.execute(query).mappings())
        return
    for chunk in chunks(dict.fromkeys(keys)):
        some = query.where(schema.units.c.key.in_(chunk))
        yield from (dict(row) for row in connection.execute(some).mappings())
