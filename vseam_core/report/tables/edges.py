"""The tables of an edge screening: how far the estimates can be relied on, and the strongest edges that were run exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vseam_core.analysis.frames import frame_records
from vseam_core.analysis.statistics import MINIMUM_CLUSTERS
from vseam_core.report.tables.table import ReportTable, table_of

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 15
AGREEMENT = (
    *("model", "dataset", "steps", "edges", "top", "random"),
    *("rank", "rank top", "rank random", "scale", "strongest", "recall", "low", "high"),
)
STRONGEST = ("model", "dataset", "edge", "part", "estimate", "nats", "low", "high", "share", "n", "remark")


def edge_tables(found: Mapping[tuple[str, str], tuple[pd.DataFrame, Mapping[str, Any]]]) -> list[ReportTable]:
    """Both tables for screenings by model and dataset, each as its edges and its agreement."""
    agreements = [
        {
            **{name: row.get(name) for name in ("top", "random", "scale", "strongest", "recall")},
            "model": model,
            "dataset": dataset,
            "steps": row["integrated_steps"],
            "edges": row["heads"],
            "rank": row["rank_correlation"],
            "rank top": row["rank_top"],
            "rank random": row["rank_random"],
            "low": row.get("recall_low"),
            "high": row.get("recall_high"),
        }
        for (model, dataset), (_, row) in found.items()
    ]
    strongest = [
        {
            **{name: row[name] for name in ("edge", "part", "estimate", "low", "high", "n")},
            "model": model,
            "dataset": dataset,
            "nats": row["mean"],
            "share": row["normalised"],
            "remark": _remark(row),
        }
        for (model, dataset), (edges, _) in found.items()
        for row in frame_records(edges.head(SHOWN))
    ]
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
            folded=("steps", "edges", "top", "random", "strongest"),
        ),
        table_of(
            f"The strongest of the paths that were run exactly (at most {SHOWN})",
            STRONGEST,
            strongest,
            "Change of the logit difference in nats with its 95 % interval, on images that the path was not chosen on, and as a share of "
            "the gap between the two images.",
        ),
    ]


def _remark(row: Mapping[str, Any]) -> str:
    if row["low"] is None:
        return f"fewer than {MINIMUM_CLUSTERS} images: no interval"
    return "not told from 0" if row["low"] <= 0 <= row["high"] else ""
