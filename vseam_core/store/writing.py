"""Saving whole units: samples, edits and axes once each, then everything that hangs on the unit, in bulk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, select

from vseam_core.api.types import Pair, TraceEffect
from vseam_core.errors import StoreError
from vseam_core.runs.spec import Answer, Baseline, UnitResult
from vseam_core.store import schema
from vseam_core.store.codec import encode_array, encode_head_effect, encode_json, non_finite, with_checksum
from vseam_core.store.migrations import now
from vseam_core.store.shared_rows import (
    Axes,
    axes_of,
    chunks,
    insert,
    pairs_of,
    put_axes,
    put_edits,
    put_prompts,
    put_samples,
)


def save_units(connection: Connection, run_id: int, model: str, results: Sequence[UnitResult]) -> list[str]:
    """Write units in the open transaction; returns the keys of those that became skips because of NaN or infinity.

    A key that is there already is replaced with everything that hung on it. Raises `StoreError` for records that
    contradict one another.
    """
    units = list({unit.key: unit for unit in results}.values())
    reasons = {unit.key: non_finite(unit) for unit in units}
    sound = [unit for unit in units if unit.status == "done" and reasons[unit.key] is None]
    samples = put_samples(connection, units)
    ids = _References(
        samples=samples,
        edits=put_edits(connection, sound, samples),
        units=_put_units(connection, run_id, units, reasons),
        axes=put_axes(connection, sound),
    )
    insert(connection, schema.skips, list(_skips(units, reasons, ids)))
    insert(connection, schema.baselines, list(_baselines(sound, ids)))
    insert(connection, schema.answers, list(_answers(sound, ids)))
    insert(connection, schema.trace_effects, list(_trace_effects(sound, ids)))
    insert(connection, schema.head_effects, list(_head_effects(sound, ids)))
    insert(connection, schema.ablations, list(_ablations(sound, ids)))
    insert(connection, schema.modulations, list(_modulations(sound, ids)))
    put_prompts(connection, model, sound, ids.samples)
    return [unit.key for unit in units if unit.status == "done" and reasons[unit.key] is not None]


@dataclass(frozen=True)
class _References:
    """The row ids that one save refers to: by sample identifier, pair identifier, unit key and axes."""

    samples: Mapping[str, int]
    edits: Mapping[str, int]
    units: Mapping[str, int]
    axes: Mapping[Axes, int]


def _put_units(connection: Connection, run_id: int, units: Sequence[UnitResult], reasons: Mapping[str, str | None]) -> dict[str, int]:
    table = schema.units
    for chunk in chunks(unit.key for unit in units):
        connection.execute(table.delete().where(table.c.run_id == run_id, table.c.key.in_(chunk)))
    saved = now()
    rows = []
    for unit in units:
        bad = reasons[unit.key]
        rows.append(
            {
                "run_id": run_id,
                "key": unit.key,
                "identifier": unit.identifier,
                "status": "skipped" if bad else unit.status,
                "reason": _reason(unit, bad),
                "details": "{}" if bad else encode_json(unit.details, f"the details of {unit.identifier}"),
                "saved": saved,
                "subject": unit.subject or unit.identifier,
            }
        )
    insert(connection, table, rows)
    found: dict[str, int] = {}
    for chunk in chunks(unit.key for unit in units):
        query = select(table.c.key, table.c.id).where(table.c.run_id == run_id, table.c.key.in_(chunk))
        found.update((key, number) for key, number in connection.execute(query))
    return found


def _reason(unit: UnitResult, bad: str | None) -> str:
    """Why a unit is a skip: its own reason first, it says what happened."""
    return unit.reason if unit.status == "skipped" else bad or unit.reason


def _skips(units: Sequence[UnitResult], reasons: Mapping[str, str | None], ids: _References) -> Iterator[dict[str, Any]]:
    for unit in units:
        bad = reasons[unit.key]
        if bad or unit.status == "skipped":
            yield {"unit_id": ids.units[unit.key], "identifier": unit.identifier, "reason": _reason(unit, bad)}


def _baselines(units: Sequence[UnitResult], ids: _References) -> Iterator[dict[str, Any]]:
    for unit in units:
        pairs = pairs_of(unit)
        for row in unit.baselines:
            pair = _pair_of(row, pairs)
            yield {
                "unit_id": ids.units[unit.key],
                "sample_id": ids.samples[row.sample.identifier],
                "edit_id": None if pair is None else ids.edits[pair.identifier],
                "pair_role": row.pair_role,
                "predicted": row.predicted,
                "answer_prob": float(row.answer_prob),
                "prob_sum": float(row.prob_sum),
                "logit": float(row.logit),
                "logit_diff": None if row.logit_diff is None else float(row.logit_diff),
                "sequence_logprob": float(row.sequence_logprob),
                "correct_published": bool(row.correct_published),
                "correct_strict": bool(row.correct_strict),
                "score": float(row.score),
            }


def _answers(units: Sequence[UnitResult], ids: _References) -> Iterator[dict[str, Any]]:
    for unit in units:
        pairs = pairs_of(unit)
        for row in unit.answers:
            fields = _native(vars(row))
            pair, sample = _pair_of(row, pairs), fields.pop("sample")
            edit = None if pair is None else ids.edits[pair.identifier]
            yield {"unit_id": ids.units[unit.key], "sample_id": ids.samples[sample.identifier], "edit_id": edit, **fields}


def _pair_of(row: Baseline | Answer, pairs: Iterable[Pair]) -> Pair | None:
    """The pair among the unit's whose clean, corrupt or control image was answered."""
    kind = "control" if row.pair_role == "control" else "edit"
    for pair in pairs:
        sample = pair.clean if row.pair_role == "clean" else pair.corrupt
        if row.pair_role and pair.kind == kind and sample.identifier == row.sample.identifier:
            return pair
    return None


