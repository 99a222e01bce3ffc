"""An empty store and its file for each test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from vseam_core.store import Store, open_store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.db"


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database made once: copying it is much faster than making it for every test."""
    path = tmp_path_factory.mktemp("store") / "empty.db"
    open_store(path).close()
    return path


@pytest.fixture
def store(path: Path, empty_database: Path) -> Iterator[Store]:
    shutil.copy(empty_database, path)
    with open_store(path, create=False) as opened:
        yield opened
