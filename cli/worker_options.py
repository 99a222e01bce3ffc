"""Options that say who does the work of a study: how many workers, on this machine or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])
MOST_WORKERS = 10_000


class WorkersType(click.ParamType):
    """A number of workers, or `auto`."""

    name = "workers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """The number, or `auto`."""
        if value == "auto":
            return "auto"
        if not str(value).strip().lstrip("+-").isdigit():
            self.fail(f"{value!r}: expected a number of workers, or auto", param, ctx)
        return int(click.IntRange(1, MOST_WORKERS).convert(value, param, ctx))


def _use_workers(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value is not None:
        context.obj.workers[str(parameter.name)] = value


def worker_options(function: Function) -> Function:
    """`--workers`, `--executor`, `--address`, `--gpus-per-worker`: who does the work of a study."""
    kept: dict[str, Any] = {"expose_value": False, "callback": _use_workers}
    added = (
        click.option(
            "--workers",
            type=WorkersType(),
            metavar="N|auto",
            envvar="VSEAM_WORKERS",
            help="How many processes share the work, each with a model in memory; auto: one per core, or per GPU (default: the study's).",
            **kept,
        ),
        click.option(
            "--executor",
            type=click.Choice(["local", "ray"]),
            envvar="VSEAM_EXECUTOR",
            help="Where workers are: processes of this machine (local, the default), or actors of a Ray cluster (docs/cluster.md).",
            **kept,
        ),
        click.option("--address", metavar="auto|HOST:PORT", help="With --executor ray: the running cluster to use.", **kept),
        click.option(
            "--gpus-per-worker",
            type=click.FloatRange(min=0),
            metavar="G",
            help="With --executor ray: how much of a GPU a worker gets, such as 0.25 for small models (default: 1 where there are any).",
            **kept,
        ),
    )
    for option in reversed(added):
        function = option(function)
    return function