def _trace_effects(units: Sequence[UnitResult], ids: _References) -> Iterator[dict[str, Any]]:
    for unit in units:
        for pair, effect in unit.trace_effects:
            row = {
                "unit_id": ids.units[unit.key],
                "edit_id": ids.edits[pair.identifier],
                "tracer": effect.tracer,
                "stack": effect.stack,
                "site_kind": effect.site_kind,
                "direction": effect.direction,
                "measure": effect.measure,
                "axes_id": ids.axes[axes_of(effect)],
                "clean": float(effect.clean),
                "corrupt": float(effect.corrupt),
                **_trace_array(effect, f"{effect.tracer} ({effect.site_kind}) of sample {pair.clean.identifier}"),
            }
            yield with_checksum(row)


def _trace_array(effect: TraceEffect, what: str) -> dict[str, Any]:
    array = encode_array(effect.values, what)
    layers, columns = len(effect.layers), len(effect.columns)
    if (array["height"], array["width"]) != (layers, columns) or len(effect.roles) != columns:
        raise StoreError(
            f"{what}: expected {layers} layers x {columns} columns with a role each, "
            f"got an array {array['height']} x {array['width']} and {len(effect.roles)} roles"
        )
    return array


def _head_effects(units: Sequence[UnitResult], ids: _References) -> Iterator[dict[str, Any]]:
    for unit in units:
        for sample, effect in unit.head_effects:
            row = {
                "unit_id": ids.units[unit.key],
                "sample_id": ids.samples[sample.identifier],
                "operation": effect.operation,
                "positions": effect.positions,
                "measure": effect.measure,
                "stack": effect.stack,
                "base": float(effect.base),
                **encode_head_effect(effect, f"{effect.operation} of sample {sample.identifier}"),
            }
            yield with_checksum(row)


def _ablations(units: Sequence[UnitResult], ids: _References) -> Iterator[dict[str, Any]]:
    for unit in units:
        for row in unit.ablations:
            fields = _native({**vars(row), "heads": encode_json(list(row.heads), unit.identifier)})
            yield {"unit_id": ids.units[unit.key], "accuracy_drop": fields.pop("drop"), **fields}


def _modulations(units: Sequence[UnitResult], ids: _References) -> Iterator[dict[str, Any]]:
    for unit in units:
        for ordinal, row in enumerate(unit.modulations):
            fields = _native({**vars(row), "scales": encode_json(row.scales, unit.identifier)})
            yield {"unit_id": ids.units[unit.key], "ordinal": ordinal, **fields}


def _native(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Numpy scalars as Python's own: databases know no other."""
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in fields.items()}


def rejudge(connection: Connection, table: str, run_id: int, verdicts: Mapping[tuple[str, str], Mapping[str, Any]]) -> None:
    """Give rows of `answers` or `baselines`, by unit key and pair role, another verdict."""
    rows, units = {"answers": schema.answers, "baselines": schema.baselines}[table], schema.units
    for (key, role), verdict in verdicts.items():
        unit = select(units.c.id).where(units.c.run_id == run_id, units.c.key == key).scalar_subquery()
        connection.execute(rows.update().where(rows.c.unit_id == unit, rows.c.pair_role == role).values(**verdict))
