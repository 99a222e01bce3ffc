"""Reading tables back: runs, baselines, conditions and skips as pandas tables; of units, those that are current."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, case, func, select

from vseam_core.store import schema
from vseam_core.store.codec import decode_json
from vseam_core.store.currency import is_current
from vseam_core.store.current_views import view_name
from vseam_core.store.frames import RunIds, frame_of, of_runs, run_labels

if TYPE_CHECKING:
    import pandas as pd

_SAMPLE_COLUMNS = ("identifier", "image_id", "dataset", "pool", "split", "level", "category", "form", "question")
_ANSWERS = ("answer", "competitor")


def runs_frame(connection: Connection, study: int | None, filters: dict[str, Any]) -> pd.DataFrame:
    """One row per run: everything that identifies it, and how many of its units are done, skipped and superseded."""
    runs, units = schema.runs, schema.units
    kinds = {status: is_current() & (units.c.status == status) for status in ("done", "skipped")} | {"superseded": units.c.superseded}
    counts = [func.coalesce(func.sum(case((kind, 1), else_=0)), 0).label(f"units_{name}") for name, kind in kinds.items()]
    query = select(runs, *counts).select_from(runs.outerjoin(units)).group_by(runs.c.id).order_by(runs.c.id)
    frame = frame_of(connection, of_runs(query, None, study, filters), decode=("configuration", "versions", "trust", "presentation"))
    return frame.astype({f"units_{name}": "int64" for name in kinds})


def studies_frame(connection: Connection) -> pd.DataFrame:
    """One row per study, the latest last, with its configuration decoded."""
    columns = [schema.studies.c[name] for name in ("id", "name", "configuration", "created")]
    return frame_of(connection, select(*columns).order_by(schema.studies.c.id), decode=("configuration",))


def baselines_frame(connection: Connection, run_ids: RunIds, study: int | None, filters: dict[str, Any]) -> pd.DataFrame:
    """One row per model answer with its sample, its model and the pair it belongs to (missing outside pairs)."""
    table, samples, units, runs, edits = (
        schema.baselines,
        schema.samples,
        schema.units,
        schema.runs,
        schema.edits,
    )
    own = [column for column in table.c if column.name not in ("id", "unit_id", "sample_id", "edit_id")]
    query = (
        select(
            runs.c.id.label("run_id"),
            runs.c.model,
            runs.c.weights_hash,
            runs.c.method,
            units.c.key,
            *[samples.c[name] for name in (*_SAMPLE_COLUMNS, *_ANSWERS)],
            edits.c.identifier.label("pair"),
            edits.c.editor,
            *own,
        )
        .select_from(table.join(units).join(runs).join(samples, samples.c.id == table.c.sample_id))
        .where(is_current())
        .outerjoin(edits, edits.c.id == table.c.edit_id)
        .order_by(runs.c.id, samples.c.identifier, table.c.pair_role, units.c.key)
    )
    return frame_of(connection, of_runs(query, run_ids, study, filters))


def answers_frame(connection: Connection, run_ids: RunIds, study: int | None, filters: dict[str, Any]) -> pd.DataFrame:
    """One row per answer of an evaluation with its sample, its model and the pair it belongs to (missing outside pairs)."""
    table, samples, units, runs, edits = schema.answers, schema.samples, schema.units, schema.runs, schema.edits
    clean = samples.alias("clean")
    own = [column for column in table.c if column.name not in ("id", "unit_id", "sample_id", "edit_id")]
    query = (
        select(
            runs.c.id.label("run_id"),
            runs.c.model,
            units.c.key,
            *[samples.c[name] for name in (*_SAMPLE_COLUMNS, *_ANSWERS)],
            clean.c.identifier.label("clean_identifier"),
            *own,
        )
        .select_from(table.join(units).join(runs).join(samples, samples.c.id == table.c.sample_id))
        .where(is_current())
        .outerjoin(edits, edits.c.id == table.c.edit_id)
        .outerjoin(clean, clean.c.id == edits.c.clean_id)
        .order_by(runs.c.id, units.c.id, table.c.id)
    )
    return frame_of(connection, of_runs(query, run_ids, study, filters))


def ablations_frame(connection: Connection, run_ids: RunIds, study: int | None, filters: dict[str, Any]) -> pd.DataFrame:
    """One row per ablated set of heads; `drop` is base minus ablated accuracy, `heads` a list of names."""
    table, units, runs = schema.ablations, schema.units, schema.runs
    own = [column.label("drop") if column.name == "accuracy_drop" else column for column in table.c if column.name not in ("id", "unit_id")]
    query = (
        select(*run_labels(), units.c.key, units.c.identifier, *own)
        .select_from(table.join(units).join(runs))
        .where(is_current())
        .order_by(runs.c.id, *[table.c[name] for name in ("condition", "sign", "operation", "size", "trial")])
    )
    return frame_of(connection, of_runs(query, run_ids, study, filters), decode=("heads",))


def modulations_frame(connection: Connection, run_ids: RunIds, study: int | None, filters: dict[str, Any]) -> pd.DataFrame:
    """One row per evaluated head rescaling; `scales` maps head names to factors."""
    table, units, runs = schema.modulations, schema.units, schema.runs
    own = [column for column in table.c if column.name not in ("id", "unit_id", "ordinal")]
    query = (
        select(*run_labels(), units.c.key, units.c.identifier, *own)
        .select_from(table.join(units).join(runs))
        .where(is_current())
        .order_by(runs.c.id, units.c.identifier, units.c.key, table.c.ordinal)
    )
    return frame_of(connection, of_runs(query, run_ids, study, filters), decode=("scales",))


def skips_frame(connection: Connection, run_ids: RunIds, study: int | None, filters: dict[str, Any]) -> pd.DataFrame:
    """One row per skipped sample, with the reason."""
    table, units, runs = schema.skips, schema.units, schema.runs
    query = (
        select(*run_labels(), units.c.key, table.c.identifier, table.c.reason)
        .select_from(table.join(units).join(runs))
        .where(is_current())
        .order_by(runs.c.id, table.c.identifier, units.c.key)
    )
    return frame_of(connection, of_runs(query, run_ids, study, filters))


def unit_details(connection: Connection, run: int, keys: Iterable[str]) -> list[dict[str, Any]]:
    """The details of a run's finished units, in the order of their identifiers."""
    units = schema.units
    query = select(units.c.key, units.c.details).where(units.c.run_id == run, units.c.status == "done").order_by(units.c.identifier)
    wanted = set(keys)
    return [decode_json(row.details, "the details of a unit") for row in connection.execute(query) if row.key in wanted]


