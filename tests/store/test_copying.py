"""Results of one database put into another: nothing lost, nothing twice, and every view answers as if one database had seen it all."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from vseam_core.errors import StoreError
from vseam_core.runs.spec import UnitResult
from vseam_core.store import Store, open_store
from vseam_core.store.copying import Copied, copy
from vseam_core.store.records import NamedRescaling
from vseam_core.store.schema import metadata
from vseam_core.store.thumbnails import Thumbnail, put_thumbnails
from vseam_core.store.views import VIEWS

from .builders import baseline, head_unit, model_info, pair, run_spec, sample, score_row, trace_unit
from .test_replacing import OF_NO_RUN, ROWS
from .test_sql_page import fill

Make = Callable[..., Store]
NUMBERS = ("id", "run_id", "unit_id", "sample_id", "edit_id", "axes_id", "study_id", "clean_id", "corrupt_id", "sample_set_id")
SMALL = Thumbnail(b"small", "WEBP", 40, 30)
IDENTITY = "(SELECT identity FROM runs WHERE runs.id = {})"


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that holds every kind of row."""
    path = tmp_path_factory.mktemp("full") / "full.db"
    with open_store(path) as store:
        fill_all(store)
    return path


@pytest.fixture
def make(tmp_path: Path, empty_database: Path) -> Iterator[Make]:
    """`make("a")`: an empty database of that name, or one that begins as another."""
    opened: list[Store] = []

    def made(name: str, begun: Path = empty_database) -> Store:
        path = tmp_path / f"{name}.db"
        path.write_bytes(begun.read_bytes())
        opened.append(open_store(path, create=False))
        return opened[-1]

    yield made
    for store in opened:
        store.close()


def rows(store: Store, relation: str) -> list[tuple[Any, ...]]:
    """The rows of a table or view, with the run's identity in the place of its number and without other numbers of rows."""
    with sqlite3.connect(store.label) as connection:
        names = [row[1] for row in connection.execute(f"PRAGMA table_info({relation})")]
        runs = {"run_id": "run_id", "run_a": "run_a", "run_b": "run_b", "compared_with": "compared_with"}
        columns = [f'"{name}"' for name in names if name not in NUMBERS]
        columns += [IDENTITY.format(f'"{relation}"."{name}"') for name in runs if name in names]
        return sorted(connection.execute(f"SELECT {', '.join(columns) or '1'} FROM {relation}"), key=repr)


def everything(store: Store, *without: str) -> dict[str, list[tuple[Any, ...]]]:
    names = {*VIEWS, *(table.name for table in metadata.sorted_tables)} - {"schema_migrations", *without}
    return {name: rows(store, name) for name in sorted(names)}


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    for name, wanted in one.items():
        assert other[name] == wanted, name


def fill_all(store: Store) -> None:
    """Every kind of row that there is."""
    fill(store)
    study = store.ensure_study("study", {"models": ["tiny"]})
    run = store.ensure_run(run_spec(method="trace"), study=study, trust={"passed": True})
    store.save(run, [trace_unit(0), trace_unit(1, "control")])
    store.review_edit(pair(0).identifier, "accepted", "ann")
    store.name_rescaling("best", NamedRescaling("tiny", "w", "scenes/color", {"L0H1": 0.5}, run))
    put_thumbnails(store, {sample(0).identifier: SMALL}, {pair(0).identifier: Thumbnail(b"mask", "WEBP", 4, 3)})
    store.present_run(run, {"kind": "curve"})
    for table, row in ROWS.items():
        store.replace_scores(table, run if table not in OF_NO_RUN else None, pd.DataFrame([row]), ["trace-edit-0"])
    store.finish_run(run)


def test_a_copy_into_an_empty_database_holds_every_row_and_answers_the_same(make: Make, full: Path) -> None:
    one, other = make("one", full), make("other")
    assert all(rows(one, table.name) for table in metadata.sorted_tables), "a table that the test says nothing about"
    copied = copy(one, other)
    same(everything(one), everything(other))
    assert other.check() == []
    assert (copied.runs, copied.partial) == (len(one.runs()), 0)


def test_copying_twice_changes_nothing(make: Make, full: Path) -> None:
    one, other = make("one", full), make("other")
    copy(one, other)
    before = Path(other.label).with_name("before.db")
    with sqlite3.connect(other.label) as connection:
        connection.execute("VACUUM INTO ?", (str(before),))
        assert copy(one, other) == Copied()
    with sqlite3.connect(before) as first, sqlite3.connect(other.label) as second:
        assert list(first.iterdump()) == list(second.iterdump())


