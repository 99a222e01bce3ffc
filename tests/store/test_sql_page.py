"""docs/sql.md: every statement on the page runs, the three that users ask most give the right rows, every table is named."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from vseam_core.runs.spec import UnitResult
from vseam_core.store import Store
from vseam_core.store.query import run_query
from vseam_core.store.schema import metadata
from vseam_core.store.views import VIEWS

from .builders import head_unit, model_info, modulation, run_spec, score_row

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
    columns, rows, truncated = run_query(store.label, sql)
    assert not truncated
    return [dict(zip(columns, row, strict=True)) for row in rows]


@pytest.fixture
def filled(store: Store) -> Store:
    for category, (level, signs) in TASKS.items():
        spec = run_spec(dataset=f"scenes/{category}", category=category, level=level, model=model_info(weights_hash="3f2a77"))
        run = store.ensure_run(spec)
        rows = [score_row(layer, head, signs.get((layer, head), "none")) for layer in range(4) for head in range(3)]
        store.replace_scores("head_scores", run, pd.DataFrame(rows), "h")
    skipped = UnitResult("s", "lost picture", status="skipped", reason="cannot be read")
    store.save(run, [head_unit(0), skipped, UnitResult("m", "fit", modulations=(modulation(),))])
    cell = {
        **{"tracer": "tokenwise", "stack": "decoder", "site_kind": "mlp_output", "direction": "denoising"},
        **{"measure": "logit_diff", "layer": 3, "column_label": "object", "subset": "all", "n": 12, "mean": 0.5},
        **{"column_kind": "position"},
    }
    store.replace_scores("trace_scores", run, pd.DataFrame([cell]), "h")
    figures = {"pool": "test", "split": "plain", "change": "", "subset": "all", "n": 40, "clusters": 40, "value": 0.9}
    store.replace_scores("evaluations", run, pd.DataFrame([{**figures, "metric": "accuracy", "compared_with": 0}]), "h")
    store.replace_scores("evaluations", run, pd.DataFrame([{**figures, "metric": "gain", "compared_with": 1}]), "h")
    other = store.ensure_run(run_spec(model=model_info(name="big", weights_hash="99")))
    store.replace_scores("head_scores", other, pd.DataFrame([score_row(0, 1, "positive")]), "h")
    return store


@pytest.mark.parametrize("sql", STATEMENTS, ids=lambda sql: " ".join(sql.split()[:6]))
def test_every_statement_on_the_page_runs_and_finds_something(sql: str, filled: Store) -> None:
    assert answers(filled, sql)


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
    assert [row["dataset"] for row in rows] == [f"scenes/{category}" for category in TASKS]


def test_the_page_names_every_table_and_view() -> None:
    for name in (*metadata.tables, *VIEWS):
        assert f"`{name}`" in PAGE, name
