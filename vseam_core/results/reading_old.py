"""Opens any results database for reading: one that an older vseam made is read from a copy that is brought up to date."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vseam_core.errors import StoreError
from vseam_core.store import migrate, open_store
from vseam_core.store.store import Store


@contextmanager
def open_any(location: str | Path) -> Iterator[Store]:
    """The store at a file or URL, old or new; an old file is left as it is. Raises `StoreError`."""
    try:
        store = open_store(location, create=False)
    except StoreError as error:
        if "made by an older vseam" not in str(error) or "://" in str(location):
            raise
    else:
        with store:
            yield store
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / Path(location).name
        _copied(Path(location), copy)
        migrate(copy)
        with open_store(copy, create=False) as store:
            store.label = str(location)
            yield store


def _copied(source: Path, target: Path) -> None:
    """Copy a database with what lies beside it in its write-ahead log."""
    try:
        reading = sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)
        try:
            writing = sqlite3.connect(target)
            try:
                reading.backup(writing)
            finally:
                writing.close()
        finally:
            reading.close()
    except sqlite3.Error:
        # A folder that cannot be written to has no room for the log's index: the file alone is then all there is.
        shutil.copyfile(source, target)
