"""What a study is going to do, before it does: its steps, how many tasks share each, and what waits for what. No model is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from vseam_core.config.study import Study
from vseam_core.experiments.study_tasks import StudyTasks
from vseam_core.runs.workspace import Workspace


@dataclass(frozen=True)
class PlannedStep:
    """The tasks of one step: `samples` that they share (None for a step that is one task), and the steps that it waits for."""

    name: str
    model: str
    samples: int | None
    tasks: int
    after: tuple[str, ...]


def planned_steps(workspace: Workspace, study: Study, workers: int) -> list[PlannedStep]:
    """The steps of a study for so many workers, in the order in which they are begun. Raises `VseamError` for an unknown dataset."""
    steps: dict[str, PlannedStep] = {}
    for task in StudyTasks(workspace, study, 0, workers).every():
        known, portion = steps.get(task.group), task.portion
        samples = None if portion is None else portion.stop - portion.start + ((known.samples or 0) if known else 0)
        steps[task.group] = PlannedStep(task.group, task.model, samples, 1 + (known.tasks if known else 0), task.after)
    return list(steps.values())


def mermaid(steps: list[PlannedStep]) -> str:
    """The graph of the steps, as Mermaid draws it."""
    numbers = {step.name: f"s{number}" for number, step in enumerate(steps)}
    lines = ["flowchart LR"]
    lines += [f'  {numbers[step.name]}["{step.name}: {step.tasks} {"task" if step.tasks == 1 else "tasks"}"]' for step in steps]
    return "\n".join(lines + [f"  {numbers[before]} --> {numbers[step.name]}" for step in steps for before in step.after])
