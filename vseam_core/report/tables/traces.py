"""Closing tables about traces, one for each tracer: its strongest cells, or what is read off the runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from vseam_core.analysis.frames import frame_records
from vseam_core.analysis.statistics import MINIMUM_CLUSTERS
from vseam_core.analysis.traces import FLOOR_FACTOR, with_band
from vseam_core.api.interventions import READINGS
from vseam_core.errors import counted
from vseam_core.report.tables.table import ReportTable, table_of
from vseam_core.report.tasks import Task, only, present, study_tasks, task_rows
from vseam_core.report.traced import Traced, traced
from vseam_core.results.study_results import StudyMaterial

if TYPE_CHECKING:
    import pandas as pd

IRREGULAR = "skewed: the interval may be too narrow"
CHANGES = {
    "denoising": "{change} of the clean image put into the run on the corrupt one: change of the {measure} in {unit} with its 95 % "
    "interval{share}.",
    "noising": "{change} of the corrupt image put into the run on the clean one: change of the {measure} in {unit} with its 95 % "
    "interval{share}.",
    "clean": "Change of the {measure} of the run on the clean image in {unit} with its 95 % interval.",
    "corrupt": "Change of the {measure} of the run on the corrupt image in {unit} with its 95 % interval.",
}
READ = "The {measure} that is read in the run on the {image} image, where nothing is changed, with its 95 % interval."


def trace_tables(material: StudyMaterial) -> list[ReportTable]:
    """A table for each tracer that found anything, in the order in which the study traced."""
    found: dict[str, list[Traced]] = {}
    for model in material.models:
        for each in traced(material.traces, material.presentations, model):
            found.setdefault(each.tracer, []).append(each)
    tables = (_readout_table(material, parts) if parts[0].view == "readout" else _cell_table(material, parts) for parts in found.values())
    return [table for table in tables if table.rows]


def _cell_table(material: StudyMaterial, parts: list[Traced]) -> ReportTable:
    """The strongest cell of every site per model and category: selected on half of the images, estimated on the other half."""
    first = parts[0]
    records = [
        _cell_record(found, task, site, row)
        for found in parts
        for task in study_tasks(material)
        for site, row in _strongest(material, found, task)
    ]
    share = ", and as a share of the gap between the two images" if first.in_shares else ""
    change = first.presentation.change or "One activation"
    words = {"measure": first.measure_words, "unit": first.base_unit, "share": share, "change": change, "image": first.directions[0]}
    columns = ("model", "category", "site", "layer", "where", first.base_unit, "low", "high", "share", "n", "remark")
    return table_of(
        f"Strongest cells of {first.tracer}: {first.title}",
        columns,
        records,
        (READ if first.measure in READINGS else CHANGES.get(first.directions[0], CHANGES["clean"])).format(**words),
        "Cells are selected on one half of the images; everything shown is estimated on the other half.",
    )


def _strongest(material: StudyMaterial, found: Traced, task: Task) -> Iterator[tuple[str, Mapping[str, Any]]]:
    rows = only(task_rows(material.strongest, found.model, task), tracer=found.tracer, stack=found.stack, measure=found.measure)
    rows = only(rows, direction=found.directions[0])
    rows = rows[rows["column_label"].isin(found.columns())] if len(rows) else rows
    band = task_rows(found.bands(material.bands), found.model, task)
    if rows.empty:
        yield from _of_too_few_images(found, task)
        return
    for site in found.sites:
        cells = _beside_band(only(rows, site_kind=site), band).sort_values("rank") if len(only(rows, site_kind=site)) else rows.iloc[:0]
        for row in frame_records(cells.head(found.presentation.strongest)):
            yield site, row


def _of_too_few_images(found: Traced, task: Task) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The largest cells where there are no two halves of images to choose on one and estimate on the other: said, and no finding."""
    rows = only(found.of_task(task), direction=found.directions[0], subset="all")
    rows = rows[rows["column_label"].isin(found.columns())] if len(rows) else rows
    for site in found.sites:
        cells = only(rows, site_kind=site)
        order = cells["mean"].abs().sort_values(ascending=False, kind="stable").index if len(cells) else cells.index
        for row in frame_records(cells.loc[order[: found.presentation.strongest]]):
            yield site, {**row, "remark": "too few images to choose on others: no finding"}


