"""The results store: every number that a run produces, in one SQLite file (or any SQLAlchemy URL).

This package stays light: SQLAlchemy is imported when a store is opened, pandas when a table is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vseam_core.store.records import HeadEffectSet, TraceRecord
    from vseam_core.store.store import Store

__all__ = ["HeadEffectSet", "Store", "TraceRecord", "migrate", "open_store"]


def open_store(location: str | Path, create: bool = True, *, busy_seconds: float = 30.0) -> Store:
    """Open a results database: a file path or a SQLAlchemy URL.

    A missing or empty file becomes a new database when `create` is true. `busy_seconds` is how long a write waits for
    another process's lock. Raises `StoreError` with one line for a database that is locked, older or newer than this
    program, damaged, read-only or not ours.
    """
    from vseam_core.store.store import Store

    return Store(location, create=create, busy_seconds=busy_seconds)


def migrate(location: str | Path) -> list[str]:
    """Bring an older results database up to this program; returns the names of the migrations applied (none: up to date).

    Raises `StoreError` as `open_store` does; what was applied before an error stays applied and recorded.
    """
    from vseam_core.store.connection import Database
    from vseam_core.store.migrations import migrate_database

    database = Database(location)
    try:
        return migrate_database(database)
    finally:
        database.close()


def __getattr__(name: str) -> object:
    """Find the store's classes when they are asked for, so that importing this package stays cheap."""
    if name == "Store":
        from vseam_core.store.store import Store

        return Store
    if name in ("HeadEffectSet", "TraceRecord"):
        from vseam_core.store import records

        return getattr(records, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
