"""`vseam study check`: whether a study file can be run. `vseam study plan`: how its work is shared out."""

from __future__ import annotations

from pathlib import Path

import click

from vseam_cli import options
from vseam_cli.application import Application
from vseam_cli.output import Table


@options.verb_group("study", example="vseam study check study.yaml")
def study() -> None:
    """Check a study file, or see how its work is shared out."""


@options.verb("check", group=study, example="vseam study check study.yaml")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_obj
def check(application: Application, file: Path) -> None:
    """Check FILE, names included, and print the tasks it expands to."""
    from vseam_core.config.study import load_study

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


@options.verb("plan", group=study, example="vseam study plan study.yaml --workers 8")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--workers", type=options.WholeNumber(min=1), metavar="N", default=1, show_default=True, help="For how many workers.")
@click.option("--mermaid", "drawn", is_flag=True, help="Print the graph of the steps as Mermaid draws it.")
@click.pass_obj
def plan(application: Application, file: Path, workers: int, drawn: bool) -> None:
    """Print the steps of FILE: the tasks that workers do, their samples, and what each waits for. Nothing is run."""
    from vseam_core.config.study import load_study
    from vseam_core.experiments.study_plan import mermaid, planned_steps

    loaded = load_study(file, application.registry)
    with application.workspace(":memory:", seed=loaded.seed) as workspace:
        steps = planned_steps(workspace, loaded, workers)
    rows = [(step.name, step.samples, step.tasks, len(step.after)) for step in steps]
    total = f"{sum(step.tasks for step in steps)} tasks in {len(steps)} steps for {workers} workers"
    data = {"workers": workers, "steps": [vars(step) for step in steps], "mermaid": mermaid(steps)}
    tables = [] if drawn else [Table(("step", "samples", "tasks", "waits for steps"), rows)]
    application.output.result("study-plan/1", data, tables, mermaid(steps) if drawn else total)
