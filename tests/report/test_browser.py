"""The interactive page in a real browser, opened from disk: what it shows, what it asks for, and what it hands out."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.report.stored import HEADS, LAYERS, MARKUP, MODEL, SAMPLES, TASKS, build_database, rows_of
from vseam_core.report.data.page_data import PageData
from vseam_core.report.data.scans import CLAIM_COLUMNS
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

    def wait_until(self, expression: str) -> None:
        """Wait until JavaScript says so; Playwright's own waiting needs `eval`, which the page's policy forbids."""
        for _ in range(200):
            if self.page.evaluate(expression):
                return
            self.page.wait_for_timeout(25)
        raise AssertionError(f"never became true: {expression}")


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
    assert "costs most" in first.inner_text()
    box = first.bounding_box()
    assert box is not None
    assert box["y"] + box["height"] < 900


def test_the_strongest_head_is_told_from_the_start_and_weak_cells_carry_no_number(opened: Opened) -> None:
    view = opened.show("heads")
    layer, head = TASKS["scenes/color"][2]
    assert f"L{layer}H{head} in {MODEL}" in view.locator(".panel").inner_text()
    numbers = view.locator("svg.grid text.value").all_text_contents()
    values = [abs(float(text.replace("−", "-"))) for text in numbers if not text.startswith("L")]
    assert 0 < len(values) < LAYERS * HEADS
    assert min(values) >= 0.03 * max(values)


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


def test_where_a_head_looks_lies_over_the_image_of_each_of_its_samples(opened: Opened, tmp_path: Path) -> None:
    view = opened.show("heads")
    view.locator(".controls select").nth(1).select_option("scenes/color")
    layer, head = TASKS["scenes/color"][2]
    opened.page.evaluate(f"location.hash = 'heads?model={MODEL}&dataset=scenes/color&head={layer}.{head}'")
    samples = view.locator(".head-samples li")
    seen = [sample for sample in samples.all() if sample.locator("canvas").count()]
    assert seen
    for sample in seen:
        number = int(re.search(r"number (\d+) ", sample.inner_text() + "number 3 ")[1])  # type: ignore[index]
        alpha = sample.locator("canvas").evaluate(
            "canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data)"
        )
        assert len(alpha) == 4 * 12
        assert np.argsort(alpha[3::4])[::-1][:2].tolist() == [number % 12, (number + 1) % 12]
        assert "60 % of its attention" in sample.inner_text()
    view.locator(".panel select").select_option("question")
    assert "40 % of its attention" in samples.first.inner_text()
    path = saved(opened, view.locator("button", has_text="CSV of its samples"), tmp_path)
    with path.open(newline="", encoding="utf-8") as file:
        written = list(csv.DictReader(file))
    assert len(written) == SAMPLES
    assert {round(float(row["attention to the image from the last position"]), 2) for row in written} == {0.6}


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
    opened.wait_until("location.hash.startsWith('#heads?')")
    assert opened.page.locator("#heads .panel h4").inner_text().endswith(f"in {MODEL}")


def test_samples_are_filtered_and_walked_through_by_buttons_and_keys(opened: Opened) -> None:
    view = opened.show("samples")
    count = view.locator(".controls [role=status]")
    pairs, skipped = 2 * 12, 2
    assert count.inner_text() == f"{pairs + skipped} of {pairs + skipped}"
    selects = view.locator(".controls select")
    selects.nth(1).select_option("missed")
    assert count.inner_text() == f"{2 * 3} of {pairs + skipped}"
    view.locator(".controls select").nth(1).select_option("skipped")
    assert "the image cannot be read: <b>broken</b>" in view.locator(".detail").inner_text()
    view.locator(".controls select").nth(1).select_option("")
    view.locator(".controls select").nth(0).select_option("color")
    first = view.locator(".detail h3").inner_text()
    view.locator(".detail button.next").click()
    assert view.locator(".line[aria-selected=true]").inner_text().startswith("color")
    second = view.locator(".detail h3").inner_text()
    assert second != first
    view.locator(".list").press("k")
    assert view.locator(".detail h3").inner_text() == first
    for _ in range(3):
        view.locator(".list").press("ArrowDown")
    assert view.locator(".detail h3").inner_text() == MARKUP
    view.locator("input[type=search]").fill("number 7 ")
    assert count.inner_text() == f"1 of {pairs + skipped}"
    view.locator("input[type=search]").fill("")


def test_the_images_of_a_pair_stand_side_by_side_with_what_changed(opened: Opened) -> None:
    view = opened.show("samples")
    view.locator(".list").press("ArrowDown")
    images = view.locator(".detail .images img")
    assert images.count() == 2
    assert images.first.evaluate("image => image.decode().then(() => [image.naturalWidth, image.naturalHeight])") == [160, 120]
    canvas = view.locator(".detail .images canvas[role=img]")
    opened.wait_until("document.querySelector('.detail .images canvas[role=img]').width === 160")
    box = view.locator(".detail .boxes .box").first
    assert canvas.count() == 1
    assert box.evaluate("node => node.style.left") == f"{100 * 10 / 320}%"


def test_the_map_of_one_sample_has_its_own_words_and_the_databases_numbers(opened: Opened, database: Path, tmp_path: Path) -> None:
    view = opened.show("traces")
    sample = view.locator(".controls label", has_text="Sample").locator("select")
    sample.select_option("1")
    assert "dog" in str(view.locator("svg.grid").text_content())
    path = saved(opened, view.locator("button.save-csv"), tmp_path)
    with path.open(newline="", encoding="utf-8") as file:
        written = list(csv.DictReader(file))
    stored = rows_of(
        database,
        "SELECT data FROM trace_effects JOIN edits ON edits.id = edit_id "
        f"WHERE direction = 'denoising' AND edits.identifier = '{written[0]['sample']}'",
    )
    values = np.frombuffer(stored["data"].iloc[0], "<f4")
    np.testing.assert_array_equal(np.array([float(row["effect"]) for row in written]), values.astype(float))
    assert written[3]["word"] == "red"
    view.locator(".stepper button").last.click()
    assert "sample 3 of 12" in view.locator(".stepper").inner_text()


def test_averages_of_a_trace_are_those_of_the_database(opened: Opened, database: Path, tmp_path: Path) -> None:
    view = opened.show("traces")
    view.locator(".controls label", has_text="Sample").locator("select").select_option("")
    with saved(opened, view.locator("button.save-csv"), tmp_path).open(newline="", encoding="utf-8") as file:
        written = {(row["layer"], row["column"]): row for row in csv.DictReader(file)}
    dataset = next(iter(written.values()))["dataset"]
    stored = rows_of(database, f"SELECT * FROM trace_scores WHERE dataset = '{dataset}' AND direction = 'denoising' AND subset = 'all'")
    assert len(stored) == len(written)
    for row in stored.to_dict("records"):
        found = written[str(row["layer"]), row["column_label"]]
        assert [float(found[name]) for name in ("mean", "low", "share")] == [row["mean"], row["low"], row["normalised"]]
        assert int(float(found["n"])) == row["n"]


def test_a_table_sorts_by_its_heads(opened: Opened) -> None:
    view = opened.show("tables")
    fold = view.locator("details").first
    fold.locator("summary").click()
    fold.locator("th button").first.click()
    cells = fold.locator("tbody tr td:first-child").all_inner_texts()
    assert cells == sorted(cells)
    assert fold.locator("th").first.get_attribute("aria-sort") == "ascending"


def test_the_keyboard_walks_through_the_points_of_a_chart(browser: Any, tmp_path: Path) -> None:
    page = PageData("charts")
    effects = [{"selected": 0.4, "random": [0.1, 0.2], "mean": 0.15, "p": 0.02}, {"selected": -0.3, "random": [], "mean": 0.0, "p": None}]
    about = {"model": "tiny", "split": "plain", "operation": "zero", "n": 20, "measure": "accuracy", "base": 0.9, "exploratory": False}
    page.content["ablations"] = [
        {**about, "dataset": sign, "label": sign, "sign": sign, "heads": ["L1H2"], "effect": effect, "nats": None, "curve": []}
        for sign, effect in zip(("positive", "negative"), effects, strict=True)
    ]
    (tmp_path / "charts.html").write_text(report_page(page), encoding="utf-8")
    found = Opened(browser.new_page(viewport={"width": 800, "height": 900}))
    found.page.goto((tmp_path / "charts.html").as_uri())
    chart, told = found.show("ablation").locator("svg.drawing"), found.page.locator(".tooltip")
    chart.focus()
    for key, words in (("ArrowRight", "random sets 15"), ("ArrowDown", "negative"), ("ArrowLeft", "selected L1H2: −30 %")):
        chart.press(key)
        assert words in told.inner_text()
    chart.press("Escape")
    assert not told.is_visible()
    assert found.problems == []
    found.page.close()


def test_every_view_fits_wide_and_narrow_windows_and_print_leaves_out_what_paper_cannot_do(opened: Opened) -> None:
    names = [str(section.get_attribute("id")) for section in opened.page.locator("section").all()]
    for width in (1400, 800):
        opened.page.set_viewport_size({"width": width, "height": 900})
        for name in names:
            opened.show(name)
            assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is wider than {width} pixels"
    opened.page.set_viewport_size({"width": 1400, "height": 900})
    opened.page.emulate_media(media="print")
    shown = "name => [...document.querySelectorAll(name)].some(node => getComputedStyle(node).display !== 'none')"
    assert not any(opened.page.evaluate(shown, name) for name in (".contents", ".controls", ".files"))
    assert opened.page.evaluate(shown, "svg.grid")
    opened.page.emulate_media(media="screen")


def test_what_people_wrote_stays_text(opened: Opened) -> None:
    for view in opened.page.locator("section").all():
        opened.show(str(view.get_attribute("id")))
    assert opened.page.title() == "made"
    assert opened.page.locator("img[src=x]").count() == 0
    assert MARKUP in opened.page.evaluate("JSON.parse(document.getElementById('page').textContent).samples.map(s => s.question).join('|')")


def test_a_large_study_is_drawn_and_answers_the_pointer(browser: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "large.html").write_text(report_page(large_page()), encoding="utf-8")
    found = Opened(browser.new_page(viewport={"width": 1400, "height": 900}))
    found.page.goto((tmp_path / "large.html").as_uri())
    paint = found.page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? performance.now()")
    view = found.show("heads")
    view.locator("svg.grid").scroll_into_view_if_needed()
    hover = found.page.evaluate(
        "() => { const grid = document.querySelector('svg.grid'), box = grid.getBoundingClientRect(), start = performance.now();"
        " for (let step = 0; step < 20; step++) grid.dispatchEvent(new PointerEvent('pointermove', { clientX: box.left + 60 + 20 * step,"
        " clientY: box.top + 60 + 9 * step, bubbles: true })); return (performance.now() - start) / 20; }"
    )
    assert found.page.locator(".tooltip").inner_text().startswith("L")
    found.show("samples").locator(".list").evaluate("list => { list.scrollTop = 1e6; }")
    found.wait_until("[...document.querySelectorAll('.line .question')].some(node => node.textContent.includes('number 998 '))")
    nodes = found.page.evaluate("document.querySelectorAll('*').length")
    assert nodes < 10_000
    assert found.problems == []
    with capsys.disabled():
        print(f"\n32 × 32 × 7 heads, 1,000 samples: first paint {paint:.0f} ms, hover {hover:.1f} ms, {nodes} nodes")
    found.page.close()


def large_page() -> PageData:
    """A page of 32 × 32 heads in seven categories on 1,000 samples, with numbers from one generator."""
    random, page = np.random.default_rng(0), PageData("large")
    names = ("animal", "vehicle", "indoor", "color", "material", "spatial", "action")
    page.content["models"] = ["large"]
    page.content["tasks"] = [{"dataset": name, "label": name, "level": "object", "category": name} for name in names]
    page.content["samples"] = [
        {"id": str(n), "dataset": names[n % 7], "question": f"Is thing number {n} red?", "gold": "Yes"}
        | {"pool": "score", "split": "plain"}
        for n in range(1000)
    ]
    pair = {"editor": "made", "kind": "edit", "source": "red", "target": "blue", "boxes": [], "size": None, "why": ""}
    page.content["pairs"] = [{"id": str(n), "clean": n, "edited": n + 1, **pair} for n in range(999)]
    everyone = page.array(range(1000), "int32")
    flags = {"text": page.array(np.zeros(1000), "int32"), "correct": page.array(np.ones(1000), "uint8")}
    differences = page.array(random.normal(size=1000), "float64")
    page.content["answers"] = [{"model": "large", "texts": ["Yes"], "sample": everyone, "logit_diff": differences, **flags}]
    for place, name in enumerate(names):
        effects = random.normal(0, 0.1, (142, 32, 32)).astype(np.float32)
        mean = effects.mean(axis=0).ravel()
        columns = dict.fromkeys(CLAIM_COLUMNS, mean) | {"claim_positive": mean > 0.02}
        samples = page.array(range(place, 994, 7), "int32")
        about = {"model": "large", "dataset": name, "operation": "resample", "words": "another", "positions": "all", "stack": "decoder"}
        counts = dict.fromkeys(("n", "n_sampled", "n_correct", "n_wrong"), 142)
        page.content["scans"].append(
            {"run": 1, **about, **counts, "measure": "logit_diff", "unit": "nats", "layers": 32, "heads": 32, "columns": list(columns)}
            | {"values": page.array(np.stack(list(columns.values())), "float64"), "states": {}, "sql": "SELECT 1"}
            | {"effects": {"sample": samples, "correct": flags["correct"], "base": differences, "values": page.array(effects, "float32")}}
        )
    return page


def test_nothing_is_asked_for_and_nothing_is_complained_about(opened: Opened) -> None:
    assert opened.problems == []
    assert [url for url in opened.requests if not url.startswith(("file:", "data:", "blob:"))] == []