def test_what_lies_in_the_target_stays(make: Make, full: Path) -> None:
    other = make("other")
    run = other.ensure_run(run_spec(model=model_info(name="mine")))
    other.save(run, [head_unit(7)])
    mine = other.head_effects(run)
    copy(make("one", full), other)
    assert np.array_equal(other.head_effects(run).values, mine.values)
    assert {"mine", "tiny", "big"} == set(other.runs()["model"])


def test_a_study_done_in_two_halves_is_that_of_one_database(make: Make) -> None:
    """Half of the runs each, and one run of which each has half of the units; the times are those of the one."""
    whole, first, second = make("whole"), make("first"), make("second")
    study_of = {store: store.ensure_study("study", {"a": 1}) for store in (whole, first, second)}

    def work(number: int, store: Store) -> int:
        run = store.ensure_run(run_spec(seed=number), study=study_of[store])
        keys = [f"key-{number}-{index}" for index in range(3)]
        store.save(run, [head_unit(index, value=float(index), key=key) for index, key in enumerate(keys)])
        store.replace_scores("head_scores", run, pd.DataFrame([score_row(0, number, "positive")]), keys)
        store.finish_run(run)
        return run

    for number in range(4):
        work(number, whole)
        work(number, (first, second)[number % 2])
    for store, numbers in ((whole, range(6)), (first, range(3)), (second, range(3, 6))):
        shared = store.ensure_run(run_spec(method="answers"), study=study_of[store])
        store.save(shared, [UnitResult(f"part-{n}", str(n), baselines=(baseline(sample(n)),)) for n in numbers])
        store.finish_run(shared)
    for store in (whole, first, second):
        with store.transaction() as connection:
            for table, column in (("runs", "started"), ("units", "saved"), ("studies", "created")):
                connection.exec_driver_sql(f"UPDATE {table} SET {column} = '2026-01-01T00:00:00+00:00'")
            connection.exec_driver_sql("UPDATE runs SET finished = '2026-01-02T00:00:0' || seed || method")
    merged = make("merged")
    for store in (second, first):
        copy(store, merged)
    same(everything(whole), everything(merged))


def current(store: Store, run: int) -> list[str]:
    return store.baselines(run)["key"].tolist()


def answer(store: Store, run: int, key: str, when: str) -> None:
    """The unit of a key becomes current for its subject, and the run is complete at that time."""
    store.make_current(run, {key: "question"})
    if key not in store.unit_statuses(run):
        store.save(run, [UnitResult(key, "q", baselines=(baseline(sample(0)),), subject="question")])
        at(store, f"UPDATE units SET saved = '{when}' WHERE key = '{key}'")
    at(store, f"UPDATE runs SET finished = '{when}'")


def at(store: Store, sql: str) -> None:
    with store.transaction() as connection:
        connection.exec_driver_sql(sql)


@pytest.mark.parametrize("later", ["one", "other"])
@pytest.mark.parametrize("direction", ["there", "back"])
def test_of_two_answers_to_a_question_that_of_the_run_asked_for_last_is_current(make: Make, later: str, direction: str) -> None:
    stores = {name: make(name) for name in ("one", "other")}
    for name, store in stores.items():
        answer(store, store.ensure_run(run_spec()), f"of-{name}", "2026-02-01" if name == later else "2026-01-01")
    source, target = stores.values() if direction == "there" else reversed(stores.values())
    for _ in range(2):
        copy(source, target)
        assert current(target, 1) == [f"of-{later}"]
        assert target.info()["counts"]["baselines"] == 2
    assert target.runs()[["units_done", "units_superseded"]].values.tolist() == [[1, 1]]


def test_an_old_answer_that_is_current_again_in_the_source_is_so_in_the_target(make: Make) -> None:
    one, other = make("one"), make("other")
    run = one.ensure_run(run_spec())
    for key, when in (("first", "2026-01-01"), ("second", "2026-01-02")):
        answer(one, run, key, when)
    copy(one, other)
    answer(one, run, "first", "2026-01-03")
    copy(one, other)
    assert current(other, 1) == ["first"]
    copy(other, one)
    assert current(one, 1) == ["first"]


