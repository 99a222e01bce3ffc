"""`vseam study check`: whether a study file can be run. `vseam study plan`: how its work is shared out, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vseam_cli import options
from vseam_cli.application import Application
from vseam_cli.output import Table

if TYPE_CHECKING:
    from vseam_core.experiments.study.costs import CostedPlan, ModelCosts
    from vseam_core.experiments.study.plan import PlannedStep


@options.verb_group("study", example="vseam study check study.yaml")
def study() -> None:
    """Check a study file, or see how its work is shared out."""


@options.verb("check", group=study, example="vseam study check study.yaml")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_obj
def check(application: Application, file: Path) -> None:
    """Check FILE, names included, and print the tasks it expands to."""
    from vseam_core.config.study_file import load_study

    loaded = load_study(file, application.registry)
    tasks = loaded.expand()
    sizes = loaded.sizes.model_dump()
    data = {
        "study": loaded.model_dump(mode="json"),
        "tasks": [{"model": task.model, "dataset": task.dataset, "stages": task.stages, "identity": task.identity} for task in tasks],
    }
    rows = [(task.model, task.dataset, " ".join(task.stages), task.identity) for task in tasks]
    total = f"{file}: {len(tasks)} tasks; per dataset: {', '.join(f'{name} {count}' for name, count in sizes.items())}"
    application.output.result("study/1", data, [Table(("model", "dataset", "stages", "identity"), rows)], total)


@options.verb("plan", group=study, example="vseam study plan study.yaml --workers 8\nvseam study plan study.yaml --workers 8 --measure")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--workers", type=options.WholeNumber(min=1), metavar="N", default=1, show_default=True, help="For how many workers.")
@click.option("--mermaid", "drawn", is_flag=True, help="Print the graph of the steps as Mermaid draws it.")
@click.option("--measure", is_flag=True, help="Load each model and run some samples: forward passes counted, time, memory of a worker.")
@options.use("device", "loading", "memory_budget")
@click.pass_obj
def plan(application: Application, file: Path, workers: int, drawn: bool, measure: bool, device: str | None) -> None:
    """Print the steps of FILE: the tasks that workers do, their samples, and what each waits for. Nothing is stored."""
    from vseam_core.config.study_file import load_study
    from vseam_core.experiments.study.plan import mermaid, planned_steps

    loaded = load_study(file, application.registry)
    application.check_loading(loaded.models)
    costs = None
    with application.workspace(":memory:", device, loaded.seed) as workspace:
        if measure:
            from vseam_core.experiments.study.costs import costed_plan

            costs = costed_plan(workspace, loaded, workers)
        steps = costs.steps if costs else planned_steps(workspace, loaded, workers)
    total = f"{sum(step.tasks for step in steps)} tasks in {len(steps)} steps for {workers} {'worker' if workers == 1 else 'workers'}"
    data = {"workers": workers, "steps": [vars(step) for step in steps], "mermaid": mermaid(steps)}
    tables = [_steps(steps)]
    if costs:
        data |= {
            "models": [vars(model) for model in costs.models],
            "seconds": costs.schedule.length,
            "efficiency": costs.schedule.efficiency,
        }
        tables.append(_memory(costs.models))
        total += f"; {_sum(costs)}"
    application.output.result("study-plan/1", data, [] if drawn else tables, mermaid(steps) if drawn else total)


def _steps(steps: Sequence[PlannedStep]) -> Table:
    rows = [(step.name, step.samples, step.tasks, len(step.after)) for step in steps]
    columns = ("step", "samples", "tasks", "waits for steps")
    if all(step.passes is None for step in steps):
        return Table(columns, rows)
    costs = [(step.passes, round(step.seconds or 0.0, 1)) for step in steps]
    return Table((*columns, "passes", "seconds"), [(*row, *cost) for row, cost in zip(rows, costs, strict=True)])


def _memory(models: Sequence[ModelCosts]) -> Table:
    from vseam_core.config.bytes import readable_bytes

    columns = ("model", "weights", "one recording", "recordings and batches at most", "loading, s", "one full pass, s")
    rows = [
        (
            each.model,
            *map(readable_bytes, (each.weights, each.recording, each.most_beside)),
            round(each.loading_seconds, 1),
            round(each.pass_seconds, 4),
        )
        for each in models
    ]
    return Table(columns, rows, "memory of a worker, by the model that it holds")


def _sum(costs: CostedPlan) -> str:
    """Passes and time of the whole, in words."""
    passes, alone = sum(step.passes or 0 for step in costs.steps), costs.schedule.work
    workers = costs.schedule.workers
    text = f"at most {passes:,} forward passes, about {_duration(alone)} of one worker's time"
    if workers == 1:
        return text
    return f"{text}, {_duration(costs.schedule.length)} with {workers} (at work for {costs.schedule.efficiency:.0%} of it, loading apart)"


def _duration(seconds: float) -> str:
    """A time as people say it."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
