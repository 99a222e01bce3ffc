"""The whole study at a tiny size: what it leaves in the store, and that running it again changes nothing."""

from __future__ import annotations

import base64
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.experiments.conftest import SIZES, small_study
from vseam_core.analysis.frames import frame_records
from vseam_core.api.types import TraceEffect
from vseam_core.experiments.study.parts import StudyRun
from vseam_core.experiments.study.run import run_study
from vseam_core.report.data.study import study_page_data
from vseam_core.report.figures.planned import planned_figures
from vseam_core.report.findings import study_findings
from vseam_core.report.tables.closing import closing_tables
from vseam_core.report.traced import traced
from vseam_core.results.scoring import aggregate_trace_run, pair_traces
from vseam_core.results.stored_study import find_study, read_material, study_of
from vseam_core.results.study_results import StudyMaterial
from vseam_core.runs.runner import Outcome
from vseam_core.runs.workspace import Workspace, open_workspace
from vseam_core.store.query import run_query

Finished = tuple[Workspace, StudyMaterial]


def counts(workspace: Workspace) -> dict[str, int]:
    return dict(workspace.store.info()["counts"])


def test_every_stage_leaves_its_rows(finished: Finished) -> None:
    workspace, material = finished
    stored = counts(workspace)
    for table in ("baselines", "edits", "trace_effects", "trace_scores", "head_effects", "head_scores", "ablations", "modulations"):
        assert stored[table] > 0, table
    assert set(material.accuracy["split"]) == {"plain", "hard"}
    assert set(material.traces["tracer"]) == {"tokenwise", "groups", "regions", "lens", "knockout"}
    assert {(head.dataset, head.operation) for head in material.heads} == {
        (dataset, operation) for dataset in ("scenes/color", "scenes/action") for operation in ("resample", "mean_of_others")
    }


def test_patching_all_positions_gives_the_donor_run_exactly(finished: Finished) -> None:
    traces = finished[1].traces
    everything = traces[(traces["tracer"] == "groups") & (traces["column_label"] == "all") & (traces["measure"] == "logit_diff")]
    assert len(everything)
    assert everything["normalised"].to_numpy(dtype=float) == pytest.approx(np.ones(len(everything)), abs=1e-4)


def test_image_patching_restores_everything_at_the_embedding_and_nothing_at_the_end(finished: Finished) -> None:
    traces = finished[1].traces
    image = traces[
        (traces["tracer"] == "groups")
        & (traces["column_label"] == "image")
        & (traces["measure"] == "logit_diff")
        & (traces["subset"] == "all")
        & (traces["direction"] == "denoising")
        & (traces["dataset"] == "scenes/color")
    ].set_index("layer")["normalised"]
    assert image.loc[-1] == pytest.approx(1.0, abs=1e-4)
    assert image.loc[5] == pytest.approx(0.0, abs=1e-4)


def test_the_scan_takes_right_and_wrong_answers_evenly_over_the_gold_answers(finished: Finished) -> None:
    workspace, _ = finished
    runs = workspace.store.runs(method="head_scan", dataset="scenes/color")
    effects = workspace.store.head_effects(int(runs["id"].iloc[0]), measure="logit_diff")
    right = effects.samples[effects.samples["correct_strict"].astype(bool)]
    assert right["answer"].value_counts().to_dict() == {"Yes": 10, "No": 10}
    assert set(right["split"]) == {"plain"}


def test_selection_and_evaluation_share_no_image(finished: Finished) -> None:
    workspace, _ = finished
    frame = workspace.store.baselines()
    pools = {pool: set(group["image_id"]) for pool, group in frame.groupby("pool")}
    assert pools["score"]
    assert pools["test"]
    assert not pools["score"] & pools["test"]


def test_rescaling_reports_its_controls_on_the_test_pool_whatever_the_gain(finished: Finished) -> None:
    modulations = finished[1].modulations
    assert len(modulations)
    for dataset, rows in modulations.groupby("dataset"):
        roles = set(rows["role"])
        assert {"grid", "fitted", "bias", "published"} <= roles, dataset
        assert any(role.startswith("transfer") for role in roles)
        assert set(rows[rows["role"] == "grid"]["evaluated_on"]) == {"choose"}
        assert all("/test/" in name for name in rows[rows["role"] != "grid"]["evaluated_on"])
        fitted = rows[rows["role"] == "fitted"]
        assert fitted["gain"].to_numpy() == pytest.approx((fitted["accuracy"] - fitted["base_accuracy"]).to_numpy())


def test_the_ablation_stands_beside_random_sets_of_the_same_size_and_layers(finished: Finished) -> None:
    ablations = finished[1].ablations
    assert len(ablations)
    for _, rows in ablations.groupby(["dataset", "sign", "operation"]):
        selected = rows[rows["condition"] == "selected"].iloc[0]
        random = rows[rows["condition"] == "random"]
        layers = sorted(name.split("H")[0] for name in selected["heads"])
        assert len(random) == 6
        assert all(sorted(name.split("H")[0] for name in heads) == layers for heads in random["heads"])
        assert not any(set(heads) == set(selected["heads"]) for heads in random["heads"])
        assert random["heads"].map(frozenset).nunique() == len(random)
        base = rows[rows["condition"] == "base"].iloc[0]
        assert base["drop"] == 0


