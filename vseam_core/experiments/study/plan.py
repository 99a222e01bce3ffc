"""What a study is going to do, before it does: its steps, how many tasks share each, what waits for what, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from vseam_core.config.study import Study
from vseam_core.experiments.study.tasks import StudyTasks
from vseam_core.runs.executors.base import Call, Task
from vseam_core.runs.executors.counted import CountedExecutor
from vseam_core.runs.executors.graph import run_tasks
from vseam_core.runs.progress import SilentProgress
from vseam_core.runs.workspace import Opening, Workspace


@dataclass(frozen=True)
class PlannedStep:
    """The tasks of one step: `samples` that they share (None for a step that is one task), and the steps that it waits for.

    `passes` are the forward passes of all its tasks and `seconds` what one worker takes for them; None where nothing was counted.
    """

    name: str
    model: str
    samples: int | None
    tasks: int
    after: tuple[str, ...]
    passes: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Schedule:
    """How tasks fall out on some workers: `length` from the first to the last, and `work`, what they take together."""

    workers: int
    length: float
    work: float

    @property
    def efficiency(self) -> float:
        """The share of the workers' time in which they are at work; 1 is perfect."""
        return self.work / (self.workers * self.length) if self.length else 1.0


def planned_steps(workspace: Workspace, study: Study, workers: int) -> list[PlannedStep]:
    """The steps of a study for so many workers, in the order in which they are begun. Raises `VseamError` for an unknown dataset."""
    return steps_of(StudyTasks(workspace, study, 0, workers).every())


def steps_of(tasks: Sequence[Task]) -> list[PlannedStep]:
    """The steps that tasks belong to."""
    steps: dict[str, PlannedStep] = {}
    for task in tasks:
        known, portion = steps.get(task.group), task.portion
        samples = None if portion is None else portion.stop - portion.start + ((known.samples or 0) if known else 0)
        steps[task.group] = PlannedStep(task.group, task.model, samples, 1 + (known.tasks if known else 0), task.after)
    return list(steps.values())


def costed(steps: Sequence[PlannedStep], passes: Mapping[str, float], seconds: Mapping[str, float]) -> list[PlannedStep]:
    """Steps with what they cost, by what one sample of each (or the whole) takes."""
    return [
        replace(
            step,
            passes=round(passes[step.name] * (1 if step.samples is None else step.samples)),
            seconds=seconds[step.name] * (1 if step.samples is None else step.samples),
        )
        for step in steps
    ]


def scheduled(tasks: Sequence[Task], workers: int, costs: Mapping[str, float], loading: Mapping[str, float] | None = None) -> Schedule:
    """How a study's tasks fall out, as they are given to workers in truth, by what one sample of each step (or the whole) costs.

    `loading` is what it costs to take up a model; it is no work.
    """
    loaded = loading or {}

    def length(call: Call, held: str) -> float:
        portion = call.portion
        work: float = costs[call.arguments[0]] * (1 if portion is None else portion.stop - portion.start)
        return work + (loaded.get(call.model.rpartition("@")[0] or call.model, 0.0) if call.model != held else 0.0)

    executor = CountedExecutor(workers, length)
    run_tasks(executor, Opening(":memory:"), [replace(task, arguments=(task.group,), prepare=None) for task in tasks], SilentProgress())
    sizes = [1 if task.portion is None else task.portion.stop - task.portion.start for task in tasks]
    return Schedule(workers, executor.now, sum(costs[task.group] * size for task, size in zip(tasks, sizes, strict=True)))


def mermaid(steps: Sequence[PlannedStep]) -> str:
    """The graph of the steps, as Mermaid draws it."""
    numbers = {step.name: f"s{number}" for number, step in enumerate(steps)}
    lines = ["flowchart LR"]
    lines += [f'  {numbers[step.name]}["{step.name}: {_words(step)}"]' for step in steps]
    return "\n".join(lines + [f"  {numbers[before]} --> {numbers[step.name]}" for step in steps for before in step.after])


def _words(step: PlannedStep) -> str:
    tasks = f"{step.tasks} {'task' if step.tasks == 1 else 'tasks'}"
    return tasks if step.passes is None else f"{tasks}, {step.passes:,} passes"
