"""Where everything a command says goes: the result to stdout (tables, or one JSON envelope), the rest to stderr."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vseam_cli import table_formats
from vseam_cli.column_widths import BETWEEN_COLUMNS, column_parts, column_widths
from vseam_core.errors import VseamError
from vseam_core.runs.progress import SilentProgress

if TYPE_CHECKING:
    import rich.progress
    import rich.table

    from vseam_core.runs.progress import Advance, Progress

JSON_SCHEMA_PREFIX = "vseam"
SECONDS_BETWEEN_LINES = 10.0
UNLIMITED_WIDTH = 10_000
STARTED_BY_A_NOTEBOOK = "JPY_PARENT_PID"  # what Jupyter sets for kernels, and so for the commands of their cells
# What a terminal obeys instead of showing it: C0 but for tab and line feed, delete, C1, and what turns the direction of writing.
_DIRECTIONS = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_UNSEEN = (*range(9), *range(11, 32), *range(127, 160), *_DIRECTIONS)
_DROPPED = dict.fromkeys(_UNSEEN)
_AS_NUMBERS = {code: f"\\u{code:04x}" for code in _UNSEEN}
_OWN_LOGGERS = ("vseam_core", "vseam_plugins", "vseam_cli", "vseam")


def visible(text: str) -> str:
    """A text without the characters that a terminal obeys: control characters, and what turns the direction of writing.

    Names and answers come from files that others wrote: everything that is shown to a person goes through this one function.
    """
    return text.translate(_DROPPED)


def say(text: str, err: bool = False) -> None:
    """Print a text on stdout, or on stderr; the only place that does."""
    click.echo(visible(text), err=err)


class _VisibleFormatter(logging.Formatter):
    """Log lines without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


class _LogFile(logging.FileHandler):
    """A log file; where it can no longer be written, that is said once and everything else goes on."""

    def handleError(self, record: logging.LogRecord) -> None:
        """What logging does with a record that could not be written."""
        error = sys.exc_info()[1]
        logging.getLogger().removeHandler(self)
        say(f"nothing more is written to the log file {self.baseFilename}: {getattr(error, 'strerror', None) or error}", err=True)

    def close(self) -> None:
        """Close the file, whatever becomes of what is not written yet."""
        with suppress(OSError):
            super().close()


@dataclass(frozen=True)
class Table:
    """A result as rows under columns; cells may be any plain value. `notes` stand below it, a person is shown `read` in its place."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    title: str = ""
    notes: Sequence[str] = ()
    read: Table | None = None


@dataclass
class Output:
    """How the result is shown (`json`, or tables in a form of `table_formats.FORMATS`) and how much is said beside it."""

    json: bool = False
    form: str = ""
    verbosity: int = 0
    quiet: bool = False
    log_file: Path | None = None
    _handlers: list[logging.Handler] = field(default_factory=list, repr=False)
    _root_level: int | None = field(default=None, repr=False)

    def result(self, schema: str, data: Mapping[str, Any], tables: Iterable[Table] = (), text: str = "") -> None:
        """Print the result of a command: with --json `{"schema": "vseam.NAME/1", **data}` alone, else tables and text."""
        if self.json:
            envelope = {"schema": f"{JSON_SCHEMA_PREFIX}.{schema}", **data}
            say(json.dumps(plain(envelope), ensure_ascii=False, indent=2, allow_nan=False).translate(_AS_NUMBERS))
            return
        shown = list(tables)
        if shown and self.form:
            say(table_formats.written(shown, self.form, cell))
            return
        if shown:
            _print_tables(shown)
        if text:
            say(text)

    def lines(self, paragraphs: Iterable[str]) -> None:
        """Print sentences of the result on stdout, folded at the width of a terminal."""
        width = max(40, shutil.get_terminal_size().columns) if sys.stdout.isatty() else UNLIMITED_WIDTH
        for paragraph in paragraphs:
            say("\n".join(textwrap.wrap(visible(paragraph), width, subsequent_indent="   ")))
        say("")

    def note(self, line: str) -> None:
        """Say one line on stderr that is not the result: where files lie, what was skipped. Silent with --quiet."""
        if not self.quiet:
            say(line, err=True)

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Show progress on stderr with the time left: bars on a terminal and in a notebook, else now and then a line.

        A command in a cell of a notebook (`!vseam …`) writes to what looks like a terminal, and each step of a bar would stay there.

        Nothing with --quiet.
        """
        if self.quiet:
            yield SilentProgress()
        elif in_notebook() or (sys.stderr.isatty() and STARTED_BY_A_NOTEBOOK not in os.environ):
            with _bars() as bars:
                yield bars
        else:
            yield LineProgress()

    def start_logging(self) -> None:
        """Send log records to stderr (warnings; -v: what vseam does; -vv: everything) and, all of them, to the log file."""
        self.stop_logging()
        level = logging.ERROR if self.quiet else (logging.WARNING, logging.INFO, logging.DEBUG)[min(self.verbosity, 2)]
        console = logging.StreamHandler(sys.stderr)
        console.setLevel(level)
        console.setFormatter(_VisibleFormatter("%(levelname)s %(message)s"))
        console.addFilter(lambda record: _is_worth_showing(record, self.verbosity))
        self._handlers.append(console)
        if self.log_file is not None:
            try:
                file = _LogFile(self.log_file, encoding="utf-8", delay=False)
            except OSError as error:
                raise VseamError(f"--log-file {self.log_file}: {error.strerror or error}") from error
            file.setFormatter(_VisibleFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
            self._handlers.append(file)
        root = logging.getLogger()
        self._root_level = root.level
        for handler in self._handlers:
            root.addHandler(handler)
        root.setLevel(logging.DEBUG if self.log_file is not None else level)
        logging.captureWarnings(True)

    def stop_logging(self) -> None:
        """Detach what `start_logging` attached, and give the root logger its level back."""
        if self._root_level is not None:
            logging.getLogger().setLevel(self._root_level)
            self._root_level = None
        for handler in self._handlers:
            logging.getLogger().removeHandler(handler)
            handler.close()
        self._handlers.clear()
        logging.captureWarnings(False)


@dataclass
class LineProgress:
    """Progress where there is no terminal: for each task a line every ten seconds at most."""

    clock: Callable[[], float] = time.monotonic

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Advance]:
        """Show a task; its lines say how much is done and how long the rest will take."""
        started = said = self.clock()
        done, first = 0, None

        def advance(steps: int) -> None:
            nonlocal done, said, first
            # The first report holds what an earlier run had finished: it took no time, so the time left does not count it.
            first = steps if first is None else first
            done += steps
            now = self.clock()
            if now - said >= SECONDS_BETWEEN_LINES:
                said = now
                fresh = done - first
                left = f", {_duration((now - started) / fresh * (total - done))} left" if fresh > 0 else ""
                say(f"{description}: {done} of {total}{left}", err=True)

        yield advance

    def note(self, text: str) -> None:
        """One line on stderr."""
        say(text, err=True)


