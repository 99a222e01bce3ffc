"""A plugin that was upgraded gives in the same database what it gives in a fresh one, by every verb; options collide with nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.experiments.upgrades import DATASET, HARMLESS, MODEL, measured
from vseam_core.analysis.rescaling import Setting
from vseam_core.api.types import HeadId
from vseam_core.experiments.ablation import AblationOptions, run_ablation
from vseam_core.experiments.answering import BaselineOptions, run_baseline
from vseam_core.experiments.evaluation import evaluate
from vseam_core.experiments.heads.scan import ScanOptions, run_scan
from vseam_core.experiments.heads.screening import ESTIMATE
from vseam_core.experiments.rescaling.candidates import RescalingScores
from vseam_core.experiments.rescaling.fit import RescalingOptions, run_rescaling
from vseam_core.experiments.study.parts import finished
from vseam_core.experiments.tracing import TraceOptions, run_trace
from vseam_core.runs.workspace import Workspace

HEADS = (HeadId(1, 2), HeadId(4, 5))


def baselines(workspace: Workspace, editor: str | None = None, limit: int = 6) -> pd.DataFrame:
    outcome = run_baseline(workspace, MODEL, DATASET, BaselineOptions("score", "plain", limit, editor))
    return finished(workspace.store.baselines(outcome.run), outcome)


def scan(workspace: Workspace, measure: str = "logit_diff", **options: Any) -> np.ndarray:
    chosen = ScanOptions("dim", **{"sampled": 2, "wrong": 0, "reference_size": 4, **options})
    outcome = run_scan(workspace, MODEL, DATASET, chosen, baselines(workspace))
    return workspace.store.head_effects(outcome.run, measure=measure, keys=outcome.keys).values


def screen(workspace: Workspace, **options: Any) -> np.ndarray:
    return scan(workspace, ESTIMATE, method="screen", screen_top=3, **options)


def ablate(workspace: Workspace, **options: Any) -> np.ndarray:
    chosen = AblationOptions(operation="dim", samples=2, random_sets=2, reference_size=4, **options)
    outcome = run_ablation(workspace, MODEL, DATASET, chosen, HEADS)
    return finished(workspace.store.ablations(outcome.run), outcome)["mean_logit_diff"].to_numpy()


def ask_ablated(workspace: Workspace, **options: Any) -> np.ndarray:
    return (
        evaluate(workspace, MODEL, DATASET, limit=3, ablate=[str(head) for head in HEADS], operation="dim", **options)
        .answers["logit_diff"]
        .to_numpy()
    )


def rescale(workspace: Workspace) -> np.ndarray:
    shape = workspace.model(MODEL).engine.shape
    scores = np.zeros((shape.layers, shape.heads))
    scores[HEADS[0].layer, HEADS[0].head] = 1.0
    settings = [Setting(strength, 1) for strength in (-0.9, 9.0)]
    options = RescalingOptions(choose=12, test=2, splits=("hard",), shuffles=0, operation="dim")
    outcome = run_rescaling(workspace, MODEL, "scenes/action", options, settings, RescalingScores(scores, (HEADS[0],), ()))
    rows = finished(workspace.store.modulations(outcome.run), outcome)
    return rows.loc[rows["role"] == "grid", "accuracy"].to_numpy()


def trace(workspace: Workspace, **options: Any) -> np.ndarray:
    outcome = run_trace(workspace, MODEL, DATASET, TraceOptions(**{"tracer": "acme-groups", "limit": 2, **options}))
    records = workspace.store.trace_effects(outcome.run, outcome.keys)
    return np.stack([record.effect.values for record in records if record.effect.measure == "logit_diff"])


def trace_edited(workspace: Workspace) -> np.ndarray:
    return trace(workspace, tracer="groups", editor="acme-editor")


def answer_edited(workspace: Workspace) -> np.ndarray:
    frame = baselines(workspace, "acme-editor")
    return frame.loc[frame["pair_role"] == "corrupt", "logit_diff"].to_numpy()


def ask_edited(workspace: Workspace) -> np.ndarray:
    answers = evaluate(workspace, MODEL, DATASET, limit=4, editor="acme-editor").answers
    return answers.loc[answers["pair_role"] == "corrupt", "logit_diff"].to_numpy()


def ablate_edited(workspace: Workspace) -> np.ndarray:
    return ablate(workspace, editor="acme-editor")


VERBS = [scan, screen, ablate, ask_ablated, rescale, trace, trace_edited, answer_edited, ask_edited]


@pytest.mark.parametrize("verb", VERBS)
def test_an_upgraded_plugin_gives_in_an_old_database_what_it_gives_in_a_fresh_one(verb: Callable[[Workspace], Any], tmp_path: Path) -> None:
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    before, after, fresh = measured(old, 1, verb), measured(old, 2, verb), measured(new, 2, verb)
    assert np.abs(before - fresh).max() > 1e-3, "the versions give the same: this test shows nothing"
    np.testing.assert_allclose(after, fresh, atol=1e-4)


@pytest.mark.parametrize("verb", [scan, screen, ablate])
def test_an_option_of_any_name_is_the_operations_own(verb: Callable[..., np.ndarray], tmp_path: Path) -> None:
    def both(workspace: Workspace) -> list[np.ndarray]:
        # The first name with both values, so that the option is seen to act.
        asked = [(HARMLESS[0], 0.25), *((name, 0.5) for name in HARMLESS)]
        return [verb(workspace, operation_options={name: value}) for name, value in asked]

    quarter, *halves = measured(tmp_path / "results.db", 1, both)
    for half in halves:
        np.testing.assert_allclose(half, halves[0], atol=1e-4)
    assert np.abs(halves[0] - quarter).max() > 1e-3


def test_an_option_of_any_name_is_the_tracers_own(tmp_path: Path) -> None:
    def both(workspace: Workspace) -> list[np.ndarray]:
        return [trace(workspace, limit=1, tracer_options={name: value}) for name in (*HARMLESS, "tracer", "editor") for value in (2, 3)]

    found = measured(tmp_path / "results.db", 1, both)
    for double, triple in zip(found[::2], found[1::2], strict=True):
        np.testing.assert_allclose(double / 2, triple / 3, atol=1e-4)
