"""What stored evaluations say, run by run: the figure that each is told by, its gain over the run that it is held against."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vseam_core.analysis.frames import frame_records
from vseam_core.results.study_results import StudyMaterial

MAIN = "accuracy"
UNCHANGED = "unchanged"
ALL = "all"


@dataclass(frozen=True)
class Evaluated:
    """One run on one subset of its samples: rows of the table `evaluations`; `gain` is None where it is held against no run."""

    run: int
    model: str
    dataset: str
    pool: str
    split: str
    change: str
    subset: str
    figure: dict[str, Any]
    gain: dict[str, Any] | None
    better: int | None
    worse: int | None

    @property
    def compared_with(self) -> int | None:
        """The run that the gain is over."""
        return None if self.gain is None else int(self.gain["compared_with"])


def evaluated(material: StudyMaterial) -> Iterator[Evaluated]:
    """Every evaluated run of a report, subset by subset; of several comparisons of a run the latest."""
    frame = material.evaluations
    if frame is None or frame.empty:
        return
    for _, rows in frame.groupby(["run_id", "subset"], sort=False):
        records = frame_records(rows)
        own = [row for row in records if not row["compared_with"]]
        if not own:
            continue
        figure = next((row for row in own if row["metric"] == MAIN), own[0])
        latest = max(row["compared_with"] for row in records)
        gains = {row["metric"]: row for row in records if latest and row["compared_with"] == latest}
        about = {name: str(figure[name]) for name in ("model", "dataset", "pool", "split")}
        yield Evaluated(
            figure["run_id"],
            **about,
            change=figure["change"] or UNCHANGED,
            subset=figure["subset"],
            figure=figure,
            gain=gains.get("gain"),
            better=_count(gains.get("gain_better")),
            worse=_count(gains.get("gain_worse")),
        )


def _count(row: dict[str, Any] | None) -> int | None:
    return None if row is None or row["value"] is None else int(row["value"])
