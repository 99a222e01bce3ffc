"""Reading arrays back: trace effects as records with what the model answered (head effects: `head_effects`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import CompoundSelect, Connection, Select, select, union

from vseam_core.api.types import TraceEffect
from vseam_core.errors import StoreError
from vseam_core.store import schema
from vseam_core.store.codec import decode_array, decode_json
from vseam_core.store.currency import is_current
from vseam_core.store.frames import equal_to, plain_rows
from vseam_core.store.records import TraceRecord
from vseam_core.store.shared_rows import FEW, chunks

SAMPLE_COLUMNS = ("identifier", "image_id", "dataset", "pool", "split", "level", "category", "form", "answer")
_SAME_MODEL = ("weights_hash", "processor_hash", "dtype", "attention")


class Answers:
    """Whether the run's model answered samples rightly: from the same unit where it says so, else from any run of that model.

    `asked` are the units and samples (row ids) that will be asked for, where that is known: other runs are read for what is missing only.
    """

    def __init__(
        self,
        connection: Connection,
        run_id: int,
        samples: Select[Any] | CompoundSelect[Any],
        asked: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        table, units, runs = schema.baselines, schema.units, schema.runs
        own = connection.execute(select(runs).where(runs.c.id == run_id)).mappings().one_or_none()
        if own is None:
            raise StoreError(f"there is no run {run_id} in this results database")
        found = select(table.c.unit_id, table.c.sample_id, table.c.correct_strict, table.c.correct_published)
        mine = found.select_from(table.join(units)).where(units.c.run_id == run_id, is_current()).order_by(table.c.id)
        self._by_unit = {
            (unit, sample): (bool(strict), bool(published)) for unit, sample, strict, published in plain_rows(connection, mine)
        }
        self._by_sample: dict[int, tuple[bool, bool]] = {}
        if asked is not None and self._by_unit.keys() >= set(asked):
            return
        query = (
            found.select_from(table.join(units).join(runs))
            # The sum keeps SQLite from trying every sample in turn for every unit, which takes the product of both.
            .where(*[runs.c[name] == own[name] for name in _SAME_MODEL], (table.c.sample_id + 0).in_(samples), is_current())
            .order_by(table.c.id)
        )
        for unit, sample, strict, published in plain_rows(connection, query):
            self._by_unit[unit, sample] = self._by_sample[sample] = (bool(strict), bool(published))

    def of(self, unit: int, sample: int) -> tuple[bool, bool] | tuple[None, None]:
        """Correct by the benchmark's rule, and correct as published; twice None where nothing is known."""
        return self._by_unit.get((unit, sample)) or self._by_sample.get(sample) or (None, None)

    def of_all(self, asked: Sequence[tuple[int, int]]) -> list[tuple[bool, bool] | tuple[None, None]]:
        """`of` for many."""
        return [self.of(unit, sample) for unit, sample in asked]


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
            *[clean.c[name] for name in SAMPLE_COLUMNS],
            corrupt.c.answer.label("corrupt_answer"),
            *[axes.c[name] for name in ("layers", "columns", "column_kind", "roles")],
        )
        .select_from(table.join(units).join(edits).join(axes))
        .join(clean, clean.c.id == edits.c.clean_id)
        .join(corrupt, corrupt.c.id == edits.c.corrupt_id)
    )
    mine = edits.join(table).join(units)
    images = [select(edits.c[name]).select_from(mine).where(units.c.run_id == run_id) for name in ("clean_id", "corrupt_id")]
    answers = Answers(connection, run_id, union(*images))
    names = [str(column.key) for column in query.selected_columns]
    rows = rows_of(connection, narrowed(query, table, run_id, equals), keys)
    records = [_trace_record(dict(zip(names, row, strict=True)), answers) for row in rows]
    return sorted(records, key=_trace_order)


def _trace_order(record: TraceRecord) -> tuple[str, ...]:
    effect = record.effect
    return (record.pair, effect.tracer, effect.stack, effect.site_kind, effect.direction, effect.measure, record.key)


def _trace_record(row: Mapping[str, Any], answers: Answers) -> TraceRecord:
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
    names = ("key", "pair", "kind", "editor", "source_term", "target_term", *SAMPLE_COLUMNS, "corrupt_answer")
    return TraceRecord(
        **{name: row[name] for name in names},
        clean_correct=answers.of(row["unit_id"], row["clean_id"])[0],
        corrupt_correct=answers.of(row["unit_id"], row["corrupt_id"])[0],
        effect=effect,
    )


def narrowed(query: Select[Any], table: Any, run_id: int, equals: Mapping[str, str | Sequence[str] | None]) -> Select[Any]:
    """A query for the current units of a run, narrowed to equal columns of its table (a list: any of its values)."""
    query = query.where(schema.units.c.run_id == run_id, is_current())
    for name, value in equals.items():
        if value is not None:
            query = equal_to(query, table.c[name], value)
    return query


def rows_of(connection: Connection, query: Select[Any], keys: Sequence[str] | None) -> list[tuple[Any, ...]]:
    """The rows of a query that has the units' keys among its columns, of some units or of all."""
    if keys is None:
        return plain_rows(connection, query)
    wanted = dict.fromkeys(keys)
    if len(wanted) > FEW:
        place = [column.key for column in query.selected_columns].index("key")
        return [row for row in plain_rows(connection, query) if row[place] in wanted]
    return [row for chunk in chunks(wanted) for row in plain_rows(connection, query.where(schema.units.c.key.in_(chunk)))]
