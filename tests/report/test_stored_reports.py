"""`vseam report` draws the page again from any database, new or old, and `vseam view` serves it on this machine alone."""

from __future__ import annotations

import itertools
import json
import lzma
import re
import sqlite3
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.report.stored import MODEL, TASKS, build_database
from tests.store.builders import model_info, run_spec
from vseam_cli.main import execute
from vseam_core.errors import StoreError, UnknownNameError
from vseam_core.report.data.how import how_measured
from vseam_core.report.live import LiveServer, state_of
from vseam_core.results.reading_old import open_any
from vseam_core.results.stored_study import find_study
from vseam_core.store import open_store

OLD = Path(__file__).parents[1] / "store" / "databases"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_database(tmp_path_factory.mktemp("made") / "results.db")


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures for print have tests of their own."""
    monkeypatch.setattr("vseam_core.report.writer.planned_figures", lambda *_: [])


def content_of(page: Path) -> dict:
    text = page.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="page">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return json.loads(found.group(1))


def test_a_report_is_drawn_again_without_a_model_and_takes_no_other_ones_place(database, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        assert execute(["report", "made", "--db", str(database)]) == 0
        output = capsys.readouterr()
        assert output.out.startswith("1. ")
        assert f"reports/made-{number}/index.html" in output.err
    content = content_of(tmp_path / "reports" / "made-2" / "index.html")
    assert content["models"] == [MODEL]
    assert len(content["scans"]) == 2
    assert content["skips"][0]["reason"] == "the image cannot be read: <b>broken</b>"


def test_attention_over_the_image_is_shown_of_the_heads_of_an_encoder_too(tmp_path, monkeypatch):
    """Of a model whose image and words stand in an encoder, not of the heads of the decoder that generates from it."""
    path = build_database(tmp_path / "results.db")
    with closing(sqlite3.connect(path)) as connection:
        for table in ("stored_head_scores", "stored_head_effects"):
            connection.execute(f"UPDATE {table} SET stack = 'encoder'")
        connection.commit()
    monkeypatch.chdir(tmp_path)
    assert execute(["report", "made", "--db", str(path), "-q"]) == 0
    shown = content_of(tmp_path / "reports" / "made-1" / "index.html")["attention"]
    assert {(one["dataset"], one["from"]) for one in shown} == {(name, place) for name in TASKS for place in ("last", "question")}


def test_the_terminal_closes_with_the_findings_and_at_most_25_lines_unless_all_tables_are_asked_for(
    database, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert execute(["report", "made", "--db", str(database)]) == 0
    output = capsys.readouterr()
    findings = [line for line in output.out.splitlines() if re.match(r"\d+\. ", line)]
    assert 0 < len(findings) <= 10
    below = output.out.splitlines()[len(findings) :]
    assert 0 < len(below) <= 25
    assert "--tables prints them" in output.err
    assert execute(["report", "made", "--db", str(database), "--tables"]) == 0
    every = capsys.readouterr()
    titles = [table["title"] for table in content_of(tmp_path / "reports" / "made-2" / "index.html")["tables"]]
    assert len(titles) > 1
    assert all(title in every.out for title in titles)
    assert not all(title in output.out for title in titles)
    assert "--tables prints" not in every.err


def test_runs_are_reported_by_their_numbers(database, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert execute(["report", "1", "--db", str(database), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["study"] == "run 1"
    (page,) = tmp_path.glob("reports/run-1-*/index.html")
    assert f"vseam report 1 --db {database}" in page.read_text(encoding="utf-8")
    assert execute(["report", "99", "--db", str(database)]) == 2
    assert "no run 99" in capsys.readouterr().err


def test_runs_stand_in_the_order_of_the_study_whatever_the_order_in_which_workers_opened_them(tmp_path):
    expected = list(itertools.product(("b", "a", "b@random-1"), ("two", "one"), ("head_scan", "trace")))
    expected.sort(key=lambda run: (run[0] == "a", "@" in run[0]))
    for order in (expected, expected[::-1]):
        with open_store(tmp_path / f"{order[0][0]}.db") as store:
            study = store.ensure_study("s", {"models": ["b", "a"], "datasets": ["two", "one"]})
            for model, dataset, method in order:
                store.ensure_run(run_spec(model=model_info(name=model), dataset=dataset, method=method), study=study)
            chosen = find_study(store, ())
            assert list(zip(*(chosen.runs[name] for name in ("model", "dataset", "method")), strict=True)) == expected
            listed = how_measured(store, chosen)["runs"]
            assert [run["model"] for run in listed] == [model for model, _, _ in expected if "@" not in model]
            store.finish_run(1)
            facts = dict(how_measured(store, find_study(store, ()))["facts"])
            assert len(facts["last run finished"]) == len(facts["first run started"]) == len("2026-01-01T00:00:00+00:00")


def test_an_unknown_study_is_told_the_closest_name(database):
    with open_store(database, create=False) as store, pytest.raises(UnknownNameError, match="did you mean 'made'"):
        find_study(store, ["maed"])


@pytest.mark.parametrize("version", [1, 5, 9])
def test_a_database_of_an_older_version_is_reported_and_left_as_it_is(version, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "old.db"
    path.write_bytes(lzma.decompress((OLD / f"schema_{version:04}.db.xz").read_bytes()))
    before = path.read_bytes()
    assert execute(["report", "--db", str(path)]) == 0, capsys.readouterr().err
    assert path.read_bytes() == before
    content = content_of(next((tmp_path / "reports").glob("*/index.html")))
    assert content["scans"]
    assert content["how"]["models"]
    assert ["database", str(path)] in content["how"]["facts"], "not the copy that was read"


def test_a_file_that_is_no_database_is_refused_as_always(tmp_path):
    with pytest.raises(StoreError, match="there is no results database"), open_any(tmp_path / "nothing.db"):
        pass


@pytest.fixture
def served(database) -> Iterator[tuple[LiveServer, list[str]]]:
    drawn: list[str] = []
    with open_store(database, create=False) as store:

        def draw() -> str:
            drawn.append(state_of(store))
            return f"<p>{len(drawn)}</p>"

        with LiveServer(lambda: state_of(store), draw) as server:
            thread = threading.Thread(target=server.run, daemon=True)
            thread.start()
            yield server, drawn
            server.stop()
            thread.join(5)


def asked(server: LiveServer, path: str, token: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}?token={token}", timeout=5) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


def test_the_page_is_drawn_again_only_when_there_is_more_in_the_database(served, database):
    server, drawn = served
    state = json.loads(asked(server, "/state", server.token)[1])["state"]
    assert [asked(server, "/", server.token)[1] for _ in range(3)] == ["<p>1</p>"] * 3
    with open_store(database) as store:
        store.ensure_study("another", {"models": [MODEL]})
    assert json.loads(asked(server, "/state", server.token)[1])["state"] != state
    assert asked(server, "/", server.token) == (200, "<p>2</p>")
    assert len(drawn) == 2


def test_nobody_without_the_token_sees_the_page(served):
    server, drawn = served
    assert [asked(server, path, token)[0] for path in ("/", "/state") for token in ("", "guess")] == [403] * 4
    assert asked(server, "/other", server.token)[0] == 404
    assert drawn == []
