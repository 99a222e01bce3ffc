"""`vseam paths`: path patching from senders to receivers."""

from __future__ import annotations

from typing import Any

import click

from vseam_cli import options

_TRACER = "paths"


@options.verb(
    "paths",
    example="""
    vseam paths --model llava-tiny --dataset scenes/color --to logits
    vseam paths --model llava-tiny --dataset scenes/color --from L1H2 --to "L*H*.q" --to "L*.mlp"
    vseam paths --model llava-tiny --dataset scenes/color --from "L*H*" --to L4H5.v --positions image
    vseam paths --model llava-tiny --dataset scenes/color --from L5H3+L5H5 --to logits --direction noising
    vseam paths --model llava-tiny --dataset scenes/color --method screen --limit 20
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
    "--method",
    type=click.Choice(["exact", "screen"]),
    default="exact",
    show_default=True,
    help="exact patches the paths that --from and --to name; screen estimates all paths from gradients and patches the best and some "
    "random ones.",
)
@click.option(
    "--screen-top",
    type=options.WholeNumber(min=1),
    metavar="K",
    help="With screen: how many of the best paths are patched, beside a random tenth as many (default: 1 in 40, at least 8).",
)
@click.option(
    "--integrated-steps",
    type=options.WholeNumber(),
    metavar="M",
    help="With screen: average the gradients over M points between the two images (default: 5; 0: the run's own gradient).",
)
@click.option(
    "--pool",
    type=click.Choice(["score", "choose", "test", "all"]),
    help="The pool whose pairs are traced (default: score, so that the others stay unseen).",
)
@options.use(*options.OF_STAGES)
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
    method: str,
    screen_top: int | None,
    integrated_steps: int | None,
    pool: str | None,
    **running: Any,
) -> None:
    """Patch paths: the other image's output of a sender goes to a receiver alone, everything between is held.

    Exact, for every pair of a dataset: a table of the strongest paths, and maps of all in the page. The same as
    `vseam trace --tracer paths`; docs/paths.md says what is held and what is computed.
    """
    from vseam_cli.stages import run_verb

    common: dict[str, Any] = {"name": _TRACER, "models": list(models), "datasets": list(datasets), "trace_pool": pool, "random_models": 0}
    if method == "screen":
        if senders or receivers or through_mlps or len(directions) > 1:
            raise click.UsageError("--method screen goes over all paths in one direction: leave out --from, --to and --through-mlps")
        how = options.given(positions=positions, top=screen_top, direction=next(iter(directions), None), integrated_steps=integrated_steps)
        context.exit(run_verb(context.obj, "paths/1", running, **common, screen_paths=how, stages=["screen_paths"]))
    if screen_top is not None or integrated_steps is not None:
        raise click.UsageError("--screen-top and --integrated-steps belong to --method screen")
    ends: dict[str, Any] = options.given(
        senders=list(senders),
        receivers=list(receivers),
        positions=positions,
        directions=list(directions),
        through_mlps=through_mlps or None,
    )
    context.exit(run_verb(context.obj, "paths/1", running, **common, tracers=[{"name": _TRACER, "options": ends}], stages=["trace"]))
