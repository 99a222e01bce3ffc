"""The closing table about head rescaling: its gain on test images beside every control."""

from __future__ import annotations

from typing import Any

import numpy as np

from vseam_core.report.head_states import exploratory, primary_maps
from vseam_core.report.summaries import RescalingSummary, rescaling_summaries
from vseam_core.report.tables.table import ReportTable, range_of, table_of
from vseam_core.report.tasks import study_tasks
from vseam_core.results.study_results import StudyMaterial


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
        + "±: to either end of the 95 % interval, clustered by image, exact binomial over images where no answer changed; p: cluster "
        "sign-flip test of the fitted gain against 0, two-sided.",
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
        record |= {"gain": fitted["gain"], "p": fitted["p_value"]}
        record["±"] = None if fitted["gain_high"] is None else fitted["gain_high"] - fitted["gain"]
    for name, row in (("bias", found.bias), ("published", found.published)):
        record[name] = row["gain"] if row else None
    for name in ("shuffled", "transfer"):
        gains = found.gains(name)
        record[name] = float(np.mean(gains)) if gains else None
    return record
