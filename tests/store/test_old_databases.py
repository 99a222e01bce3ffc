"""Databases of every earlier schema, made by the code of that time: opened, migrated, and asked every question of docs/sql.md."""

from __future__ import annotations

import lzma
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vseam_core.errors import StoreError
from vseam_core.store import Store, migrate, open_store
from vseam_core.store.migrations import MIGRATIONS
from vseam_core.store.query import run_query
from vseam_core.store.views import VIEWS

from .test_migrations import shape
from .test_sql_page import STATEMENTS

FOLDER = Path(__file__).with_name("databases")
VERSIONS = tuple(range(1, len(MIGRATIONS)))
# What a database of a version cannot know: evaluations came with the fourth; at this size no head is claimed, and nothing was skipped;
# paths, gaze and what else further methods find came after them all.
NEEDS = {
    "claimed = 1": 99,
    "shared_heads AS shared": 99,
    "latest_evaluations": 4,
    "skips": 99,
    "weights_hash LIKE '3f2a%'": 99,
    "'paths'": 99,
    "'edge_screening'": 99,
    "'gaze'": 99,
    **dict.fromkeys(("reading_tests", "comparisons", "direction_scores", "screened_paths"), 99),
}


def unpacked(version: int, folder: Path) -> Path:
    path = folder / f"schema_{version:04}.db"
    path.write_bytes(lzma.decompress((FOLDER / f"schema_{version:04}.db.xz").read_bytes()))
    return path


@pytest.fixture(scope="module", params=VERSIONS)
def migrated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    path = unpacked(request.param, tmp_path_factory.mktemp("old"))
    migrate(path)
    return request.param, path


def asked(path: Path, sql: str) -> list[dict[str, Any]]:
    columns, rows, _ = run_query(path, sql)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def columns_of(path: Path) -> dict[str, list[str]]:
    """The columns of every table with results, by the table's name before any was called `stored_…`."""
    with closing(sqlite3.connect(path)) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        asked_for = [(table, connection.execute("SELECT name FROM pragma_table_info(?)", (table,)).fetchall()) for table in tables]
    return {table.removeprefix("stored_"): [row[0] for row in rows] for table, rows in asked_for if table != "schema_migrations"}


def contents(path: Path, columns: dict[str, list[str]]) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of these columns, in a fixed order."""
    found = {}
    with closing(sqlite3.connect(path)) as connection:
        for table, names in columns.items():
            present = connection.execute("SELECT name FROM sqlite_master WHERE name = ? AND type = 'table'", (f"stored_{table}",))
            stored = f"stored_{table}" if present.fetchone() else table
            listed = ", ".join(f'"{name}"' for name in names)
            found[table] = sorted(connection.execute(f"SELECT {listed} FROM {stored}"), key=repr)
    return found


def test_every_schema_version_has_its_database() -> None:
    missing = [version for version in VERSIONS if not (FOLDER / f"schema_{version:04}.db.xz").is_file()]
    assert missing == [], "add the database of the version before the new migration, as the folder's README says"


@pytest.mark.parametrize("version", VERSIONS)
def test_an_old_database_is_told_the_command_and_migrates_to_exactly_the_present_schema(version: int, tmp_path: Path) -> None:
    path, fresh = unpacked(version, tmp_path), tmp_path / "fresh.db"
    with pytest.raises(StoreError, match=f"run `vseam db migrate --db {re.escape(str(path))}`"):
        open_store(path)
    assert migrate(path) == [step.name for step in MIGRATIONS[version:]]
    open_store(fresh).close()
    assert shape(path) == shape(fresh)
    assert migrate(path) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_migrating_loses_and_changes_nothing(version: int, tmp_path: Path) -> None:
    path = unpacked(version, tmp_path)
    columns = columns_of(path)
    before = contents(path, columns)
    migrate(path)
    after = contents(path, columns)
    assert before["head_effects"]
    for table, rows in before.items():
        assert after[table] == rows, table


def test_a_migrated_database_is_whole_and_its_units_are_current(migrated: tuple[int, Path]) -> None:
    version, path = migrated
    with open_store(path, create=False) as store:
        assert store.check() == []
        assert store.runs()["units_superseded"].sum() == 0
        scans = store.runs(method="head_scan")["id"].tolist()
        assert len(scans) == (2 if version == 1 else 3)
        for run in scans:
            effects = store.head_effects(run, measure="logit_diff")
            assert effects.values.shape == (32, 6, 8)
            assert np.isfinite(effects.base).all()
        assert len(store.trace_effects(int(store.runs(method="trace")["id"].iloc[0]))) > 0


@pytest.mark.parametrize("sql", STATEMENTS, ids=lambda sql: " ".join(sql.split()[:6]))
def test_a_migrated_database_answers_every_question_of_the_page_without_a_row_twice(sql: str, migrated: tuple[int, Path]) -> None:
    version, path = migrated
    rows = [tuple(row.items()) for row in asked(path, sql)]
    assert len(set(rows)) == len(rows)
    if all(version >= needed for word, needed in NEEDS.items() if word in sql) and "category = 'material'" not in sql:
        assert rows


def test_every_view_can_be_read(migrated: tuple[int, Path]) -> None:
    for view in VIEWS:
        asked(migrated[1], f"SELECT * FROM {view} LIMIT 1")


def test_after_an_exact_scan_and_a_screened_one_each_head_has_one_rank(migrated: tuple[int, Path]) -> None:
    version, path = migrated
    rows = asked(path, "SELECT dataset, measure, sign, head_rank, stack, layer, head FROM top_heads")
    places = [(row["dataset"], row["measure"], row["sign"], row["stack"], row["layer"], row["head"]) for row in rows]
    ranks = [(row["dataset"], row["measure"], row["sign"], row["head_rank"]) for row in rows]
    assert len(set(places)) == len(set(ranks)) == len(rows) > 0
    every = asked(path, "SELECT dataset, measure, sign, stack, layer, head FROM ranked_heads")
    assert (len({tuple(row.values()) for row in every}) < len(every)) == (version > 1)


def test_accuracy_counts_each_question_once(migrated: tuple[int, Path]) -> None:
    rows = asked(migrated[1], next(sql for sql in STATEMENTS if "FROM latest_baselines" in sql))
    counts = {(row["category"], row["pool"], row["split"]): row["n"] for row in rows}
    assert counts["color", "score", "plain"] == 40
    assert counts["color", "test", "hard"] == 6


@pytest.fixture
def old_store(tmp_path: Path) -> Store:
    path = unpacked(4, tmp_path)
    migrate(path)
    return open_store(path, create=False)


def test_a_migrated_database_takes_new_results(old_store: Store) -> None:
    from .builders import head_unit, run_spec

    run = old_store.ensure_run(run_spec())
    old_store.make_current(run, {"key-0": "one"})
    old_store.save(run, [head_unit(0)])
    old_store.finish_run(run)
    assert len(old_store.head_effects(run, measure="logit_diff")) == 1
    assert old_store.check() == []
    old_store.close()
