"""`vseam heads rescale --save-model`: what is refused before any work, and a folder that the other verbs take as a model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import torch

from tests.cli.conftest import Vseam
from vseam_core.results.study_results import StudyMaterial

RESCALE = ("heads", "rescale", "--model", "llava-tiny", "--dataset", "scenes/color")


def material(scales: dict[str, float]) -> StudyMaterial:
    """What a study leaves that fitted these scales, and 1.01 for one head by the published recipe, with nothing else in it."""
    of = {"model": "llava-tiny", "dataset": "scenes/color", "run_id": 1}
    rows = pd.DataFrame([{**of, "role": "fitted", "scales": scales}, {**of, "role": "published", "scales": {"L0H1": 1.01}}])
    empty = pd.DataFrame()
    return StudyMaterial("x", ("llava-tiny",), ("scenes/color",), empty, empty, empty, empty, [], empty, rows, empty, [], empty)


@contextmanager
def study_that_fits(monkeypatch: pytest.MonkeyPatch, scales: dict[str, float]) -> Iterator[None]:
    """Skip the scan: whether a small one fits anything is not the matter here."""
    torch.set_num_threads(1)
    with monkeypatch.context() as patch:
        patch.setattr("vseam_core.experiments.study.run.run_study", lambda *_: material(scales))
        patch.setattr("vseam_core.report.tables.closing.closing_tables", lambda *_: [])
        patch.setattr("vseam_core.report.writer.write_report", lambda *_, **__: [])
        yield


def test_the_saved_folder_can_be_used_as_a_model(vseam: Vseam, monkeypatch: pytest.MonkeyPatch) -> None:
    with study_that_fits(monkeypatch, {"L1H2": 0.5, "L4H5": 1.5}):
        outcome = vseam(*RESCALE, "--save-model", "made/rescaled")
    assert outcome.code == 0
    assert "llava-tiny with 2 heads rescaled is in made/rescaled; use it as `--model made/rescaled`" in " ".join(outcome.stderr.split())
    answered = vseam("eval", "--model", "made/rescaled", "--dataset", "scenes/color", "--limit", "4", "--db", "x.db", "--json")
    assert answered.code == 0, answered.stderr
    assert "made/rescaled" in json.dumps(json.loads(answered.stdout))


def test_where_nothing_better_was_found_the_tables_come_first_and_nothing_is_saved(vseam: Vseam, monkeypatch: pytest.MonkeyPatch) -> None:
    with study_that_fits(monkeypatch, {}):
        outcome = vseam(*RESCALE, "--save-model", "made", "--json")
    assert json.loads(outcome.stdout)["schema"] == "vseam.heads-rescale/1"
    assert outcome.code == 2
    assert "no rescaling of the grid beat leaving all heads alone" in outcome.stderr
    assert not Path("made").exists()
    assert "--save-role published" in outcome.stderr


def test_the_published_scales_are_saved_where_they_are_asked_for(vseam: Vseam, monkeypatch: pytest.MonkeyPatch) -> None:
    with study_that_fits(monkeypatch, {}):
        outcome = vseam(*RESCALE, "--save-role", "published", "--save-as", "theirs")
    assert outcome.code == 0, outcome.stderr
    assert "the rescaling of 1 head is called theirs" in " ".join(outcome.stderr.split())
    kept = vseam("query", "SELECT name, scales FROM rescalings", "--json")
    assert json.loads(kept.stdout)["rows"] == [["theirs", '{"L0H1":1.01}']]


def test_a_folder_that_is_not_empty_is_refused_in_one_line_before_any_work(vseam: Vseam) -> None:
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("mine")
    outcome = vseam(*RESCALE, "--save-model", "mine")
    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.stderr == "vseam: mine: the folder is not empty; name a new one for the checkpoint\n"
    assert not Path("results.db").exists()


def test_one_model_and_one_dataset_are_saved_at_a_time(vseam: Vseam) -> None:
    for more in (("--model", "instructblip-tiny"), ("--dataset", "scenes/action")):
        outcome = vseam(*RESCALE, *more, "--save-model", "made")
        assert outcome.code == 2
        assert "exactly one --model and one --dataset" in outcome.stderr
    assert not Path("results.db").exists()


def test_the_help_shows_how_to_save(vseam: Vseam) -> None:
    text = vseam("heads", "rescale", "--help").stdout
    assert "--save-model checkpoints/llava-tiny-rescaled" in text