class BarProgress:
    """Progress on a terminal: a bar per task, gone when the task is done."""

    def __init__(self, bars: rich.progress.Progress) -> None:
        self._bars = bars

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Advance]:
        """Show a task's bar while the context is open."""
        identifier = self._bars.add_task(visible(description), total=total)
        try:
            yield lambda steps: self._bars.advance(identifier, steps)
        finally:
            self._bars.remove_task(identifier)

    def note(self, text: str) -> None:
        """One line above the bars."""
        self._bars.console.print(visible(text), markup=False, highlight=False)


def in_notebook() -> bool:
    """Whether this runs in a notebook that can show bars (they are a widget of the package ipywidgets)."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return shell is not None and hasattr(shell, "kernel") and find_spec("ipywidgets") is not None


@contextmanager
def _bars() -> Iterator[BarProgress]:
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        yield BarProgress(bars)


def plain(value: Any) -> Any:
    """A value as JSON can hold it: numpy and paths become plain, NaN and infinity become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int | bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, Iterable):
        return [plain(inner) for inner in value]
    return str(value)


def cell(value: Any) -> str:
    """A value as a person reads it in a table; control characters are dropped, a terminal would obey them."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return visible(str(plain(value) if isinstance(value, bytes) else value))


def _print_tables(tables: Sequence[Table]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(file=sys.stdout)
    terminal = console.width if console.is_terminal else UNLIMITED_WIDTH
    for table in (table.read or table for table in tables):
        first, *more = visible(table.title).split("\n")
        title = [*([Text(first, style="bold")] if first else []), *map(Text, more)]
        notes = [Text(visible(note)) for note in table.notes]
        drawn = [_drawn(part, terminal) for part in _parts(table, terminal)]
        if console.is_terminal:
            for line in title:
                console.print(line)
            for part, width in drawn:
                console.width = max(terminal, width)
                console.print(part)
                console.width = terminal
            for line in notes:
                console.print(line)
            continue
        # A pipe or a file has no width: nothing is cut or folded, and no line ends in blanks.
        console.width = terminal
        with console.capture() as captured:
            console.print(*title, *(part for part, _ in drawn), *notes, sep="\n")
        say("\n".join(line.rstrip() for line in captured.get().rstrip("\n").split("\n")))


def _texts(table: Table) -> list[list[str]]:
    """The header and the cells of each column, as a person reads them."""
    return [[visible(name), *(cell(row[index]) for row in table.rows)] for index, name in enumerate(table.columns)]


def _numeric(table: Table, index: int) -> bool:
    return bool(table.rows) and all(isinstance(row[index], int | float | None) for row in table.rows)


def _parts(table: Table, room: int) -> list[Table]:
    """The table, or below one another parts of it that fit, each with the columns of words that its rows begin with, at most two."""
    named = [index for index in range(min(2, len(table.columns))) if not any(_numeric(table, before) for before in range(index + 1))]
    parts = column_parts(_texts(table), max(1, len(named)), room)
    if len(parts) == 1:
        return [table]
    return [Table([table.columns[index] for index in part], [[row[index] for index in part] for row in table.rows]) for part in parts]


def _drawn(table: Table, room: int) -> tuple[rich.table.Table, int]:
    """The table as it is printed where `room` characters fit in a line, and how wide it is."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    cells = _texts(table)
    widths = column_widths(cells, room)
    drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for index, (texts, width) in enumerate(zip(cells, widths, strict=True)):
        drawn.add_column(Text(texts[0]), justify="right" if _numeric(table, index) else "left", overflow="fold", width=width)
    for row in zip(*(texts[1:] for texts in cells), strict=True):
        drawn.add_row(*map(Text, row))
    return drawn, sum(widths) + BETWEEN_COLUMNS * (len(widths) - 1)


def _is_worth_showing(record: logging.LogRecord, verbosity: int) -> bool:
    """Whether a record may appear on stderr: other libraries speak only from -vv on, except for errors."""
    return record.name.split(".")[0] in _OWN_LOGGERS or verbosity >= 2 or record.levelno >= logging.ERROR


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
