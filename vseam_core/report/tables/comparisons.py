"""The tables of compared ways to answer, as a report closes with them and as `vseam compare` prints them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vseam_core.report.tables.table import Columns, ReportTable, table_by_task
from vseam_core.results.study_results import StudyMaterial

RESULTS: Columns = {
    "method": "method",
    "setting": lambda row: "not measured" if row["accuracy"] is None else row["change"],
    **{"accuracy": "accuracy", "from": "accuracy_low", "to": "accuracy_high"},
    **{"gain": "gain", "gain from": "gain_low", "gain to": "gain_high", "p": "gain_p", "q": "gain_q"},
    **{"F1": "f1", "yes": "yes_ratio", "seconds": "seconds_per_answer", "passes": "forward_passes_per_answer"},
}
CONTROLS: Columns = {
    **{"method": "method", "gain over threshold": "gain_over_threshold"},
    **{"from": "gain_over_threshold_low", "to": "gain_over_threshold_high", "p": "gain_over_threshold_p", "q": "gain_over_threshold_q"},
    **{"own threshold": "own_threshold", "accuracy with it": "own_threshold_accuracy"},
    **{"gain over threshold with it": "own_threshold_gain", "with it from": "own_threshold_gain_low"},
    **{"with it to": "own_threshold_gain_high", "p with it": "own_threshold_gain_p", "q with it": "own_threshold_gain_q"},
}


def is_controlled(row: Mapping[str, Any]) -> bool:
    """Whether anything of a method is known beside a threshold."""
    return row["own_threshold_accuracy"] is not None or row["gain_over_threshold"] is not None


def comparison_tables(material: StudyMaterial) -> list[ReportTable]:
    """What came out of a comparison, and whether it is more than a threshold; none where nothing was compared."""
    results = table_by_task(
        "Ways to answer, compared",
        material,
        material.comparisons,
        {"split": "split", **RESULTS, "choose": "n_choose", "n": "n", "remark": "reason"},
        "Settings were chosen on the choose pool, everything here is of test images. gain: over the unchanged model, paired by sample, "
        "with 95 % limits over images; p: signs of whole images flipped; q: corrected for the methods of the comparison.",
        "threshold: the unchanged model with a threshold on logit(yes) - logit(no): what a shift towards yes or no can gain.",
        folded=("split", "choose", "n"),
    )
    controls = table_by_task(
        "Ways to answer: more than the unchanged model with a yes/no threshold?",
        material,
        material.comparisons,
        {"split": "split", **CONTROLS},
        "with it: the method with a threshold of its own, chosen in the same way. A method that only shifts answers gains nothing.",
        folded=("split",),
        only=is_controlled,
    )
    return [table for table in (results, controls) if table is not None]
