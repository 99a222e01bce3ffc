"""What ablations and rescalings come to: the measured value beside the controls it has to beat, ready for a table and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vseam_core.analysis.ablation_tests import AblationEffect, ablation_effects
from vseam_core.analysis.frames import frame_records
from vseam_core.report.tasks import Task, task_rows

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, Any]


@dataclass(frozen=True)
class AblationSummary(AblationEffect):
    """One ablated selection of a task on the test pool beside its matched random sets."""

    task: Task


def ablation_summaries(ablations: pd.DataFrame, model: str, tasks: Sequence[Task]) -> list[AblationSummary]:
    """One summary per task, split, sign and operation that has a selected set, in the order of tasks; positive heads first."""
    return [AblationSummary(**vars(found), task=task) for task in tasks for found in ablation_effects(task_rows(ablations, model, task))]


@dataclass(frozen=True)
class RescalingSummary:
    """One rescaling on one split of the test pool: each a row of the modulations table, None or empty where it was not measured."""

    task: Task
    split: str
    fitted: Row | None
    published: Row | None
    bias: Row | None
    shuffled: tuple[Row, ...]
    transfer: tuple[Row, ...]

    @property
    def unchanged(self) -> bool:
        """Whether the choose pool preferred to rescale nothing."""
        return self.fitted is not None and not self.fitted["scales"]

    def gains(self, role: str) -> list[float]:
        """The gains of `shuffled` or `transfer`."""
        return [row["gain"] for row in (self.shuffled if role == "shuffled" else self.transfer)]


def rescaling_summaries(modulations: pd.DataFrame, model: str, tasks: Sequence[Task]) -> list[RescalingSummary]:
    """One summary per task and split of the test pool, splits in the order in which they were measured."""
    summaries = []
    for task in tasks:
        rows = [row for row in frame_records(task_rows(modulations, model, task)) if row["role"] != "grid"]
        for split in dict.fromkeys(evaluated_split(row) for row in rows):
            here = [row for row in rows if evaluated_split(row) == split]
            summaries.append(
                RescalingSummary(
                    task=task,
                    split=split,
                    fitted=_last(here, "fitted"),
                    published=_last(here, "published"),
                    bias=_last(here, "bias"),
                    shuffled=tuple(row for row in here if row["role"].startswith("shuffled")),
                    transfer=tuple(row for row in here if row["role"].startswith("transfer")),
                )
            )
    return summaries


def evaluated_split(row: Row) -> str:
    """The split in `evaluated_on`, which reads `dataset/pool/split`."""
    return str(row["evaluated_on"]).rsplit("/", 1)[-1]


def reasons_by_task(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Why pairs have no overlap: each reason once with the tasks it is about; one that is about no task has an empty list."""
    found: dict[str, list[str]] = {}
    for row in rows:
        for task, reason in _parts(row):
            names = found.setdefault(reason, [])
            if task and task not in names:
                names.append(task)
    return found


def _parts(row: Row) -> list[tuple[str, str]]:
    """A row's reason taken apart: `first: why; second: why`, of which either may be missing."""
    text, first, second = row["reason"] or "", f"{row['first']}: ", f"{row['second']}: "
    parts = []
    if text.startswith(first):
        text, _, rest = text.removeprefix(first).partition(f"; {second}")
        parts.append((row["first"], text))
        text = second + rest if rest else ""
    if text.startswith(second):
        parts.append((row["second"], text.removeprefix(second)))
    elif text:
        parts.append(("", text))
    return parts


def _last(rows: Sequence[Row], role: str) -> Row | None:
    return next((row for row in reversed(rows) if row["role"] == role), None)