def _beside_band(rows: pd.DataFrame, band: pd.DataFrame) -> pd.DataFrame:
    if band.empty or rows.empty:
        return rows.assign(outside_band=None)
    return with_band(rows, band)


def _remark(row: Mapping[str, Any]) -> str:
    if row.get("remark"):
        return str(row["remark"])
    if not row["n"]:
        return "not in the other half of the images"
    if row["low"] is None:
        return f"fewer than {MINIMUM_CLUSTERS} images: no interval"
    if row["below_noise_floor"]:
        return f"below {FLOOR_FACTOR:g} × noise floor"
    if row["low"] <= 0 <= row["high"]:
        return "not told from 0"
    within = f"within the range of random models on the same {counted(row['pairs'], 'pair')}" if row["outside_band"] is False else ""
    return "; ".join(filter(None, (within, IRREGULAR if row["irregular"] else "")))


def _cell_record(found: Traced, task: Task, site: str, row: Mapping[str, Any]) -> dict[str, Any]:
    single = len(present(only(found.rows, site_kind=site), "layer")) == 1
    return {
        "model": found.model,
        "category": task.label,
        "site": found.site_words(site).removesuffix(" output"),
        # The label of a site's only row is no layer.
        "layer": None if single else row["layer"],
        "where": found.column_words(row["column_label"]),
        "n": row["n"],
        found.base_unit: row["mean"],
        "low": row["low"],
        "high": row["high"],
        "share": row["normalised"],
        "remark": _remark(row),
    }


def _readout_table(material: StudyMaterial, parts: list[Traced]) -> ReportTable:
    """Where the readings of the two images part, and the largest gap between them, per site and column."""
    first = parts[0]
    records = [
        {"model": found.model, "category": task.label, **record}
        for found in parts
        for task in study_tasks(material)
        for record in _readings(found, task)
    ]
    readings = [f"{name} {first.base_unit}" for name in first.directions]
    columns = ("model", "category", "site", "where", "apart from", "layer", *readings, "n")
    return table_of(
        f"Readings of {first.tracer}: {first.title}",
        columns,
        records,
        f"layer: where the mean readings of the {first.measure_words} of the two images lie furthest apart, both given there (on the same "
        "images that the layer was chosen on, so it is a description and no test).",
        "apart from: the first layer from which on, up to the last, the 95 % intervals of the two images do not touch; empty: nowhere.",
        folded=("where",),
    )


def _readings(found: Traced, task: Task) -> Iterator[dict[str, Any]]:
    rows = only(found.of_task(task), subset="all")
    for site in found.sites:
        for label in found.columns():
            cells = only(rows, site_kind=site, column_label=label)
            runs = {name: {row["layer"]: row for row in frame_records(only(cells, direction=name))} for name in found.directions}
            layers = sorted(set.intersection(*(set(run) for run in runs.values()))) if runs else []
            if not layers:
                continue
            means = {layer: [run[layer]["mean"] for run in runs.values()] for layer in layers}
            layer = max(layers, key=lambda layer: max(means[layer]) - min(means[layer]) if len(runs) > 1 else abs(means[layer][0]))
            values = {f"{name} {found.base_unit}": run[layer]["mean"] for name, run in runs.items()}
            apart = _apart_from(list(runs.values()), layers)
            words = {"site": found.site_words(site), "where": found.column_words(label), "layer": layer, "apart from": apart}
            yield {**words, **values, "n": next(iter(runs.values()))[layer]["n"]}


def _apart_from(runs: list[dict[int, dict[str, Any]]], layers: list[int]) -> int | None:
    """The first layer from which on no intervals of two runs touch; None where they touch at the last, or an interval is missing."""
    found = None
    for layer in reversed(layers):
        ends = sorted((run[layer]["low"], run[layer]["high"]) for run in runs if run[layer]["low"] is not None)
        if len(ends) < 2 or len(ends) < len(runs) or any(before[1] >= after[0] for before, after in pairwise(ends)):
            break
        found = layer
    return found
