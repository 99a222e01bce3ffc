"""The closing table that sets what is read of each head beside what replacing it does."""

from __future__ import annotations

from vseam_core.report.tables.table import Columns, ReportTable, table_by_task
from vseam_core.results.study_results import StudyMaterial

COLUMNS: Columns = {
    **{"reading": "reading", "by": "operation", "effect": "effect", "rank": "rank_correlation", "low": "low", "high": "high"},
    **{"p": "p_value", "heads": "heads", "images": "images"},
    "remark": lambda row: "" if row["low"] is not None else "too few images: no interval",
}


def beside_effects_table(material: StudyMaterial) -> ReportTable | None:
    """A row for each reading of each tracer that names some, with the signed effect and with its size."""
    return table_by_task(
        "Do heads that look also cause? What is read of each head beside what replacing it does",
        material,
        material.reading_tests,
        COLUMNS,
        "rank: Spearman's correlation over heads of the mean reading on the clean image and the mean effect on the logit difference "
        "(signed: positive where the head supports the right answer; size: whatever its sign), with 95 % limits over images drawn with "
        "replacement.",
        "p: heads exchanged within their layers, so that it does not count that looking and causing both grow or fall with depth.",
        folded=("by", "heads"),
    )