def edits_frame(connection: Connection) -> pd.DataFrame:
    """One row per edit with its clean and corrupt sample; `verdicts` counts people's reviews of it."""
    edits, samples, reviews = schema.edits, schema.samples, schema.edit_reviews
    clean, corrupt = samples.alias("clean"), samples.alias("corrupt")
    verdicts = select(func.count()).where(reviews.c.edit_id == edits.c.id).scalar_subquery().label("verdicts")
    own = [column for column in edits.c if column.name not in ("id", "clean_id", "corrupt_id")]
    query = (
        select(
            *own,
            clean.c.identifier.label("clean"),
            corrupt.c.identifier.label("corrupt"),
            clean.c.answer,
            corrupt.c.answer.label("corrupt_answer"),
            *[clean.c[name] for name in ("dataset", "level", "category", "pool", "split", "image_id", "question")],
            verdicts,
        )
        .select_from(edits.join(clean, clean.c.id == edits.c.clean_id).join(corrupt, corrupt.c.id == edits.c.corrupt_id))
        .order_by(edits.c.identifier)
    )
    return frame_of(connection, query, decode=("boxes", "checks"))


def table_counts(connection: Connection) -> dict[str, int]:
    """How many rows each table holds, those of superseded units among them; `stored_X` is called X."""
    counts = {}
    for table in schema.metadata.sorted_tables:
        counts[view_name(table)] = int(connection.execute(select(func.count()).select_from(table)).scalar_one())
    return dict(sorted(counts.items()))
