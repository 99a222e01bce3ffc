"""Closing tables about answers: accuracy, strongest trace cells, rescaling, skipped samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vseam_core.analysis.frames import frame_records
from vseam_core.analysis.statistics import MINIMUM_CLUSTERS
from vseam_core.analysis.traces import CELL_COLUMNS, FLOOR_FACTOR, compare_with_band
from vseam_core.report.figures.head_states import exploratory, primary_maps
from vseam_core.report.tables.report_table import ReportTable, range_of, table_of
from vseam_core.report.tables.summaries import RescalingSummary, rescaling_summaries
from vseam_core.report.tasks import Task, in_order, only, present, study_tasks, task_rows
from vseam_core.report.words import ROLE_WORDS, SITE_WORDS, trace_rows
from vseam_core.results.study_results import StudyMaterial

if TYPE_CHECKING:
    import pandas as pd

CELLS_PER_SITE = 1
"""Rows per model, category and site in the table of strongest cells."""


def accuracy_table(material: StudyMaterial) -> ReportTable | None:
    """Accuracy per model and category on every split, beside pair accuracy, the share of yes answers and the majority answer."""
    frame = material.accuracy
    if frame.empty:
        return None
    splits = present(frame, "split")
    first, *others = splits
    records, counts = [], []
    for model in material.models:
        for task in study_tasks(material):
            rows = frame_records(task_rows(frame, model, task))
            if rows:
                records.append({"model": model, "category": task.label, **_accuracies(rows, first)})
                counts += [row["n"] for row in rows]
    columns = ["model", "category", *(name for split in splits for name in (split, f"± {split}"))]
    for name in ("pair", "yes"):
        columns += [name, *(f"{name} {split}" for split in others)]
    columns.append("majority")
    return table_of(
        "Accuracy on test images",
        columns,
        records,
        f"n = {range_of(counts)} questions per category and split; ±: standard error, clustered by image.",
        "pair: right on the clean image and right, with the other answer, on its edited twin. yes: share of yes among the model's "
        f"answers. majority: what always giving the most frequent right answer would score. Where no split is named: {first}.",
    )


def _accuracies(rows: Sequence[Mapping[str, Any]], first: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for row in rows:
        split = row["split"]
        values |= {split: row["accuracy"], f"± {split}": row["standard_error"]}
        pair, yes = ("pair", "yes") if split == first else (f"pair {split}", f"yes {split}")
        values |= {pair: row["pair_accuracy"], yes: row["yes_ratio"]}
        if split == first:
            values["majority"] = row["majority_baseline"]
    return values


def strongest_table(material: StudyMaterial) -> ReportTable | None:
    """The strongest cell of every site per model and category: selected on half of the images, estimated on the other half."""
    if material.strongest.empty:
        return None
    records = []
    for model in material.models:
        for task in study_tasks(material):
            rows = _cells_worth_naming(task_rows(material.strongest, model, task))
            if rows.empty:
                continue
            band = task_rows(material.bands, model, task)
            for site in in_order(present(rows, "site_kind"), SITE_WORDS):
                cells = _beside_band(only(rows, site_kind=site), band).sort_values("rank").head(CELLS_PER_SITE)
                records += [_strongest_record(model, task, row) for row in frame_records(cells)]
    if not records:
        return None
    columns = ("model", "category", "site", "layer", "tokens", "nats", "low", "high", "share", "n", "remark")
    return table_of(
        "Strongest trace cells",
        columns,
        records,
        "One activation of the clean image put into the run on the corrupt one: change of the logit difference in nats with its "
        "95 % interval, and as a share of the gap between the two images.",
        "Cells are selected on one half of the images; everything shown is estimated on the other half.",
    )


def _cells_worth_naming(rows: pd.DataFrame) -> pd.DataFrame:
    """Single tokens patched clean into corrupt; without token-wise traces the groups, but not all positions together."""
    for tracer in ("tokenwise", *(name for name in present(rows, "tracer") if name != "tokenwise")):
        found = only(trace_rows(rows, tracer), direction="denoising")
        found = found[found["column_label"] != "all"] if len(found) else found
        if len(found):
            return found
    return rows.iloc[:0]


def _beside_band(rows: pd.DataFrame, band: pd.DataFrame) -> pd.DataFrame:
    if band.empty or rows.empty:
        return rows.assign(outside_band=None)
    return compare_with_band(rows, band[[*CELL_COLUMNS, "band_low", "band_high", "models"]])


def _strongest_record(model: str, task: Task, row: Mapping[str, Any]) -> dict[str, Any]:
    remark = ""
    if not row["n"]:
        remark = "not in the other half of the images"
    elif row["low"] is None:
        remark = f"fewer than {MINIMUM_CLUSTERS} images: no interval"
    elif row["below_noise_floor"]:
        remark = f"below {FLOOR_FACTOR:g} × noise floor"
    elif row["low"] <= 0 <= row["high"]:
        remark = "not told from 0"
    elif row["outside_band"] is False:
        remark = "within the range of random models"
    return {
        "model": model,
        "category": task.label,
        "site": SITE_WORDS.get(row["site_kind"], row["site_kind"]).removesuffix(" output"),
        "layer": row["layer"],
        "tokens": ROLE_WORDS.get(row["column_label"], row["column_label"]),
        "n": row["n"],
        "nats": row["mean"],
        "low": row["low"],
        "high": row["high"],
        "share": row["normalised"],
        "remark": remark,
    }


def rescaling_table(material: StudyMaterial) -> ReportTable | None:
    """What the fitted rescaling gains on test images, with its error and beside every control, whatever its sign."""
    if material.modulations.empty:
        return None
    records, counts, unclaimed = [], [], []
    maps = primary_maps(material)
    for model in material.models:
        for found in rescaling_summaries(material.modulations, model, study_tasks(material)):
            records.append(_rescaling_record(model, found))
            if found.fitted:
                counts.append(found.fitted["n"])
                scan = maps.get((model, found.task.dataset))
                if exploratory(scan.claims if scan else None, found.fitted["scales"], "positive", "negative"):
                    unclaimed.append(f"{model} {found.task.label}")
    if not records:
        return None
    columns = ("model", "category", "split", "λ", "k", "base", "gain", "±", "p", "bias", "published", "shuffled", "transfer")
    return table_of(
        "Head rescaling: gain in accuracy on test images",
        columns,
        records,
        (f"n = {range_of(counts)} questions; " if counts else "")
        + "±: standard error, clustered by image; p: cluster sign-flip test of the fitted gain against 0, two-sided.",
        "A gain has to beat its controls: bias (a yes/no threshold fitted on the same images), published (the published recipe), "
        "shuffled (the same factors on other heads of their layers, mean); transfer: the same factors on other categories, mean.",
        "λ and k (heads per sign) were chosen on images that are not tested; λ = 0: no change was the best choice.",
        f"Exploratory, fitted to heads that pass no claim: {', '.join(dict.fromkeys(unclaimed))}." if unclaimed else "",
    )


def _rescaling_record(model: str, found: RescalingSummary) -> dict[str, Any]:
    record: dict[str, Any] = {"model": model, "category": found.task.label, "split": found.split}
    if found.fitted:
        fitted = found.fitted
        record |= {"λ": fitted["strength"], "k": fitted["top_k"], "base": fitted["base_accuracy"]}
        record |= {"gain": fitted["gain"], "±": fitted["gain_error"], "p": fitted["p_value"]}
    for name, row in (("bias", found.bias), ("published", found.published)):
        record[name] = row["gain"] if row else None
    for name in ("shuffled", "transfer"):
        gains = found.gains(name)
        record[name] = float(np.mean(gains)) if gains else None
    return record


def skips_table(material: StudyMaterial) -> ReportTable | None:
    """How many samples were skipped, by reason; the reason's own mention of the sample is left out so that equal ones meet."""
    if material.skips.empty:
        return None
    found: dict[str, list[str]] = {}
    for row in frame_records(material.skips[["identifier", "reason"]]):
        identifier, reason = str(row["identifier"]), str(row["reason"])
        found.setdefault(reason.replace(identifier, "…").removeprefix("…: "), []).append(identifier)
    records: list[dict[str, Any]] = [
        {"reason": reason, "samples": len(set(names)), "times": len(names), "first": names[0]} for reason, names in found.items()
    ]
    records.sort(key=lambda record: -record["samples"])
    return table_of(
        "Skipped samples",
        ("reason", "samples", "times", "first"),
        records,
        "Skipped samples are never scored as wrong. times: a sample is skipped in every step that needs it. "
        'Every one by name: vseam query "SELECT identifier, reason FROM skips".',
    )
