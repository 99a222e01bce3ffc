"""`vseam trace`: causal traces of one or more models on one or more datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from vseam_cli import options


@options.verb(
    "trace",
    example="vseam trace --model llava-tiny --dataset scenes/color --tracer groups --limit 20\n"
    "vseam trace --model llava-tiny --dataset scenes/color --tracer knockout --tracer-option window=3\n"
    "vseam trace --model llava-tiny --dataset scenes/color --stack vision --limit 20",
)
@options.use("model", "dataset")
@click.option("--tracer", "tracers", multiple=True, metavar="NAME", help="A tracing method (`vseam tracers`); may be given again.")
@options.use("tracer_options", "stack")
@click.option(
    "--pool",
    type=click.Choice(["score", "choose", "test", "all"]),
    help="The pool whose pairs are traced (default: score, so that the others stay unseen).",
)
@click.option(
    "--random-models",
    type=options.WholeNumber(),
    metavar="N",
    help="Randomly initialised models for the band of group curves: 0 or at least 5.",
)
@options.use(*options.OF_STAGES)
@click.pass_context
def trace(
    context: click.Context,
    models: tuple[str, ...],
    datasets: tuple[str, ...],
    tracers: tuple[str, ...],
    tracer_options: dict[str, dict[str, Any]],
    stack: str | None,
    pool: str | None,
    random_models: int | None,
    **running: Any,
) -> None:
    """Trace which positions and layers carry the answer, by patching activations between clean and edited images."""
    from vseam_cli.stages import run_verb

    code = run_verb(
        context.obj,
        "trace/1",
        running,
        name="trace",
        models=list(models),
        datasets=list(datasets),
        tracers=_methods(tracers, tracer_options, stack),
        trace_pool=pool,
        random_models=0 if random_models is None else random_models,
        stages=["trace"],
    )
    context.exit(code)


def _methods(tracers: Sequence[str], given: Mapping[str, Mapping[str, Any]], stack: str | None) -> list[dict[str, Any]]:
    """The tracers with their options. Raises click.UsageError for options of a tracer that is not among them."""
    from vseam_core.config.defaults import IMAGE_TRACER
    from vseam_core.errors import did_you_mean

    if given and not tracers:
        raise click.UsageError("--tracer-option says how a tracer works: name it by --tracer")
    for owner in given:
        if owner and owner not in tracers:
            raise click.UsageError(f"--tracer-option {owner}:…: no such --tracer here; {did_you_mean(owner, tracers)}")
    named = tracers or ([IMAGE_TRACER] if stack else [])
    return [{"name": name, "options": {**given.get("", {}), **given.get(name, {})}, "stack": stack or ""} for name in named]
