"""Charts and tables of the page in a real browser: what tells their rows apart, what their axes span, and how their columns sort."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.report.conftest import BuildStudy
from tests.report.test_browser import CHROMIUM, Opened, browser, large_page  # noqa: F401
from tests.report.test_method_views import MODEL, with_methods
from vseam_core.report.data.comparison import COLUMNS
from vseam_core.report.data.page_data import PageData
from vseam_core.report.data.study import tables_page_data
from vseam_core.report.page import report_page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: `apt-get install chromium`")
Show = Callable[[PageData], Opened]


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Show]:  # noqa: F811
    opened: list[Opened] = []

    def shown(page: PageData) -> Opened:
        (tmp_path / "index.html").write_text(report_page(page), encoding="utf-8")
        found = Opened(browser.new_page(viewport={"width": 1400, "height": 900}))
        found.page.goto((tmp_path / "index.html").as_uri())
        opened.append(found)
        return found

    yield shown
    for found in opened:
        assert found.problems == []
        found.page.close()


def ablation(operation: str) -> dict[str, Any]:
    effect = {"selected": 0.4, "random": [0.1, 0.2], "mean": 0.15, "p": 0.02}
    curve = [
        {"condition": condition, "size": size, "n": 20, "accuracy": 0.9, "mean_logit_diff": 3.0 - size, "heads": []}
        for condition, size in (("base", 0), ("cumulative", 1), ("cumulative", 2))
    ]
    about = {"model": "tiny", "dataset": "colors", "label": "color", "split": "plain", "sign": "positive", "operation": operation}
    return {
        **about,
        "heads": ["L1H2"],
        "n": 20,
        "measure": "accuracy",
        "base": 0.9,
        "exploratory": False,
        "effect": effect,
        "nats": effect,
        "curve": curve,
    }


def test_rows_of_two_operations_say_which_is_which(show: Show) -> None:
    page = PageData("made")
    page.content["ablations"] = [ablation("resample"), ablation("mean_of_others")]
    drawings = show(page).show("ablation").locator("svg.drawing")
    for place in (0, 1):
        words = drawings.nth(place).locator("text").all_text_contents()
        assert {"color, positive, resample", "color, positive, mean of others"} <= set(words)


def test_one_operation_goes_without_saying(show: Show) -> None:
    page = PageData("made")
    page.content["ablations"] = [ablation("resample")]
    assert "color, positive" in show(page).show("ablation").locator("svg.drawing text").all_text_contents()


@pytest.mark.parametrize("width", [1400, 400])
def test_the_name_of_a_head_in_the_first_layer_does_not_cover_the_numbers_of_the_columns(show: Show, width: int) -> None:
    opened = show(large_page())
    opened.page.set_viewport_size({"width": width, "height": 900})
    drawing = opened.show("heads").locator("svg.grid")
    opened.wait_until(f"document.querySelector('#heads svg.grid').clientWidth <= {width}")
    names = drawing.locator("text.halo").evaluate_all("all => all.map(one => [one.textContent, one.getBoundingClientRect().top])")
    bottom = drawing.locator("text", has_text=re.compile("^30$")).last.evaluate("node => node.getBoundingClientRect().bottom")
    assert any(name.startswith("L0H") for name, _ in names)
    assert all(top >= bottom - 3 for _, top in names)


@pytest.mark.parametrize("width", [1400, 400])
def test_signs_of_claims_are_as_large_as_other_letters_or_left_out(show: Show, width: int) -> None:
    page = large_page()
    for scan in page.content["scans"]:
        scan["states"] = {"positive": {"shown": True, "resolved": True, "words": ""}}
    opened = show(page)
    opened.page.set_viewport_size({"width": width, "height": 900})
    drawing = opened.show("heads").locator("svg.grid")
    opened.wait_until(f"document.querySelector('#heads svg.grid').clientWidth <= {width}")
    sizes = drawing.locator("text").evaluate_all("all => all.map(one => parseFloat(getComputedStyle(one).fontSize))")
    assert min(sizes) >= 11


def test_the_largest_difference_comes_first_whichever_way_it_goes(show: Show) -> None:
    page = PageData("made")
    values = np.zeros((len(COLUMNS), 4))
    values[0] = [0.2, -0.3, 0.1, 0.0]
    about = {"run": 1, "model": "tiny", "dataset": "colors", "operation": "zero", "positions": "all", "stack": "decoder", "words": "zero"}
    about |= {"measure": "logit_diff", "unit": "nats", "layers": 2, "heads": 2, "sql": "SELECT 1", "effects": None, "caption": ""}
    states = {"difference": {"shown": True, "resolved": True, "words": "n = 9"}}
    sizes = dict.fromkeys(("n", "n_sampled", "n_correct", "n_wrong"), 9)
    page.content["scans"] = [
        {**about, **sizes, "columns": list(COLUMNS), "values": page.array(values, "float64"), "states": states},
    ]
    panel = show(page).show("heads").locator(".panel")
    assert panel.locator("h4").inner_text() == "L0H1 in tiny"
    assert "1 of 4" in panel.inner_text()


def test_a_caption_says_how_many_images_its_figure_rests_on_and_nothing_of_what_it_does_not_show(show: Show) -> None:
    page = PageData("made")
    page.content["ablations"] = [ablation("resample"), ablation("zero") | {"n": 24}]
    nothing = {"gain": 0.1, "gain_low": 0.05, "gain_high": 0.15, "p_value": 0.01}
    about = {"model": "tiny", "dataset": "colors", "label": "color", "split": "plain", "unchanged": False, "base": 0.8, "n": 16}
    page.content["rescalings"] = [{**about, "strength": 1.0, "scales": {}, "gains": [{"role": "fitted", **nothing}]}]
    opened = show(page)
    captions = opened.show("ablation").locator("figcaption").all_inner_texts()
    assert all("n = 20 to 24 test images" in caption for caption in captions)
    assert "expl." not in captions[0]
    (gains,) = opened.show("rescaling").locator("figcaption").all_inner_texts()
    assert "(n = 16)" in gains
    assert "No change" not in gains


def test_an_axis_spans_what_is_drawn_and_no_interval_that_is_not(show: Show) -> None:
    page = PageData("made")
    nothing = {"gain": 0.0, "gain_low": None, "gain_high": None, "p_value": None}
    gains = [{"role": "fitted", **nothing}, {"role": "published", **nothing, "gain": 0.01, "gain_low": -0.3, "gain_high": 0.3}]
    about = {"model": "tiny", "dataset": "colors", "label": "color", "split": "plain", "unchanged": True, "base": 1.0, "n": 16}
    page.content["rescalings"] = [{**about, "strength": 0.0, "scales": {}, "gains": gains}]
    words = show(page).show("rescaling").locator("svg.drawing text").all_text_contents()
    ticks = [float(text) for text in words if text.replace(".", "").isdigit()]
    assert max(ticks) <= 1


def test_a_number_stands_with_its_limits_and_sorts_as_a_number(show: Show, build_study: BuildStudy) -> None:
    view = show(tables_page_data(with_methods(build_study((MODEL,), ("color",))), [])).show("paths")
    heads = view.locator("thead th").all_inner_texts()
    assert [head.split()[0] for head in heads] == ["path", "part", "nats", "share", "estimate", "n"]
    column = view.locator("tbody tr td:nth-child(3)")
    assert column.first.inner_text() == "2 [1.5, 2.5]"
    view.locator("thead button", has_text="nats").click()
    assert [float(text.split()[0].replace("−", "-")) for text in column.all_inner_texts()] == [-1, 0, 1, 2]


def test_a_column_of_which_nothing_is_known_is_left_out(show: Show, build_study: BuildStudy) -> None:
    view = show(tables_page_data(with_methods(build_study((MODEL,), ("color",))), [])).show("comparison")
    heads = view.locator("thead th").all_inner_texts()
    assert "F1" not in heads
    assert heads[:4] == ["method", "setting", "accuracy", "gain"]
    assert view.locator("tbody tr", has_text="vcd").first.locator("td").nth(3).inner_text() == "0.025 [−0.01, 0.06]"
