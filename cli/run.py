"""`vseam run`: the whole study."""

from __future__ import annotations

from pathlib import Path

import click

from vseam_cli import options
from vseam_cli.application import Application


@options.verb("run", example="vseam run\nvseam run study.yaml --limit 20 --db try.db")
@click.argument("study_file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@options.use("model", "dataset", "limit", "seed", "editor", "device", "loading", "memory_budget", "workers", "db", "reports", "thumbnails")
@click.pass_context
def run(
    context: click.Context,
    study_file: Path | None,
    models: tuple[str, ...],
    datasets: tuple[str, ...],
    limit: int | None,
    seed: int | None,
    editor: str | None,
    device: str | None,
    database: str,
    reports: str,
) -> None:
    """Run a whole study: answer, edit, trace, score heads, ablate, rescale, compare, report.

    Without STUDY_FILE the default study runs: both embedded models on the seven categories of the scenes world. Run it again after
    an interruption, and it goes on where it stopped.
    """
    from vseam_cli.stages import run_stages, study_of

    application: Application = context.obj
    study = study_of(application, study_file, limit, models=list(models), datasets=list(datasets), seed=seed, editor=editor)
    context.exit(run_stages(application, study, "run/1", database=database, device=device, reports=reports))