def test_running_a_finished_study_again_computes_nothing_and_gives_the_same_tables(finished: Finished) -> None:
    workspace, material = finished
    before = counts(workspace)
    again = run_study(workspace, small_study())
    assert counts(workspace) == before
    for name in ("accuracy", "traces", "strongest", "ablations", "modulations", "shared"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(material, name))


def test_the_seed_reproduces_every_number_in_a_new_database(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> None:
    stages = {"stages": ["trace", "scan"], "datasets": ["scenes/color"], "tracers": [{"name": "groups"}]}
    with open_workspace(tmp_path_factory.mktemp("again") / "results.db") as other:
        fresh = run_study(other, small_study(**stages))
    _, material = finished
    first = material.traces[(material.traces["tracer"] == "groups") & (material.traces["dataset"] == "scenes/color")]
    columns = ["mean", "normalised"]
    assert fresh.traces[columns].to_numpy(dtype=float) == pytest.approx(first[columns].to_numpy(dtype=float), nan_ok=True)
    scans = {scan.operation: scan for scan in material.heads if scan.dataset == "scenes/color"}
    for scan in fresh.heads:
        expected = scans[scan.operation].claims.map("support")
        assert scan.claims.map("support") == pytest.approx(expected)


def test_what_the_size_cannot_resolve_is_said(finished: Finished) -> None:
    text = " ".join(str(cell) for table in closing_tables(finished[1]) for row in [*table.rows, table.notes] for cell in row)
    assert "not resolved" in text or "too few" in text


def test_what_a_family_does_not_allow_is_said_once_for_all_datasets() -> None:
    datasets = ["scenes/color", "scenes/action"]
    study = small_study().with_overrides(models=["instructblip-tiny"], datasets=datasets, tracers=[{"name": "regions"}])
    with open_workspace(":memory:") as workspace:
        material = run_study(workspace, study.with_overrides(stages=["trace"], random_models=0, limit=2))
    (note,) = material.notes
    assert note.startswith("instructblip-tiny, scenes/color, scenes/action: regions tracing is not possible: ")
    assert material.traces.empty


def test_what_the_report_says_is_in_the_database(finished: Finished) -> None:
    workspace, material = finished
    for name, rows in (("accuracies", material.accuracy), ("strongest_cells", material.strongest)):
        assert len(workspace.store.scores(name)) == len(rows) > 0, name
    tests = frame_records(workspace.store.scores("level_tests"))
    assert [(row["model"], row["sign"], row["p_value"]) for row in tests] == [
        (model, sign, test.p_value) for model, sign, test in material.level_tests
    ]
    (row, *_) = frame_records(workspace.store.scores("ablation_tests", sign="positive"))
    selected = material.ablations.query("condition == 'selected' and sign == 'positive'").iloc[0]
    assert row["effect"] == pytest.approx(selected["drop"])
    assert row["effect_error"] is None, "three images have no error"
    assert pd.isna(selected["drop_error"])
    assert row["p_value"] is None
    assert row["reason"].startswith("no p-value: 6 distinct sets beside the selected one")


def test_the_scores_beside_random_models_are_of_the_pairs_that_these_are_traced_on(finished: Finished) -> None:
    workspace, _ = finished
    study = small_study(random_models=5, sizes=SIZES.model_copy(update={"pairs": 3, "random_model_pairs": 2}))
    method = next(tracer for tracer in study.tracers if tracer.name == "groups")
    pairs = StudyRun(workspace, study, 0)._random_pairs("scenes/color", method)
    assert pairs == {sample.identifier for sample in workspace.benchmark("scenes/color").samples("score", "plain", 2, 0)}
    assert not StudyRun(workspace, study.with_overrides(random_models=0), 0)._random_pairs("scenes/color", method)
    (run,) = (row["id"] for row in frame_records(workspace.store.runs(method="trace", dataset="scenes/color")) if of_groups(row))
    stored: list[pd.DataFrame] = []
    kept: Any = SimpleNamespace(store=SimpleNamespace(replace_scores=lambda table, run, frame, keys: stored.append(frame)))
    records = workspace.store.trace_effects(int(run), measure="logit_diff", direction="denoising")
    frame = aggregate_trace_run(kept, Outcome(int(run)), pair_traces(records, 0.0), pairs)
    assert stored[0] is frame
    assert set(frame["subset"]) == {"all", "flipped", "random_pairs"}
    same = [record.effect for record in records if record.identifier in pairs]
    assert 0 < len(same) < len(records)
    expected = same_pairs_share(same, 2, "last")
    (row,) = frame_records(frame.query("subset == 'random_pairs' and layer == 2 and column_label == 'last'"))
    assert (row["normalised"], row["n"]) == (pytest.approx(expected), 2)


def of_groups(row: dict[str, Any]) -> bool:
    return row["configuration"]["tracer"]["name"] == "groups"


def same_pairs_share(effects: list[TraceEffect], layer: int, column: str) -> float:
    """Σ effect / Σ gap over some pairs, every one turned so that its gap is positive."""
    gaps = [effect.clean - effect.corrupt for effect in effects]
    values = [effect.values[effect.layers.index(layer), effect.columns.index(column)] for effect in effects]
    return float(np.sign(gaps) @ values / np.abs(gaps).sum())


@pytest.mark.slow
def test_a_model_is_held_against_random_ones_on_the_pairs_that_these_were_traced_on(tmp_path: Path) -> None:
    tracer = {"name": "groups", "options": {"groups": ["image", "last"], "directions": ["denoising"]}}
    sizes = SIZES.model_copy(update={"pairs": 3, "random_model_pairs": 2})
    study = small_study(datasets=["scenes/color"], tracers=[tracer], stages=["trace"], random_models=5, sizes=sizes)
    with open_workspace(tmp_path / "results.db", device="cpu") as workspace:
        material = run_study(workspace, study)
        runs = frame_records(workspace.store.runs(method="trace"))
        traced_pairs = {row["model"]: set(workspace.store.baselines(row["id"])["image_id"]) for row in runs}
        read = read_material(workspace.store, find_study(workspace.store, ["small"]))
        (run,) = (row["id"] for row in runs if row["model"] == "llava-tiny")
        records = workspace.store.trace_effects(int(run), measure="logit_diff")
    own = traced_pairs.pop("llava-tiny")
    first = next(iter(traced_pairs.values()))
    assert (len(own), len(first), len(traced_pairs)) == (3, 2, 5)
    assert first < own
    assert all(images == first for images in traced_pairs.values())
    (found,) = traced(material.traces, material.presentations, "llava-tiny")
    beside = found.bands(material.bands)
    assert set(beside["pairs"]) == {2}
    (row,) = frame_records(beside[(beside["layer"] == 2) & (beside["column_label"] == "last")])
    assert row["own"] == pytest.approx(same_pairs_share([record.effect for record in records if record.image_id in first], 2, "last"))
    assert "the first 2 of its 3 pairs" in " ".join(material.notes)
    (again,) = traced(read.traces, read.presentations, "llava-tiny")
    assert again.bands(read.bands)["own"].tolist() == pytest.approx(beside["own"].tolist())


def test_a_study_read_back_from_the_database_says_what_the_running_one_said(finished: Finished) -> None:
    workspace, material = finished
    read = read_material(workspace.store, find_study(workspace.store, ["small"]))
    assert read.study == material.study
    assert closing_tables(read) == closing_tables(material)
    assert study_findings(read) == study_findings(material)
    assert [name for name, _ in planned_figures(read)] == [name for name, _ in planned_figures(material)]
    assert read.notes == material.notes
    for one, two in zip(read.heads, material.heads, strict=True):
        assert (one.model, one.dataset, one.operation) == (two.model, two.dataset, two.operation)
        assert (one.claims.base_correct, one.claims.reason_wrong) == (two.claims.base_correct, two.claims.reason_wrong)


def test_the_page_of_a_study_holds_the_effects_of_every_sample(finished: Finished) -> None:
    workspace, material = finished
    page = study_page_data(workspace.store, study_of(workspace.store, material.study), material, closing_tables(material))
    scan = page.content["scans"][0]
    stored = workspace.store.head_effects(scan["run"], measure="logit_diff")
    values = np.frombuffer(base64.b64decode(page.arrays[scan["effects"]["values"]["array"]]), "<f4").reshape(
        scan["effects"]["values"]["shape"]
    )
    np.testing.assert_array_equal(values, stored.values)
    places = np.frombuffer(base64.b64decode(page.arrays[scan["effects"]["sample"]["array"]]), "<i4")
    assert [page.content["samples"][place]["id"] for place in places] == list(stored.samples["identifier"])
    assert {trace["tracer"] for trace in page.content["traces"]} == {"tokenwise", "groups", "regions", "lens", "knockout"}


def test_every_traced_pair_and_every_scanned_sample_of_a_study_has_its_images(finished: Finished) -> None:
    workspace, _ = finished
    asked = (
        "SELECT COUNT(*) FROM edit_images WHERE identifier IN (SELECT edits.identifier FROM edits JOIN trace_effects "
        "ON trace_effects.edit_id = edits.id) AND (clean_image IS NULL OR edited_image IS NULL)",
        "SELECT COUNT(*) FROM samples JOIN head_effects ON head_effects.sample_id = samples.id WHERE thumbnail IS NULL",
        "SELECT COUNT(*) FROM edit_images WHERE clean_image IS NULL",
    )
    assert [run_query(workspace.store.label, sql)[1][0][0] for sql in asked] == [0, 0, 0]
