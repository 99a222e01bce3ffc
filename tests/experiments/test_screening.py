"""Screened head scans on the embedded model: what they store, name and agree on, and that they resume and repeat."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.experiments.conftest import small_study
from vseam_core.analysis.screening import agreement, choose_heads
from vseam_core.config.study import HeadScan, Sizes
from vseam_core.errors import UnsupportedError, VseamError
from vseam_core.experiments.heads.scan import ScanOptions, run_scan
from vseam_core.experiments.heads.screening import ESTIMATE, aggregate_screening
from vseam_core.experiments.study.run import run_study
from vseam_core.report.tables.closing import closing_tables
from vseam_core.results.stored_study import find_study, read_material
from vseam_core.runs.runner import Outcome
from vseam_core.runs.workspace import Workspace, open_workspace

MODEL, DATASET = "llava-tiny", "scenes/color"
OPTIONS = ScanOptions("zero", sampled=12, wrong=0, reference_size=8, method="screen", screen_top=6)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with open_workspace(tmp_path_factory.mktemp("screening") / "results.db") as opened:
        yield opened


@pytest.fixture(scope="module")
def baselines(workspace: Workspace) -> pd.DataFrame:
    from vseam_core.experiments.answering import BaselineOptions, run_baseline

    outcome = run_baseline(workspace, MODEL, DATASET, BaselineOptions("score", "plain", 16))
    return workspace.store.baselines(outcome.run)


@pytest.fixture(scope="module")
def screened(workspace: Workspace, baselines: pd.DataFrame) -> Outcome:
    return run_scan(workspace, MODEL, DATASET, OPTIONS, baselines)


@pytest.fixture(scope="module")
def exact(workspace: Workspace, baselines: pd.DataFrame) -> Outcome:
    return run_scan(workspace, MODEL, DATASET, replace(OPTIONS, method="exact", screen_top=None), baselines)


def effects(workspace: Workspace, outcome: Outcome, measure: str = "logit_diff") -> np.ndarray:
    return workspace.store.head_effects(outcome.run, measure=measure, keys=outcome.keys).values


def test_verified_heads_have_their_exact_effects_and_the_others_none(workspace: Workspace, screened: Outcome, exact: Outcome) -> None:
    for measure in ("logit_diff", "published_prob"):
        found, full = effects(workspace, screened, measure), effects(workspace, exact, measure)
        known = ~np.isnan(found)
        assert found.shape == full.shape == (12, 6, 8)
        assert known.all(axis=0).sum() == known.any(axis=0).sum() == 6 + 3
        assert found[known] == pytest.approx(full[known], abs=1e-4)


def test_the_heads_with_the_largest_mean_estimates_are_verified(workspace: Workspace, screened: Outcome) -> None:
    estimates = effects(workspace, screened, ESTIMATE)
    assert estimates.shape == (12, 6, 8)
    chosen = choose_heads({"correct": estimates.mean(axis=0)}, 6, workspace.seed)
    known = ~np.isnan(effects(workspace, screened)[0])
    assert (known == chosen.verified).all()


def test_the_agreement_is_stored_and_is_that_of_estimates_and_exact_runs(workspace: Workspace, screened: Outcome, exact: Outcome) -> None:
    frame = aggregate_screening(workspace, MODEL, screened, OPTIONS, 1e-4)
    stored = workspace.store.scores("screenings", screened.run)
    assert stored["subset"].tolist() == frame["subset"].tolist() == ["correct"]
    row = stored.iloc[0]
    assert (row["n"], row["heads"], row["top"], row["random"], row["integrated_steps"]) == (12, 48, 6, 3, 0)
    guess, truth = effects(workspace, screened, ESTIMATE).mean(axis=0), effects(workspace, exact).mean(axis=0)
    chosen = choose_heads({"correct": guess}, 6, workspace.seed)
    expected = agreement(guess, np.where(chosen.verified, truth, np.nan), chosen, noise_floor=1e-4)
    for name in ("rank_correlation", "rank_top", "recall", "recall_low", "scale"):
        assert row[name] == pytest.approx(expected[name], abs=1e-3), name
    again = aggregate_screening(workspace, MODEL, screened, OPTIONS, 1e-4)
    assert again.equals(frame)
    assert len(workspace.store.scores("screenings", screened.run)) == 1


def test_a_second_start_repeats_nothing(workspace: Workspace, baselines: pd.DataFrame, screened: Outcome) -> None:
    again = run_scan(workspace, MODEL, DATASET, OPTIONS, baselines)
    assert (again.made, again.reused) == (0, 24)
    assert again.keys == screened.keys


def test_a_screening_that_stopped_after_its_estimates_goes_on_from_there(
    workspace: Workspace, baselines: pd.DataFrame, screened: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vseam_core.experiments.heads import screening

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with open_workspace(tmp_path / "broken.db") as other:
        from vseam_core.experiments.answering import BaselineOptions, run_baseline

        run_baseline(other, MODEL, DATASET, BaselineOptions("score", "plain", 16))
        with monkeypatch.context() as patched:
            patched.setattr(screening, "scan_sample", stop)
            with pytest.raises(KeyboardInterrupt):
                run_scan(other, MODEL, DATASET, OPTIONS, baselines)
        assert other.store.runs(method="head_scan")["finished"].isna().all()
        outcome = run_scan(other, MODEL, DATASET, OPTIONS, baselines)
        assert (outcome.made, outcome.reused) == (12, 12)
        assert outcome.keys == screened.keys
        np.testing.assert_allclose(effects(other, outcome), effects(workspace, screened), atol=1e-4)


@pytest.mark.parametrize("change", [{"screen_top": 7}, {"operation": "resample", "integrated_steps": 2}, {"method": "exact"}])
def test_other_options_are_another_run_with_other_units(
    workspace: Workspace, baselines: pd.DataFrame, screened: Outcome, change: dict[str, Any]
) -> None:
    options = replace(OPTIONS, sampled=2, operation_options={"donors": 1} if "operation" in change else {}, **change)
    plain = run_scan(workspace, MODEL, DATASET, replace(options, integrated_steps=0), baselines)
    other = run_scan(workspace, MODEL, DATASET, options, baselines)
    assert other.run != screened.run
    assert not set(other.keys) & set(screened.keys)
    if options.integrated_steps:
        assert not set(other.keys) & set(plain.keys)
        assert np.abs(effects(workspace, other, ESTIMATE) - effects(workspace, plain, ESTIMATE)).max() > 1e-3


def test_integrated_steps_need_an_operation_with_donors(workspace: Workspace, baselines: pd.DataFrame) -> None:
    with pytest.raises(UnsupportedError, match="and zero has none"):
        run_scan(workspace, MODEL, DATASET, replace(OPTIONS, integrated_steps=2), baselines)


def test_a_study_that_screens_shows_the_agreement_and_names_verified_heads_only(tmp_path: Path) -> None:
    scans = [HeadScan(method="screen", screen_top=5)]
    sizes = Sizes(score=24, hard=0, scan_sampled=20, scan_wrong=0, choose=4, test=4, ablation=2, random_sets=4, reference=16)
    study = small_study(heads=scans, sizes=sizes, donors=1, stages=["scan", "ablate", "rescale", "shared", "report"])
    with open_workspace(tmp_path / "results.db") as opened:
        material = run_study(opened, study)
        read = read_material(opened.store, find_study(opened.store, [study.name]))
    assert closing_tables(read) == closing_tables(material)
    assert read.notes == material.notes
    tables = {table.title: table for table in closing_tables(material)}
    shown = next(table for title, table in tables.items() if title.startswith("Screening of heads"))
    assert len(shown.rows) == 2
    assert any("shared heads are not compared" in note for note in material.notes)
    for head_map in material.heads:
        frame = head_map.claims.frame
        tested = frame["q_positive"].notna()
        assert tested.sum() == 5 + 3
        assert not frame.loc[~tested, "claim_positive"].any()
    assert len(material.ablations)
    assert len(material.modulations)


@pytest.mark.parametrize("fields", [{"screen_top": 4}, {"integrated_steps": 2}])
def test_a_study_refuses_screening_options_of_an_exact_scan(fields: dict[str, int]) -> None:
    with pytest.raises(VseamError, match="belong to method: screen"):
        small_study().with_overrides(heads=[{"operation": "zero", **fields}])
