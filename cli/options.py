"""The options that verbs share, and the way a verb is declared.

Where an option comes from, first found wins: the command line, the environment (`VSEAM_…`), the study file, the default. So a
verb sees None for what nobody set.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vseam_cli.editing_options import editing, use_editing
from vseam_cli.named_values import named_values
from vseam_cli.table_formats import FORMATS
from vseam_cli.worker_options import worker_options
from vseam_core.config.loading import DTYPES
from vseam_core.config.numbers import LARGEST_WHOLE_NUMBER

if TYPE_CHECKING:
    from vseam_cli.application import Application

Function = TypeVar("Function", bound=Callable[..., Any])
DEFAULT_DATABASE = "results.db"
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


class WholeNumber(click.IntRange):
    """A whole number that every part behind it can hold: a database column, a slice, a JSON reader (2^53 at most)."""

    name = "whole number"

    def __init__(self, min: int = 0, max: int = LARGEST_WHOLE_NUMBER):
        super().__init__(min, max)


class DeviceType(click.ParamType):
    """auto, cpu, mps, cuda or cuda:N; whether it is there is checked when a model is loaded."""

    name = "device"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The device as it was given."""
        if not _DEVICE.fullmatch(str(value)):
            self.fail(f"{value!r}: expected auto, cpu, mps, cuda or cuda:N", param, ctx)
        return str(value)


