"""One database: how to connect, how a transaction begins, and what the database's own errors mean to a user."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from vseam_core.errors import StoreError
from vseam_core.store.postgresql import postgresql_engine, with_driver
from vseam_core.store.read_only import cannot_write_beside, read_as_it_is

logger = logging.getLogger("vseam.store")

_WRITING = "vseam_writing"


class Database:
    """A connection pool to one database, with reading and writing transactions.

    `location` is a file path or a SQLAlchemy URL. Raises `StoreError` for a location that cannot be a database;
    nothing is opened before the first transaction.
    """

    def __init__(self, location: str | Path, *, busy_seconds: float = 30.0) -> None:
        self.url = _parse(location)
        self.busy_seconds = busy_seconds
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.is_postgresql = self.url.get_backend_name() == "postgresql"
        self.label = self._label()
        self.journal_mode = ""
        self.warnings: tuple[str, ...] = ()
        self.engine = self._engine()

    @property
    def path(self) -> Path | None:
        """The database file, or None for a database in memory or on a server."""
        name = self.url.database or ""
        if not self.is_sqlite or name in ("", ":memory:") or "mode=memory" in name:
            return None
        return Path(name.removeprefix("file:").split("?")[0] if name.startswith("file:") else name)

    def is_same_as(self, other: Database) -> bool:
        """Whether both are one file, or one URL of a server."""
        if self.path is None or other.path is None:
            return self.url == other.url and not self.is_sqlite
        return self.path.exists() and other.path.exists() and self.path.samefile(other.path)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database, whatever others write meanwhile."""
        with self.translated(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is committed whole at the end of the block, or rolled back whole when the block raises."""
        with self.translated(), self.engine.connect() as connection:
            # The write lock is taken at the start: a transaction that reads first and writes later cannot wait for
            # another writer.
            marked = connection.execution_options(**{_WRITING: True})
            with marked.begin():
                yield marked

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn the database's errors into a `StoreError` of one line."""
        try:
            yield
        except DBAPIError as error:
            raise _translated(str(error.orig), self) from None
        except sqlite3.Error as error:
            raise _translated(str(error), self) from None
        except SQLAlchemyError as error:
            raise StoreError(f"{self.label}: {_first_line(str(error))}") from None

    def check_place(self, create: bool) -> None:
        """Raise `StoreError` where no database file can be: no such directory, a directory, or no file and none may be made."""
        path = self.path
        if path is None:
            return
        if path.is_dir():
            raise StoreError(f"{self.label} is a directory, expected a results database file: give --db a file name in it")
        if path.exists() and not path.is_file():
            raise StoreError(f"{self.label} is a pipe, device or socket, expected a results database file: give another --db")
        if not path.parent.is_dir():
            raise StoreError(f"{self.label}: there is no directory {path.parent}: make it first or give another --db")
        if not path.exists() and not create:
            raise StoreError(f"there is no results database at {self.label}: a run makes one, or give another --db")

    def use_write_ahead_log(self) -> None:
        """Let readers and one writer work at once (WAL) where the file system allows it; warn where it does not."""
        if not self.is_sqlite or self.journal_mode == "off":
            return
        with self.translated():
            self.journal_mode = self._switch_to_wal()
        if self.path is not None and self.journal_mode != "wal":
            message = (
                f"{self.label}: its file system allows no write-ahead log, using the {self.journal_mode} journal: "
                "safe, but readers wait for writers"
            )
            self.warnings = (message,)
            logger.warning(message)

    def read_as_it_is(self) -> bool:
        """Open the file without anything beside it, where that is what is in the way of reading; returns whether it is tried.

        For read-only mounts and full disks: nothing can be written from now on, and changes that only the write-ahead log has are
        not seen.
        """
        path = self.path
        if path is None or not path.is_file():
            return False
        self.close()
        self.engine = self._engine(f"sqlite:///file:{quote(str(path.resolve()))}?mode=ro&immutable=1&uri=true")
        self.journal_mode, self.warnings = "off", (read_as_it_is(path),)
        return True

    def close(self) -> None:
        """Close every connection; the last one to close folds the write-ahead log into the file."""
        self.engine.dispose()

    def _switch_to_wal(self) -> str:
        raw = self.engine.raw_connection()
        try:
            cursor = raw.cursor()
            mode = str(cursor.execute("PRAGMA journal_mode").fetchone()[0])
            if mode not in ("wal", "memory"):
                try:
                    mode = str(cursor.execute("PRAGMA journal_mode=WAL").fetchone()[0])
                except sqlite3.OperationalError as error:
                    logger.debug("no write-ahead log for %s: %s", self.label, error)
            return mode
        finally:
            raw.close()

    def _label(self) -> str:
        path = self.path
        if path is not None:
            return str(path)
        return ":memory:" if self.is_sqlite else self.url.render_as_string(hide_password=True)

    def _engine(self, url: URL | str | None = None) -> Engine:
        try:
            if self.is_postgresql:
                return postgresql_engine(self.url, self.busy_seconds, _WRITING)
            if not self.is_sqlite:
                return create_engine(self.url)
            engine = create_engine(url or self.url, connect_args={"timeout": self.busy_seconds})
            engine.dialect.create_connect_args(engine.url)  # reads the options of the URL, which it else does when it connects
        except NoSuchModuleError:
            raise StoreError(f"{self.label}: SQLAlchemy knows no database called {self.url.drivername!r}") from None
        except ValueError as error:
            raise StoreError(f"{self.label}: an option of the URL cannot be understood: {_first_line(str(error))}") from None
        except ImportError as error:
            if self.is_postgresql:
                raise StoreError(f"{self.label}: needs psycopg: pip install 'vseam[postgresql]'") from None
            raise StoreError(f"{self.label}: needs the Python package {error.name!r}: pip install {error.name}") from None
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "begin", _begin)
        return engine


