"""The options that say how images are edited: `--editor` with its planner, mask provider and choices, on every verb that edits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vseam_cli.named_values import plain_value

if TYPE_CHECKING:
    from vseam_cli.application import Application

Function = TypeVar("Function", bound=Callable[..., Any])


def use_editing(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Remember what was said about editing, under the name of the field of `EditorChoice` that it sets."""
    if value is None or value is False or value == ():
        return
    application: Application = context.obj
    if parameter.name in ("passing_only", "accepted_only"):
        if "pairs" in application.editing:
            raise click.UsageError("--passing-only and --accepted-only exclude one another", context)
        application.editing["pairs"] = str(parameter.name).removesuffix("_only")
    elif parameter.name == "edits":
        application.edits = str(value)
    elif str(parameter.name).endswith("options"):
        given = [name for name, _ in value]
        if twice := next((name for name in given if given.count(name) > 1), ""):
            raise click.BadParameter(f"{twice} is given twice", context, parameter)
        application.editing[str(parameter.name)] = dict(value)
    else:
        application.editing[str(parameter.name)] = value


class AssignmentType(click.ParamType):
    """NAME=VALUE, the value as `plain_value` reads it."""

    name = "assignment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        """The name and the value."""
        name, equals, text = str(value).partition("=")
        if not (name and equals):
            self.fail(f"{value!r}: expected NAME=VALUE")
        try:
            return name.replace("-", "_"), plain_value(text)
        except ValueError as error:
            self.fail(f"{value!r:.200}: {error}", param, ctx)


def _assignments(option: str, field: str, text: str) -> Callable[[Any], Any]:
    """An option that may be given again, each time as NAME=VALUE, for one field of `EditorChoice`."""
    return click.option(
        option, field, type=AssignmentType(), multiple=True, metavar="NAME=VALUE", expose_value=False, callback=use_editing, help=text
    )


_EDITING: tuple[Callable[[Any], Any], ...] = (
    click.option("--editor", metavar="NAME", envvar="VSEAM_EDITOR", help="The editor or painter (`vseam editors`)."),
    _assignments("--editor-option", "options", "An option of the editor; may be given again."),
    click.option(
        "--planner",
        metavar="NAME",
        envvar="VSEAM_PLANNER",
        expose_value=False,
        callback=use_editing,
        help="What decides what a painter changes (`vseam planners`; default: lexicon).",
    ),
    _assignments("--planner-option", "planner_options", "An option of the planner; may be given again."),
    click.option(
        "--mask",
        metavar="NAME",
        envvar="VSEAM_MASK",
        expose_value=False,
        callback=use_editing,
        help="What finds the pixels that a painter may change (`vseam masks`; default: box).",
    ),
    _assignments("--mask-option", "mask_options", "An option of the mask provider; may be given again."),
    click.option(
        "--controls/--no-controls",
        default=None,
        expose_value=False,
        callback=lambda context, parameter, value: use_editing(context, parameter, value) if value else _no_controls(context, value),
        help="Make control edits too: repaint the same concept, edit something not asked about (default: where painting is cheap).",
    ),
    click.option("--passing-only", is_flag=True, expose_value=False, callback=use_editing, help="Use only edits that pass their checks."),
    click.option("--accepted-only", is_flag=True, expose_value=False, callback=use_editing, help="Use only edits that somebody accepted."),
    click.option(
        "--edits",
        type=click.Path(file_okay=False),
        envvar="VSEAM_EDITS",
        expose_value=False,
        callback=use_editing,
        help="The folder that edited images are kept in (default: edits).",
    ),
)


def _no_controls(context: click.Context, value: bool | None) -> None:
    if value is False:
        context.obj.editing["controls"] = False


def editing(function: Function) -> Function:
    """Add `--editor` and everything that belongs to it."""
    for option in reversed(_EDITING):
        function = option(function)
    return function
