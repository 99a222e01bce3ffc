"""`vseam heads`: score attention heads, ablate and rescale the selected ones, compare heads between tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from vseam_cli import options
from vseam_cli.application import Application

_operation = click.option(
    "--operation", metavar="NAME", help="What heads are replaced by: resample, mean_of_others, zero, dataset_mean, patch."
)
_positions = click.option(
    "--positions", type=click.Choice(["all", "question", "image", "last"]), help="Where heads are replaced (default: all)."
)


_method = click.option(
    "--method",
    type=click.Choice(["exact", "screen"]),
    help="exact replaces every head (default); screen estimates all heads from gradients and replaces the best and some random ones.",
)
_screen_top = click.option(
    "--screen-top",
    type=click.IntRange(min=1),
    metavar="K",
    help="With screen: how many of the best heads are replaced, beside a random tenth as many (default: 1 in 40, at least 8).",
)
_integrated_steps = click.option(
    "--integrated-steps",
    type=click.IntRange(min=0),
    metavar="M",
    help="With screen: average the gradients over M points between each sample and its donor (default: 0, the sample's own gradient).",
)
_SCAN_OPTIONS = ("operation", "positions", "method", "screen_top", "integrated_steps")


@options.verb_group("heads", example="vseam heads scan --model llava-tiny --dataset scenes/color")
def heads() -> None:
    """Score, ablate, rescale and compare attention heads."""


def _common(function: Callable[..., Any]) -> Callable[..., Any]:
    shared = options.use("model", "dataset", "limit", "seed", "editor", "device", "db", "reports")
    return shared(_operation(_positions(click.pass_context(function))))


def _run(context: click.Context, stages: list[str], schema: str, **given: Any) -> None:
    from vseam_cli.stages import run_stages, study_of

    application: Application = context.obj
    database, device, reports = given.pop("database"), given.pop("device"), given.pop("reports")
    models, datasets = list(given.pop("models")), list(given.pop("datasets"))
    how = options.given(**{name: given.pop(name, None) for name in _SCAN_OPTIONS})
    scan = {"operation": "resample", "positions": "all", **how}
    study = study_of(
        application,
        None,
        given.pop("limit"),
        name=f"heads-{stages[-1]}",
        models=models,
        datasets=datasets,
        stages=stages,
        heads=[scan] if how else None,
        **given,
    )
    context.exit(run_stages(application, study, schema, database=database, device=device, reports=reports))


@options.verb(
    "scan",
    group=heads,
    example="vseam heads scan --model llava-tiny --dataset scenes/color --limit 40\n"
    "vseam heads scan --model llava-tiny --dataset scenes/color --method screen --screen-top 8 --integrated-steps 4",
)
@_method
@_screen_top
@_integrated_steps
@_common
def scan(context: click.Context, **given: Any) -> None:
    """Replace every head in turn and score it: positive heads support right answers, negative ones wrong answers.

    With --method screen most heads are only estimated, and how far the estimates can be relied on is shown: heads that were not
    replaced are never named. Large models take a small part of the time.
    """
    _run(context, ["scan"], "heads-scan/1", **given)


@options.verb("ablate", group=heads, example="vseam heads ablate --model llava-tiny --dataset scenes/color")
@_common
def ablate(context: click.Context, **given: Any) -> None:
    """Ablate the selected heads on the test pool, beside matched random sets; scans first where that is not done yet."""
    _run(context, ["scan", "ablate"], "heads-ablate/1", **given)


@options.verb("rescale", group=heads, example="vseam heads rescale --model llava-tiny --dataset scenes/color")
@_common
def rescale(context: click.Context, **given: Any) -> None:
    """Fit head scales on the choose pool and report them on the test pool with their controls."""
    _run(context, ["scan", "rescale"], "heads-rescale/1", **given)


@options.verb("shared", group=heads, example="vseam heads shared --model llava-tiny --dataset scenes/color --dataset scenes/action")
@_common
def shared(context: click.Context, **given: Any) -> None:
    """Compare the heads of tasks: overlap against chance and against a task's own ceiling."""
    _run(context, ["scan", "shared"], "heads-shared/1", **given)
