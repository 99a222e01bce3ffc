"""The tables of compared ways to answer, and of directions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vseam_core.report.tables.table import ReportTable, table_of
from vseam_core.report.tasks import rows_by_task
from vseam_core.results.study_results import StudyMaterial

RESULTS = (
    *("model", "category", "split", "method", "setting", "accuracy", "from", "to", "gain", "gain from", "gain to", "p", "q"),
    *("F1", "yes", "seconds", "passes", "choose", "n", "remark"),
)
CONTROLS = (
    *("model", "category", "split", "method", "gain over threshold", "from", "to", "p", "q", "own threshold", "accuracy with it"),
    *("gain over threshold with it", "with it from", "with it to", "p with it", "q with it"),
)
DIRECTIONS = ("model", "category", "site", "layer", "kind", "held out", "low", "high", "fitted", "norm", "n", "images")


def comparison_tables(material: StudyMaterial) -> list[ReportTable]:
    """What came out of a comparison, and whether it is more than a threshold; none where nothing was compared."""
    results = list(_results(material))
    if not results:
        return []
    shown = [
        table_of(
            "Ways to answer, compared",
            RESULTS,
            results,
            "Settings were chosen on the choose pool, everything here is of test images. gain: over the unchanged model, paired by sample, "
            "with 95 % limits over images; p: signs of whole images flipped; q: corrected for the methods of the comparison.",
            "threshold: the unchanged model with a threshold on logit(yes) - logit(no): what a shift towards yes or no can gain.",
            folded=("split", "choose", "n"),
        )
    ]
    controls = list(_controls(material))
    if controls:
        shown.append(
            table_of(
                "Ways to answer: more than the unchanged model with a yes/no threshold?",
                CONTROLS,
                controls,
                "with it: the method with a threshold of its own, chosen in the same way. A method that only shifts answers gains nothing.",
                folded=("split",),
            )
        )
    return shown


def _results(material: StudyMaterial) -> Iterator[dict[str, Any]]:
    for model, task, row in rows_by_task(material, material.comparisons):
        measured = row["accuracy"] is not None
        yield {
            **{name: row[name] for name in ("split", "method", "accuracy", "gain", "n")},
            "model": model,
            "category": task.label,
            "setting": row["change"] if measured else "not measured",
            "from": row["accuracy_low"],
            "to": row["accuracy_high"],
            "gain from": row["gain_low"],
            "gain to": row["gain_high"],
            "p": row["gain_p"],
            "q": row["gain_q"],
            "F1": row["f1"],
            "yes": row["yes_ratio"],
            "seconds": row["seconds_per_answer"],
            "passes": row["forward_passes_per_answer"],
            "choose": row["n_choose"],
            "remark": row["reason"],
        }


def _controls(material: StudyMaterial) -> Iterator[dict[str, Any]]:
    for model, task, row in rows_by_task(material, material.comparisons):
        if row["own_threshold_accuracy"] is None and row["gain_over_threshold"] is None:
            continue
        yield {
            "model": model,
            "category": task.label,
            "split": row["split"],
            "method": row["method"],
            "gain over threshold": row["gain_over_threshold"],
            **{name: row[f"gain_over_threshold_{end}"] for name, end in (("from", "low"), ("to", "high"), ("p", "p"), ("q", "q"))},
            "own threshold": row["own_threshold"],
            "accuracy with it": row["own_threshold_accuracy"],
            "gain over threshold with it": row["own_threshold_gain"],
            **{f"with it {name}": row[f"own_threshold_gain_{end}"] for name, end in (("from", "low"), ("to", "high"))},
            **{f"{end} with it": row[f"own_threshold_gain_{end}"] for end in ("p", "q")},
        }


def directions_table(material: StudyMaterial) -> ReportTable | None:
    """Held-out accuracy of every direction, the random one of the same length beside it."""
    records = [
        {
            **{name: row[name] for name in ("site", "layer", "kind", "low", "high", "fitted", "norm", "images")},
            "model": model,
            "category": task.label,
            "held out": row["held_out"],
            "n": row["n_held_out"],
        }
        for model, task, row in rows_by_task(material, material.direction_scores)
    ]
    if not records:
        return None
    return table_of(
        "Directions between yes and no: accuracy on held-out images",
        DIRECTIONS,
        records,
        "difference: of the classes' means; probe: logistic regression; random: drawn by chance, as long as the others, with the "
        "best threshold on the fitted images. held out: accuracy on the test pool with 95 % limits over images.",
        folded=("site", "n", "images"),
    )
