"""The tables of screened paths: how far the estimates can be relied on, and the strongest paths that were run exactly."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from vseam_core.analysis.statistics import MINIMUM_CLUSTERS
from vseam_core.report.tables.table import AGREEMENT, Columns, ReportTable, shown, table_by_task, table_of
from vseam_core.report.tasks import rows_by_task
from vseam_core.results.study_results import StudyMaterial

SHOWN = 15
SCREENINGS: Columns = {
    **{"direction": "direction", "positions": "positions", "steps": "integrated_steps", "pairs": "n", "estimated": "estimated"},
    **{"top": "top", "random": "random"},
    **AGREEMENT,
}
STRONGEST: Columns = {
    "path": lambda row: f"{row['sender']}->{row['receiver']}",
    **{"part": "part", "estimate": "estimate", "nats": "mean", "low": "low", "high": "high", "share": "share", "n": "n"},
    "remark": lambda row: _remark(row),
}


def edge_tables(material: StudyMaterial) -> list[ReportTable]:
    """Both tables, where paths were screened."""
    agreement = table_by_task(
        "Screening of paths: gradient estimates against exact runs",
        material,
        material.path_screenings,
        SCREENINGS,
        "Every direct path was estimated; the `top` best by their estimates on one half of the images and some `random` others were "
        "run exactly on the other half, where estimates and exact effects are compared.",
        "rank: Spearman's correlation over all paths, random ones weighing as many as they stand for; rank top, rank random: within "
        "each part. scale: Σ|estimate| / Σ|exact|. recall: of the paths at least as strong as the `strongest`-th one that was run, the "
        "share among the top, with 95 % limits from the random part.",
        folded=("direction", "positions", "steps", "pairs", "estimated", "top", "random", "strongest"),
    )
    if agreement is None:
        return []
    return [
        agreement,
        table_of(
            f"The strongest of the paths that were run exactly (at most {SHOWN} of a category)",
            ("model", "category", *STRONGEST),
            _strongest(material),
            "Change of the logit difference in nats with its 95 % interval, on images that the path was not chosen on, and as a share of "
            "the gap between the two images.",
        ),
    ]


def _strongest(material: StudyMaterial) -> list[dict[str, Any]]:
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for model, task, row in rows_by_task(material, material.screened_paths):
        found.setdefault((model, task.dataset), []).append({"model": model, "category": task.label, **shown(row, STRONGEST)})
    return [row for rows in found.values() for row in islice(rows, SHOWN)]


def _remark(row: Mapping[str, Any]) -> str:
    if row["low"] is None:
        return f"fewer than {MINIMUM_CLUSTERS} images: no interval"
    return "not told from 0" if row["low"] <= 0 <= row["high"] else ""
