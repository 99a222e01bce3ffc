"""Migrations: each with its record in one transaction, and an older database is told the exact command."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection

from vseam_core.errors import StoreError
from vseam_core.store import Store, migrate, open_store
from vseam_core.store.connection import Database
from vseam_core.store.migrations import MIGRATIONS, Migration, check_version, create_schema, migrate_database
from vseam_core.store.schema import metadata
from vseam_core.store.views import VIEWS

from .builders import head_unit, run_spec

FIRST_SCHEMA = Path(__file__).with_name("schema_0001.sql")


def add_note(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE runs ADD COLUMN note VARCHAR NOT NULL DEFAULT ''")


def fail_half_way(connection: Connection) -> None:
    connection.exec_driver_sql("CREATE TABLE half (id INTEGER)")
    connection.exec_driver_sql("ALTER TABLE no_such_table ADD COLUMN note VARCHAR")


NOTE = Migration("9998_note", add_note)
FAILING = Migration("9999_failing", fail_half_way)


def names(path: Path, kind: str = "table") -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = ?", (kind,))}


def applied(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("SELECT name FROM schema_migrations ORDER BY name")]


def shape(path: Path) -> dict[str, set[tuple[object, ...]]]:
    """Every table with its columns, and every unique index with its columns, without regard to order."""
    with closing(sqlite3.connect(path)) as connection:
        found: dict[str, set[tuple[object, ...]]] = {}
        for table in names(path):
            columns = connection.execute("SELECT name, type, [notnull], pk FROM pragma_table_info(?)", (table,))
            found[table] = {tuple(row) for row in columns}
            for index, unique in connection.execute("SELECT name, [unique] FROM pragma_index_list(?)", (table,)).fetchall():
                parts = connection.execute("SELECT name FROM pragma_index_info(?)", (index,))
                found[table].add((bool(unique), *(row[0] for row in parts)))
        return found


def test_a_new_database_records_every_migration(store: Store, path: Path) -> None:
    assert applied(path) == [step.name for step in MIGRATIONS]
    assert migrate(path) == []


def test_an_older_database_is_told_the_exact_command(store: Store, path: Path) -> None:
    database = Database(path)
    with database.reading() as connection, pytest.raises(StoreError) as caught:
        check_version(connection, database.label, (*MIGRATIONS, NOTE))
    database.close()
    message = f"{path} was made by an older vseam (it lacks 9998_note): run `vseam db migrate --db {path}`"
    assert str(caught.value) == message


def test_migrating_keeps_the_data_records_the_step_and_makes_the_views_anew(store: Store, path: Path) -> None:
    run = store.ensure_run(run_spec())
    store.save(run, [head_unit(0)])
    store.close()
    database = Database(path)
    assert migrate_database(database, (*MIGRATIONS, NOTE)) == ["9998_note"]
    assert migrate_database(database, (*MIGRATIONS, NOTE)) == []
    database.close()
    assert applied(path) == [*(step.name for step in MIGRATIONS), "9998_note"]
    assert names(path, "view") == set(VIEWS)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT note FROM runs").fetchall() == [("",)]
        assert connection.execute("SELECT COUNT(*) FROM head_effects").fetchone() == (2,)
        assert connection.execute("SELECT COUNT(*) FROM shared_heads").fetchone() == (0,)


def test_a_migration_that_fails_leaves_what_the_one_before_it_left(store: Store, path: Path) -> None:
    store.close()
    database = Database(path)
    with pytest.raises(StoreError, match="no_such_table"):
        migrate_database(database, (*MIGRATIONS, NOTE, FAILING))
    assert applied(path) == [*(step.name for step in MIGRATIONS), "9998_note"]
    assert "half" not in names(path)
    repaired = Migration(FAILING.name, lambda connection: None)
    assert migrate_database(database, (*MIGRATIONS, NOTE, repaired)) == ["9999_failing"]
    database.close()
    assert names(path, "view") == set(VIEWS)


def test_creating_twice_changes_nothing(path: Path) -> None:
    database = Database(path)
    create_schema(database)
    create_schema(database)
    database.close()
    assert applied(path) == [step.name for step in MIGRATIONS]


def test_migrating_what_is_no_results_database_is_refused(path: Path) -> None:
    with pytest.raises(StoreError, match="there is no results database"):
        migrate(path)
    assert not path.exists()
    path.write_text("not a database at all, but long enough to be looked at" * 20)
    with pytest.raises(StoreError, match="is not a results database"):
        migrate(path)


def test_a_database_of_the_first_schema_migrates_to_exactly_the_present_one(path: Path, tmp_path: Path) -> None:
    """Fails when `schema.py` changes without a migration that brings older databases there."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(FIRST_SCHEMA.read_text())
        connection.execute("INSERT INTO schema_migrations VALUES ('0001_first_schema', '2026-01-01')")
        connection.commit()
    migrate(path)
    fresh = tmp_path / "fresh.db"
    open_store(fresh).close()
    assert shape(path) == shape(fresh)
    assert set(metadata.tables) <= names(path)
    assert names(path, "view") == set(VIEWS)


def test_answers_of_before_keep_their_verdict_as_their_score(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(FIRST_SCHEMA.read_text())
        connection.execute("INSERT INTO schema_migrations VALUES ('0001_first_schema', '2026-01-01')")
        columns = [row[0] for row in connection.execute("SELECT name FROM pragma_table_info('baselines')")]
        for number, right in enumerate((1, 0)):
            values = {"id": number, "unit_id": 1, "sample_id": number, "edit_id": None, "pair_role": "", "predicted": "Yes"}
            row = [values.get(name, right) for name in columns]
            connection.execute(f"INSERT INTO baselines VALUES ({', '.join('?' * len(columns))})", row)
        connection.commit()
    migrate(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT score FROM stored_baselines ORDER BY id").fetchall() == [(1.0,), (0.0,)]
