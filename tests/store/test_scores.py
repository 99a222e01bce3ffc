"""Aggregates and the views on them: replaced whole, null where there is no number, ranked and shared as documented."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from vseam_core.errors import StoreError
from vseam_core.store import Store
from vseam_core.store.query import run_query

from .builders import HEADS, model_info, run_spec, score_row


def grid(signs: dict[tuple[int, int], str], layers: int = 4, heads: int = 5, **changes: Any) -> pd.DataFrame:
    """head_scores of all heads, stronger with layer and head; the named ones pass a claim."""
    rows = [score_row(layer, head, signs.get((layer, head), "none"), **changes) for layer in range(layers) for head in range(heads)]
    return pd.DataFrame(rows)


def scored_run(store: Store, category: str, signs: dict[tuple[int, int], str], level: str = "attribute", **changes: Any) -> int:
    run = store.ensure_run(run_spec(dataset=f"scenes/{category}", category=category, level=level, **changes))
    store.replace_scores("head_scores", run, grid(signs), [])
    store.finish_run(run)
    return run


def test_scores_come_back_with_the_runs_model_dataset_category_and_level(store: Store) -> None:
    run = scored_run(store, "color", {(0, 0): "positive"})
    frame = store.scores("head_scores", run)
    assert frame[["model", "dataset", "category", "level"]].iloc[0].tolist() == ["tiny", "scenes/color", "color", "attribute"]
    assert frame["sample_set_hash"].nunique() == 1
    assert frame["resolved"].dtype == bool
    assert frame["se_correct"].isna().all()
    assert store.scores("head_scores", sign="positive")[["layer", "head"]].values.tolist() == [[0, 0]]
    assert store.scores("head_scores", layer=[1, 2])["layer"].unique().tolist() == [1, 2]


def test_scores_replace_what_was_computed_alike_and_nothing_else(store: Store) -> None:
    run = store.ensure_run(run_spec())
    store.replace_scores("head_scores", run, grid({}, layers=2), ["old"])
    store.replace_scores("head_scores", run, grid({}, layers=2, operation="zero"), ["old"])
    store.replace_scores("head_scores", run, grid({}, layers=1), ["new"])
    counts = store.scores("head_scores").groupby(["operation"]).size().to_dict()
    assert counts == {"resample": 5, "zero": 10}
    store.replace_scores("head_scores", run, pd.DataFrame(), [])
    assert store.scores("head_scores").empty


def test_nan_becomes_null_where_null_is_legal_and_is_refused_where_it_is_not(store: Store) -> None:
    run = store.ensure_run(run_spec())
    empty = score_row(0, 0, mean_wrong=math.nan, n_wrong=0, q_negative=None, reason=math.nan)
    store.replace_scores("head_scores", run, pd.DataFrame([empty]), [])
    row = store.scores("head_scores").iloc[0]
    assert math.isnan(row["mean_wrong"])
    assert row["reason"] == ""
    with pytest.raises(StoreError, match="row 0 of head_scores has no n_correct"):
        store.replace_scores("head_scores", run, pd.DataFrame([score_row(0, 0, n_correct=math.nan)]), [])
    with pytest.raises(StoreError, match="row 0 of head_scores: mean_correct is inf, expected a finite number"):
        store.replace_scores("head_scores", run, pd.DataFrame([score_row(0, 0, mean_correct=math.inf)]), [])
    assert len(store.scores("head_scores")) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean_corect": 1.0}, "no column 'mean_corect' in head_scores: did you mean 'mean_correct'"),
        ({"layer": 1.5}, "row 0 of head_scores: layer is 1.5, expected a whole number"),
        ({"sign": "both"}, "(?i)check constraint"),
    ],
)
def test_columns_and_values_that_do_not_belong_are_refused(change: dict[str, Any], message: str, store: Store) -> None:
    run = store.ensure_run(run_spec())
    with pytest.raises(StoreError, match=message):
        store.replace_scores("head_scores", run, pd.DataFrame([{**score_row(0, 0), **change}]), [])


def test_unknown_tables_and_runs_are_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="no table of scores 'head_score': did you mean 'head_scores'"):
        store.scores("head_score")
    with pytest.raises(StoreError, match="there is no run 5"):
        store.replace_scores("head_scores", 5, grid({}), [])
    with pytest.raises(StoreError, match="row 0 of head_scores has no run_id"):
        store.replace_scores("head_scores", None, grid({}), [])


def test_trace_scores_and_shared_head_tests_keep_their_columns(store: Store) -> None:
    run = store.ensure_run(run_spec(method="tokenwise"))
    cell = {
        **{"tracer": "tokenwise", "stack": "decoder", "site_kind": "mlp_output", "direction": "denoising"},
        **{"measure": "logit_diff", "layer": 3, "column_label": "object", "subset": "flipped", "n": 12, "column_kind": "position"},
        **{"mean": 0.5, "standard_error": None, "low": None, "high": None, "normalised": 0.25},
    }
    store.replace_scores("trace_scores", run, pd.DataFrame([cell]), [])
    assert store.scores("trace_scores", run, subset="flipped")["normalised"].tolist() == [0.25]
    test = {
        **{"model": "tiny", "task_a": "color", "task_b": "material", "level_a": "attribute", "level_b": "attribute"},
        **{"sign": "positive", "k": 3, "overlap": math.nan, "expected": 0.4, "jaccard": None, "rank_correlation": 0.2},
        **{"ceiling": 0.8, "p_value": None, "q_value": None, "null_name": "layer-stratified"},
        **{"n_a": 2, "n_b": 5, "status": "too few", "reason": "fewer than 3 heads pass"},
    }
    for _ in range(2):
        store.replace_scores("shared_head_tests", None, pd.DataFrame([test]), [])
    frame = store.scores("shared_head_tests", model="tiny")
    assert frame["overlap"].isna().tolist() == [True]
    assert frame["k"].tolist() == [3]


def selected(store: Store, sql: str) -> list[dict[str, Any]]:
    columns, rows, _ = run_query(store.label, sql)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def test_top_heads_rank_by_strength_under_each_sign_and_count_claims_apart(store: Store) -> None:
    scored_run(store, "color", {(0, 1): "positive", (1, 2): "positive", (2, 0): "negative"})
    rows = selected(store, "SELECT * FROM top_heads WHERE sign = 'positive' ORDER BY head_rank")
    assert [(row["layer"], row["head"]) for row in rows[:2]] == [(3, 4), (3, 3)]
    assert {row["heads_total"] for row in rows} == {20}
    claims = [(row["claim_rank"], row["layer"], row["head"]) for row in rows if row["claimed"]]
    assert claims == [(1, 1, 2), (2, 0, 1)]
    negative = selected(store, "SELECT * FROM top_heads WHERE sign = 'negative' AND claimed = 1")
    strength = 0.1 * (1 + HEADS * 2)
    assert [(row["layer"], row["head"], row["claim_rank"], row["n"]) for row in negative] == [(2, 0, 1, 10)]
    assert negative[0]["score"] == pytest.approx(strength)
    assert (negative[0]["low"], negative[0]["high"]) == pytest.approx((strength - 0.05, strength + 0.05))


def test_a_head_can_pass_both_claims_and_none_in_a_map_that_is_not_resolved(store: Store) -> None:
    run = store.ensure_run(run_spec())
    both = {"claim_positive": True, "claim_negative": True}
    frame = pd.DataFrame([score_row(0, 0, "positive", **both), score_row(0, 1, **{**both, "reliability_wrong": 0.69})])
    store.replace_scores("head_scores", run, frame, [])
    store.finish_run(run)
    rows = selected(store, "SELECT head, sign, claimed, resolved FROM top_heads ORDER BY head, sign")
    assert [(row["head"], row["sign"], row["claimed"], row["resolved"]) for row in rows] == [
        (0, "negative", 1, 1),
        (0, "positive", 1, 1),
        (1, "negative", 0, 0),
        (1, "positive", 1, 1),
    ]


def test_shared_head_tests_of_another_sign_or_size_stay(store: Store) -> None:
    test = {
        **{"model": "tiny", "task_a": "a", "task_b": "b", "level_a": "object", "level_b": "object", "status": "tested"},
        **{"sign": "positive", "k": 3, "overlap": 1, "n_a": 50, "n_b": 50},
    }
    for change in ({}, {"sign": "negative"}, {"k": 4}, {"overlap": 2}):
        store.replace_scores("shared_head_tests", None, pd.DataFrame([{**test, **change}]), [])
    frame = store.scores("shared_head_tests").sort_values(["sign", "k"])
    assert frame[["sign", "k", "overlap"]].values.tolist() == [["negative", 3, 1], ["positive", 3, 2], ["positive", 4, 1]]


def test_top_heads_of_published_measures_claim_nothing_and_rank_scores_above_zero(store: Store) -> None:
    run = store.ensure_run(run_spec())
    frame = grid({}, layers=1, measure="published_prob").assign(positive=[0.3, 0.0, 0.5, None, 0.1])
    store.replace_scores("head_scores", run, frame, [])
    store.finish_run(run)
    rows = selected(store, "SELECT head, claim_rank, claimed FROM top_heads WHERE sign = 'positive' ORDER BY head_rank")
    assert [(row["head"], row["claim_rank"]) for row in rows] == [(2, 1), (0, 2), (4, 3), (1, None)]
    assert {row["claimed"] for row in rows} == {None}


def test_shared_heads_count_overlap_up_to_a_tenth_of_the_heads(store: Store) -> None:
    same = {(0, 1): "positive", (1, 2): "positive"}
    scored_run(store, "color", same)
    scored_run(store, "material", {(0, 1): "positive", (3, 3): "positive"})
    rows = selected(store, "SELECT * FROM shared_heads WHERE sign = 'positive' ORDER BY k")
    assert [(row["task_a"], row["task_b"], row["k"], row["overlap"]) for row in rows] == [
        ("scenes/color", "scenes/material", 1, 0),
        ("scenes/color", "scenes/material", 2, 1),
    ]
    assert (rows[1]["category_a"], rows[1]["category_b"]) == ("color", "material")
    assert rows[1]["jaccard"] == pytest.approx(1 / 3)
    assert rows[1]["expected"] == pytest.approx(2 * 2 / 20)
    assert (rows[1]["level_a"], rows[1]["level_b"], rows[1]["heads_total"]) == ("attribute", "attribute", 20)


def test_shared_heads_are_null_where_fewer_than_k_heads_pass(store: Store) -> None:
    scored_run(store, "color", {(0, 1): "positive", (1, 2): "positive"})
    scored_run(store, "material", {(0, 1): "positive"})
    rows = selected(store, "SELECT k, overlap, jaccard, eligible_b FROM shared_heads WHERE sign = 'positive' ORDER BY k")
    assert rows == [
        {"k": 1, "overlap": 0, "jaccard": 0.0, "eligible_b": 1},
        {"k": 2, "overlap": None, "jaccard": None, "eligible_b": 1},
    ]
    negative = selected(store, "SELECT overlap FROM shared_heads WHERE sign = 'negative'")
    assert [row["overlap"] for row in negative] == [None, None]


def test_shared_heads_never_compare_models_splits_or_operations_with_one_another(store: Store) -> None:
    signs = {(0, 1): "positive", (1, 2): "positive"}
    scored_run(store, "color", signs)
    scored_run(store, "material", signs, model=model_info(name="big", weights_hash="b"))
    scored_run(store, "shape", signs, split="hard")
    run = store.ensure_run(run_spec(dataset="scenes/spatial", category="spatial", level="relation"))
    store.replace_scores("head_scores", run, grid(signs, operation="zero"), [])
    assert selected(store, "SELECT * FROM shared_heads") == []


def test_the_views_stay_fast_on_a_model_of_a_thousand_heads(store: Store) -> None:
    signs = {(layer, layer % 32): "positive" for layer in range(32)}
    for number in range(7):
        run = store.ensure_run(run_spec(dataset=f"scenes/{number}", category=str(number)))
        store.replace_scores("head_scores", run, grid(signs, layers=32, heads=32), [])
        store.finish_run(run)
    _, rows, _ = run_query(store.label, "SELECT k, overlap FROM shared_heads WHERE sign = 'positive'", limit_seconds=15)
    assert len(rows) == 21 * 14
    assert dict(rows)[10] == 10


def test_a_claim_needs_its_columns_in_the_database_too(store: Store) -> None:
    scored_run(store, "color", {})
    with pytest.raises(StoreError, match=r"(?i)check constraint|out of range"), store.transaction() as connection:
        connection.exec_driver_sql("UPDATE stored_head_scores SET q_positive = 9e999")
