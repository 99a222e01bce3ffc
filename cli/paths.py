"""`vseam paths`: path patching from senders to receivers."""

from __future__ import annotations

from typing import Any

import click

from vseam_cli import options
from vseam_cli.application import Application

_TRACER = "paths"


@options.verb(
    "paths",
    example="""
    vseam paths --model llava-tiny --dataset scenes/color --to logits
    vseam paths --model llava-tiny --dataset scenes/color --from L1H2 --to "L*H*.q" --to "L*.mlp"
    vseam paths --model llava-tiny --dataset scenes/color --from "L*H*" --to L4H5.v --positions image
    vseam paths --model llava-tiny --dataset scenes/color --from L5H3+L5H5 --to logits --direction noising
    """,
)
@options.use("model", "dataset")
@click.option(
    "--from",
    "senders",
    multiple=True,
    metavar="SENDER",
    help="A head (L1H2), L1.mlp, L1.attention or embeddings; * for every layer or head; several that change together joined by +; may be "
    "given again (default: L*H*).",
)
@click.option(
    "--to",
    "receivers",
    multiple=True,
    metavar="RECEIVER",
    help="A head (L4H5), its query, key or value (L4H5.q, .k, .v), L4.mlp or logits; may be given again (default: logits).",
)
@click.option("--positions", type=click.Choice(["all", "image", "question", "last"]), help="Where senders change (default: all positions).")
@click.option(
    "--direction",
    "directions",
    type=click.Choice(["denoising", "noising"]),
    multiple=True,
    help="denoising: the clean image's activation in the run on the edited one; noising: the reverse (default: both).",
)
@click.option("--through-mlps", is_flag=True, help="Compute the MLPs between both ends from what reaches them; else they are held too.")
@click.option(
    "--pool",
    type=click.Choice(["score", "choose", "test", "all"]),
    help="The pool whose pairs are traced (default: score, so that the others stay unseen).",
)
@options.use("limit", "seed", "editor", "device", "loading", "memory_budget", "db", "reports", "thumbnails")
@click.pass_context
def paths(
    context: click.Context,
    models: tuple[str, ...],
    datasets: tuple[str, ...],
    senders: tuple[str, ...],
    receivers: tuple[str, ...],
    positions: str | None,
    directions: tuple[str, ...],
    through_mlps: bool,
    pool: str | None,
    limit: int | None,
    seed: int | None,
    editor: str | None,
    device: str | None,
    database: str,
    reports: str,
) -> None:
    """Patch paths: the other image's output of a sender goes to a receiver alone, everything between is held.

    Exact, for every pair of a dataset: a table of the strongest paths, and maps of all in the page. The same as
    `vseam trace --tracer paths`; docs/paths.md says what is held and what is computed.
    """
    from vseam_cli.stages import run_stages, study_of

    application: Application = context.obj
    ends: dict[str, Any] = options.given(
        senders=list(senders),
        receivers=list(receivers),
        positions=positions,
        directions=list(directions),
        through_mlps=through_mlps or None,
    )
    study = study_of(
        application,
        None,
        limit,
        name=_TRACER,
        models=list(models),
        datasets=list(datasets),
        tracers=[{"name": _TRACER, "options": ends}],
        trace_pool=pool,
        random_models=0,
        seed=seed,
        editor=editor,
        stages=["trace"],
    )
    context.exit(run_stages(application, study, "paths/1", database=database, device=device, reports=reports))
