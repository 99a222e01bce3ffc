"""Every view in a real browser, as wide as a telephone: letters keep their size, nothing is cut off, the window is no wider than it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.report.conftest import BuildStudy
from tests.report.stored import build_database
from tests.report.test_browser import CHROMIUM, Opened, browser  # noqa: F401
from tests.report.test_method_views import MODEL, with_methods
from vseam_core.report.data.study import study_page_data, tables_page_data
from vseam_core.report.page import report_page
from vseam_core.report.tables.closing import closing_tables
from vseam_core.results.stored_study import find_study, read_material
from vseam_core.store import open_store

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: `apt-get install chromium`")
NARROW, LEAST_LETTERS = 400, 10.99
# How large the letters of every drawing are on the screen, and their words.
LETTERS = """() => [...document.querySelectorAll('svg:not(svg svg)')].flatMap((drawing) => {
  const scale = drawing.getBoundingClientRect().width / (drawing.viewBox.baseVal.width || 1);
  return [...drawing.querySelectorAll('text')].map((text) => [scale * parseFloat(getComputedStyle(text).fontSize), text.textContent]);
})"""
# Drawings that are cut off: wider than their place, which does not scroll.
CUT = """() => [...document.querySelectorAll('svg:not(svg svg)')].filter((drawing) => {
  const place = drawing.parentElement;
  return drawing.getBoundingClientRect().width > place.clientWidth + 1 && getComputedStyle(place).overflowX !== 'auto';
}).length"""
# Words that lie outside their drawing, to the left or right.
OUTSIDE = """() => [...document.querySelectorAll('svg:not(svg svg)')].flatMap((drawing) => {
  const box = drawing.getBoundingClientRect();
  return [...drawing.querySelectorAll('text')].filter((text) => {
    const own = text.getBoundingClientRect();
    return own.width && (own.left < box.left - 1 || own.right > box.right + 1);
  }).map((text) => text.textContent);
})"""


@pytest.fixture(scope="module")
def pages(build_study: BuildStudy, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A page with every view that tables fill, and one from a database, with maps of single samples and of heads."""
    folder = tmp_path_factory.mktemp("narrow")
    material = with_methods(build_study((MODEL,), ("animal", "color", "material")))
    (folder / "tables.html").write_text(report_page(tables_page_data(material, closing_tables(material))), encoding="utf-8")
    with open_store(build_database(folder / "results.db"), create=False) as store:
        chosen = find_study(store, ["made"])
        stored = read_material(store, chosen)
        (folder / "stored.html").write_text(report_page(study_page_data(store, chosen, stored, closing_tables(stored))), encoding="utf-8")
    return folder / "tables.html", folder / "stored.html"


@pytest.fixture(params=[0, 1], ids=["tables", "stored"])
def narrow(request: pytest.FixtureRequest, browser: Any, pages: tuple[Path, Path]) -> Iterator[Opened]:  # noqa: F811
    found = Opened(browser.new_page(viewport={"width": NARROW, "height": 800}, color_scheme="dark", reduced_motion="reduce"))
    found.page.goto(pages[request.param].as_uri())
    yield found
    found.page.close()


def settled(opened: Opened) -> None:
    """Until drawings have the width that they are shown at."""
    opened.page.evaluate(
        "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => requestAnimationFrame(done))))"
    )


def views(opened: Opened) -> list[str]:
    return [str(section.get_attribute("id")) for section in opened.page.locator("section").all()]


def test_letters_of_every_drawing_are_large_enough_and_nothing_is_cut_off(narrow: Opened) -> None:
    for view in views(narrow):
        narrow.show(view)
        settled(narrow)
        small = [(size, words) for size, words in narrow.page.evaluate(LETTERS) if size < LEAST_LETTERS]
        assert small == [], view
        assert narrow.page.evaluate(CUT) == 0, view
        assert narrow.page.evaluate(OUTSIDE) == [], view
        assert narrow.page.evaluate("document.documentElement.scrollWidth") <= NARROW, view
    assert narrow.problems == []