class SizeType(click.ParamType):
    """A number of bytes with a unit, such as 2GB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The size in bytes."""
        from vseam_core.config.bytes import parse_bytes

        try:
            return value if isinstance(value, int) else parse_bytes(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _use_memory_budget(context: click.Context, _: click.Parameter, value: int | None) -> None:
    context.obj.memory_budget = value


def _use_model_option(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Keep `--dtype`, `--attention` and every `--model-option [MODEL:]KEY=VALUE` for when models are loaded."""
    loading: dict[str, dict[str, Any]] = context.obj.loading
    if parameter.name in ("dtype", "attention"):
        if value is not None:
            loading.setdefault("", {})[str(parameter.name)] = value
        return
    for model, key, option in named_values(value, "KEY=VALUE or MODEL:KEY=VALUE, such as revision=v1.0", context, parameter):
        loading.setdefault(model, {})[key] = option


def _operation_options(context: click.Context, parameter: click.Parameter, value: Sequence[str]) -> dict[str, Any]:
    """`--operation-option NAME=VALUE`, each once, as a mapping."""
    found: dict[str, Any] = {}
    for owner, name, option in named_values(value, "NAME=VALUE, such as donors=8", context, parameter):
        if owner:
            raise click.BadParameter(f"{owner}:{name}: expected NAME=VALUE, such as donors=8", context, parameter)
        found[name] = option
    return found


def _method_options(context: click.Context, parameter: click.Parameter, value: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`--method-option [METHOD:]NAME=VALUE` by method; "" is every method that is named."""
    found: dict[str, dict[str, Any]] = {}
    for method, name, option in named_values(value, "NAME=VALUE or METHOD:NAME=VALUE, such as vcd:alpha=1.0", context, parameter):
        found.setdefault(method, {})[name] = option
    return found


def _tracer_options(context: click.Context, parameter: click.Parameter, value: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`--tracer-option [TRACER:]NAME=VALUE` by tracer; "" is every tracer that is named."""
    found: dict[str, dict[str, Any]] = {}
    for tracer, name, option in named_values(value, "NAME=VALUE or TRACER:NAME=VALUE, such as window=3", context, parameter):
        found.setdefault(tracer, {})[name] = option
    return found


def _use_json(context: click.Context, _: click.Parameter, value: bool) -> None:
    application: Application = context.obj
    application.output.json = application.output.json or value


def _use_form(context: click.Context, _: click.Parameter, value: str | None) -> None:
    application: Application = context.obj
    application.output.form = value or application.output.form


def _use_verbosity(context: click.Context, parameter: click.Parameter, value: int | bool) -> None:
    if value:
        output = context.obj.output
        setattr(output, "verbosity" if parameter.name == "verbose" else "quiet", value)
        output.start_logging()


def _use_images(context: click.Context, _: click.Parameter, value: str | None) -> None:
    context.obj.images = value


def _dataset_options(function: Function) -> Function:
    """`--dataset`, and `--images` for datasets that are files."""
    dataset = click.option(
        "--dataset",
        "datasets",
        multiple=True,
        metavar="NAME|FILE",
        envvar="VSEAM_DATASET",
        help="A dataset's name (`vseam datasets`), or a file of questions (CSV, JSON, JSON lines, parquet); may be given again.",
    )
    images = click.option(
        "--images",
        type=click.Path(file_okay=False),
        envvar="VSEAM_IMAGES",
        expose_value=False,
        callback=_use_images,
        help="The folder of the images that a file of questions names (default: beside the file).",
    )
    return dataset(images(function))


def _loading_options(function: Function) -> Function:
    """`--dtype`, `--attention` and `--model-option`: how models are loaded, for the run's every model or for one."""
    kept: dict[str, Any] = {"expose_value": False, "callback": _use_model_option}
    added = (
        click.option(
            "--dtype", type=click.Choice(DTYPES), envvar="VSEAM_DTYPE", help="The number format to compute in (default: float32).", **kept
        ),
        click.option(
            "--attention",
            metavar="NAME",
            envvar="VSEAM_ATTENTION",
            help="eager, sdpa, flash_attention_2 … (default: the library's).",
            **kept,
        ),
        click.option(
            "--model-option",
            multiple=True,
            metavar="[MODEL:]KEY=VALUE",
            help="Any other loading option, for all models or for one: revision, device_map, quantisation … (docs/models.md).",
            **kept,
        ),
    )
    for option in reversed(added):
        function = option(function)
    return function


def _use_tables(context: click.Context, _: click.Parameter, value: bool) -> None:
    context.obj.tables = value


def _use_figure_option(context: click.Context, parameter: click.Parameter, value: bool | float | None) -> None:
    if value:
        context.obj.figures[str(parameter.name)] = value


def _use_thumbnails(context: click.Context, _: click.Parameter, value: bool) -> None:
    context.obj.thumbnails = value


def _report_options(function: Function) -> Function:
    """`--reports`, `--tables`, `--every-figure`, `--pdf`, `--font-size`: where the report goes, how much is shown, and how figures look."""
    kept: dict[str, Any] = {"expose_value": False, "callback": _use_figure_option}
    added = (
        click.option(
            "--reports",
            type=click.Path(file_okay=False),
            envvar="VSEAM_REPORTS",
            default="reports",
            show_default=True,
            help="The folder that reports are written to, each in a folder of its own.",
        ),
        click.option(
            "--tables",
            is_flag=True,
            expose_value=False,
            callback=_use_tables,
            help="Print every table after the findings, not only what fits into a few lines.",
        ),
        click.option("--every-figure", is_flag=True, help="Also write the figures that repeat others for each category.", **kept),
        click.option("--pdf", is_flag=True, help="Write figures as PDF too, beside PNG and SVG.", **kept),
        click.option(
            "--font-size",
            type=click.FloatRange(4, 24),
            metavar="POINTS",
            envvar="VSEAM_FONT_SIZE",
            help="The size of the labels in figures, 4 to 24 (default: 8.5).",
            **kept,
        ),
    )
    for option in reversed(added):
        function = option(function)
    return function


_SHARED: dict[str, Callable[[Function], Function]] = {
    "model": click.option(
        "--model",
        "models",
        multiple=True,
        metavar="NAME",
        envvar="VSEAM_MODEL",
        help="A model's name (`vseam models`), a checkpoint folder or a hub id; may be given again.",
    ),
    "dataset": _dataset_options,
    "operation_options": click.option(
        "--operation-option",
        "operation_options",
        multiple=True,
        metavar="NAME=VALUE",
        callback=_operation_options,
        help="An option of the operation, such as donors=8; may be given again.",
    ),
    "method_options": click.option(
        "--method-option",
        "method_options",
        multiple=True,
        metavar="[METHOD:]NAME=VALUE",
        callback=_method_options,
        help="An option of a method that is then fixed, such as vcd:alpha=1.0; may be given again.",
    ),
    "tracer_options": click.option(
        "--tracer-option",
        "tracer_options",
        multiple=True,
        metavar="[TRACER:]NAME=VALUE",
        callback=_tracer_options,
        help="An option of every --tracer, or of one, such as window=3 or 'knockout:edges=[last<-image]'; may be given again.",
    ),
    "stack": click.option(
        "--stack",
        type=click.Choice(["vision", "connector", "decoder", "cross"]),
        help="Change the vision tower, a Q-Former (connector), cross-attention (cross) or, where image and words stand in an encoder, the "
        "decoder that generates from it, in place of the language model.",
    ),
    "limit": click.option(
        "--limit", type=WholeNumber(min=1), metavar="N", envvar="VSEAM_LIMIT", help="At most N samples per dataset and pool."
    ),
    "seed": click.option("--seed", type=WholeNumber(), metavar="S", envvar="VSEAM_SEED", help="The seed that all randomness comes from."),
    "device": click.option("--device", type=DeviceType(), envvar="VSEAM_DEVICE", help="auto, cpu, mps, cuda or cuda:N.", default=None),
    "memory_budget": click.option(
        "--memory-budget",
        type=SizeType(),
        metavar="SIZE",
        envvar="VSEAM_MEMORY_BUDGET",
        expose_value=False,
        callback=_use_memory_budget,
        help="The most memory that recordings and batches take beside the model, e.g. 2GB; by default part of what is free.",
    ),
    "workers": worker_options,
    "loading": _loading_options,
    "db": click.option(
        "--db",
        "database",
        metavar="FILE|URL",
        envvar="VSEAM_DB",
        default=DEFAULT_DATABASE,
        show_default=True,
        help="The results database: a SQLite file or any SQLAlchemy URL.",
    ),
    "study": click.option(
        "--study",
        "study_file",
        type=click.Path(dir_okay=False),
        envvar="VSEAM_STUDY",
        help="A study file (YAML); other options win over it.",
    ),
    "editor": editing,
    "clip": click.option(
        "--clip",
        metavar="MODEL",
        envvar="VSEAM_CLIP",
        expose_value=False,
        callback=use_editing,
        help="A CLIP checkpoint (a folder or a hub id) that says whether the new concept is seen.",
    ),
    "reports": _report_options,
    "thumbnails": click.option(
        "--thumbnails/--no-thumbnails",
        envvar="VSEAM_THUMBNAILS",
        default=True,
        show_default=True,
        expose_value=False,
        callback=_use_thumbnails,
        help="Keep small images of what is measured in the database, for the report.",
    ),
}
_EVERY_VERB: tuple[Callable[[Any], Any], ...] = (
    click.option("--json", is_flag=True, expose_value=False, callback=_use_json, help="Print one JSON envelope instead of tables."),
    *(
        click.option(f"--{form}", "form", flag_value=form, default=None, expose_value=False, callback=_use_form, help=text)
        for form, text in FORMATS.items()
    ),
    click.option("-v", "--verbose", count=True, expose_value=False, callback=_use_verbosity, help="Say more; -vv says everything."),
    click.option("-q", "--quiet", is_flag=True, expose_value=False, callback=_use_verbosity, help="Say nothing but the result."),
)


def use(*names: str) -> Callable[[Function], Function]:
    """Add shared options by name, in the order given: `@options.use("model", "dataset", "limit")`."""

    def decorate(function: Function) -> Function:
        for name in reversed(names):
            function = _SHARED[name](function)
        return function

    return decorate


def verb(
    name: str | None = None, *, example: str, group: click.Group | None = None, **settings: Any
) -> Callable[[Callable[..., Any]], click.Command]:
    """Declare a verb: a click command with `--json`, `--csv` and its kind, `-v` and `-q`, whose help ends with `example`.

    With `group` it becomes a verb of that group. The first line of the docstring is its summary.
    """

    def decorate(function: Callable[..., Any]) -> click.Command:
        for option in reversed(_EVERY_VERB):
            function = option(function)
        command = click.command(name, epilog=example_epilog(example), **settings)(function)
        if group is not None:
            group.add_command(command)
        return command

    return decorate


def verb_group(name: str, *, example: str, is_verb: bool = False, **settings: Any) -> Callable[[Callable[..., Any]], click.Group]:
    """Declare a group of verbs, such as `vseam db`, whose help ends with `example`; `is_verb`: it does something by itself too."""
    if not is_verb:
        return click.group(name, epilog=example_epilog(example), **settings)

    def decorate(function: Callable[..., Any]) -> click.Group:
        for option in reversed(_EVERY_VERB):
            function = option(function)
        return click.group(name, epilog=example_epilog(example), invoke_without_command=True, **settings)(function)

    return decorate


def listing_group(name: str, *, example: str) -> Callable[[Callable[..., None]], click.Group]:
    """Declare a group that lists when no verb follows, such as `vseam models`. The function is given the application."""

    def decorate(function: Callable[..., None]) -> click.Group:
        def listed(context: click.Context) -> None:
            if context.invoked_subcommand is None:
                function(context.obj)

        callback: Any = click.pass_context(listed)
        callback.__doc__ = function.__doc__
        for option in reversed(_EVERY_VERB):
            callback = option(callback)
        return click.group(name, epilog=example_epilog(example), invoke_without_command=True)(callback)

    return decorate


OF_STAGES = ("limit", "seed", "editor", "device", "loading", "memory_budget", "db", "reports", "thumbnails")
"""What every verb takes that runs stages of a study (`stages.run_verb`)."""


def example_epilog(example: str) -> str:
    """The end of a help text: one or more command lines, kept as they are written."""
    lines = "\n".join(f"  {line.strip()}" for line in example.strip().splitlines())
    return f"\b\nExample:\n{lines}"


def given(**values: Any) -> dict[str, Any]:
    """Those options that somebody set: not None and not an empty list or mapping. What is left out comes from the study or the default."""
    return {name: value for name, value in values.items() if value is not None and value not in ((), [], {})}
