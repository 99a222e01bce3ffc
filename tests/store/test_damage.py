"""Damage is found and said where it lies, and a database that nothing can be written beside can still be read."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from vseam_core.errors import StoreError
from vseam_core.store import Store, migrate, open_store

from .builders import head_effect, head_unit, run_spec, sample, trace_unit


@pytest.fixture
def filled(store: Store) -> Store:
    run = store.ensure_run(run_spec())
    partly = head_effect(measured=head_effect().values > 2, measure="logprob")
    store.save(run, [head_unit(0), trace_unit(1), head_unit(2, head_effects=((sample(2), partly),))])
    store.finish_run(run)
    return store


def change(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(statement, values)
        connection.commit()


def test_a_sound_database_has_no_damage(filled: Store) -> None:
    assert filled.check() == []


@pytest.mark.parametrize(
    ("table", "column"),
    [("stored_head_effects", "data"), ("stored_trace_effects", "data")],
)
def test_every_flipped_bit_of_an_array_is_found_where_it_lies(table: str, column: str, filled: Store, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        (row, data) = connection.execute(f"SELECT id, {column} FROM {table} ORDER BY id LIMIT 1").fetchone()
    for bit in range(0, 8 * len(data), 5):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        change(path, f"UPDATE {table} SET {column} = ? WHERE id = ?", bytes(flipped), row)
        (line,) = filled.check()
        assert line.startswith(f"{table}, row {row}: the array of scenes/color/score/plain/")
    with pytest.raises(StoreError, match="the record is damaged"):
        filled.head_effects(1, measure="logit_diff") if table == "stored_head_effects" else filled.trace_effects(1)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE stored_head_effects SET base = base + 1e-9 WHERE id = 1",
        "UPDATE stored_head_effects SET measured = REPLACE(measured, '[1,2]', '[0,2]') WHERE measured IS NOT NULL",
        "UPDATE stored_head_effects SET height = 3, width = 2 WHERE id = 1",
        "UPDATE stored_trace_effects SET corrupt = -corrupt WHERE id = 1",
    ],
)
def test_what_an_array_means_is_checked_with_it(statement: str, filled: Store, path: Path) -> None:
    change(path, statement)
    assert len(filled.check()) == 1


def test_a_row_that_hangs_on_nothing_is_found(filled: Store, path: Path) -> None:
    change(path, "DELETE FROM samples WHERE id = 1")
    assert any("refers to a row of samples that is not there" in line for line in filled.check())


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM schema_migrations",
        "DELETE FROM schema_migrations WHERE name = '0002_screening'",
        "ALTER TABLE schema_migrations RENAME COLUMN name TO nome",
    ],
)
def test_a_damaged_list_of_migrations_is_said_and_nothing_is_changed(statement: str, filled: Store, path: Path) -> None:
    filled.close()
    change(path, statement)
    for opened in (open_store, migrate):
        with pytest.raises(StoreError, match="its list of applied migrations is damaged"):
            opened(path)


def without_privileges() -> list[str] | None:
    """What a command begins with to obey permissions: nothing for most users; root gives up the right to ignore them."""
    if os.getuid() != 0:
        return []
    rights = "-dac_override,-dac_read_search"
    command = ["setpriv", "--bounding-set", rights, "--inh-caps", rights]
    usable = shutil.which("setpriv") and subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
    return command if usable else None


@pytest.mark.skipif(without_privileges() is None, reason="root cannot give up the right to ignore permissions here")
def test_a_database_where_nothing_can_be_written_is_read_and_that_is_said(filled: Store, path: Path, tmp_path: Path) -> None:
    filled.close()
    folder = tmp_path / "kept"
    folder.mkdir()
    place = folder / "results.db"
    shutil.copy(path, place)
    place.chmod(0o444)
    folder.chmod(0o555)
    code = (
        "import sys; from vseam_core.store import open_store; from vseam_core.store.query import run_query\n"
        "store = open_store(sys.argv[1], create=False)\n"
        "print(store.info()['counts']['units'], len(store.head_effects(1, measure='logit_diff')), store.warnings[0])\n"
        "print(run_query(sys.argv[1], 'SELECT COUNT(*) FROM units', note=print)[1])\n"
        "try: store.finish_run(1)\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    command = [*(without_privileges() or []), sys.executable, "-c", code, str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    folder.chmod(0o755)
    assert done.returncode == 0, done.stderr
    said = f"{place}: nothing can be written beside it (read-only, or the disk is full), so it is read as it is on the disk"
    assert done.stdout.splitlines() == [
        f"3 1 {said}",
        said,
        "[(3,)]",
        f"NothingBesideError {place} is read-only: change its permissions or give another --db",
    ]


@pytest.mark.parametrize("text", ["", "{", "5", "[" * 5000, "null", "\x00"])
@pytest.mark.parametrize(
    ("table", "column", "read"),
    [
        ("runs", "configuration", lambda store: store.runs()),
        ("runs", "versions", lambda store: store.runs()),
        ("edits", "checks", lambda store: store.edits()),
        ("edits", "boxes", lambda store: store.edits()),
        ("trace_axes", "roles", lambda store: store.trace_effects(1)),
        ("units", "details", lambda store: store.unit_details(1, store.unit_statuses(1))),
        ("stored_head_effects", "measured", lambda store: store.head_effects(1, measure="logprob")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_column_of_json_that_holds_something_else_is_damage_and_is_said(
    table: str, column: str, read: Callable[[Store], object], text: str, filled: Store, path: Path
) -> None:
    read(filled)
    change(path, f"UPDATE {table} SET {column} = ? WHERE {column} IS NOT NULL", text)
    with pytest.raises(StoreError, match="the record is damaged"):
        read(filled)
    found = [line for line in filled.check() if f", {column}: the record is damaged, expected" in line]
    with closing(sqlite3.connect(path)) as connection:
        rows = [f"{table}, row {row}" for (row,) in connection.execute(f"SELECT id FROM {table} WHERE {column} IS NOT NULL ORDER BY id")]
    assert [line.split(f", {column}")[0] for line in found] == rows
