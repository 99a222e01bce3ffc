"""Evaluations that are stopped, killed, judged by another rule, or short of donors: what is asked again and what is not."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from tests.experiments.mixed import HEADS, Mixed
from vseam_core.api.types import Sample
from vseam_core.experiments.evaluation import evaluate
from vseam_core.runs.workspace import Workspace, open_workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    torch.set_num_threads(1)
    with open_workspace(tmp_path / "results.db") as opened:
        opened._benchmarks["mixed"] = Mixed()
        yield opened


def test_a_run_that_was_stopped_goes_on_and_gives_the_same_figures(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = workspace.model("llava-tiny").engine
    whole, calls = engine.respond, 0

    def stops(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return whole(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "respond", stops)
        with pytest.raises(KeyboardInterrupt):
            evaluate(workspace, "llava-tiny", "mixed", batch_size=5)
    asked: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(engine, "respond", lambda questions, *rest: (asked.append(len(questions)), whole(questions, *rest))[1])
        resumed = evaluate(workspace, "llava-tiny", "mixed", batch_size=5)
    # One of the finished units is the lost image's skip.
    assert (resumed.made, resumed.reused) == (20, 10)
    assert sum(asked) == 20
    again = evaluate(workspace, "llava-tiny", "mixed")
    assert (again.made, again.reused) == (0, 30), "the batch size is no part of what identifies an answer"
    pd.testing.assert_frame_equal(again.metrics, resumed.metrics)
    with open_workspace(Path(workspace.store.label).with_name("other.db")) as other:
        other._benchmarks["mixed"], other._models = Mixed(), workspace._models
        pd.testing.assert_frame_equal(evaluate(other, "llava-tiny", "mixed").metrics, resumed.metrics)


def test_the_rule_is_asked_again_about_stored_answers(workspace: Workspace) -> None:
    first = evaluate(workspace, "llava-tiny", "mixed", limit=6)

    class Generous(Mixed):
        def judge(self, sample: Sample, answer: str) -> bool:
            return True

    workspace._benchmarks["mixed"] = Generous()
    second = evaluate(workspace, "llava-tiny", "mixed", limit=6)
    assert (first.value("accuracy"), second.value("accuracy"), second.made) == (first.answers["score"].mean(), 1.0, 0)
    assert workspace.store.answers(second.run)["score"].tolist() == [1.0] * 6


def test_figures_by_the_old_rule_are_not_shown_any_more(workspace: Workspace) -> None:
    first = evaluate(workspace, "llava-tiny", "mixed", limit=6)
    evaluate(workspace, "llava-tiny", "mixed", limit=3)
    changed = evaluate(workspace, "llava-tiny", "mixed", limit=6, ablate=HEADS, compare=first.run)
    stored = workspace.store.scores("evaluations", metric=["accuracy", "gain"], subset="all")
    assert sorted(stored["n"]) == [3, 6, 6, 6]

    class Generous(Mixed):
        def judge(self, sample: Sample, answer: str) -> bool:
            return True

    workspace._benchmarks["mixed"] = Generous()
    evaluate(workspace, "llava-tiny", "mixed", limit=6)
    stored = workspace.store.scores("evaluations", metric=["accuracy", "gain"], subset="all")
    assert sorted(stored[["run_id", "metric", "value"]].itertuples(index=False, name=None)) == [
        (first.run, "accuracy", 1.0),
        (changed.run, "accuracy", changed.value("accuracy")),
    ]


KILLED = """
import os, signal, sys, torch
import vseam
from vseam_core.runs import runner
torch.set_num_threads(1)
runner.COMMIT_SECONDS = 0.0
with vseam.open_workspace(sys.argv[1]) as workspace:
    engine = workspace.model("llava-tiny").engine
    whole, calls = engine.respond, []
    def dies(*arguments):
        calls.append(1)
        if len(calls) == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(*arguments)
    engine.respond = dies
    vseam.evaluate("llava-tiny", "scenes/color", limit=30, batch_size=5, workspace=workspace)
"""


@pytest.mark.slow
def test_a_run_that_was_killed_outright_keeps_what_it_had_answered(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    database = tmp_path / "killed.db"
    process = subprocess.run([sys.executable, "-c", KILLED, str(database)], capture_output=True, text=True, timeout=240)
    assert process.returncode == -signal.SIGKILL, process.stderr
    with open_workspace(database) as workspace:
        resumed = evaluate(workspace, "llava-tiny", "scenes/color", limit=30, batch_size=5)
    assert (resumed.made, resumed.reused) == (15, 15)
    with open_workspace(tmp_path / "whole.db") as workspace:
        whole = evaluate(workspace, "llava-tiny", "scenes/color", limit=30, batch_size=5)
    pd.testing.assert_frame_equal(resumed.metrics, whole.metrics)
    assert resumed.answers["predicted"].tolist() == whole.answers["predicted"].tolist()


def test_samples_without_a_donor_are_skipped_and_the_others_stay_together(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = Mixed()
    donors = [sample for sample in mixed.all if sample.form == "yes_no" and sample.category == "color"]
    monkeypatch.setattr(mixed, "samples", lambda pool, *rest: iter(donors if pool == "score" else mixed.all))
    workspace._benchmarks["mixed"] = mixed
    engine = workspace.model("llava-tiny").engine
    whole, sizes = engine.respond, []
    monkeypatch.setattr(engine, "respond", lambda questions, *rest: (sizes.append(len(questions)), whole(questions, *rest))[1])
    found = evaluate(workspace, "llava-tiny", "mixed", ablate=["L4H1"], operation="resample")
    assert sizes == [len(found.answers)], "no question was asked alone because of another one's lack"
    reasons = {skip.identifier: skip.reason for skip in found.skips}
    assert "donors with its template" in reasons[next(s.identifier for s in mixed.all if s.category == "spatial")]
    assert len(found.answers) + len(found.skips) == 30
    assert 0 < len(found.answers) < 29
