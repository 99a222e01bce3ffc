"""`vseam query` reads, and can neither write, nor attach, nor hang, nor fill the memory."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vseam_core.errors import QueryError
from vseam_core.store import Store
from vseam_core.store.query import run_query

from .builders import head_unit, run_spec

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "


@pytest.fixture
def filled(store: Store, path: Path) -> Path:
    run = store.ensure_run(run_spec())
    store.save(run, [head_unit(number) for number in range(5)])
    return path


def refusal(path: str | Path, sql: str, seconds: float = 0.2) -> str:
    with pytest.raises(QueryError) as caught:
        run_query(path, sql, limit_seconds=seconds)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_select_gives_columns_and_rows(filled: Path) -> None:
    columns, rows, truncated = run_query(
        filled,
        "SELECT category, COUNT(*) AS n, ROUND(AVG(baselines.logit_diff), 2) AS mean FROM samples "
        "JOIN baselines ON baselines.sample_id = samples.id GROUP BY category",
    )
    assert (columns, rows, truncated) == (["category", "n", "mean"], [("color", 5, 1.25)], False)


def test_common_tables_windows_json_and_explain_are_selects_too(filled: Path) -> None:
    for sql in (
        ENDLESS + "SELECT i FROM n LIMIT 3",
        "SELECT key FROM json_each('[1, 2, 3]')",
        "SELECT RANK() OVER (ORDER BY id) FROM samples LIMIT 3",
        "SELECT name FROM sqlite_master WHERE name IN ('top_heads', 'shared_heads') UNION SELECT 'third'",
        "VALUES (1), (2), (3)",
        "SELECT 1 UNION SELECT 2 UNION SELECT 3 -- a comment;",
    ):
        assert len(run_query(filled, sql)[1]) == 3, sql
    assert run_query(filled, "EXPLAIN QUERY PLAN SELECT * FROM samples")[1]


def test_rows_beyond_the_limit_are_left_out_and_that_is_said(filled: Path) -> None:
    assert run_query(filled, "SELECT id FROM samples", limit_rows=3)[1:] == ([(1,), (2,), (3,)], True)
    assert run_query(filled, "SELECT id FROM samples", limit_rows=5)[2] is False


WRITES = (
    "DELETE FROM units",
    "UPDATE runs SET seed = 1",
    "INSERT INTO head_set_sizes VALUES (7)",
    "WITH x AS (SELECT 1) INSERT INTO head_set_sizes SELECT 9 FROM x",
    "CREATE TABLE t (a)",
    "CREATE TEMP TABLE t (a)",
    "CREATE VIEW v AS SELECT 1",
    "DROP TABLE units",
    "ALTER TABLE runs ADD COLUMN x",
    "VACUUM",
    "VACUUM INTO '{other}'",
    "ATTACH '{other}' AS other",
    "ATTACH ':memory:' AS other",
    "DETACH main",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA user_version = 7",
    "PRAGMA writable_schema = 1",
    "PRAGMA query_only = 0",
    "BEGIN IMMEDIATE",
    "SAVEPOINT s",
    "REINDEX",
    "ANALYZE",
    "SELECT load_extension('{other}')",
    "SELECT fts3_tokenizer('simple')",
    "CREATE VIRTUAL TABLE t USING fts5(a)",
)


@pytest.mark.parametrize("sql", WRITES)
def test_whatever_is_not_a_plain_select_is_refused_and_leaves_no_trace(sql: str, filled: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    before = filled.read_bytes()
    message = refusal(filled, sql.format(other=other))
    assert message == "the query is not allowed: expected one SELECT that reads tables and calls plain functions"
    assert not other.exists()
    assert filled.read_bytes() == before


def test_several_statements_and_none_are_refused(filled: Path) -> None:
    assert refusal(filled, "SELECT 1; DELETE FROM units") == "the query holds several statements: expected one SELECT"
    assert refusal(filled, "  ") == "the query is empty: expected one SELECT"
    assert refusal(filled, "-- nothing") == "the query is empty: expected one SELECT"


@pytest.mark.parametrize(
    "sql",
    [
        ENDLESS + "SELECT COUNT(*) FROM n",
        ENDLESS + "SELECT i FROM n WHERE i < 0",
        ENDLESS + "SELECT MAX(i) FROM n ORDER BY 1",
        "SELECT COUNT(*) FROM " + ", ".join(f"samples s{n}, units u{n}, prompt_tokens t{n}" for n in range(5)),
    ],
)
def test_a_query_that_would_not_end_is_stopped_in_time(sql: str, filled: Path) -> None:
    started = time.monotonic()
    assert refusal(filled, sql) == "the query took longer than 0.2 s and was stopped: narrow it or raise the limit"
    assert time.monotonic() - started < 3


def test_a_function_over_long_texts_in_every_row_is_stopped_in_time(filled: Path) -> None:
    """SQLite asks its progress callback every so many steps only; here each step takes long."""
    long = "REPLACE(HEX(ZEROBLOB(240000)), '00', 'ab')"
    started = time.monotonic()
    slow = f"SELECT SUM(LENGTH(REPLACE({long}, 'b', CAST(i AS TEXT)))) FROM (SELECT i FROM n LIMIT 9) AS few, samples"
    message = refusal(filled, ENDLESS + slow + ", samples AS more, samples AS most, samples AS all_of_them")
    assert "took longer than 0.2 s" in message
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0, 0.0, 1e9])
def test_a_time_that_is_no_time_is_refused(seconds: float, filled: Path) -> None:
    assert "a query cannot be given" in refusal(filled, "SELECT 1", seconds)


def test_text_that_is_not_utf_8_gets_one_line(filled: Path) -> None:
    assert refusal(filled, "SELECT '\udcff'") == "the query is not text in UTF-8: expected one SELECT"
    assert "null character" in refusal(filled, "SELECT 1\0")
    assert run_query(filled, "SELECT CAST(x'ff41' AS TEXT)")[1] == [("\ufffdA",)]


def test_sorting_more_than_the_memory_limit_ends_with_one_line_and_without_files(filled: Path, tmp_path: Path) -> None:
    """In a process of its own, since the limit holds for the whole of it."""
    code = (
        "import sys; from vseam_core.errors import QueryError; from vseam_core.store.query import run_query\n"
        "try: run_query(sys.argv[1], sys.argv[2], limit_seconds=60, limit_bytes=40_000_000)\n"
        "except QueryError as error: print(error)"
    )
    sql = ENDLESS + "SELECT i, HEX(RANDOMBLOB(500)) AS text FROM (SELECT i FROM n LIMIT 1000000) ORDER BY text"
    elsewhere = tmp_path / "temporary"
    elsewhere.mkdir()
    environment = {**os.environ, "SQLITE_TMPDIR": str(elsewhere)}
    done = subprocess.run([sys.executable, "-c", code, str(filled), sql], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "the query needs more than 40,000,000 bytes of memory and was stopped: narrow it"
    assert not list(elsewhere.iterdir())


def test_an_endless_stream_of_rows_ends_at_the_row_limit(filled: Path) -> None:
    columns, rows, truncated = run_query(filled, ENDLESS + "SELECT i FROM n", limit_rows=100)
    assert (columns, len(rows), truncated) == (["i"], 100, True)


def test_values_and_results_cannot_fill_the_memory(filled: Path) -> None:
    assert "longer than 500000 bytes" in refusal(filled, "SELECT zeroblob(900000000)")
    assert "longer than 500000 bytes" in refusal(filled, "SELECT LENGTH(REPLACE(HEX(ZEROBLOB(100000)), '0', 'abcdefgh'))")
    _, rows, truncated = run_query(filled, ENDLESS + "SELECT zeroblob(499000) FROM n", limit_seconds=30)
    assert truncated
    assert len(rows) < 140


def test_unknown_tables_and_columns_get_a_suggestion(filled: Path) -> None:
    assert "no such table: head_score: did you mean 'head_scores'" in refusal(filled, "SELECT * FROM head_score")
    assert "no such column: modell: did you mean 'model'" in refusal(filled, "SELECT modell FROM runs")
    elsewhere = "no such column: gold_probability: it is a column of answers, latest_answers"
    assert refusal(filled, "SELECT gold_probability FROM runs").endswith(elsewhere)
    assert "no such column: runs.wieghts_hash: did you mean 'weights_hash'" in refusal(filled, "SELECT runs.wieghts_hash FROM runs")
    assert "sqlite_master" in refusal(filled, "SELECT zzzzqqqq FROM runs")
    assert 'near "SELEC": syntax error' in refusal(filled, "SELEC 1")


def test_what_cannot_be_queried_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.db", "SELECT 1").startswith("there is no results database at")
    assert not (tmp_path / "no.db").exists()
    assert "is a directory" in refusal(tmp_path, "SELECT 1")
    assert "got a mysql URL" in refusal("mysql://ann:secret@host/db", "SELECT 1")
    assert "secret" not in refusal("mysql://ann:secret@host/db", "SELECT 1")
    assert "in memory" in refusal(":memory:", "SELECT 1")
    assert "in memory" in refusal("sqlite://", "SELECT 1")
    text = tmp_path / "notes.txt"
    text.write_text("not a database at all, but long enough to be looked at" * 20)
    assert "is not a results database" in refusal(text, "SELECT * FROM runs")


def test_sqlite_urls_and_odd_file_names_are_files(filled: Path, tmp_path: Path) -> None:
    assert run_query(f"sqlite:///{filled}", "SELECT COUNT(*) FROM runs")[1] == [(1,)]
    odd = tmp_path / "100%?#.db"
    with sqlite3.connect(odd) as connection:
        connection.execute("CREATE TABLE t AS SELECT 5 AS a")
    assert run_query(odd, "SELECT a FROM t")[1] == [(5,)]


def test_a_query_reads_while_another_connection_writes(filled: Path) -> None:
    with sqlite3.connect(filled, isolation_level=None) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM units")
        assert run_query(filled, "SELECT COUNT(*) FROM units")[1] == [(5,)]
        writer.execute("ROLLBACK")
