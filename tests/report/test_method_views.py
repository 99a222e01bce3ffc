"""The views of further methods in a real browser, at two widths: what each shows, and that nothing goes wrong or leaves the machine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.report.conftest import BuildStudy
from vseam_core.report.data.study import tables_page_data
from vseam_core.report.page import report_page
from vseam_core.report.tables.closing import closing_tables
from vseam_core.results.study_results import StudyMaterial

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: `apt-get install chromium`")
MODEL, DATASET = "llava-tiny", "scenes/color"
LABELS = {"model": MODEL, "dataset": DATASET, "category": "color", "level": "attribute"}
VIEWS = ("readings", "paths", "directions", "comparison")
MARKUP = "<b>vcd</b>"


TESTED = [f"{gain}{end}" for gain in ("gain", "gain_over_threshold", "own_threshold_gain") for end in ("", "_low", "_high", "_p", "_q")]
UNKNOWN = (
    *("chosen_accuracy", "accuracy", "accuracy_low", "accuracy_high", "f1", "yes_ratio", "own_threshold", "own_threshold_accuracy"),
    *("seconds_per_answer", "forward_passes_per_answer"),
)


def compared() -> pd.DataFrame:
    """The model as it is, a threshold, a method whose name looks like markup, and one that was refused."""
    empty: dict[str, Any] = dict.fromkeys((*TESTED, *UNKNOWN))
    empty |= {"reason": "", "change": "", "tried": 1, "skips": 0, "n": 40, "n_choose": 20, "split": "hard"}
    measured = {"accuracy": 0.87, "accuracy_low": 0.8, "accuracy_high": 0.93, "own_threshold_accuracy": 0.88}
    gain = {"gain": 0.025, "gain_low": -0.01, "gain_high": 0.06, "gain_p": 0.2, "gain_q": 0.4}
    rows = [
        {**empty, **measured, "method": "none"},
        {**empty, **measured, "method": "threshold", "gain": 0.01, "gain_low": -0.02, "gain_high": 0.04},
        {**empty, **measured, **gain, "method": MARKUP, "change": "vcd (alpha=1)"},
        {**empty, "method": "pai", "reason": "it has no image positions"},
    ]
    return pd.DataFrame(rows)


def directions() -> pd.DataFrame:
    common = {"fitted": 1.0, "low": 0.4, "norm": 1.0, "n_fitted": 40, "n_held_out": 40, "images": 20, "site": "residual_after"}
    cells = [(layer, kind) for layer in range(4) for kind in ("difference", "probe", "random")]
    return pd.DataFrame(
        [{**common, "layer": layer, "kind": kind, "held_out": 0.5 + 0.1 * layer, "high": 0.6 + 0.1 * layer} for layer, kind in cells]
    )


def screening() -> pd.DataFrame:
    row = {"direction": "noising", "positions": "all", "n": 6, "estimated": 300, "top": 3, "random": 1, "integrated_steps": 5, "scale": 1.2}
    row |= {"rank_correlation": 0.7, "rank_top": 0.5, "rank_random": None, "strongest": 1, "threshold": 1.0}
    return pd.DataFrame([row | {"recall": 1.0, "recall_low": 0.1, "recall_high": 1.0}])


def paths() -> pd.DataFrame:
    common = {"part": "top", "estimate": 1.0, "share": 0.2, "share_low": 0.1, "share_high": 0.3, "n": 6, "images": 12}
    ends = [("embeddings", "L0H2.v"), ("L0H2", "L1.mlp"), ("L1.mlp", "logits"), ("L0H1", "L3H0.q")]
    rows = [
        {**common, "sender": sender, "receiver": receiver, "mean": 2.0 - place, "low": 1.5 - place, "high": 2.5 - place}
        for place, (sender, receiver) in enumerate(ends)
    ]
    return pd.DataFrame(rows)


def readings() -> pd.DataFrame:
    row = {"tracer": "gaze", "site_kind": "gaze_over_area", "reading": "looks at it", "operation": "resample", "p_value": 0.3}
    row |= {"rank_correlation": 0.2, "low": -0.1, "high": 0.4, "heads": 48, "n_readings": 30, "n_effects": 90, "images": 90}
    return pd.DataFrame([{**row, "effect": effect} for effect in ("signed", "size")])


def gaze() -> pd.DataFrame:
    """What is read of each of 6 × 8 heads."""
    cells = [{"layer": layer, "column_label": f"H{head}", "mean": 0.01 * layer} for layer in range(6) for head in range(8)]
    about = {"tracer": "gaze", "site_kind": "gaze_over_area", "direction": "clean", "subset": "all", "measure": "weight", "n": 30}
    return pd.DataFrame(cells).assign(**about, **LABELS, stack="decoder", column_kind="group")


def with_methods(material: StudyMaterial) -> StudyMaterial:
    """A study with what every further method leaves, made up."""
    about: dict[str, Any] = {"run_id": 1, **LABELS}
    return replace(
        material,
        comparisons=compared().assign(**about),
        direction_scores=directions().assign(**about),
        path_screenings=screening().assign(**about),
        screened_paths=paths().assign(**about),
        reading_tests=readings().assign(**about),
        traces=pd.concat([material.traces, gaze()], ignore_index=True),
    )


@pytest.fixture(scope="module")
def page(build_study: BuildStudy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    material = with_methods(build_study((MODEL,), ("color",), drop=("ablations", "modulations", "shared", "level_tests")))
    file = tmp_path_factory.mktemp("page") / "index.html"
    file.write_text(report_page(tables_page_data(material, closing_tables(material))), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (extra dev)")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=CHROMIUM, headless=True, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture(scope="module", params=[1400, 800])
def shown(request: pytest.FixtureRequest, browser: Any, page: Path) -> Iterator[tuple[Any, list[str]]]:
    problems: list[str] = []
    opened = browser.new_page(viewport={"width": request.param, "height": 900})
    opened.on("console", lambda message: problems.append(message.text))
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("request", lambda asked: None if asked.url.startswith(("file:", "data:")) else problems.append(asked.url))
    opened.goto(page.as_uri())
    for view in VIEWS:
        opened.evaluate(f"location.hash = '{view}'")
        opened.locator(f"section#{view}.built").wait_for()
    yield opened, problems
    opened.close()


def test_every_view_is_drawn_without_a_problem_and_fits_the_window(shown: tuple[Any, list[str]]) -> None:
    opened, problems = shown
    assert problems == []
    for view in VIEWS:
        assert opened.locator(f"section#{view} svg.drawing").count() >= 1, view
    assert opened.evaluate("document.documentElement.scrollWidth") <= opened.evaluate("innerWidth")


def test_a_comparison_says_what_was_measured_what_was_refused_and_takes_no_name_for_markup(shown: tuple[Any, list[str]]) -> None:
    view = shown[0].locator("section#comparison")
    assert view.locator("svg.drawing text", has_text=MARKUP).count() == 1
    rows = view.locator("tbody tr").all_inner_texts()
    assert len(rows) == 4
    assert "it has no image positions" in rows[3]
    assert "40 test samples of the split hard" in view.locator("figcaption").inner_text()


def test_points_lines_and_curves_are_as_many_as_there_are_heads_kinds_and_paths(shown: tuple[Any, list[str]]) -> None:
    opened = shown[0]
    assert opened.locator("section#readings svg.drawing circle[fill-opacity]").count() == 48
    assert "0.2 [−0.1, 0.4], p = 0.3 (48 heads)" in opened.locator("section#readings dd").first.inner_text()
    assert opened.locator("section#directions svg.drawing path[stroke-width='2']").count() == 3
    assert opened.locator("section#paths svg.drawing g path").count() == 4
    words = opened.locator("section#paths svg.drawing text").all_text_contents()
    assert {"embeddings", "logits", "H2", "mlp"} <= set(words)


def test_the_keyboard_reaches_every_point_and_the_strongest_path(shown: tuple[Any, list[str]]) -> None:
    opened = shown[0]
    for view, words in (("readings", "L0H0"), ("paths", "embeddings → L0H2.v")):
        drawing = opened.locator(f"section#{view} svg.drawing")
        drawing.focus()
        opened.keyboard.press("ArrowRight")
        assert words in opened.locator(".tooltip").inner_text(), view
        opened.keyboard.press("Escape")


def test_a_study_without_them_has_none_of_these_views(build_study: BuildStudy) -> None:
    content = tables_page_data(build_study((MODEL,), ("color",)), []).content
    assert [content[name] for name in ("comparisons", "screened_paths", "directions", "readings")] == [[], [], [], []]