@pytest.mark.parametrize("narrow", [1], indirect=True)
def test_a_drawing_grows_and_shrinks_with_its_window_and_keeps_what_is_chosen(narrow: Opened) -> None:
    drawing = narrow.show("heads").locator("svg.grid")
    settled(narrow)
    before = drawing.evaluate("node => node.clientWidth")
    narrow.page.set_viewport_size({"width": 1000, "height": 800})
    settled(narrow)
    wide = drawing.evaluate("node => node.clientWidth")
    assert wide > before
    assert drawing.locator(".picked").get_attribute("visibility") == "visible"
    narrow.page.set_viewport_size({"width": NARROW, "height": 800})
    settled(narrow)
    assert drawing.evaluate("node => node.clientWidth") == before


def test_the_keyboard_alone_reaches_every_drawing_and_each_tells_something(narrow: Opened) -> None:
    for view in views(narrow):
        section = narrow.show(view)
        settled(narrow)
        for drawing in section.locator("svg.drawing").all():
            drawing.focus()
            assert drawing.evaluate("node => node === document.activeElement"), view
            narrow.page.keyboard.press("ArrowRight")
            assert narrow.page.locator(".tooltip").inner_text(), view
            narrow.page.keyboard.press("Escape")


def test_nothing_is_wider_than_paper(narrow: Opened) -> None:
    narrow.page.set_viewport_size({"width": 720, "height": 1000})
    for view in views(narrow):
        narrow.show(view)
    for fold in narrow.page.locator("details").all():
        fold.evaluate("node => { node.open = true; }")
    narrow.page.emulate_media(media="print")
    settled(narrow)
    assert narrow.page.evaluate("document.documentElement.scrollWidth") <= 720


def test_a_section_that_is_gone_to_is_not_covered_by_the_contents(narrow: Opened) -> None:
    for view in views(narrow)[1:]:
        heading = narrow.show(view).locator("h2").first
        settled(narrow)
        bottom = narrow.page.locator("nav.contents").evaluate("node => node.getBoundingClientRect().bottom")
        assert heading.evaluate("node => node.getBoundingClientRect().top") >= bottom, view


def test_what_a_chart_says_is_told_under_a_finger_too(browser: Any, pages: tuple[Path, Path]) -> None:  # noqa: F811
    context = browser.new_context(viewport={"width": NARROW, "height": 800}, has_touch=True)
    found = Opened(context.new_page())
    found.page.goto(pages[1].as_uri())
    view = found.show("heads")
    settled(found)
    box = view.locator("svg.grid").bounding_box()
    assert box is not None
    found.page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert found.page.locator(".tooltip").inner_text().startswith("L")
    found.page.touchscreen.tap(box["x"] + 5, box["y"] - 60)
    assert not found.page.locator(".tooltip").is_visible()
    context.close()


def test_names_of_points_do_not_lie_on_one_another_and_numbers_have_room_beside_their_words(browser: Any, pages: tuple[Path, Path]) -> None:  # noqa: F811
    found = Opened(browser.new_page(viewport={"width": NARROW, "height": 800}))
    found.page.goto(pages[0].as_uri())
    view = found.show("readings")
    settled(found)
    boxes = view.locator("svg.drawing text.halo").evaluate_all("all => all.map(one => one.getBoundingClientRect().toJSON())")
    assert boxes
    for place, one in enumerate(boxes):
        for other in boxes[:place]:
            apart = one["left"] >= other["right"] or other["left"] >= one["right"]
            assert apart or abs(one["top"] - other["top"]) >= 11
    lines = view.locator("dd").first.evaluate("node => node.getClientRects()[0].height / parseFloat(getComputedStyle(node).lineHeight)")
    assert lines <= 3
    found.page.close()


def test_every_task_of_shared_heads_is_named(browser: Any, pages: tuple[Path, Path]) -> None:  # noqa: F811
    found = Opened(browser.new_page(viewport={"width": NARROW, "height": 800}))
    found.page.goto(pages[0].as_uri())
    words = found.show("shared").locator("svg.grid text").all_text_contents()
    assert all(words.count(name) == 2 for name in ("animal", "color", "material")), words
    found.page.close()
