"""The closing table about screenings: how far gradient estimates of heads can be relied on, beside what was run exactly."""

from __future__ import annotations

from vseam_core.report.tables.table import AGREEMENT, Columns, ReportTable, table_by_task
from vseam_core.results.study_results import StudyMaterial

COLUMNS: Columns = {
    **{"by": "operation", "steps": "integrated_steps", "answers": "subset", "n": "n", "heads": "heads", "top": "top", "random": "random"},
    **AGREEMENT,
    "remark": lambda row: f"{row['reason']} ({row['vanished']})" if row["vanished"] else row["reason"],
}


def screening_table(material: StudyMaterial) -> ReportTable | None:
    """Rank correlation and recall of every screening, per model, category and kind of answer; and where gradients vanish."""
    return table_by_task(
        "Screening of heads: gradient estimates against exact runs",
        material,
        material.screenings,
        COLUMNS,
        "Every head was estimated; the `top` best by their estimates and some `random` others were run exactly, and only those can "
        "pass a claim (their q-values hold over all heads).",
        "rank: Spearman's correlation of estimated and exact mean effects over all heads, random ones weighing as many as they stand "
        "for; rank top, rank random: within each part. scale: Σ|estimate| / Σ|exact|.",
        "recall: of the heads at least as strong as the `strongest`-th verified one, the share among the top, with 95 % limits from "
        "the random part (few heads there: wide limits).",
        folded=("by", "steps", "heads", "top", "random", "strongest"),
    )
