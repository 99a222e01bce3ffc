"""`vseam study check`: whether a study file can be run, and what it would do."""

from __future__ import annotations

from pathlib import Path

import click

from vseam_cli import options
from vseam_cli.application import Application
from vseam_cli.output import Table


@options.verb_group("study", example="vseam study check study.yaml")
def study() -> None:
    """Check a study file."""


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
