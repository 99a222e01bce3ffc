"""`vseam run`: the whole study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vseam_cli import options


@options.verb("run", example="vseam run\nvseam run study.yaml --limit 20 --db try.db")
@click.argument("study_file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@options.use("model", "dataset", *options.OF_STAGES, "workers")
@click.pass_context
def run(context: click.Context, study_file: Path | None, models: tuple[str, ...], datasets: tuple[str, ...], **running: Any) -> None:
    """Run a whole study: answer, edit, trace, score heads, ablate, rescale, compare, report.

    Without STUDY_FILE the default study runs: both embedded models on the seven categories of the scenes world. Run it again after
    an interruption, and it goes on where it stopped.
    """
    from vseam_cli.stages import run_verb

    context.exit(run_verb(context.obj, "run/1", running, study_file, models=list(models), datasets=list(datasets)))
