"""A results database on a PostgreSQL server: what the tests of the store, which run there too, do not say."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import make_url

from vseam_core.errors import QueryError, StoreError
from vseam_core.store import Store, open_store
from vseam_core.store.connection import Database
from vseam_core.store.copying import Copied, copy
from vseam_core.store.migrations import MIGRATIONS, check_version, migrate_database
from vseam_core.store.query import run_query
from vseam_core.store.views import VIEWS

from .builders import head_unit, run_spec
from .test_migrations import FAILING, NOTE
from .test_sql_page import fill

Url = Callable[[], str]


@pytest.fixture(scope="module")
def filled(on_server: Url) -> str:
    url = on_server()
    with open_store(url) as store:
        fill(store)
    return url


def refusal(url: str, sql: str, seconds: float = 20.0) -> str:
    with pytest.raises(QueryError) as caught:
        run_query(url, sql, limit_seconds=seconds)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "sql",
    [
        *(
            "DELETE FROM units",
            "UPDATE runs SET seed = 7",
            "DROP TABLE units CASCADE",
            "COMMIT",
            "COPY runs TO '/tmp/runs'",
            "DO 'BEGIN END'",
        ),
        *(
            "SELECT 1; COMMIT; DELETE FROM units",
            "SELECT 1; DELETE FROM units",
            "WITH gone AS (DELETE FROM units RETURNING id) SELECT * FROM gone",
        ),
        *("SELECT 1 INTO TABLE other", "SELECT set_config('transaction_read_only', 'off', true)", "SELECT nextval('runs_id_seq')"),
        *("", ";", "SELEC 1", "SELECT * FROM runs FOR UPDATE"),
    ],
)
def test_a_query_reads_and_does_nothing_else(sql: str, filled: str) -> None:
    before = run_query(filled, "SELECT COUNT(*), MAX(seed) FROM units, runs")[1]
    refusal(filled, sql)
    assert run_query(filled, "SELECT COUNT(*), MAX(seed) FROM units, runs")[1] == before


def test_a_query_is_bounded_in_time_and_rows(filled: str) -> None:
    started = time.monotonic()
    assert refusal(filled, "SELECT pg_sleep(30)", 0.2) == "the query took longer than 0.2 s and was stopped: narrow it or raise the limit"
    assert time.monotonic() - started < 10
    columns, rows, truncated = run_query(filled, "SELECT generate_series(1, 100000000) AS i", 1200)
    assert (columns, len(rows), rows[-1], truncated) == (["i"], 1200, (1200,), True)
    assert run_query(filled, "SELECT i FROM generate_series(1, 3) AS n(i);", 3)[2] is False


def test_values_are_those_that_sqlite_gives(filled: str) -> None:
    sql = "SELECT AVG(k), SUM(k), COUNT(*), 'a%s', NULL FROM head_set_sizes WHERE k IN (1, 2)"
    assert run_query(filled, sql)[1] == [(1.5, 3, 2, "a%s", None)]


def test_unknown_tables_and_columns_get_a_suggestion(filled: str) -> None:
    assert "did you mean 'head_scores'" in refusal(filled, "SELECT * FROM head_score")
    assert "did you mean 'model'" in refusal(filled, "SELECT modell FROM runs")
    assert "it is a column of answers, latest_answers" in refusal(filled, "SELECT gold_probability FROM runs")
    assert "cannot be reached" in refusal(make_url(filled).set(database="nowhere").render_as_string(), "SELECT 1")


def test_every_view_can_be_read(filled: str) -> None:
    for view in VIEWS:
        run_query(filled, f"SELECT * FROM {view}")


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
def test_eight_writers_at_once_lose_nothing_and_double_nothing_whatever_the_server_isolates_by(on_server: Url, isolation: str) -> None:
    url, problems = on_server(), []
    with open_store(url) as store, store.transaction() as connection:
        name = make_url(url).database
        connection.exec_driver_sql(f"ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'")

    def work(number: int) -> None:
        try:
            with open_store(url) as store:
                run = store.ensure_run(run_spec())
                for index in range(4):
                    store.save(run, [head_unit(index, key=f"{number}-{index}"), head_unit(9, key="shared")])
        except StoreError as error:
            problems.append(str(error))

    writers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert problems == []
    with open_store(url) as store:
        assert len(store.runs()) == 1
        assert len(store.unit_statuses(1)) == 8 * 4 + 1
        assert store.info()["counts"]["samples"] == 5


def test_eight_processes_that_find_an_empty_database_make_its_tables_once(make_database: Callable[..., str]) -> None:
    url, made = make_database(), []
    makers = [threading.Thread(target=lambda: made.append(open_store(url))) for _ in range(8)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert [store.runs().empty for store in made] == [True] * 8
    for store in made:
        store.close()


def test_a_writer_that_waits_too_long_for_its_turn_gets_one_line(on_server: Url) -> None:
    url = on_server()
    with open_store(url) as first, open_store(url, busy_seconds=0.2) as second, first.transaction():
        with pytest.raises(StoreError, match=r"is locked by another process \(waited 0.2 s\)"):
            second.ensure_run(run_spec())
        assert second.runs().empty


def test_a_reader_sees_one_state_whatever_is_written_meanwhile(on_server: Url) -> None:
    url = on_server()
    with open_store(url) as first, open_store(url) as second, first.reading() as connection:
        before = connection.exec_driver_sql("SELECT COUNT(*) FROM runs").scalar_one()
        second.ensure_run(run_spec())
        assert connection.exec_driver_sql("SELECT COUNT(*) FROM runs").scalar_one() == before == 0


def test_a_migration_is_applied_with_its_record_or_not_at_all(on_server: Url) -> None:
    database = Database(on_server())
    with database.reading() as connection, pytest.raises(StoreError, match="it lacks 9998_note"):
        check_version(connection, database.label, (*MIGRATIONS, NOTE))
    with pytest.raises(StoreError):
        migrate_database(database, (*MIGRATIONS, NOTE, FAILING))
    assert migrate_database(database, (*MIGRATIONS, NOTE)) == []
    with database.reading() as connection:
        connection.exec_driver_sql("SELECT note FROM runs")
        assert connection.exec_driver_sql("SELECT COUNT(*) FROM pg_tables WHERE tablename = 'half'").scalar_one() == 0
    database.close()


def test_a_database_moves_to_the_server_and_back_without_a_change(on_server: Url, tmp_path: Path) -> None:
    url = on_server()
    with open_store(tmp_path / "here.db") as here, open_store(url) as there, open_store(tmp_path / "back.db") as back:
        fill(here)
        large = here.ensure_run(run_spec(seed=2**53))
        here.save(large, [head_unit(0, value=1e-7)])
        copy(here, there)
        assert copy(here, there) == Copied()
        copy(there, back)
        for view in VIEWS:
            assert sorted(contents(back, view)) == sorted(contents(here, view)), view
        assert there.check() == []
        moved = there.head_effects(int(there.runs(seed=2**53)["id"].iloc[0]))
        assert np.array_equal(moved.values, here.head_effects(large).values)


def contents(store: Store, view: str) -> list[str]:
    """The rows of a view in an order of their own, without what numbers rows."""
    columns, rows, _ = run_query(store.label, f"SELECT * FROM {view}", 100_000)
    kept = [index for index, name in enumerate(columns) if name not in NUMBERS]
    return [repr([row[index] for index in kept]) for row in rows]


NUMBERS = ("id", "run_id", "unit_id", "sample_id", "edit_id", "run_a", "run_b", "compared_with")
