"""`vseam trace`: causal traces of one or more models on one or more datasets."""

from __future__ import annotations

import click

from vseam_cli import options
from vseam_cli.application import Application


@options.verb("trace", example="vseam trace --model llava-tiny --dataset scenes/color --tracer groups --limit 20")
@options.use("model", "dataset")
@click.option("--tracer", "tracers", multiple=True, metavar="NAME", help="A tracing method (`vseam tracers`); may be given again.")
@click.option(
    "--random-models",
    type=options.WholeNumber(),
    metavar="N",
    help="Randomly initialised models for the band of group curves: 0 or at least 5.",
)
@options.use("limit", "seed", "editor", "device", "loading", "memory_budget", "db", "reports")
@click.pass_context
def trace(
    context: click.Context,
    models: tuple[str, ...],
    datasets: tuple[str, ...],
    tracers: tuple[str, ...],
    random_models: int | None,
    limit: int | None,
    seed: int | None,
    editor: str | None,
    device: str | None,
    database: str,
    reports: str,
) -> None:
    """Trace which positions and layers carry the answer, by patching activations between clean and edited images."""
    from vseam_cli.stages import run_stages, study_of

    application: Application = context.obj
    study = study_of(
        application,
        None,
        limit,
        name="trace",
        models=list(models),
        datasets=list(datasets),
        tracers=[{"name": name} for name in tracers],
        random_models=0 if random_models is None else random_models,
        seed=seed,
        editor=editor,
        stages=["trace"],
    )
    context.exit(run_stages(application, study, "trace/1", database=database, device=device, reports=reports))
