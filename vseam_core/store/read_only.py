"""Databases that nothing can be written beside: on a read-only mount, in a folder without permission, on a full disk."""

from __future__ import annotations

from pathlib import Path


def cannot_write_beside(message: str) -> bool:
    """Whether SQLite's message says that it could not make the files that it needs beside a database, even for reading."""
    text = message.lower()
    return any(word in text for word in ("unable to open", "readonly", "read-only", "disk is full", "disk i/o error"))


def read_as_it_is(path: Path) -> str:
    """What a user should know about a database that is read without its write-ahead log."""
    log = path.with_name(path.name + "-wal")
    text = f"{path}: nothing can be written beside it (read-only, or the disk is full), so it is read as it is on the disk"
    if log.exists() and log.stat().st_size:
        text += f"; the latest changes in {log.name} are left out"
    return text
