"""A user's own SELECT on a results database, which can neither write, nor attach, nor hang, nor fill memory or disk.

Time is kept by a thread that interrupts the statement: SQLite's own progress callback is only asked after many steps, and one step can
be a function over a long text. Two guards against writing, because one is not enough: a connection opened read-only still lets
`VACUUM INTO` and `ATTACH` write files, so an authorizer also refuses everything but SELECT, reading and plain functions. SQLAlchemy is
not imported.
"""

from __future__ import annotations

import math
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from vseam_core.errors import QueryError, did_you_mean
from vseam_core.store.read_only import cannot_write_beside, read_as_it_is

_ALLOWED = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE})
_REFUSED_FUNCTIONS = frozenset({"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit", "sqlite_log"})
# One text or blob, the whole result, the pattern of a LIKE. A single operation cannot be interrupted: searching one long text
# for another takes the product of their lengths, a few seconds at most at this limit.
_LONGEST_VALUE = 500_000
_LARGEST_RESULT = 64_000_000
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: _LONGEST_VALUE,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 100_000,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1_000,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
}
_SERVERS = ("postgresql://", "postgresql+", "postgres://")
_CACHE_BYTES = 32_000_000
LONGEST_SECONDS = 86_400.0
_REFUSALS = ("not authorized", "authorization denied", "prohibited", "read-only", "readonly")
# Table-valued functions declare their columns by an inner CREATE TABLE on first use, which the authorizer would refuse.
_FIRST_USES = ("SELECT 1 FROM json_each('[]')", "SELECT 1 FROM json_tree('[]')")


def run_query(
    location: str | Path,
    sql: str,
    limit_rows: int = 10_000,
    limit_seconds: float = 10.0,
    *,
    limit_bytes: int | None = None,
    note: Callable[[str], None] | None = None,
) -> tuple[list[str], list[tuple[Any, ...]], bool]:
    """The column names and rows of one SELECT, and whether rows beyond `limit_rows` (or 64 MB) were left out.

    `location` is a file, an SQLite URL or that of a PostgreSQL server. `limit_bytes` bounds the memory of SQLite in this whole process
    from now on, and keeps sorting off the disk. `note` is told what a user should know about the file (it can only be read as it is on
    the disk). Raises `QueryError` with one line for anything but a single SELECT, for one that takes longer than `limit_seconds` or more
    memory than that, for unknown names, and for what is no database.
    """
    if not (math.isfinite(limit_seconds) and 0 < limit_seconds <= LONGEST_SECONDS):
        raise QueryError(f"a query cannot be given {limit_seconds:g} s: expected more than 0 and at most {LONGEST_SECONDS:g}")
    if str(location).startswith(_SERVERS):
        # SQLAlchemy is imported for a server only.
        from sqlalchemy import make_url

        from vseam_core.store.query_postgresql import run_query_on_server

        return run_query_on_server(make_url(str(location)), sql, limit_rows, limit_seconds)
    path = _file(location)
    with _reading(path, limit_seconds, note) as connection, _interrupted_after(connection, limit_seconds) as deadline:
        try:
            _guard(connection, limit_bytes)
            return _bounded(connection, sql, limit_rows, deadline)
        except MemoryError:
            raise QueryError(f"the query needs more than {limit_bytes or 0:,} bytes of memory and was stopped: narrow it") from None
        except UnicodeEncodeError:
            raise QueryError("the query is not text in UTF-8: expected one SELECT") from None
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            raise QueryError(_explained(str(error), connection, path, limit_seconds)) from None


@contextmanager
def _interrupted_after(connection: sqlite3.Connection, seconds: float) -> Iterator[float]:
    """Interrupt whatever the connection does once the time is over, again and again until the block ends; yields the deadline."""
    deadline, over = time.monotonic() + seconds, threading.Event()

    def interrupt() -> None:
        wait = seconds
        # An interrupt that falls between two steps is forgotten, so one is not enough.
        while not over.wait(wait):
            connection.interrupt()
            wait = 0.05

    watch = threading.Thread(target=interrupt, daemon=True)
    watch.start()
    try:
        yield deadline
    finally:
        over.set()
        watch.join()


def _bounded(connection: sqlite3.Connection, sql: str, limit_rows: int, deadline: float) -> tuple[list[str], list[tuple[Any, ...]], bool]:
    cursor = connection.execute(sql)
    if cursor.description is None:
        raise QueryError("the query is empty: expected one SELECT")
    columns = [str(column[0]) for column in cursor.description]
    rows: list[tuple[Any, ...]] = []
    size = 0
    for row in cursor:
        if len(rows) >= limit_rows or size > _LARGEST_RESULT:
            return columns, rows, True
        rows.append(row)
        size += sum(len(value) for value in row if isinstance(value, str | bytes))
        if time.monotonic() > deadline:
            raise sqlite3.OperationalError("interrupted")
    return columns, rows, False


