"""`vseam gaze`: where each head looks, and whether heads that look also cause."""

from __future__ import annotations

from typing import Any

import click

from vseam_cli import options

_TRACER = "gaze"


@options.verb(
    "gaze",
    example="""
    vseam gaze --model llava-tiny --dataset scenes/color --limit 40 --tables
    vseam gaze --model llava-tiny --dataset scenes/color --looks-only
    """,
)
@options.use("model", "dataset")
@click.option(
    "--target",
    type=click.Choice(["last", "question", "template"]),
    help="The positions whose attention is read (default: last, where the answer is given).",
)
@click.option("--operation", metavar="NAME", help="What heads are replaced by (`vseam operations`; default: resample).")
@click.option("--looks-only", is_flag=True, help="Read where heads look, and replace none.")
@options.use(*options.OF_STAGES)
@click.pass_context
def gaze(
    context: click.Context,
    models: tuple[str, ...],
    datasets: tuple[str, ...],
    target: str | None,
    operation: str | None,
    looks_only: bool,
    **running: Any,
) -> None:
    """Read how much of its attention each head gives to what was edited, and set it beside what replacing the head does.

    Against the region's share of the image and against a random region of its size, which is the control. Needs a family whose image
    positions have a place in the image.
    """
    from vseam_cli.stages import run_verb

    if looks_only and operation:
        raise click.UsageError("--operation says how heads are replaced: leave out --looks-only")
    code = run_verb(
        context.obj,
        "gaze/1",
        running,
        name=_TRACER,
        models=list(models),
        datasets=list(datasets),
        tracers=[{"name": _TRACER, "options": options.given(target=target)}],
        heads=[{"operation": operation or "resample"}],
        random_models=0,
        stages=["trace"] if looks_only else ["trace", "scan"],
    )
    context.exit(code)
