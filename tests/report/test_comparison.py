"""Two studies held against each other: differences of head maps with their intervals, on the page, in words and on the command line."""

from __future__ import annotations

import base64
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tests.report.stored import HEADS, LAYERS, SAMPLES, TASKS, build_database
from vseam_cli.main import execute
from vseam_core.errors import VseamError
from vseam_core.report.data.comparison import comparison_findings, comparison_page
from vseam_core.results.comparing import compare_studies
from vseam_core.results.stored_study import find_study
from vseam_core.store import open_store

SHIFTED = (3, 2)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A study, and the same where one head of scenes/color does 1.5 nats more on every sample, beside some noise of its own."""
    folder, random = tmp_path_factory.mktemp("two"), np.random.default_rng(3)

    def more(effects: np.ndarray) -> np.ndarray:
        changed = effects + random.normal(0, 0.1, effects.shape)
        changed[:, *SHIFTED] += 1.5
        return changed

    return build_database(folder / "before.db"), build_database(folder / "after.db", more)


def differences(before: Path, after: Path):
    with open_store(before, create=False) as one, open_store(after, create=False) as two:
        return compare_studies((one, find_study(one, [])), (two, find_study(two, [])))


def effects_of(path: Path, dataset: str) -> np.ndarray:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            "SELECT data FROM stored_head_effects AS e JOIN samples AS s ON s.id = e.sample_id WHERE s.dataset = ? ORDER BY s.identifier",
            (dataset,),
        )
        return np.stack([np.frombuffer(data, "<f4").reshape(LAYERS, HEADS) for (data,) in rows])


def test_differences_are_taken_sample_by_sample_with_the_t_interval_of_a_plain_paired_comparison(two):
    found = {one.dataset: one for one in differences(*two)}
    assert set(found) == set(TASKS)
    color = found["scenes/color"]
    plain = effects_of(two[1], "scenes/color").astype(float) - effects_of(two[0], "scenes/color")
    assert color.paired
    assert (color.n, color.clusters) == (SAMPLES, SAMPLES)
    np.testing.assert_allclose(color.difference, plain.mean(axis=0), atol=1e-9)
    width = stats.t.ppf(0.975, SAMPLES - 1) * plain.std(axis=0, ddof=1) / np.sqrt(SAMPLES)
    np.testing.assert_allclose(color.high - color.difference, width, rtol=1e-6)
    np.testing.assert_allclose(color.difference - color.low, width, rtol=1e-6)


def test_the_head_that_differs_is_found_and_named_with_its_interval(two):
    found = differences(*two)
    color = next(one for one in found if one.dataset == "scenes/color")
    assert np.argwhere(color.q_value < 1e-6).tolist() == [list(SHIFTED)]
    first = comparison_findings(found)[0]
    assert first.kind == "found"
    assert f"L{SHIFTED[0]}H{SHIFTED[1]} by 1.5" in first.text
    assert f"(n = {SAMPLES})" in first.text


def test_a_study_does_not_differ_from_itself(two):
    found = differences(two[0], two[0])
    assert all(np.all(one.difference == 0) and np.all(one.q_value == 1) for one in found)
    findings = comparison_findings(found)
    assert {finding.kind for finding in findings} == {"open"}
    assert all(f"every head has the same effect in both (n = {SAMPLES}" in finding.text for finding in findings)
    assert all(finding.text.endswith(": they hold the same measurements.") for finding in findings)


def test_wrong_answers_that_a_scan_added_to_the_drawn_questions_are_said_where_they_count(two, tmp_path):
    assert not any(one.wrong_added for one in differences(*two))
    paths = [Path(shutil.copy(path, tmp_path / path.name)) for path in two]
    with closing(sqlite3.connect(paths[1])) as connection, connection:
        connection.execute("UPDATE stored_head_scores SET n_sampled = n - 4")
    found = differences(*paths)
    assert all(one.wrong_added for one in found)
    said = [finding.text for finding in comparison_findings(found)]
    assert all(f"n = {SAMPLES}, wrong answers added to the drawn questions included" in text for text in said)


def test_the_page_holds_the_differences_unrounded(two):
    found = differences(*two)
    page = comparison_page(("before", "after"), found)
    scan = page.content["scans"][0]
    values = np.frombuffer(base64.b64decode(page.arrays[scan["values"]["array"]])).reshape(scan["values"]["shape"])
    assert scan["columns"][0] == "difference"
    np.testing.assert_array_equal(values[0], found[0].difference.ravel())


def test_heads_that_neither_side_has_are_left_out_and_the_others_are_as_before(tmp_path):
    def without(effects: np.ndarray) -> np.ndarray:
        changed = effects.copy()
        changed[:, 0, :4] = np.nan
        return changed

    assert_sides = [without, lambda effects: without(effects + 1.0)]
    paths = [build_database(tmp_path / f"{place}.db", change) for place, change in enumerate(assert_sides)]
    color = next(one for one in differences(*paths) if one.dataset == "scenes/color")
    assert np.isnan(color.difference[0, :4]).all()
    assert np.isnan(color.difference).sum() == 4
    np.testing.assert_allclose(color.difference[1:], 1.0, atol=1e-5)
    assert "of 44 heads differ" in comparison_findings([color])[0].text


def test_studies_without_a_scan_in_common_are_refused_in_one_line(two, tmp_path):
    with open_store(tmp_path / "empty.db") as empty, open_store(two[0], create=False) as store:
        empty.ensure_study("nothing", {"models": ["tiny"]})
        with pytest.raises(VseamError, match="hold no scan of the same dataset"):
            compare_studies((store, find_study(store, [])), (empty, find_study(empty, [])))


def test_the_command_writes_a_page_of_its_own_and_says_what_differs(two, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert execute(["report", "--compare", str(two[0]), str(two[1]), "--json"]) == 0
    envelope = json.loads(capsys.readouterr().out)
    assert Path(envelope["page"]).is_file()
    assert "L3H2" in envelope["findings"][0]["text"]
    assert envelope["tables"][0]["rows"][0][3] == "L3H2"
    assert execute(["report", "--compare", str(two[0]), str(two[1]), "made"]) == 2
    assert "--compare names both studies" in capsys.readouterr().err