def _file(location: str | Path) -> Path:
    text = str(location)
    kind, separator, rest = text.partition("://")
    if separator and kind.split("+")[0] != "sqlite":
        raise QueryError(f"vseam query reads SQLite files and postgresql:// servers only, got a {kind} URL")
    path = Path(unquote(rest.removeprefix("/")) if separator else text)
    if text == ":memory:" or (separator and not rest.strip("/")):
        raise QueryError("vseam query reads a results file, not a database in memory: give --db a file")
    if path.is_dir():
        raise QueryError(f"{path} is a directory, expected a results database file")
    if path.exists() and not path.is_file():
        raise QueryError(f"{path} is a pipe, device or socket, expected a results database file")
    if not path.exists():
        raise QueryError(f"there is no results database at {path}: a run makes one, or give another --db")
    return path


@contextmanager
def _reading(path: Path, limit_seconds: float, note: Callable[[str], None] | None) -> Iterator[sqlite3.Connection]:
    """A connection that is opened read-only and closed at the end.

    Even reading needs to write beside a database with a write-ahead log; where that is impossible (a read-only mount, a full disk), the
    file is read as it is on the disk.
    """
    try:
        connection = _connected(path, "mode=ro", limit_seconds)
        try:
            connection.execute("SELECT COUNT(*) FROM sqlite_master")
        except sqlite3.OperationalError as error:
            if not cannot_write_beside(str(error)):
                raise
            connection.close()
            connection = _connected(path, "mode=ro&immutable=1", limit_seconds)
            connection.execute("SELECT COUNT(*) FROM sqlite_master")
            if note is not None:
                note(read_as_it_is(path))
    except sqlite3.Error as error:
        raise QueryError(_explained(str(error), None, path, limit_seconds)) from None
    with closing(connection):
        yield connection


def _connected(path: Path, how: str, limit_seconds: float) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(str(path.resolve()))}?{how}", uri=True, timeout=limit_seconds, isolation_level=None, check_same_thread=False
    )
    # Bytes that are no text are shown as far as they are.
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    return connection


def _guard(connection: sqlite3.Connection, limit_bytes: int | None) -> None:
    """Refuse from now on whatever is not a plain SELECT of bounded values."""
    connection.execute(f"PRAGMA cache_size = -{_CACHE_BYTES // 1024}")
    if limit_bytes is not None:
        # Sorting then happens in memory, and memory is bounded.
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute(f"PRAGMA hard_heap_limit = {int(limit_bytes)}")
    for statement in _FIRST_USES:
        connection.execute(statement)
    for name, value in _LIMITS.items():
        connection.setlimit(name, value)
    connection.set_authorizer(_authorize)


def _authorize(action: int, first: str | None, second: str | None, _database: str | None, _view: str | None) -> int:
    if action not in _ALLOWED:
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in _REFUSED_FUNCTIONS:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


def _explained(message: str, connection: sqlite3.Connection | None, path: Path, limit_seconds: float) -> str:
    text = message.lower()
    if "interrupted" in text:
        return f"the query took longer than {limit_seconds:g} s and was stopped: narrow it or raise the limit"
    if any(word in text for word in _REFUSALS):
        return "the query is not allowed: expected one SELECT that reads tables and calls plain functions"
    if "one statement at a time" in text:
        return "the query holds several statements: expected one SELECT"
    if "too big" in text:
        return f"the query makes a value longer than {_LONGEST_VALUE} bytes: narrow it"
    if "not a database" in text:
        return f"{path} is not a results database: expected an SQLite file, give another --db"
    if "locked" in text:
        return f"{path} is locked by another process: wait for it to finish and ask again"
    if connection is None:
        return f"{path} cannot be opened: {message}"
    return f"the query cannot be run: {message}{_suggestion(message, connection)}"


def _suggestion(message: str, connection: sqlite3.Connection) -> str:
    """The names that an unknown table or column may have meant."""
    found = re.match(r"no such (table|column): (.+)", message)
    if found is None:
        return ""
    kind, name = found.group(1), found.group(2).rsplit(".", 1)[-1]
    connection.set_authorizer(None)
    try:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")]
        if kind == "table":
            return f": {did_you_mean(name, [table for table in tables if not table.startswith('sqlite_')])}"
        columns: dict[str, list[str]] = {}
        for table in sorted(table for table in tables if not table.startswith("stored_")):
            for row in connection.execute("SELECT name FROM pragma_table_info(?)", (table,)):
                columns.setdefault(row[0], []).append(table)
    except sqlite3.Error:
        return ""
    if name in columns:
        return f": it is a column of {', '.join(columns[name])}"
    guess = did_you_mean(name, columns).split("Known:")[0].strip()
    return f": {guess}" if guess else ': `vseam query "SELECT name, sql FROM sqlite_master"` lists every column'
