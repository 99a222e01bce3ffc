"""`vseam study check`, `vseam query` and `vseam db` through the real command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Vseam = Callable[..., Any]


@pytest.fixture
def database(vseam: Vseam) -> str:
    """An empty results database in the working directory."""
    from vseam_core.store import open_store

    open_store("results.db").close()
    return "results.db"


def test_study_check_prints_the_tasks(vseam: Vseam) -> None:
    Path("study.yaml").write_text("models: [llava-tiny]\ndatasets: [scenes/color, scenes/action]\nrandom_models: 5\n")
    outcome = vseam("study", "check", "study.yaml")
    assert outcome.code == 0
    assert "12 tasks" in outcome.stdout
    envelope = json.loads(vseam("study", "check", "study.yaml", "--json").stdout)
    assert envelope["schema"] == "vseam.study/1"
    assert [task["model"] for task in envelope["tasks"]] == [
        "llava-tiny",
        "llava-tiny",
        *(f"llava-tiny@random-{seed}" for seed in range(1, 6) for _ in range(2)),
    ]


def test_study_check_refuses_a_name_that_nobody_has(vseam: Vseam) -> None:
    Path("study.yaml").write_text("models: [llava-tiny]\ndatasets: [scenes/colour]\n")
    outcome = vseam("study", "check", "study.yaml")
    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.stderr.startswith("vseam: study.yaml:2: datasets.0: unknown dataset 'scenes/colour'; did you mean 'scenes/color'")


def test_query_prints_rows(vseam: Vseam, database: str) -> None:
    outcome = vseam("query", "SELECT 1 AS one, 'a' AS letter")
    assert outcome.code == 0
    assert outcome.stdout.split()[:2] == ["one", "letter"]
    envelope = json.loads(vseam("query", "SELECT 1 AS one", "--json", "--db", database).stdout)
    assert envelope == {"schema": "vseam.query/1", "columns": ["one"], "rows": [[1]], "truncated": False}


def test_query_says_when_rows_are_left_out(vseam: Vseam, database: str) -> None:
    outcome = vseam("query", "SELECT 1 UNION ALL SELECT 2", "--limit", "1")
    assert "only the first 1 rows" in outcome.stderr


@pytest.mark.parametrize("sql", ["DELETE FROM runs", "ATTACH 'other.db' AS other", "VACUUM INTO 'copy.db'", "SELEC 1"])
def test_query_refuses_everything_but_a_select(vseam: Vseam, database: str, sql: str) -> None:
    outcome = vseam("query", sql)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.stderr.startswith("vseam: ")
    assert not Path("copy.db").exists()
    assert not Path("other.db").exists()


def test_query_does_not_hang(vseam: Vseam, database: str) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n"
    outcome = vseam("query", endless, "--seconds", "0.2")
    assert outcome.code == 2
    assert "took longer than 0.2 s" in outcome.stderr


@pytest.mark.parametrize("seconds", ["nan", "inf", "0", "-1"])
def test_query_refuses_a_time_that_is_no_time(seconds: str, vseam: Vseam, database: str) -> None:
    outcome = vseam("query", "SELECT 1", "--seconds", seconds)
    assert (outcome.code, outcome.stdout) == (2, "")


def test_a_database_that_is_not_there_is_named_and_not_made(vseam: Vseam) -> None:
    for command in (("query", "SELECT 1"), ("db", "info")):
        outcome = vseam(*command, "--db", "missing.db")
        assert outcome.code == 2
        assert "missing.db" in outcome.stderr
    assert not Path("missing.db").exists()


def test_the_database_comes_from_the_environment_unless_it_is_given(vseam: Vseam, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSEAM_DB", "elsewhere.db")
    assert "elsewhere.db" in vseam("db", "info").stderr
    assert vseam("db", "info", "--db", database).code == 0


def test_db_info_counts_the_rows_of_every_table(vseam: Vseam, database: str) -> None:
    found = json.loads(vseam("db", "info", "--json").stdout)["database"]
    assert found["counts"]["runs"] == 0
    assert "runs" in vseam("db", "info").stdout


def test_db_migrate_leaves_a_current_database_as_it_is(vseam: Vseam, database: str) -> None:
    outcome = vseam("db", "migrate")
    assert (outcome.code, outcome.stdout.strip()) == (0, "results.db: up to date")


def test_db_export_writes_a_file_per_table_and_query_its_rows(vseam: Vseam, database: str) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    outcome = vseam("db", "export", "--parquet", "tables")
    assert outcome.code == 0
    assert parquet.read_table("tables/head_effects.parquet").num_rows == 0
    assert vseam("query", "SELECT 1 AS one UNION ALL SELECT 2", "--parquet", "rows.parquet").stdout == ""
    assert parquet.read_table("rows.parquet").to_pydict() == {"one": [1, 2]}
    assert vseam("query", "SELECT 1 AS a, 2 AS a", "--parquet", "rows.parquet").code == 2


@pytest.mark.parametrize("words", [(), ("--parquet", "a", "--csv-files", "b")])
def test_db_export_asks_for_one_folder(vseam: Vseam, database: str, words: tuple[str, ...]) -> None:
    outcome = vseam("db", "export", *words)
    assert outcome.code == 2
    assert "expected --parquet DIR or --csv-files DIR" in outcome.stderr


def test_db_copy_makes_the_target_and_says_what_it_put(vseam: Vseam, database: str) -> None:
    outcome = vseam("db", "copy", database, "other.db")
    assert (outcome.code, outcome.stdout) == (0, "other.db: 0 new runs, 0 new units, 0 new rows of aggregates\n")
    assert Path("other.db").is_file()
    assert vseam("db", "copy", "none.db", "other.db").code == 2
    assert "are the same database" in vseam("db", "copy", database, f"./{database}").stderr


@pytest.mark.parametrize(("workers", "said"), [("many", "'many': expected a number of workers, or auto"), ("0", "0 is not in the range")])
def test_a_number_of_workers_that_is_none_is_one_line(vseam: Vseam, workers: str, said: str) -> None:
    outcome = vseam("run", "study.yaml", "--workers", workers)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert said in outcome.stderr
    assert outcome.stderr.count("\n") == 1
