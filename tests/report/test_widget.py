"""The widget of a notebook in a real browser: it draws the page's own views in a cell, and touches nothing else of the notebook."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.report.stored import HEADS, LAYERS, MODEL, TASKS, build_database
from tests.report.test_browser import CHROMIUM, Opened, browser  # noqa: F401
from vseam_core.report.data.page_data import PageData
from vseam_core.report.data.study import study_page_data
from vseam_core.report.page import report_page, widget_sources
from vseam_core.report.tables.closing import closing_tables
from vseam_core.results.stored_study import find_study, read_material
from vseam_core.store import open_store

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: `apt-get install chromium`")

# What anywidget does: the module is loaded from a blob, and `render` is called with a model and an element.
SHOW = """async ({ script, style, blocks, views }) => {
  const address = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  const widget = (await import(address)).default;
  document.head.append(Object.assign(document.createElement("style"), { textContent: style }));
  const cell = document.createElement("div");
  document.body.append(cell);
  const values = { blocks, views };
  window.takeAway = widget.render({ model: { get: (name) => values[name] }, el: cell });
}"""
NOTEBOOK = """<body style="background: rgb(17, 17, 17); color: white"><h3>a heading of the notebook</h3><button>Run</button>
<div id="page">a place of the notebook's own</div></body>"""


@pytest.fixture(scope="module")
def page_data(tmp_path_factory: pytest.TempPathFactory) -> PageData:
    with open_store(build_database(tmp_path_factory.mktemp("made") / "results.db"), create=False) as store:
        chosen = find_study(store, ["made"])
        material = read_material(store, chosen)
        return study_page_data(store, chosen, material, closing_tables(material))


@pytest.fixture
def notebook(browser: Any) -> Iterator[Opened]:  # noqa: F811
    found = Opened(browser.new_page(viewport={"width": 1000, "height": 800}))
    found.page.set_content(NOTEBOOK)
    yield found
    found.page.close()


def shown(notebook: Opened, data: PageData, *views: str) -> Any:
    """The widget with these views, in the notebook."""
    script, style = widget_sources()
    notebook.page.evaluate(SHOW, {"script": script, "style": style, "blocks": data.blocks(), "views": list(views)})
    return notebook.page.locator(".vseam").first


def fills(view: Any) -> list[str]:
    """The colours of a grid's cells."""
    found: list[str] = (
        view.locator("svg.grid").first.locator("rect[fill^='#']").evaluate_all("cells => cells.map(cell => cell.getAttribute('fill'))")
    )
    return found


def test_the_head_map_of_a_cell_is_that_of_the_page(notebook: Opened, page_data: PageData, browser: Any, tmp_path: Path) -> None:  # noqa: F811
    cell = shown(notebook, page_data, "heads")
    (tmp_path / "index.html").write_text(report_page(page_data), encoding="utf-8")
    page = Opened(browser.new_page(viewport={"width": 1400, "height": 900}, color_scheme="dark"))
    page.page.goto((tmp_path / "index.html").as_uri())
    assert fills(cell) == fills(page.show("heads"))
    assert len(fills(cell)) >= LAYERS * HEADS
    page.page.close()


def test_a_head_is_told_under_the_pointer_and_chosen_by_a_click(notebook: Opened, page_data: PageData) -> None:
    cell = shown(notebook, page_data, "heads")
    layer, head = TASKS["scenes/color"][2]
    grid = cell.locator("svg.grid")
    geometry = grid.evaluate("node => ({...node.geometry, scale: node.getBoundingClientRect().width / node.geometry.size[0]})")
    place = {
        "x": (geometry["left"] + geometry["width"] * (head + 0.5)) * geometry["scale"],
        "y": (geometry["top"] + geometry["height"] * (layer + 0.5)) * geometry["scale"],
    }
    grid.hover(position=place)
    told = notebook.page.locator(".vseam .tooltip")
    assert f"L{layer}H{head}" in told.inner_text()
    assert told.evaluate("node => getComputedStyle(node).position") == "fixed"
    grid.click(position=place)
    assert f"L{layer}H{head} in {MODEL}" in cell.locator(".panel").inner_text()
    assert notebook.problems == []


def test_several_views_stand_below_one_another_and_links_stay_in_the_cell(notebook: Opened, page_data: PageData) -> None:
    cell = shown(notebook, page_data, "findings", "heads", "traces")
    assert cell.locator("section > h3").all_inner_texts() == ["What was found", "Head map", "Trace map"]
    before = notebook.page.url
    cell.locator("ol.findings a", has_text="evidence").first.click()
    assert cell.locator(".panel h4").inner_text().endswith(f"in {MODEL}")
    assert notebook.page.url == before
    assert [url for url in notebook.requests if not url.startswith(("data:", "blob:", "about:"))] == []


def test_the_rest_of_a_notebook_looks_as_before_and_a_cell_is_emptied(notebook: Opened, page_data: PageData) -> None:
    look = """() => ['h3', 'button', '#page', 'body'].map((name) => {
      const style = getComputedStyle(document.querySelector(name));
      return [style.fontSize, style.color, style.backgroundColor, style.padding, style.margin];
    })"""
    before = notebook.page.evaluate(look)
    cell = shown(notebook, page_data, "heads")
    assert notebook.page.evaluate(look) == before
    assert cell.get_attribute("data-theme") == "dark"
    assert cell.evaluate("node => getComputedStyle(node).backgroundColor") == "rgb(23, 24, 27)"
    notebook.page.evaluate("takeAway()")
    assert notebook.page.locator(".vseam").count() == 0
