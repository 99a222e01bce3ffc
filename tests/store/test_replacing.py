"""Whatever replaces rows replaces its own and nothing else: every writer of the store, beside rows that differ in one thing."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from vseam_core.errors import StoreError
from vseam_core.runs.spec import UnitResult
from vseam_core.store import Store
from vseam_core.store.records import NamedRescaling
from vseam_core.store.scores import SLICES

from .builders import head_unit, model_info, pair, prompt, run_spec, sample, score_row

SHARED = {
    **{"model": "tiny", "pool": "score", "operation": "resample", "positions": "all", "measure": "logit_diff", "stack": "decoder"},
    **{"task_a": "color", "task_b": "material", "level_a": "attribute", "level_b": "attribute", "sign": "positive", "k": 3},
    **{"overlap": 1, "n_a": 2, "n_b": 5, "status": "tested", "null_name": "layer-stratified"},
}
SCREENING = {
    **{"pool": "score", "operation": "resample", "positions": "all", "measure": "logit_diff", "stack": "decoder", "subset": "correct"},
    **{"n": 9, "heads": 10, "top": 4, "random": 1, "integrated_steps": 0, "strongest": 3, "vanished": "[]"},
}
TRACE = {
    **{"tracer": "tokenwise", "stack": "decoder", "site_kind": "mlp_output", "direction": "denoising", "measure": "logit_diff"},
    **{"layer": 3, "column_label": "object", "column_kind": "position", "subset": "all", "n": 12, "mean": 0.5},
}
EVALUATION = {
    **{"pool": "test", "split": "plain", "change": "", "subset": "all", "metric": "accuracy", "n": 40, "clusters": 40},
    **{"value": 0.9, "compared_with": 0},
}
OF_DATASET = {"model": "tiny", "dataset": "color", "category": "color", "level": "attribute"}
SCAN = {"pool": "score", "operation": "resample", "positions": "all", "measure": "logit_diff"}
CELL = {
    **{"tracer": "groups", "stack": "decoder", "site_kind": "mlp_output", "direction": "denoising", "measure": "logit_diff"},
    **{"column_kind": "group", "layer": 3, "column_label": "image", "subset": "all"},
}
CONFIRMATION = {
    **{"stack": "decoder", "layer": 1, "head": 2, "operation": "zero", "n": 20, "clusters": 12, "gain": 0.1, "p_value": 0.01},
    **{"verdict": "confirmed"},
}
ABLATION = {"split": "plain", "sign": "positive", "operation": "resample", "heads": "[]", "measure": "drop", "n": 20, "sets": 99}
LEVELS = {"model": "tiny", **SCAN, "sign": "positive", "k": 3, "tasks": 7, "within": 2.0, "across": 1.0, "groupings": 105, "exact": True}
BAND = {**OF_DATASET, **CELL, "band_low": -0.1, "band_high": 0.2, "models": 5}
STRONGEST = {**CELL, "rank": 1, "selection_n": 10, "n": 10, "mean": 0.4}
ACCURACY = {**OF_DATASET, "pool": "test", "split": "plain", "n": 40, "clusters": 40, "accuracy": 0.9, "n_pairs": 0}
COMPARISON = {"split": "hard", "method": "vcd", "tried": 6, "n_choose": 20, "n": 40, "skips": 0, "accuracy": 0.9}
DIRECTION = {"site": "residual_after", "layer": 3, "kind": "probe", "n_fitted": 20, "n_held_out": 20, "images": 10, "held_out": 0.9}
PATHS = {"direction": "noising", "positions": "all", "n": 6, "estimated": 3628, "top": 24, "random": 3, "integrated_steps": 5}
PATH = {"sender": "L1H2", "receiver": "L4H5.v", "part": "top", "n": 6, "mean": -1.6}
READING = {
    **{"tracer": "gaze", "site_kind": "gaze_over_area", "reading": "looks", "operation": "resample", "effect": "signed"},
    **{"heads": 48, "n_readings": 20, "n_effects": 20, "images": 20, "rank_correlation": 0.4},
}
# Of one model over several runs: these are of no run.
OF_NO_RUN = ("shared_head_tests", "level_tests", "random_bands", "accuracies")
ROWS: dict[str, dict[str, Any]] = {
    "head_scores": score_row(0, 0),
    "screenings": SCREENING,
    "trace_scores": TRACE,
    "evaluations": EVALUATION,
    "shared_head_tests": SHARED,
    "head_confirmations": CONFIRMATION,
    "ablation_tests": ABLATION,
    "level_tests": LEVELS,
    "random_bands": BAND,
    "strongest_cells": STRONGEST,
    "accuracies": ACCURACY,
    "comparisons": COMPARISON,
    "direction_scores": DIRECTION,
    "path_screenings": PATHS,
    "screened_paths": PATH,
    "reading_tests": READING,
}
OTHER: dict[str, dict[str, list[Any]]] = {
    "head_scores": {name: ["other"] for name in ("pool", "operation", "positions", "measure", "stack")},
    "screenings": {name: ["other"] for name in ("operation", "positions", "measure", "stack")},
    "trace_scores": {
        **{name: ["other"] for name in ("tracer", "stack", "site_kind", "measure")},
        **{"direction": ["noising"], "column_kind": ["group"]},
    },
    "evaluations": {"compared_with": [1]},
    "shared_head_tests": {
        **{name: ["other"] for name in ("model", "pool", "operation", "positions", "measure", "stack", "task_a", "task_b", "null_name")},
        **{"sign": ["negative"], "k": [4]},
    },
    "head_confirmations": {},
    "ablation_tests": {"sign": ["negative"], "operation": ["other"]},
    "level_tests": {**{name: ["other"] for name in ("model", *SCAN)}, "sign": ["negative"], "k": [4]},
    "random_bands": {name: ["other"] for name in ("model", "dataset", "tracer")},
    "strongest_cells": {
        **{name: ["other"] for name in ("tracer", "stack", "site_kind", "measure")},
        **{"direction": ["noising"], "column_kind": ["position"]},
    },
    "accuracies": {name: ["other"] for name in ("model", "dataset", "pool", "split")},
    **{name: {} for name in ("comparisons", "direction_scores", "path_screenings", "screened_paths")},
    "reading_tests": {"operation": ["other"]},
}


def put(store: Store, table: str, run: int, rows: list[dict[str, Any]], keys: list[str] | None = None) -> None:
    store.replace_scores(table, None if table in OF_NO_RUN else run, pd.DataFrame(rows), keys or [])


def test_every_table_of_aggregates_is_tried() -> None:
    assert set(SLICES) == set(ROWS) == set(OTHER)
    for table, slices in SLICES.items():
        assert {"run_id", "sample_set_hash", *OTHER[table]} >= set(slices), table


@pytest.mark.parametrize(("table", "column"), [(table, column) for table in OTHER for column in OTHER[table]])
def test_an_aggregate_stands_beside_one_that_differs_in_what_was_computed(table: str, column: str, store: Store) -> None:
    run = store.ensure_run(run_spec())
    other = {**ROWS[table], column: OTHER[table][column][0]}
    put(store, table, run, [other])
    for _ in range(2):
        put(store, table, run, [ROWS[table]])
    assert store.scores(table)[column].tolist() == [other[column], ROWS[table][column]]


@pytest.mark.parametrize("table", sorted(set(ROWS) - set(OF_NO_RUN)))
def test_an_aggregate_of_one_run_stands_beside_that_of_another(table: str, store: Store) -> None:
    first, second = store.ensure_run(run_spec()), store.ensure_run(run_spec(seed=1))
    for run in (first, second, first):
        put(store, table, run, [ROWS[table]])
    put(store, table, second, [])
    assert first in store.scores(table)["run_id"].tolist()


def test_figures_over_other_samples_stay(store: Store) -> None:
    run = store.ensure_run(run_spec())
    put(store, "evaluations", run, [EVALUATION], ["few"])
    put(store, "evaluations", run, [EVALUATION], ["few", "more"])
    put(store, "evaluations", run, [], ["few", "more"])
    assert len(store.scores("evaluations", run)) == 2


def test_two_tasks_compared_again_replace_their_own_pair_and_leave_the_twenty_others(store: Store) -> None:
    tasks = [f"task-{number}" for number in range(7)]
    pairs = list(itertools.combinations(tasks, 2))
    for sign in ("positive", "negative"):
        rows = [{**SHARED, "sign": sign, "task_a": first, "task_b": second} for first, second in pairs]
        store.replace_scores("shared_head_tests", None, pd.DataFrame(rows), [])
    for sign in ("positive", "negative"):
        again = {**SHARED, "sign": sign, "task_a": "task-5", "task_b": "task-2", "overlap": 3}
        store.replace_scores("shared_head_tests", None, pd.DataFrame([again]), [])
    found = store.scores("shared_head_tests")
    assert found.groupby("sign").size().to_dict() == {"negative": 21, "positive": 21}
    assert found[found["overlap"] == 3][["task_a", "task_b"]].values.tolist() == [["task-5", "task-2"]] * 2


def test_a_named_rescaling_never_takes_the_place_of_another(store: Store) -> None:
    first = NamedRescaling("tiny", "w", "scenes/color", {"L0H1": 0.5}, 1)
    store.name_rescaling("one", first)
    store.name_rescaling("two", replace(first, scales={"L0H1": 2.0}))
    store.name_rescaling("one", first)
    with pytest.raises(StoreError, match="another rescaling is called 'one'"):
        store.name_rescaling("one", replace(first, scales={"L0H1": 3.0}))
    assert {name: row.scales["L0H1"] for name, row in store.named_rescalings().items()} == {"one": 0.5, "two": 2.0}


def test_a_prompt_replaces_that_of_its_sample_and_model_only(store: Store) -> None:
    runs = {name: store.ensure_run(run_spec(model=model_info(name=name))) for name in ("tiny", "big")}
    for run in runs.values():
        for number in range(2):
            store.save(run, [head_unit(number)])
    changed = UnitResult("again", "0", prompts=((sample(0), prompt("changed")),))
    store.save(runs["tiny"], [changed])
    with store.transaction() as connection:
        query = "SELECT model, sample_id, prompt_key FROM prompt_tokens WHERE position = 0 ORDER BY model, sample_id"
        found = [tuple(row) for row in connection.exec_driver_sql(query)]
    assert found == [("big", 1, "prompt-0"), ("big", 2, "prompt-1"), ("tiny", 1, "changed"), ("tiny", 2, "prompt-1")]


def test_a_changed_sample_and_a_changed_edit_leave_the_others_as_they_were(store: Store) -> None:
    run = store.ensure_run(run_spec())
    store.save(run, [UnitResult(f"edit-{number}", "x", pairs=(pair(number),)) for number in range(2)])
    before = store.edits().set_index("identifier")
    changed = replace(pair(0), target_term="green", clean=replace(pair(0).clean, question="Is it red?"))
    store.save_pairs([changed])
    after = store.edits().set_index("identifier")
    assert after.loc[pair(0).identifier, ["target_term", "question"]].tolist() == ["green", "Is it red?"]
    assert after.loc[pair(1).identifier].astype(str).equals(before.loc[pair(1).identifier].astype(str))


def test_a_unit_saved_again_leaves_the_units_of_the_same_key_in_other_runs(store: Store) -> None:
    first, second = store.ensure_run(run_spec()), store.ensure_run(run_spec(seed=1))
    for run in (first, second, first):
        store.save(run, [head_unit(0, value=float(run))])
    assert [store.head_effects(run, measure="logit_diff").values[0, 0, 0] for run in (first, second)] == [float(first), float(second)]


def test_a_verdict_replaces_that_of_the_same_reviewer_on_the_same_edit_only(store: Store) -> None:
    store.save_pairs([pair(0), pair(1)])
    for name in (pair(0).identifier, pair(1).identifier):
        for reviewer in ("ann", "ben"):
            store.review_edit(name, "accepted", reviewer)
    store.review_edit(pair(0).identifier, "rejected", "ann")
    verdicts = {name: [row["verdict"] for row in rows] for name, rows in store.reviews().items()}
    assert verdicts == {pair(0).identifier: ["accepted", "rejected"], pair(1).identifier: ["accepted", "accepted"]}
