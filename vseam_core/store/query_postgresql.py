"""A user's own SELECT on a results database on a PostgreSQL server: in a read-only transaction, with limits of time, rows and size.

The statement is the body of a cursor, which can be a SELECT only, and is sent in the protocol that takes one statement at a time. What the
role may do on the server besides (files, settings, other sessions) is the server's to refuse: `docs/sql.md` has a role that only reads.
"""

from __future__ import annotations

import decimal
import re
import time
from typing import Any

from sqlalchemy import URL, create_engine
from sqlalchemy.exc import SQLAlchemyError

from vseam_core.errors import QueryError, did_you_mean
from vseam_core.store.postgresql import with_driver

Rows = list[tuple[Any, ...]]

_AT_ONCE = 500
_LARGEST_RESULT = 64_000_000
_NO_SELECT = "the query is not allowed: expected one SELECT that reads tables and calls plain functions"


def run_query_on_server(url: URL, sql: str, limit_rows: int, limit_seconds: float) -> tuple[list[str], Rows, bool]:
    """The column names and rows of one SELECT, and whether rows beyond `limit_rows` (or 64 MB) were left out.

    Raises `QueryError` with one line for anything but a single SELECT, for one that takes longer than `limit_seconds`, for unknown names,
    and for a server that cannot be reached.
    """
    url = with_driver(url)
    label = url.render_as_string(hide_password=True)
    if url.drivername != "postgresql+psycopg":
        raise QueryError(f"{label}: vseam query reads SQLite files and postgresql:// servers only, got {url.drivername}")
    try:
        engine = create_engine(url)
        connected = engine.connect()
    except ImportError:
        raise QueryError(f"{label}: needs psycopg: pip install 'vseam[postgresql]'") from None
    except SQLAlchemyError as error:
        raise QueryError(f"{label} cannot be reached: {_first_line(error)}") from None
    try:
        return _read(connected.connection.driver_connection, sql, limit_rows, limit_seconds)
    finally:
        connected.invalidate()  # the transaction ends with the connection, whatever state it is in
        connected.close()
        engine.dispose()


def _read(connection: Any, sql: str, limit_rows: int, limit_seconds: float) -> tuple[list[str], Rows, bool]:
    import psycopg

    deadline = time.monotonic() + limit_seconds
    try:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        known = _names(connection)
        _set_time(connection, deadline)
        # Prepared: the server takes one statement at a time, so that none can end the transaction and go on outside it.
        connection.execute(f"DECLARE vseam_query NO SCROLL CURSOR FOR {_body(sql)}", prepare=True)
        rows: Rows = []
        size = 0
        while True:
            _set_time(connection, deadline)
            found = connection.execute(f"FETCH FORWARD {min(_AT_ONCE, limit_rows + 1 - len(rows))} FROM vseam_query")
            columns = [str(column.name) for column in found.description]
            part = [tuple(_plain(value) for value in row) for row in found.fetchall()]
            rows += part
            size += sum(len(value) for row in part for value in row if isinstance(value, str | bytes))
            if len(rows) > limit_rows or size > _LARGEST_RESULT:
                return columns, rows[:limit_rows], True
            if not part:
                return columns, rows, False
    except psycopg.errors.QueryCanceled:
        raise QueryError(f"the query took longer than {limit_seconds:g} s and was stopped: narrow it or raise the limit") from None
    except (psycopg.errors.ReadOnlySqlTransaction, psycopg.errors.InsufficientPrivilege) as error:
        raise QueryError(f"{_NO_SELECT} ({_first_line(error)})") from None
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
        raise QueryError(f"the query cannot be run: {_first_line(error)}{_suggestion(str(error), known)}") from None
    except (psycopg.Error, UnicodeEncodeError) as error:
        raise QueryError(_explained(error)) from None


def _body(sql: str) -> str:
    """The statement without what may end it. Raises `QueryError` for nothing."""
    body = sql.strip().rstrip(";").rstrip()
    if not body:
        raise QueryError("the query is empty: expected one SELECT")
    return body


def _set_time(connection: Any, deadline: float) -> None:
    left = max(1, round((deadline - time.monotonic()) * 1000))
    connection.execute(f"SET LOCAL statement_timeout = {left}")


def _plain(value: Any) -> Any:
    """A value as SQLite would give it: exact decimals are numbers, times are text."""
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() and value.as_tuple().exponent == 0 else float(value)
    return value if value is None or isinstance(value, str | int | float | bytes) else str(value)


def _names(connection: Any) -> dict[str, list[str]]:
    """The columns of every table and view that the role sees."""
    found: dict[str, list[str]] = {}
    query = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = ANY (current_schemas(false))"
    for table, column in connection.execute(query):
        found.setdefault(table, []).append(column)
    return found


def _suggestion(message: str, known: dict[str, list[str]]) -> str:
    """The names that an unknown table or column may have meant."""
    table = re.search(r'relation "([^"]+)" does not exist', message)
    column = re.search(r'column "?([^" ]+)"? does not exist', message)
    if table:
        return f": {did_you_mean(table.group(1), known)}"
    if not column:
        return ""
    name = column.group(1).rsplit(".", 1)[-1]
    where = sorted(table for table, columns in known.items() if name in columns and not table.startswith("stored_"))
    if where:
        return f": it is a column of {', '.join(where)}"
    guess = did_you_mean(name, {column for columns in known.values() for column in columns}).split("Known:")[0].strip()
    return f": {guess}" if guess else ""


def _explained(error: Exception) -> str:
    message = _first_line(error)
    if "multiple commands" in message:
        return "the query holds several statements: expected one SELECT"
    if isinstance(error, UnicodeEncodeError):
        return "the query is not text in UTF-8: expected one SELECT"
    return f"the query cannot be run: {message}"


def _first_line(error: Exception) -> str:
    text = str(getattr(error, "orig", error)).strip()
    return text.splitlines()[0] if text else type(error).__name__
