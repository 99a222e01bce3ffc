"""docs/sql.md: every statement on the page runs, the three that users ask most give the right rows, every table is named."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from vseam_core.runs.spec import Answer, RunSpec, UnitResult
from vseam_core.store import Store
from vseam_core.store.method_tables import SLICES as METHOD_SLICES
from vseam_core.store.query import run_query
from vseam_core.store.schema import metadata
from vseam_core.store.views import VIEWS

from .builders import ablation, baseline, head_unit, model_info, modulation, run_spec, sample, score_row
from .test_replacing import ROWS

PAGE = (Path(__file__).parents[2] / "docs" / "sql.md").read_text(encoding="utf-8")
STATEMENTS = re.findall(r"```sql\n(.*?)```", PAGE, flags=re.DOTALL)
TASKS = {
    "color": ("attribute", {(0, 1): "positive", (1, 2): "positive", (1, 0): "negative", (0, 0): "positive"}),
    "material": ("attribute", {(0, 1): "positive", (1, 2): "positive", (1, 0): "negative"}),
    "spatial": ("relation", {(1, 2): "positive"}),
    "action": ("relation", {(0, 2): "positive"}),
    "animal": ("object", {(0, 1): "positive"}),
}


def statement(start: str) -> str:
    """The statement that follows a sentence of the page."""
    return PAGE.split(start)[1].split("```sql\n")[1].split("```")[0]


def answers(store: Store, sql: str) -> list[dict[str, Any]]:
    if store.label.startswith("postgresql"):
        sql = sql.replace("json_each(units.details, '$.directions')", "json_array_elements(units.details::json -> 'directions')")
        sql = re.sub(r"json_extract\(row.value, '\$\.(\w+)'\)", r"(row.value ->> '\1')", sql)
        sql = sql.replace("json_each(latest_modulations.scales)", "json_each_text(latest_modulations.scales::json)")
    columns, rows, truncated = run_query(store.label, sql)
    assert not truncated
    return [dict(zip(columns, row, strict=True)) for row in rows]


def fill(store: Store) -> None:
    """Every kind of result, from an exact scan and after it from a screened one, with a sample whose image was replaced."""
    for kind, screening in (("exact", {}), ("screened", {"screening": {"top": 8}})):
        for category, (level, signs) in TASKS.items():
            weights = model_info(weights_hash="3f2a77")
            spec = run_spec(dataset=f"scenes/{category}", category=category, level=level, model=weights, configuration=screening)
            run = store.ensure_run(spec)
            rows = [score_row(layer, head, signs.get((layer, head), "none")) for layer in range(4) for head in range(3)]
            # A screening replaces some heads only.
            store.replace_scores("head_scores", run, pd.DataFrame(rows if kind == "exact" else rows[:10]), [])
            store.finish_run(run)
    skipped = UnitResult("s", "lost image", status="skipped", reason="cannot be read")
    changed = UnitResult("m", "fit", modulations=(modulation(),), ablations=(ablation(),))
    store.save(run, [head_unit(0), skipped, changed, answered("old", True)])
    store.make_current(run, {"new": "question"})
    store.save(run, [answered("new", False)])
    fill_traces(store, run, spec)
    figures = {"pool": "test", "split": "plain", "change": "", "subset": "all", "n": 40, "clusters": 40, "value": 0.9}
    store.replace_scores("evaluations", run, pd.DataFrame([{**figures, "metric": "accuracy", "compared_with": 0}]), ["key-0"])
    store.replace_scores("evaluations", run, pd.DataFrame([{**figures, "metric": "gain", "compared_with": 1}]), ["key-0"])
    shared = {
        **{"model": "tiny", "pool": "score", "operation": "resample", "positions": "all", "measure": "logit_diff", "stack": "decoder"},
        **{"task_a": "scenes/color", "task_b": "scenes/material", "level_a": "attribute", "level_b": "attribute", "sign": "positive"},
        **{"k": 1, "overlap": 1, "n_a": 2, "n_b": 2, "status": "tested", "p_value": 0.5, "null_name": "layer-stratified"},
    }
    store.replace_scores("shared_head_tests", None, pd.DataFrame([shared]), [])
    store.finish_run(run)
    other = store.ensure_run(run_spec(model=model_info(name="big", weights_hash="99")))
    store.replace_scores("head_scores", other, pd.DataFrame([score_row(0, 1, "positive")]), [])
    store.finish_run(other)
    unfinished = store.ensure_run(run_spec(model=model_info(name="tiny", weights_hash="77")))
    store.replace_scores("head_scores", unfinished, pd.DataFrame([score_row(0, 2, "positive")]), [])


def fill_traces(store: Store, run: int, spec: RunSpec) -> None:
    """A cell of a trace in `run`, and in runs of their own what paths, screening, gaze and directions leave."""
    cell = {
        **{"tracer": "tokenwise", "stack": "decoder", "site_kind": "mlp_output", "direction": "denoising"},
        **{"measure": "logit_diff", "layer": 3, "column_label": "object", "subset": "all", "n": 12, "mean": 0.5},
        **{"column_kind": "position"},
    }
    others = (
        {"tracer": "paths", "site_kind": "head_output→mlp_output", "column_label": "L5H1"},
        {
            "tracer": "edge_screening",
            "site_kind": "head_output→mlp_output",
            "column_label": "L1H0→L5 MLP",
            "measure": "logit_diff_estimate",
        },
        {"tracer": "gaze", "site_kind": "gaze_over_area", "direction": "clean", "layer": 0, "column_label": "H1"},
    )
    store.replace_scores("trace_scores", run, pd.DataFrame([cell]), [])
    for other in others:
        traced = store.ensure_run(
            replace(spec, model=model_info(weights_hash="41"), method="trace", configuration={"tracer": other["tracer"]})
        )
        store.replace_scores("trace_scores", traced, pd.DataFrame([{**cell, **other}]), [])
        store.finish_run(traced)
    for table, row in ROWS.items():
        if table in METHOD_SLICES:
            found = store.ensure_run(replace(spec, model=model_info(weights_hash="41"), method="methods", configuration={}))
            store.replace_scores(table, found, pd.DataFrame([row]), [])


def answered(key: str, right: bool) -> UnitResult:
    one = sample(5)
    return UnitResult(
        key, "question", baselines=(baseline(one, correct=right),), answers=(Answer(one, "Yes", float(right), right),), subject="question"
    )


@pytest.fixture
def filled(store: Store) -> Store:
    fill(store)
    return store


def name_of(sql: str) -> str:
    return " ".join(sql.split()[:6])


@pytest.mark.parametrize("sql", STATEMENTS, ids=name_of)
def test_every_statement_on_the_page_runs_and_finds_something(sql: str, filled: Store) -> None:
    assert answers(filled, sql)


@pytest.mark.parametrize("sql", STATEMENTS, ids=name_of)
def test_every_statement_on_the_page_asks_for_one_row_per_finding_or_says_which_run(sql: str) -> None:
    read = set(re.findall(r"(?:FROM|JOIN) ([a-z_]+)", sql))
    per_finding = {name for name in read if name.startswith("latest_") or name in ("top_heads", "shared_heads")}
    assert per_finding or re.search(r"\bruns\.id\b|\bSELECT id\b", sql), sql
    assert not any(name.startswith("stored_") for name in read)


@pytest.mark.parametrize("sql", STATEMENTS, ids=name_of)
def test_no_statement_on_the_page_gives_a_row_twice(sql: str, filled: Store) -> None:
    rows = [tuple(row.items()) for row in answers(filled, sql)]
    assert len(set(rows)) == len(rows)


def test_after_an_exact_scan_and_a_screened_one_no_head_is_listed_twice(filled: Store) -> None:
    rows = answers(filled, "SELECT model, dataset, operation, positions, measure, sign, stack, layer, head, run_id FROM top_heads")
    heads = [tuple(row.values())[:-1] for row in rows]
    assert len(set(heads)) == len(heads)
    assert {row["run_id"] for row in rows if row["model"] == "tiny"} == {6, 7, 8, 9, 10}
    assert len(answers(filled, "SELECT * FROM ranked_heads WHERE model = 'tiny' AND dataset = 'scenes/color' AND sign = 'positive'")) == 23


def test_a_scan_that_is_asked_for_again_is_the_one_that_is_shown(filled: Store) -> None:
    filled.finish_run(1)
    rows = answers(filled, "SELECT DISTINCT run_id FROM top_heads WHERE model = 'tiny' AND dataset = 'scenes/color'")
    assert rows == [{"run_id": 1}]
    assert len(answers(filled, "SELECT * FROM top_heads WHERE dataset = 'scenes/color' AND sign = 'positive' AND model = 'tiny'")) == 12


def test_only_scans_of_one_kind_are_held_against_one_another(filled: Store) -> None:
    filled.finish_run(1)
    rows = answers(filled, "SELECT DISTINCT run_a, run_b, task_a, task_b FROM shared_heads")
    assert len({(row["task_a"], row["task_b"]) for row in rows}) == len(rows)
    assert {(row["run_a"] <= 5) == (row["run_b"] <= 5) for row in rows} == {True}


def test_accuracy_counts_every_question_once_and_as_it_is_now(filled: Store) -> None:
    rows = answers(filled, statement("Accuracy per model"))
    assert [(row["n"], row["accuracy"]) for row in rows] == [(2, 0.5)]
    assert answers(filled, "SELECT identifier, correct FROM latest_answers") == [{"identifier": sample(5).identifier, "correct": 0}]
    assert len(answers(filled, "SELECT * FROM stored_answers")) == 2


def test_one_select_lists_the_heads_per_model_and_category(filled: Store) -> None:
    rows = answers(filled, statement("The heads of each model and category"))
    color = [row for row in rows if (row["model"], row["category"]) == ("tiny", "color")]
    assert [(row["sign"], row["claim_rank"], row["layer"], row["head"]) for row in color] == [
        ("positive", 1, 1, 2),
        ("positive", 2, 0, 1),
        ("positive", 3, 0, 0),
        ("negative", 1, 1, 0),
    ]
    assert {row["model"] for row in rows} == {"big", "tiny"}
    assert len(rows) == 11


def test_one_select_finds_heads_shared_by_colour_and_material_but_by_no_relation(filled: Store) -> None:
    rows = answers(filled, statement("Heads shared by colour and material"))
    assert [(row["model"], row["sign"], row["layer"], row["head"]) for row in rows] == [
        ("tiny", "positive", 0, 1),
        ("tiny", "negative", 1, 0),
    ]


def test_one_select_finds_the_runs_that_used_given_weights(filled: Store) -> None:
    rows = answers(filled, statement("The runs that used given weights"))
    assert [row["dataset"] for row in rows] == [f"scenes/{category}" for category in TASKS] * 2


def test_the_page_names_every_table_and_view() -> None:
    for name in (*metadata.tables, *VIEWS):
        assert f"`{name}`" in PAGE, name
