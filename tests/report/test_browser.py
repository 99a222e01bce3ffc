"""The interactive page in a real browser, opened from disk: what it shows, what it asks for, and what it hands out."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.report.stored import HEADS, LAYERS, MARKUP, MODEL, TASKS, build_database, rows_of
from vseam_core.report.data.study import study_page_data
from vseam_core.report.page import report_page
from vseam_core.report.tables.closing import closing_tables
from vseam_core.results.stored_study import find_study, read_material
from vseam_core.store import open_store

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: `apt-get install chromium`")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


class Opened:
    """A page in the browser, and everything that went wrong on it or left the machine."""

    def __init__(self, page: Any) -> None:
        self.page, self.problems, self.requests = page, [], []
        page.on("console", lambda message: self.problems.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))

    def show(self, view: str) -> Any:
        """Go to a view and wait until it is drawn."""
        self.page.evaluate(f"location.hash = '{view}'")
        found = self.page.locator(f"section#{view}.built")
        found.wait_for()
        return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (extra dev)")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=CHROMIUM, headless=True, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_database(tmp_path_factory.mktemp("made") / "results.db")


@pytest.fixture(scope="module")
def opened(browser: Any, database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    with open_store(database, create=False) as store:
        chosen = find_study(store, ["made"])
        material = read_material(store, chosen)
        text = report_page(study_page_data(store, chosen, material, closing_tables(material)))
    file = tmp_path_factory.mktemp("page") / "index.html"
    file.write_text(text, encoding="utf-8")
    found = Opened(browser.new_page(viewport={"width": 1400, "height": 900}, accept_downloads=True))
    found.page.goto(file.as_uri())
    yield found
    found.page.close()


def saved(opened: Opened, button: Any, folder: Path) -> Path:
    with opened.page.expect_download() as download:
        button.click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def test_the_first_finding_is_seen_without_scrolling(opened: Opened) -> None:
    first = opened.page.locator("ol.findings li").first
    assert "lean on" in first.inner_text()
    box = first.bounding_box()
    assert box is not None
    assert box["y"] + box["height"] < 900


def test_a_head_under_the_pointer_is_told_and_a_click_lists_its_samples(opened: Opened) -> None:
    view = opened.show("heads")
    grid = view.locator("svg.grid")
    grid.scroll_into_view_if_needed()
    layer, head = TASKS["scenes/color"][2]
    geometry = grid.evaluate("node => ({...node.geometry, scale: node.getBoundingClientRect().width / node.geometry.size[0]})")
    place = {
        "x": (geometry["left"] + geometry["width"] * (head + 0.5)) * geometry["scale"],
        "y": (geometry["top"] + geometry["height"] * (layer + 0.5)) * geometry["scale"],
    }
    grid.hover(position=place)
    told = opened.page.locator(".tooltip")
    assert f"L{layer}H{head}" in told.inner_text()
    assert f"rank 1 of {LAYERS * HEADS}" in told.inner_text()
    grid.click(position=place)
    panel = view.locator(".panel")
    assert f"L{layer}H{head} in {MODEL}" in panel.inner_text()
    samples = panel.locator(".head-samples li")
    assert samples.count() == 12
    effects = [abs(float(text.split()[0].replace("−", "-"))) for text in samples.locator("strong").all_inner_texts()]
    assert effects == sorted(effects, reverse=True)


def test_the_keyboard_alone_reaches_every_head(opened: Opened) -> None:
    grid = opened.show("heads").locator("svg.grid")
    opened.page.mouse.move(1, 1)
    grid.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "Enter"):
        grid.press(key)
    assert "L1H1 in" in opened.page.locator("#heads .panel h4").inner_text()


def test_the_csv_of_a_map_is_the_table_head_scores_to_the_last_digit(opened: Opened, database: Path, tmp_path: Path) -> None:
    view = opened.show("heads")
    view.locator(".controls select").nth(1).select_option("scenes/animal")
    path = saved(opened, view.locator("button.save-csv"), tmp_path)
    with path.open(newline="", encoding="utf-8") as file:
        written = list(csv.DictReader(file))
    stored = rows_of(database, "SELECT * FROM head_scores WHERE dataset = 'scenes/animal' ORDER BY layer, head")
    assert len(written) == len(stored) == LAYERS * HEADS
    for name in ("support", "low_support", "high_support", "q_positive", "mean_wrong"):
        values = np.array([float(row[name]) if row[name] else np.nan for row in written])
        np.testing.assert_array_equal(values, stored[name].to_numpy(dtype=float))
    assert [int(row["head"]) for row in written] == stored["head"].tolist()


def test_a_drawing_is_saved_as_an_svg_that_stands_alone(opened: Opened, tmp_path: Path) -> None:
    view = opened.show("heads")
    text = saved(opened, view.locator("button.save-svg"), tmp_path).read_text(encoding="utf-8")
    assert text.startswith("<svg")
    assert 'xmlns="http://www.w3.org/2000/svg"' in text
    assert "L2H5" in text or "L4H1" in text


def test_a_finding_leads_to_its_evidence(opened: Opened) -> None:
    opened.page.evaluate("scrollTo(0, 0)")
    opened.page.locator("ol.findings a", has_text="evidence").first.click()
    opened.page.wait_for_function("location.hash.startsWith('#heads?')")
    assert opened.page.locator("#heads .panel h4").inner_text().endswith(f"in {MODEL}")


def test_a_table_sorts_by_its_heads(opened: Opened) -> None:
    view = opened.show("tables")
    fold = view.locator("details").first
    fold.locator("summary").click()
    fold.locator("th button").first.click()
    cells = fold.locator("tbody tr td:first-child").all_inner_texts()
    assert cells == sorted(cells)
    assert fold.locator("th").first.get_attribute("aria-sort") == "ascending"


def test_what_people_wrote_stays_text(opened: Opened) -> None:
    for view in opened.page.locator("section").all():
        opened.show(str(view.get_attribute("id")))
    assert opened.page.title() == "made"
    assert opened.page.locator("img[src=x]").count() == 0
    assert MARKUP in opened.page.evaluate("JSON.parse(document.getElementById('page').textContent).samples.map(s => s.question).join('|')")


def test_nothing_is_asked_for_and_nothing_is_complained_about(opened: Opened) -> None:
    assert opened.problems == []
    assert [url for url in opened.requests if not url.startswith(("file:", "data:", "blob:"))] == []
