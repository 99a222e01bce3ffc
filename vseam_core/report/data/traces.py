"""The traces of a page: averages by role or group with their intervals, and every sample's own values by token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from vseam_core.analysis.frames import frame_records
from vseam_core.api.interventions import TOP_TOKEN
from vseam_core.api.presentation import presentation_of
from vseam_core.report.data.known_samples import KnownSamples
from vseam_core.report.data.page_data import PageData
from vseam_core.report.tasks import Task, only, present, task_rows
from vseam_core.report.traced import Traced, traced
from vseam_core.results.stored_study import StoredStudy
from vseam_core.results.study_results import StudyMaterial
from vseam_core.store.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from vseam_core.store.records import TraceRecord

_SHARES = {"share": "normalised", "share_low": "normalised_low", "share_high": "normalised_high"}
_NUMBERS = {"n": "n", "mean": "mean", "low": "low", "high": "high", "below_noise_floor": "below_noise_floor"}


def add_traces(
    page: PageData, store: Store, chosen: StoredStudy, material: StudyMaterial, tasks: list[Task], samples: KnownSamples
) -> None:
    """Put every tracer's findings on every task into the page, in the measure that its figure shows."""
    axes: dict[tuple[Any, ...], int] = {}
    runs = {(row["model"], row["dataset"], _tracer(row)): row["id"] for row in frame_records(chosen.runs) if row["method"] == "trace"}
    for model in chosen.models:
        for found in traced(material.traces, material.presentations, model):
            for task in found.tasks(tasks):
                entry = _heading(found, task)
                entry["aggregates"] = list(_aggregates(page, found, task, material))
                run = runs.get((model, task.dataset, found.tracer))
                records = [] if run is None else store.trace_effects(int(run), tracer=found.tracer, measure=found.measure)
                records = [record for record in records if record.effect.stack == found.stack]
                tops = [] if run is None else store.trace_effects(int(run), tracer=found.tracer, measure=TOP_TOKEN)
                # Of the run itself: each model has token ids and image positions of its own.
                shown = presentation_of(None if run is None else store.presentation(int(run)))
                cells = {_cells_of(record): _texts(record, shown.tokens) for record in tops}
                samples.add_places(model, shown.places)
                entry["samples"] = list(_samples(page, records, axes=axes, samples=samples, cells=cells))
                page.content["traces"].append(entry)


def _tracer(row: dict[str, Any]) -> str:
    part = row["configuration"].get("tracer") if isinstance(row["configuration"], dict) else None
    return str(part["name"]) if isinstance(part, dict) else str(part)


def _heading(found: Traced, task: Task) -> dict[str, Any]:
    return {
        "model": found.model,
        "dataset": task.dataset,
        "tracer": found.tracer,
        "view": found.view,
        "title": found.title,
        "caption": found.presentation.caption,
        "measure": found.measure_words,
        "unit": found.base_unit,
        "stack": found.stack,
        "shares": found.in_shares,
        "sites": {site: found.site_words(site) for site in found.sites},
        "columns": {label: found.column_words(label) for label in present(found.rows, "column_label")},
        "shown": found.columns(),
        "directions": found.directions,
    }


def _aggregates(page: PageData, found: Traced, task: Task, material: StudyMaterial) -> Iterator[dict[str, Any]]:
    rows = only(found.of_task(task), subset="all")
    bands = task_rows(found.bands(material.bands), found.model, task)
    for site in found.sites:
        for direction in found.directions:
            part = only(rows, site_kind=site, direction=direction)
            if part.empty:
                continue
            layers, labels = sorted(set(part["layer"])), present(part, "column_label")
            grid = _Grid(layers, labels)
            band = only(bands, site_kind=site, direction=direction)
            numbers = {name: grid.values(part, column) for name, column in (_NUMBERS | (_SHARES if found.in_shares else {})).items()}
            pairs = band["pairs"].dropna() if len(band) else band.index
            if len(band):
                numbers |= {name: grid.values(band, name) for name in ("band_low", "band_high", "own")}
            yield {
                "site": site,
                "direction": direction,
                "layers": [int(layer) for layer in layers],
                "columns": labels,
                "numbers": list(numbers),
                "values": page.array(np.stack(list(numbers.values())), "float64"),
                "band_models": int(band["models"].max()) if len(band) else None,
                "band_pairs": int(pairs.max()) if len(pairs) else None,
            }


class _Grid:
    """Layers × columns, filled from rows of a table."""

    def __init__(self, layers: list[int], labels: list[str]) -> None:
        self._layers = {layer: index for index, layer in enumerate(layers)}
        self._labels = {label: index for index, label in enumerate(labels)}

    def values(self, rows: pd.DataFrame, column: str) -> np.ndarray:
        """A column as `[layers, columns]`, NaN where there is no row or no value."""
        found = np.full((len(self._layers), len(self._labels)), np.nan)
        numbers = rows[column].astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan)
        for layer, label, number in zip(rows["layer"], rows["column_label"], numbers, strict=True):
            if layer in self._layers and label in self._labels:
                found[self._layers[layer], self._labels[label]] = number
        return found


def _cells_of(record: TraceRecord) -> tuple[Any, ...]:
    """Which cells a record has values for."""
    effect = record.effect
    return record.pair, effect.stack, effect.site_kind, effect.direction, effect.layers, effect.columns


def _texts(record: TraceRecord, tokens: Mapping[str, str]) -> list[str]:
    """The tokens of a record's cells as a person reads them; their numbers where no text is known."""
    return [tokens.get(str(int(number)), f"#{int(number)}").strip() for number in record.effect.values.flat]


def _samples(
    page: PageData,
    records: list[TraceRecord],
    axes: dict[tuple[Any, ...], int],
    samples: KnownSamples,
    cells: Mapping[tuple[Any, ...], list[str]],
) -> Iterator[dict[str, Any]]:
    groups: dict[tuple[str, str], list[TraceRecord]] = {}
    for record in records:
        groups.setdefault((record.effect.site_kind, record.effect.direction), []).append(record)
    samples.add_pairs(record.pair for record in records)
    for (site, direction), members in groups.items():
        sizes = [record.effect.values.size for record in members]
        places = [samples.pair(record.pair) for record in members]
        axis = [_axis(page, record, axes) for record in members]
        words = [cells.get(_cells_of(record)) for record in members]
        yield {
            "site": site,
            "direction": direction,
            "index": page.array(np.stack([places, axis, np.cumsum([0, *sizes[:-1]])]), "int32"),
            "ends": page.array(np.array([[record.effect.clean, record.effect.corrupt] for record in members]).T, "float64"),
            "values": page.array(np.concatenate([record.effect.values.ravel() for record in members]), "float32"),
            "cells": words if any(words) else None,
        }


def _axis(page: PageData, record: TraceRecord, axes: dict[tuple[Any, ...], int]) -> int:
    effect = record.effect
    key = (effect.layers, effect.column_kind, effect.columns, effect.roles)
    if key not in axes:
        axes[key] = len(page.content["axes"])
        page.content["axes"].append(
            {"layers": list(effect.layers), "kind": effect.column_kind, "columns": list(effect.columns), "roles": list(effect.roles)}
        )
    return axes[key]
