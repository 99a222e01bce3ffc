"""Sentences about traces: which token carries the answer, and whether a curve leaves the range of random models."""

from __future__ import annotations

from typing import Any

from vseam_core.analysis.frames import frame_records
from vseam_core.analysis.traces import with_band
from vseam_core.api.interventions import READINGS
from vseam_core.report.findings.wording import Finding, link, listed, number, percent
from vseam_core.report.tables.table import range_of
from vseam_core.report.tasks import Task, only, study_tasks, task_rows
from vseam_core.report.traced import Traced, traced
from vseam_core.results.study_results import StudyMaterial

NAMED_TASKS = 3


def token_findings(material: StudyMaterial) -> list[Finding]:
    """Per model the strongest cells of its token maps: chosen on half of the images, estimated on the other half."""
    findings = []
    for model in material.models:
        for found in traced(material.traces, material.presentations, model):
            if found.view == "map" and found.measure not in READINGS:
                findings += _of_tracer(material, found)
    return findings


def _of_tracer(material: StudyMaterial, found: Traced) -> list[Finding]:
    site = found.sites[0]
    cells = []
    for task in study_tasks(material):
        row = _strongest(material, found, task, site)
        if row is not None:
            cells.append((task, row))
    if not cells:
        return []
    cells.sort(key=lambda cell: -abs(cell[1]["normalised"] if found.in_shares else cell[1]["mean"]))
    parts = [
        f"{_value(found, row)} on {task.label} at the {found.column_words(row['column_label'])} in layer {row['layer']} (n = {row['n']})"
        for task, row in cells[:NAMED_TASKS]
    ]
    change = "restores" if found.in_shares else "changes the answer by"
    goal = " of the gap between the two images" if found.in_shares else ""
    own = found.presentation.change
    what = f"{own[0].lower()}{own[1:]} ({found.site_words(site)})" if own else f"the {found.site_words(site)} at one token"
    text = (
        f"{found.model}: {what}, taken from the other image, {change} up to {listed(parts)}{goal}, on images that the cell "
        "was not chosen on."
    )
    return [Finding(text, "found", link("traces", model=found.model, dataset=cells[0][0].dataset, tracer=found.tracer))]


def _strongest(material: StudyMaterial, found: Traced, task: Task, site: str) -> dict[str, Any] | None:
    """The first-ranked cell of a site that is told from 0 and from the noise floor."""
    rows = only(task_rows(material.strongest, found.model, task), tracer=found.tracer, stack=found.stack, measure=found.measure)
    rows = only(rows, direction=found.directions[0], site_kind=site)
    if rows.empty:
        return None
    rows = rows[rows["column_label"].isin(found.columns())].sort_values("rank")
    if rows.empty:
        return None
    row = frame_records(rows.iloc[:1])[0]
    if row["low"] is None or row["low"] <= 0 <= row["high"] or row["below_noise_floor"]:
        return None
    return row if not found.in_shares or row["normalised"] is not None else None


def _value(found: Traced, row: dict[str, Any]) -> str:
    if found.in_shares:
        return percent(row["normalised"], row["normalised_low"], row["normalised_high"])
    interval = "" if row["low"] is None else f" [{number(row['low'])}, {number(row['high'])}]"
    return f"{number(row['mean'])} {found.base_unit}{interval}"


def curve_findings(material: StudyMaterial) -> list[Finding]:
    """For tracers that mean little without random models: how many of the strongest cells leave their range."""
    findings = []
    for model in material.models:
        for found in traced(material.traces, material.presentations, model):
            if not found.presentation.against_random_models:
                continue
            rows = [row for task in study_tasks(material) for row in _beside_band(material, found, task)]
            if not rows:
                continue
            outside = sum(row["outside_band"] is True for row in rows)
            models = int(found.bands(material.bands)["models"].max())
            pairs = range_of([row["pairs"] for row in rows])
            leave = "leaves" if outside == 1 else "leave"
            text = (
                f"{model}: {outside} of the {len(rows)} strongest {found.tracer} effects, one of each site and category, {leave} the range "
                f"of {models} randomly initialised models of its shape, all on the same {pairs} pairs; one more such model would leave it "
                f"in {200 / (models + 1):.0f} % of cells, and within it a curve says nothing about what was learned."
            )
            findings.append(Finding(text, "found" if outside else "open", link("curves", model=model, tracer=found.tracer)))
    return findings


def _beside_band(material: StudyMaterial, found: Traced, task: Task) -> list[dict[str, Any]]:
    """The strongest cell of each site of a task, with whether the model leaves the random models' range there, on their pairs."""
    band = task_rows(found.bands(material.bands), found.model, task)
    cells = only(task_rows(material.strongest, found.model, task), tracer=found.tracer, stack=found.stack, measure=found.measure)
    cells = only(cells, direction=found.directions[0])
    if band.empty or cells.empty:
        return []
    cells = cells[cells["column_label"].isin(found.columns()) & (cells["n"] > 0)].sort_values("rank").groupby("site_kind").head(1)
    return [row for row in frame_records(with_band(cells, band)) if row["outside_band"] is not None]
