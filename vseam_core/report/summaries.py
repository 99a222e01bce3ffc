"""What ablations and rescalings come to: the measured value beside the controls it has to beat, ready for a table and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vseam_core.analysis.frames import frame_records
from vseam_core.analysis.heads import Sign
from vseam_core.analysis.statistics import permutation_p_value
from vseam_core.report.tasks import Task, task_rows

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, Any]


@dataclass(frozen=True)
class AgainstRandom:
    """The effect of the selected heads and of each random set, in one direction; p = (1 + #{random ≥ selected}) / (1 + N)."""

    selected: float
    random: tuple[float, ...]

    @property
    def mean_random(self) -> float | None:
        """The mean over random sets, or None without any."""
        return float(np.mean(self.random)) if self.random else None

    @property
    def p_value(self) -> float | None:
        """The share of sets, the selected one among them, whose effect is at least the selected one's; None without random sets."""
        return permutation_p_value(self.selected, self.random) if self.random else None


@dataclass(frozen=True)
class AblationSummary:
    """One ablated selection on the test pool beside its matched random sets.

    `effect` is in shares of 1 and points the way the claim does: the drop in accuracy for positive heads, the gain in pair accuracy
    (`measure` says so; accuracy where pairs are missing) for negative ones. `nats` is the same for the mean logit difference.
    """

    task: Task
    split: str
    sign: Sign
    operation: str
    heads: tuple[str, ...]
    n: int
    measure: str
    base: float | None
    effect: AgainstRandom
    nats: AgainstRandom | None


def ablation_summaries(ablations: pd.DataFrame, model: str, tasks: Sequence[Task]) -> list[AblationSummary]:
    """One summary per task, split, sign and operation that has a selected set, in the order of tasks; positive heads first."""
    summaries = []
    for task in tasks:
        groups: dict[tuple[str, str, str], list[Row]] = {}
        for row in frame_records(task_rows(ablations, model, task)):
            groups.setdefault((row["sign"], row["split"], row["operation"]), []).append(row)
        for (_, split, operation), rows in sorted(groups.items(), key=lambda item: item[0][0] != "positive"):
            selected = [row for row in rows if row["condition"] == "selected"]
            if selected:
                summaries.append(_ablation_summary(task, (split, operation), selected[-1], rows))
    return summaries


def _ablation_summary(task: Task, group: tuple[str, str], selected: Row, rows: Sequence[Row]) -> AblationSummary:
    split, operation = group
    sign: Sign = selected["sign"]
    base = next((row for row in rows if row["condition"] == "base"), None)
    random = [row for row in rows if row["condition"] == "random" and row["size"] == selected["size"]]
    everyone = [selected, *random]
    paired = sign == "negative" and base is not None and all(row["pair_accuracy"] is not None for row in (base, *everyone))
    if paired:
        assert base is not None
        changes = [row["pair_accuracy"] - base["pair_accuracy"] for row in everyone]
    else:
        changes = [row["drop"] if sign == "positive" else -row["drop"] for row in everyone]
    turn = 1.0 if sign == "positive" else -1.0
    nats = None if base is None else [turn * (base["mean_logit_diff"] - row["mean_logit_diff"]) for row in everyone]
    column = "pair_accuracy" if paired else "accuracy"
    return AblationSummary(
        task=task,
        split=split,
        sign=sign,
        operation=operation,
        heads=tuple(selected["heads"]),
        n=selected["n"],
        measure="pair accuracy" if paired else "accuracy",
        # Without a base row, accuracy before is what the selected set lost and what it had left.
        base=base[column] if base is not None else selected["accuracy"] + selected["drop"],
        effect=AgainstRandom(changes[0], tuple(changes[1:])),
        nats=None if nats is None else AgainstRandom(nats[0], tuple(nats[1:])),
    )


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
