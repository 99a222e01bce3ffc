"""The tables of screened paths: how far the estimates can be relied on, and the strongest paths that were run exactly."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from vseam_core.analysis.statistics import MINIMUM_CLUSTERS
from vseam_core.report.tables.table import ReportTable, table_of
from vseam_core.report.tasks import rows_by_task
from vseam_core.results.study_results import StudyMaterial

SHOWN = 15
AGREEMENT = (
    *("model", "category", "direction", "positions", "steps", "pairs", "estimated", "top", "random"),
    *("rank", "rank top", "rank random", "scale", "strongest", "recall", "low", "high"),
)
STRONGEST = ("model", "category", "path", "part", "estimate", "nats", "low", "high", "share", "n", "remark")


def edge_tables(material: StudyMaterial) -> list[ReportTable]:
    """Both tables, where paths were screened."""
    agreements = [
        {
            **{name: row[name] for name in ("direction", "positions", "estimated", "top", "random", "scale", "strongest", "recall")},
            "model": model,
            "category": task.label,
            "pairs": row["n"],
            "steps": row["integrated_steps"],
            "rank": row["rank_correlation"],
            "rank top": row["rank_top"],
            "rank random": row["rank_random"],
            "low": row["recall_low"],
            "high": row["recall_high"],
        }
        for model, task, row in rows_by_task(material, material.path_screenings)
    ]
    if not agreements:
        return []
    return [
        table_of(
            "Screening of paths: gradient estimates against exact runs",
            AGREEMENT,
            agreements,
            "Every direct path was estimated; the `top` best by their estimates on one half of the images and some `random` others were "
            "run exactly on the other half, where estimates and exact effects are compared.",
            "rank: Spearman's correlation over all paths, random ones weighing as many as they stand for; rank top, rank random: within "
            "each part. scale: Σ|estimate| / Σ|exact|. recall: of the paths at least as strong as the `strongest`-th one that was run, the "
            "share among the top, with 95 % limits from the random part.",
            folded=("direction", "positions", "steps", "pairs", "estimated", "top", "random", "strongest"),
        ),
        table_of(
            f"The strongest of the paths that were run exactly (at most {SHOWN} of a category)",
            STRONGEST,
            _strongest(material),
            "Change of the logit difference in nats with its 95 % interval, on images that the path was not chosen on, and as a share of "
            "the gap between the two images.",
        ),
    ]


def _strongest(material: StudyMaterial) -> list[dict[str, Any]]:
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for model, task, row in rows_by_task(material, material.screened_paths):
        kept = {name: row[name] for name in ("part", "estimate", "low", "high", "share", "n")}
        about = {"model": model, "category": task.label, "path": f"{row['sender']}->{row['receiver']}", "nats": row["mean"]}
        found.setdefault((model, task.dataset), []).append({**kept, **about, "remark": _remark(row)})
    return [row for rows in found.values() for row in islice(rows, SHOWN)]


def _remark(row: Mapping[str, Any]) -> str:
    if row["low"] is None:
        return f"fewer than {MINIMUM_CLUSTERS} images: no interval"
    return "not told from 0" if row["low"] <= 0 <= row["high"] else ""
