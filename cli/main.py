"""The command line `vseam`: its verbs by name, imported when they are used, and what becomes of errors.

Importing this module imports click and little else, so that `vseam --help` answers at once.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from vseam_cli.application import Application
from vseam_cli.options import example_epilog
from vseam_cli.output import say
from vseam_core.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_USER_ERROR, VseamError, did_you_mean

EXIT_BUG = 1
# Name → (where it lies, its line in `vseam --help`), so that help needs no import.
VERBS: dict[str, tuple[str, str]] = {
    "run": ("vseam_cli.run:run", "Run a whole study: answer, edit, trace, score heads, ablate, rescale, compare, report."),
    "explain": ("vseam_cli.explain:explain", "Explain one answer about one image: words, layers, heads, and a page to look at."),
    "edit": ("vseam_cli.edit:edit", "Edit images so that the true answer changes."),
    "trace": ("vseam_cli.trace:trace", "Trace which positions and layers carry the answer."),
    "paths": ("vseam_cli.paths:paths", "Patch paths: what one component writes for another one alone."),
    "heads": ("vseam_cli.heads:heads", "Score, ablate, rescale and compare attention heads."),
    "eval": ("vseam_cli.eval:evaluate", "Measure how well models answer a dataset, as they are or with heads changed."),
    "report": ("vseam_cli.report:report", "Draw the report of a stored study again, without running a model."),
    "view": ("vseam_cli.view:view", "Serve the page of a study to a browser, also while it runs."),
    "doctor": ("vseam_cli.doctor:doctor", "Check that a model can be trusted, and how far rounding moves it."),
    "query": ("vseam_cli.query:query", "Ask the results database with one SELECT."),
    "db": ("vseam_cli.db:database", "Look at a results database, or bring an older one up to date."),
    "study": ("vseam_cli.study:study", "Check a study file."),
    "plugins": ("vseam_cli.plugins:plugins", "List plugins, what each supplies, and the broken ones, or write a new one."),
    "models": ("vseam_cli.models:models", "List models by name, or show what one needs and whether it is here."),
    "datasets": ("vseam_cli.datasets:datasets", "List datasets by name, or check one before hours are spent on it."),
    "editors": ("vseam_cli.listing:editors", "List editors by name."),
    "planners": ("vseam_cli.listing:planners", "List what plans edits by name."),
    "masks": ("vseam_cli.listing:masks", "List what finds the pixels of a concept by name."),
    "tracers": ("vseam_cli.listing:tracers", "List tracing methods by name."),
    "operations": ("vseam_cli.listing:operations", "List the ways to replace or rescale attention heads by name."),
}


class VerbGroup(click.Group):
    """The top group: built-in verbs from a table, then those that plugins add; none is imported before it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Built-in verbs in their order, then the plugins' ones."""
        return [*VERBS, *(name for name in _plugin_verbs(ctx) if name not in VERBS)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb of that name, imported now, or None where nobody has it."""
        from vseam_core.plugins.records import CommandRecord, import_factory

        if cmd_name in VERBS:
            found: Any = import_factory(VERBS[cmd_name][0])
            return found
        application = application_of(ctx)
        if cmd_name not in application.plugins.names(CommandRecord):
            return None
        registration = application.plugins.find(CommandRecord, cmd_name)
        command: Any = registration.load()
        if not isinstance(command, click.Command):
            raise VseamError(f"{registration}: expected a click.Command, got a {type(command).__name__}")
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb that the arguments begin with. Raises click.UsageError with the closest names."""
        name = args[0]
        command = self.get_command(ctx, name)
        if command is None and not ctx.resilient_parsing:
            note = application_of(ctx).plugins.broken_note()
            raise click.UsageError(f"unknown verb {name!r}; {did_you_mean(name, self.list_commands(ctx))}{note}", ctx)
        return name, command, args[1:]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The verbs with their lines, from the table and the plugins' records."""
        with formatter.section("Verbs"):
            formatter.write_dl([(name, summary) for name, (_, summary) in VERBS.items()])
        added = {name: summary for name, summary in _plugin_verbs(ctx).items() if name not in VERBS}
        if added:
            with formatter.section("Verbs that plugins add"):
                formatter.write_dl(list(added.items()))


def application_of(ctx: click.Context) -> Application:
    """The application of a context: made from the top group's options the first time it is asked for."""
    root = ctx.find_root()
    if not isinstance(root.obj, Application):
        root.obj = Application.from_options(root.params)
        ctx.obj = root.obj
    return root.obj


def _plugin_verbs(ctx: click.Context) -> dict[str, str]:
    from vseam_core.plugins.records import CommandRecord

    try:
        registrations = application_of(ctx).plugins.registrations(CommandRecord)
    except VseamError:  # an unknown --plugin: the verb will say so, help still helps
        return {}
    return {registration.record.name: registration.record.summary for registration in registrations}


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        say(f"vseam {version('vseam')}")
        ctx.exit()


@click.group(
    cls=VerbGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=example_epilog("vseam run\nvseam VERB --help"),
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version.")
@click.option("--plugin", multiple=True, metavar="NAME", envvar="VSEAM_PLUGIN", help="Use only this plugin; may be given again.")
@click.option("--no-plugin", multiple=True, metavar="NAME", envvar="VSEAM_NO_PLUGIN", help="Leave this plugin out.")
@click.option(
    "--registry",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="VSEAM_REGISTRY",
    help="The file with your own names (default: registry.yaml, if it is there).",
)
@click.option("-v", "--verbose", count=True, help="Say more on stderr; -vv says everything.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but the result.")
@click.option("--log-file", type=click.Path(dir_okay=False, path_type=Path), envvar="VSEAM_LOG_FILE", help="Log everything there.")
@click.option("--debug", is_flag=True, envvar="VSEAM_DEBUG", help="Show the traceback of an error.")
@click.pass_context
def vseam(ctx: click.Context, **_: Any) -> None:
    """Find, by intervention, which parts of a vision-language model cause its answers."""
    application = application_of(ctx)
    application.output.start_logging()
    ctx.call_on_close(application.output.stop_logging)


def execute(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code: 0 done, 2 the user's input, 3 done with skips, 130 interrupted, 1 a bug."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words or bool(os.environ.get("VSEAM_DEBUG"))
    try:
        _check_text(words)
        outcome = vseam.main(words, prog_name="vseam", standalone_mode=False)
        _flush()
        return outcome if isinstance(outcome, int) else EXIT_DONE
    except (click.Abort, KeyboardInterrupt):
        say("stopped; run the same command again to resume", err=True)
        return EXIT_INTERRUPTED
    except click.UsageError as error:
        return _usage_error(error)
    except click.ClickException as error:
        return _say(error.format_message(), EXIT_USER_ERROR, debug)
    except VseamError as error:
        return _say(str(error), error.exit_code, debug)
    except OSError as error:
        return _system_error(error, debug)
    except Exception as error:  # the last boundary: whatever arrives here is a bug, and is shown whole
        say(traceback.format_exc(), err=True)
        return _say(f"this is a bug, please report it with the lines above: {type(error).__name__}: {error}", EXIT_BUG, False)


def _check_text(words: Sequence[str]) -> None:
    """Raise `VseamError` for an argument or a setting of the environment that is not text: no database or file could hold it."""
    settings = {name: value for name, value in os.environ.items() if name.startswith("VSEAM_")}
    for where, text in (*((f"argument {number}", word) for number, word in enumerate(words, 1)), *settings.items()):
        try:
            text.encode("utf-8")
            if "\0" in text:
                raise ValueError(text)
        except ValueError:
            raise VseamError(f"{where} is not UTF-8 text: {os.fsencode(text)!r:.80}") from None


def main() -> None:
    """The entry point of the `vseam` command."""
    signal.signal(signal.SIGTERM, _stop)
    for stream in (sys.stdout, sys.stderr):
        # A character that the terminal's encoding lacks is written as its number, not as a traceback.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(execute())


def _stop(*_: object) -> None:
    """What a batch system's SIGTERM does: the same as Ctrl-C, so that everything finished is kept."""
    raise KeyboardInterrupt


def _flush() -> None:
    """Write out what was printed. Raises `VseamError` where there is nothing to print to."""
    if sys.stdout is None:
        raise VseamError("standard output is closed: the result could not be printed")
    sys.stdout.flush()


def _say(message: str, code: int, debug: bool) -> int:
    if debug:
        say(traceback.format_exc(), err=True)
    say(f"vseam: {' '.join(message.split())}", err=True)
    return code


def _usage_error(error: click.UsageError) -> int:
    path = error.ctx.command_path if error.ctx else "vseam"
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        say(error.format_message(), err=True)
        return EXIT_USER_ERROR
    return _say(f"{error.format_message()} (see {path} --help)", EXIT_USER_ERROR, False)


def _system_error(error: OSError, debug: bool) -> int:
    """The exit code for what the operating system refused: a closed pipe is no error, a full disk has its own line."""
    if error.errno == errno.EPIPE:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes stdout at exit and would complain
        return EXIT_DONE
    if error.errno == errno.ENOSPC:
        return _say("no space left on the disk; finished work is kept, run the same command again to resume", EXIT_USER_ERROR, debug)
    name = f"{error.filename}: " if error.filename else ""
    return _say(f"{name}{error.strerror or error}", EXIT_USER_ERROR, debug)