def test_a_result_takes_the_place_of_a_skip_and_never_the_other_way(make: Make) -> None:
    one, other = make("one"), make("other")
    for store, status in ((one, "done"), (other, "skipped")):
        run = store.ensure_run(run_spec())
        if status == "done":
            store.save(run, [head_unit(0)])
        else:
            store.save(run, [UnitResult("key-0", sample(0).identifier, status="skipped", reason="out of memory")])
    copy(other, one)
    copy(one, other)
    for store in (one, other):
        assert store.unit_statuses(1) == {"key-0": "done"}
        assert store.skips(1).empty
        assert len(store.head_effects(1)) == 2


@pytest.mark.parametrize("order", [("few", "many"), ("many", "few")])
def test_of_two_aggregates_the_one_over_more_current_units_stays_and_it_is_said(make: Make, order: tuple[str, str]) -> None:
    stores = {name: make(name) for name in order}
    for name, count in (("few", 1), ("many", 2)):
        run = stores[name].ensure_run(run_spec())
        stores[name].save(run, [head_unit(number) for number in range(count)])
        stores[name].replace_scores("head_scores", run, pd.DataFrame([score_row(0, 0, n=count)]), [f"key-{n}" for n in range(count)])
    source, target = stores.values()
    assert copy(source, target).partial == 1
    assert target.scores("head_scores")["n"].tolist() == [2]


def test_an_aggregate_is_not_shown_once_a_copied_unit_has_superseded_one_that_it_rests_on(make: Make) -> None:
    one, other = make("one"), make("other")
    for store, key, when in ((one, "old", "2026-01-01"), (other, "new", "2026-02-01")):
        answer(store, store.ensure_run(run_spec()), key, when)
    one.replace_scores("head_scores", 1, pd.DataFrame([score_row(0, 0)]), ["old"])
    copy(other, one)
    assert current(one, 1) == ["new"]
    assert one.scores("head_scores").empty
    copy(one, other)
    assert other.scores("head_scores").empty


def test_a_gain_names_the_run_that_it_is_over_in_the_target_too(make: Make) -> None:
    one, other = make("one"), make("other")
    other.ensure_run(run_spec(seed=9))
    base, better = one.ensure_run(run_spec()), one.ensure_run(run_spec(seed=1))
    gain = {**ROWS["evaluations"], "metric": "gain", "compared_with": base}
    one.replace_scores("evaluations", better, pd.DataFrame([gain]), [])
    copy(one, other)
    (row,) = other.scores("evaluations").to_dict("records")
    runs = other.runs().set_index("id")["seed"]
    assert (runs[row["run_id"]], runs[row["compared_with"]]) == (1, 0)


def test_what_is_missing_on_one_side_comes_from_the_other_and_the_newer_description_stays(make: Make) -> None:
    one, other = make("one"), make("other")
    for store, question, when in ((one, "Is it red?", "2026-01-01"), (other, "Is it blue?", "2026-02-01")):
        run = store.ensure_run(run_spec())
        store.save(run, [UnitResult("k", "q", samples=(sample(0, question=question),))])
        at(store, f"UPDATE units SET saved = '{when}'")
    put_thumbnails(one, {sample(0).identifier: SMALL}, {})
    for source, target in ((one, other), (other, one)):
        copy(source, target)
        assert [row[:2] for row in rows(target, "thumbnails")] == [row[:2] for row in rows(one, "thumbnails")]
    for store in (one, other):
        with store.reading() as connection:
            (found,) = connection.exec_driver_sql("SELECT question, image_width, thumbnail IS NULL FROM samples").all()
        assert tuple(found) == ("Is it blue?", 40, 0)


def test_what_cannot_be_copied_is_one_line(make: Make) -> None:
    one, other = make("one"), make("other")
    for store, factor in ((one, 0.5), (other, 2.0)):
        store.name_rescaling("best", NamedRescaling("tiny", "w", "scenes/color", {"L0H1": factor}, 1))
    one.ensure_run(run_spec())
    with pytest.raises(StoreError, match="a rescaling under the name 'best', and they are different: nothing was copied"):
        copy(one, other)
    assert other.runs().empty
    with pytest.raises(StoreError, match="are the same database"):
        copy(one, one)


def test_a_copy_that_was_stopped_is_finished_by_the_same_call(make: Make, full: Path) -> None:
    one, other = make("one", full), make("other")

    class Stopped:
        def task(self, _description: str, _total: int) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy(one, other, Stopped())  # type: ignore[arg-type]
    assert other.runs()["finished"].isna().all()
    copy(one, other)
    same(everything(one), everything(other))
