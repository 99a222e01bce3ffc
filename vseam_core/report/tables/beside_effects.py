"""The closing table that sets what is read of each head beside what replacing it does."""

from __future__ import annotations

from vseam_core.report.tables.table import ReportTable, table_of
from vseam_core.report.tasks import rows_by_task
from vseam_core.results.study_results import StudyMaterial

COLUMNS = ("model", "category", "reading", "by", "effect", "rank", "low", "high", "p", "heads", "images", "remark")


def beside_effects_table(material: StudyMaterial) -> ReportTable | None:
    """A row for each reading of each tracer that names some, with the signed effect and with its size."""
    records = [
        {
            **{name: row[name] for name in ("reading", "effect", "low", "high", "heads", "images")},
            "model": model,
            "category": task.label,
            "by": row["operation"],
            "rank": row["rank_correlation"],
            "p": row["p_value"],
            "remark": "" if row["low"] is not None else "too few images: no interval",
        }
        for model, task, row in rows_by_task(material, material.reading_tests)
    ]
    if not records:
        return None
    return table_of(
        "Do heads that look also cause? What is read of each head beside what replacing it does",
        COLUMNS,
        records,
        "rank: Spearman's correlation over heads of the mean reading on the clean image and the mean effect on the logit difference "
        "(signed: positive where the head supports the right answer; size: whatever its sign), with 95 % limits over images drawn with "
        "replacement.",
        "p: heads exchanged within their layers, so that it does not count that looking and causing both grow or fall with depth.",
        folded=("by", "heads"),
    )
