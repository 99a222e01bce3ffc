"""The closing table about screenings: how far gradient estimates of heads can be relied on, beside what was run exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vseam_core.report.tables.table import ReportTable, table_of
from vseam_core.report.tasks import rows_by_task
from vseam_core.results.study_results import StudyMaterial

COLUMNS = (
    *("model", "category", "by", "steps", "answers", "n", "heads", "top", "random"),
    *("rank", "rank top", "rank random", "scale", "strongest", "recall", "low", "high", "remark"),
)


def screening_table(material: StudyMaterial) -> ReportTable | None:
    """Rank correlation and recall of every screening, per model, category and kind of answer; and where gradients vanish."""
    records = [_record(model, task.label, row) for model, task, row in rows_by_task(material, material.screenings)]
    if not records:
        return None
    return table_of(
        "Screening of heads: gradient estimates against exact runs",
        COLUMNS,
        records,
        "Every head was estimated; the `top` best by their estimates and some `random` others were run exactly, and only those can "
        "pass a claim (their q-values hold over all heads).",
        "rank: Spearman's correlation of estimated and exact mean effects over all heads, random ones weighing as many as they stand "
        "for; rank top, rank random: within each part. scale: Σ|estimate| / Σ|exact|.",
        "recall: of the heads at least as strong as the `strongest`-th verified one, the share among the top, with 95 % limits from "
        "the random part (few heads there: wide limits).",
        folded=("by", "steps", "heads", "top", "random", "strongest"),
    )


def _record(model: str, category: str, row: Mapping[str, Any]) -> dict[str, Any]:
    remark = f"{row['reason']} ({row['vanished']})" if row["vanished"] else row["reason"]
    kept = {name: row[name] for name in ("n", "heads", "top", "random", "scale", "strongest", "recall")}
    return kept | {
        "model": model,
        "category": category,
        "by": row["operation"],
        "steps": row["integrated_steps"],
        "answers": row["subset"],
        "rank": row["rank_correlation"],
        "rank top": row["rank_top"],
        "rank random": row["rank_random"],
        "low": row["recall_low"],
        "high": row["recall_high"],
        "remark": remark,
    }
