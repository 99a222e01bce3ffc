"""`vseam evaluate`: how often models answer right, on plain and hard images and on edited pairs."""

from __future__ import annotations

import click

from vseam_cli import options
from vseam_cli.application import Application


@options.verb("evaluate", example="vseam evaluate --model llava-tiny --dataset scenes/color --limit 100")
@options.use("model", "dataset", "limit", "seed", "editor", "device", "loading", "memory_budget", "db")
@click.pass_context
def evaluate(
    context: click.Context,
    models: tuple[str, ...],
    datasets: tuple[str, ...],
    limit: int | None,
    seed: int | None,
    editor: str | None,
    device: str | None,
    database: str,
) -> None:
    """Measure accuracy and pair accuracy on the test pool, beside the yes-ratio and the majority answer."""
    from vseam_cli.stages import run_stages, study_of

    application: Application = context.obj
    study = study_of(
        application,
        None,
        limit,
        name="evaluate",
        models=list(models),
        datasets=list(datasets),
        seed=seed,
        editor=editor,
        stages=["evaluate"],
    )
    context.exit(run_stages(application, study, "evaluate/1", database=database, device=device, reports=None))
