"""What further methods found, as the page draws it: compared ways to answer, screened paths, directions, readings beside effects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from vseam_core.report.data.page_data import PageData
from vseam_core.report.tasks import Task, only, present, rows_by_task
from vseam_core.results.study_results import HeadMap, StudyMaterial

_COMPARED = (
    *(
        "method",
        "change",
        "tried",
        "accuracy",
        "accuracy_low",
        "accuracy_high",
        "f1",
        "yes_ratio",
        "own_threshold",
        "own_threshold_accuracy",
    ),
    *(f"{gain}{end}" for gain in ("gain", "gain_over_threshold", "own_threshold_gain") for end in ("", "_low", "_high", "_p", "_q")),
    *("seconds_per_answer", "forward_passes_per_answer", "skips", "reason"),
)
_PATH = ("sender", "receiver", "part", "estimate", "mean", "low", "high", "share", "n", "images")
_AGREEMENT = ("rank_correlation", "rank_top", "rank_random", "scale", "strongest", "recall", "recall_low", "recall_high")
_DIRECTION = ("held_out", "low", "high", "fitted")


def add_methods(page: PageData, material: StudyMaterial) -> None:
    """Put the tables of further methods into the page; each is empty where a study has none."""
    page.content["comparisons"] = list(_comparisons(material))
    page.content["screened_paths"] = list(_paths(material))
    page.content["directions"] = list(_directions(material))
    page.content["readings"] = list(_readings(page, material))


def _about(model: str, task: Task) -> dict[str, Any]:
    return {"model": model, "dataset": task.dataset, "label": task.label}


def _comparisons(material: StudyMaterial) -> Iterator[dict[str, Any]]:
    found: dict[Any, dict[str, Any]] = {}
    for model, task, row in rows_by_task(material, material.comparisons):
        common = {**_about(model, task), "split": row["split"], "n": row["n"], "n_choose": row["n_choose"], "rows": []}
        found.setdefault(row["run_id"], common)["rows"].append({name: row[name] for name in _COMPARED})
    yield from found.values()


def _paths(material: StudyMaterial) -> Iterator[dict[str, Any]]:
    rows: dict[Any, list[dict[str, Any]]] = {}
    for _, _, row in rows_by_task(material, material.screened_paths):
        rows.setdefault(row["run_id"], []).append({name: row[name] for name in _PATH})
    for model, task, row in rows_by_task(material, material.path_screenings):
        kept = {name: row[name] for name in ("direction", "positions", "n", "estimated", "top", "random", *_AGREEMENT)}
        yield {**_about(model, task), **kept, "rows": rows.get(row["run_id"], [])}


def _directions(material: StudyMaterial) -> Iterator[dict[str, Any]]:
    found: dict[Any, dict[str, Any]] = {}
    for model, task, row in rows_by_task(material, material.direction_scores):
        common = {name: row[name] for name in ("site", "n_fitted", "n_held_out", "images")}
        entry = found.setdefault(row["run_id"], {**_about(model, task), **common, "layers": [], "kinds": {}})
        if row["layer"] not in entry["layers"]:
            entry["layers"].append(row["layer"])
        kind = entry["kinds"].setdefault(row["kind"], {name: [] for name in ("layer", *_DIRECTION)})
        for name, values in kind.items():
            values.append(row[name])
    yield from found.values()


def _readings(page: PageData, material: StudyMaterial) -> Iterator[dict[str, Any]]:
    """Each reading with its tests, and with a point for each head: what is read of it, and what replacing it does."""
    found: dict[Any, dict[str, Any]] = {}
    for model, task, row in rows_by_task(material, material.reading_tests):
        key = (row["run_id"], row["operation"], row["site_kind"])
        if key not in found:
            common = {name: row[name] for name in ("reading", "tracer", "operation", "images", "n_readings", "n_effects")}
            found[key] = {**_about(model, task), **common, "tests": {}, **_points(page, material, model, task, row)}
        found[key]["tests"][row["effect"]] = {name: row[name] for name in ("rank_correlation", "low", "high", "p_value", "heads")}
    yield from found.values()


def _points(page: PageData, material: StudyMaterial, model: str, task: Task, row: dict[str, Any]) -> dict[str, Any]:
    scan = _scan(material.heads, model, task.dataset, row["operation"])
    about = {"model": model, "dataset": task.dataset, "tracer": row["tracer"], "site_kind": row["site_kind"], "direction": "clean"}
    rows = only(material.traces, **about, subset="all")
    effects = None if scan is None else scan.claims.map("support")
    if scan is None or effects is None or rows.empty:
        return {"words": row["operation"], "heads": [], "values": None}
    places = {label: place for place, label in enumerate(present(rows, "column_label"))}
    layers, heads = (int(size) for size in effects.shape)
    read = np.full((layers, heads), np.nan)
    for layer, label, mean in zip(rows["layer"], rows["column_label"], rows["mean"], strict=True):
        if 0 <= layer < layers and places[label] < heads:
            read[layer, places[label]] = mean
    names = [f"L{layer}H{head}" for layer in range(layers) for head in range(heads)]
    return {"words": scan.replaced_by, "heads": names, "values": page.array(np.stack([read.ravel(), effects.ravel()]), "float64")}


def _scan(heads: Sequence[HeadMap], model: str, dataset: str, operation: str) -> HeadMap | None:
    here = [scan for scan in heads if (scan.model, scan.dataset) == (model, dataset)]
    return next((scan for scan in here if scan.operation == operation), here[0] if here else None)
