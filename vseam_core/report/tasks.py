"""The tasks of a report: its datasets in the order of levels, with a short name each, and the rows of a table that are theirs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vseam_core.analysis.frames import frame_records
from vseam_core.api.types import LEVELS

if TYPE_CHECKING:
    import pandas as pd

    from vseam_core.results.study_results import StudyMaterial


@dataclass(frozen=True)
class Task:
    """One dataset as figures and tables name it: by its category, or by its own name where two datasets share a category."""

    dataset: str
    category: str
    level: str
    label: str


def study_tasks(material: StudyMaterial) -> list[Task]:
    """The datasets of a study, level by level, each level in the study's order."""
    known = _categories(material)
    parts = {dataset: known.get(dataset, (dataset.rsplit("/", 1)[-1], "")) for dataset in material.datasets}
    uses = Counter(category for category, _ in parts.values())
    tasks = [Task(dataset, category, level, category if uses[category] == 1 else dataset) for dataset, (category, level) in parts.items()]
    order: dict[str, int] = {level: index for index, level in enumerate(LEVELS)}
    return sorted(tasks, key=lambda task: order.get(task.level, len(order)))


def task_rows(frame: pd.DataFrame, model: str, task: Task) -> pd.DataFrame:
    """The rows of one model on one task. A table without datasets is told apart by category; one without rows stays empty."""
    if frame.empty:
        return frame
    column, value = ("dataset", task.dataset) if "dataset" in frame.columns else ("category", task.category)
    return frame[(frame["model"] == model) & (frame[column] == value)]


def rows_by_task(material: StudyMaterial, frame: pd.DataFrame | None) -> Iterator[tuple[str, Task, dict[str, Any]]]:
    """Every row of a table with its model and its task, in their order; none where there is no table."""
    if frame is None or frame.empty:
        return
    tasks = study_tasks(material)
    for model in material.models:
        for task in tasks:
            for row in frame_records(task_rows(frame, model, task)):
                yield model, task, row


def model_rows(frame: pd.DataFrame, model: str) -> pd.DataFrame:
    """The rows of one model."""
    return frame if frame.empty else frame[frame["model"] == model]


def present(frame: pd.DataFrame, column: str) -> list[Any]:
    """The values of a column in the order of their first appearance; none where the table is empty."""
    return [] if frame.empty else frame[column].drop_duplicates().tolist()


def only(frame: pd.DataFrame, **values: Any) -> pd.DataFrame:
    """The rows whose columns equal all `values`."""
    for name, value in values.items():
        if frame.empty:
            return frame
        frame = frame[frame[name] == value]
    return frame


def tasks_with_rows(frame: pd.DataFrame, model: str, tasks: Iterable[Task]) -> list[Task]:
    """The tasks that a table has rows about."""
    return [task for task in tasks if len(task_rows(frame, model, task))]


def label_of(tasks: Sequence[Task], dataset: str) -> str:
    """The short name of a dataset (or of a category that stands for one); an unknown one keeps its name."""
    return next((task.label for task in tasks if dataset in (task.dataset, task.label)), dataset)


def in_order(names: Iterable[str], order: Iterable[str]) -> list[str]:
    """`names` once each: those in `order` first and in that order, then the others as they come."""
    found = list(dict.fromkeys(names))
    known = [name for name in order if name in found]
    return known + [name for name in found if name not in known]


def _categories(material: StudyMaterial) -> dict[str, tuple[str, str]]:
    """Category and level by dataset, from whichever table has them."""
    known = {scan.dataset: (scan.category, scan.level) for scan in material.heads}
    columns = ["dataset", "category", "level"]
    methods = (material.comparisons, material.direction_scores, material.screened_paths)
    for frame in (material.traces, material.strongest, material.ablations, material.modulations, material.accuracy, *methods):
        if frame is not None and not frame.empty and set(columns) <= set(frame.columns):
            for row in frame_records(frame[columns].drop_duplicates()):
                known.setdefault(row["dataset"], (row["category"], row["level"]))
    return known
