"""Opening: what cannot be used is one clear line that says what to do, and nothing is lost."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from vseam_core.errors import StoreError
from vseam_core.store import Store, migrate, open_store
from vseam_core.store.migrations import MIGRATIONS

from .builders import head_unit, run_spec


def refusal(location: str | Path, create: bool = True) -> str:
    with pytest.raises(StoreError) as caught:
        open_store(location, create)
    message = str(caught.value)
    assert "\n" not in message
    assert "sqlalche.me" not in message
    assert caught.value.__cause__ is None
    return message


def test_a_new_database_keeps_a_write_ahead_log_and_says_what_it_holds(path: Path) -> None:
    with open_store(path) as store:
        info = store.info()
        assert (info["journal_mode"], info["warnings"], info["schema"]) == ("wal", [], MIGRATIONS[-1].name)
        assert info["counts"]["runs"] == 0
        assert info["bytes"] > 0
        assert info["location"] == str(path)


def test_an_empty_file_becomes_a_database_and_a_missing_one_only_when_asked(path: Path) -> None:
    message = refusal(path, create=False)
    assert message.startswith(f"there is no results database at {path}")
    assert not path.exists()
    path.touch()
    assert "it is empty" in refusal(path, create=False)
    with open_store(path) as store:
        assert store.runs().empty


def test_a_path_with_odd_characters_is_a_path(tmp_path: Path) -> None:
    path = tmp_path / "my results?100%#1.db"
    with open_store(str(path)) as store:
        store.ensure_run(run_spec())
    assert path.is_file()
    with open_store(path, create=False) as store:
        assert len(store.runs()) == 1


def test_a_url_and_a_path_open_the_same_file(path: Path) -> None:
    with open_store(f"sqlite:///{path}") as store:
        store.ensure_run(run_spec())
        with open_store(path) as second:
            assert len(second.runs()) == 1


def test_a_missing_directory_and_a_directory_are_named(tmp_path: Path) -> None:
    assert f"there is no directory {tmp_path / 'no'}" in refusal(tmp_path / "no" / "results.db")
    assert f"{tmp_path} is a directory" in refusal(tmp_path)


def test_a_file_that_is_no_database_is_named_and_left_as_it_is(path: Path) -> None:
    path.write_text("question,answer\n" * 100)
    assert refusal(path) == f"{path} is not a results database: expected an SQLite file, give another --db"
    assert path.read_text().startswith("question,answer")


def test_a_strangers_database_is_refused_and_not_touched(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE birds (name)")
        connection.commit()
    before = path.read_bytes()
    assert "is not a results database of vseam (it has the tables birds)" in refusal(path)
    assert path.read_bytes() == before


def test_a_newer_database_asks_for_an_upgrade_and_is_not_touched(store: Store, path: Path) -> None:
    with store.transaction() as connection:
        connection.exec_driver_sql("INSERT INTO schema_migrations VALUES ('0999_from_the_future', 'later')")
    store.close()
    before = path.read_bytes()
    message = refusal(path)
    assert "was made by a newer vseam (it has 0999_from_the_future): upgrade vseam" in message
    with pytest.raises(StoreError, match="newer vseam"):
        migrate(path)
    assert path.read_bytes() == before


def test_a_damaged_database_is_named(store: Store, path: Path) -> None:
    store.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\x00" * (len(content) - 4096)
    path.write_bytes(content)
    message = refusal(path)
    assert str(path) in message


def test_a_locked_database_is_one_line_and_works_again_afterwards(store: Store, path: Path) -> None:
    run = store.ensure_run(run_spec())
    with open_store(path, busy_seconds=0.05) as impatient, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError) as caught:
            impatient.save(run, [head_unit(0)])
        assert str(caught.value).startswith(f"{path} is locked by another process (waited 0.05 s)")
        assert impatient.unit_statuses(run) == {}
        other.execute("ROLLBACK")
        impatient.save(run, [head_unit(0)])
        assert impatient.unit_statuses(run) == {"key-0": "done"}


def test_a_reader_sees_the_last_whole_state_while_another_process_writes(store: Store, path: Path) -> None:
    run = store.ensure_run(run_spec())
    store.save(run, [head_unit(0)])
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM units")
        assert store.unit_statuses(run) == {"key-0": "done"}
        other.execute("ROLLBACK")


def test_a_full_disk_is_one_line_and_what_was_saved_before_is_kept(store: Store, path: Path) -> None:
    run = store.ensure_run(run_spec())
    store.save(run, [head_unit(0)])
    with store.transaction() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match="the disk is full; everything saved before is kept"):
        store.save(run, [head_unit(number) for number in range(1, 400)])
    assert store.unit_statuses(run) == {"key-0": "done"}
    with store.transaction() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 100000")
    store.save(run, [head_unit(number) for number in range(1, 400)])
    assert len(store.unit_statuses(run)) == 400


def test_a_read_only_database_can_be_read_and_says_why_it_cannot_be_written(store: Store, path: Path) -> None:
    run = store.ensure_run(run_spec())
    with open_store(f"sqlite:///file:{path}?mode=ro&uri=true") as readonly:
        assert readonly.runs()["id"].tolist() == [run]
        with pytest.raises(StoreError, match="is read-only: change its permissions"):
            readonly.save(run, [head_unit(0)])


def test_a_file_system_without_shared_memory_gets_the_rollback_journal_and_says_so(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), open_store(f"sqlite:///file:{path}?vfs=unix-dotfile&uri=true") as store:
        run = store.ensure_run(run_spec())
        store.save(run, [head_unit(0)])
        assert store.info()["journal_mode"] == "delete"
        assert "allows no write-ahead log, using the delete journal" in store.warnings[0]
        assert store.info()["warnings"] == list(store.warnings)
    assert "no write-ahead log" in caplog.text


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("", "needs a file name or a URL"),
        ("nonsense://", "nonsense"),
        ("postgresql+nothing://host/db", "postgresql"),
        ("://", "is not a database URL"),
    ],
)
def test_locations_that_cannot_be_databases_are_refused(location: str, message: str) -> None:
    assert message in refusal(location)


def test_a_password_in_a_url_never_shows_in_an_error() -> None:
    assert "secret" not in refusal("nonsense://ann:secret@host/db")


def test_two_processes_that_create_at_once_share_one_database(path: Path) -> None:
    path.touch()
    with open_store(path) as first, open_store(path) as second:
        run = first.ensure_run(run_spec())
        assert second.ensure_run(run_spec()) == run
