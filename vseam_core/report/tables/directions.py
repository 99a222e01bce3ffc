"""The closing table about directions between yes and no."""

from __future__ import annotations

from vseam_core.report.tables.table import Columns, ReportTable, table_by_task
from vseam_core.results.study_results import StudyMaterial

COLUMNS: Columns = {
    **{"site": "site", "layer": "layer", "kind": "kind", "held out": "held_out", "low": "low", "high": "high", "fitted": "fitted"},
    **{"norm": "norm", "n": "n_held_out", "images": "images"},
}


def directions_table(material: StudyMaterial) -> ReportTable | None:
    """Held-out accuracy of every direction, the random one of the same length beside it."""
    return table_by_task(
        "Directions between yes and no: accuracy on held-out images",
        material,
        material.direction_scores,
        COLUMNS,
        "difference: of the classes' means; probe: logistic regression; random: drawn by chance, as long as the others, with the "
        "best threshold on the fitted images. held out: accuracy on the test pool with 95 % limits over images.",
        folded=("site", "n", "images"),
    )