class NothingBesideError(StoreError):
    """The database itself may be sound, but nothing can be written beside it."""


def _translated(message: str, database: Database) -> StoreError:
    kind = NothingBesideError if cannot_write_beside(message) else StoreError
    return kind(explain(message, database.label, database.busy_seconds))


def explain(message: str, label: str, busy_seconds: float) -> str:
    """One line for a user: what the database's own `message` means, and what to do."""
    text = message.lower()
    if "locked" in text or "busy" in text or "lock timeout" in text:
        return f"{label} is locked by another process (waited {busy_seconds:g} s): wait for it to finish or stop it"
    if "not a database" in text or "file is encrypted" in text:
        return f"{label} is not a results database: expected an SQLite file, give another --db"
    if "disk is full" in text or "no space left" in text:
        return f"{label}: the disk is full; everything saved before is kept: make room and run the same command again"
    if "readonly" in text or "read-only" in text:
        return f"{label} is read-only: change its permissions or give another --db"
    if "unable to open" in text:
        return f"{label} cannot be opened: check that it and its directory can be read and written"
    if "malformed" in text:
        return f"{label} is damaged ({message}): restore a copy or give another --db"
    return f"{label}: {_first_line(message)}"


def _first_line(message: str) -> str:
    return message.strip().splitlines()[0] if message.strip() else "unknown database error"


def _parse(location: str | Path) -> URL:
    text = os.fspath(location)
    if text == ":memory:":
        return URL.create("sqlite")
    if isinstance(location, Path) or "://" not in text:
        if not text:
            raise StoreError("the results database needs a file name or a URL, got an empty text")
        return URL.create("sqlite", database=text)
    try:
        return with_driver(make_url(text))
    except (ArgumentError, ValueError) as error:
        raise StoreError(f"{text} is not a database URL: {_first_line(str(error))}") from None


def _prepare(connection: Any, _record: object) -> None:
    """Leave transactions to us (sqlite3 would begin them late and not at all before CREATE TABLE) and enforce references."""
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys=ON")


def _begin(connection: Connection) -> None:
    writing = connection.get_execution_options().get(_WRITING, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
