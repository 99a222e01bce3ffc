"""The page of one explained answer: its data are the explanation's numbers, and a browser shows them."""

from __future__ import annotations

import base64
import csv
import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from tests.report.test_browser import CHROMIUM, Opened, browser, saved  # noqa: F401
from vseam_core.api.types import HeadEffect, TraceEffect
from vseam_core.errors import VseamError
from vseam_core.report.data import explained
from vseam_core.report.data.explained import explanation_page_data
from vseam_core.report.explained import write_explanation
from vseam_core.report.figures.explained import attention_on_image, explained_figure
from vseam_core.report.tables.explained import explained_sentences, explained_tables
from vseam_core.results.explanation import AnsweredImage, EditMade, Explanation, PromptRead

LAYERS, HEADS, SIDE = 3, 4, 2
MARKUP = "Is the </script><img src=x onerror=alert(1)> red?"
TOKENS = ("<s>", *["<image>"] * SIDE**2, "Is", "red", ":")
CLASSES = ("structural_before", *["image"] * SIDE**2, "question", "question", "last")
WORDS = (0, 5, 6, 7)
QUARTERS = tuple((x / 2, y / 2, (x + 1) / 2, (y + 1) / 2) for y in (0, 1) for x in (0, 1))


def trace(values: np.ndarray, site: str, direction: str, measure: str = "logit_diff", columns: tuple[int, ...] = WORDS) -> TraceEffect:
    return TraceEffect(
        tracer={"weight": "looks", "top_token": "reads"}.get(measure, "reads" if direction in ("clean", "corrupt") else "patches"),
        stack="decoder",
        site_kind=site,
        direction=direction,  # type: ignore[arg-type]
        measure=measure,
        layers=tuple(range(LAYERS)),
        columns=tuple(map(str, columns)),
        column_kind="position",
        roles=tuple(CLASSES[column] for column in columns),
        values=values.astype(np.float32),
        clean=4.0,
        corrupt=-2.0,
    )


def explanation() -> Explanation:
    """Numbers that are all different, so that one in another's place is seen."""
    generator = np.random.default_rng(3)
    weights = generator.dirichlet(np.ones(len(TOKENS)), (2, HEADS, LAYERS))
    looks = [
        trace(weights[index, head], f"attention_from_last_head_{head}", image, "weight", tuple(range(len(TOKENS))))
        for index, image in enumerate(("clean", "corrupt"))
        for head in range(HEADS)
    ]
    mean = [
        trace(weights[index].mean(0), "attention_from_last", image, "weight", tuple(range(len(TOKENS))))
        for index, image in enumerate(("clean", "corrupt"))
    ]
    patched = [
        trace(generator.normal(size=(LAYERS, len(WORDS))), site, direction)
        for site in ("mlp_output", "residual_after")
        for direction in ("denoising", "noising")
    ]
    read = [
        trace(generator.normal(size=(LAYERS, len(WORDS))), "residual_after", "clean"),
        trace(generator.integers(5, 8, (LAYERS, len(WORDS))), "residual_after", "clean", "top_token"),
    ]
    image = Image.new("RGB", (60, 40), (200, 30, 30))
    edited = image.copy()
    edited.paste((30, 30, 200), (10, 10, 30, 30))
    return Explanation(
        model="made",
        question=MARKUP,
        answer="Yes",
        against="No",
        clean=AnsweredImage(image, "Yes", 0.98, 0.018, 4.0),
        edited=AnsweredImage(edited, "No", 0.1, 0.75, -2.0),
        edit=EditMade("painter", "red", "blue", ((10.0, 10.0, 30.0, 30.0),)),
        prompt=PromptRead(TOKENS, CLASSES, ("",) * len(TOKENS), QUARTERS),
        traces=(*patched, *read, *mean, *looks),
        heads=(HeadEffect("swap", "all", "logit_diff", "decoder", generator.normal(size=(LAYERS, HEADS)).astype(np.float32), 4.0),),
        noise_floor=1e-6,
        token_texts={5: "No", 6: "maybe", 7: "Yes"},
        remarks=("nothing could be painted",),
        replacements={"swap": "the other image's activation"},
    )


def numbers(page: Any, reference: Any) -> np.ndarray:
    kinds = {"float32": "<f4", "uint8": "|u1"}
    return np.frombuffer(base64.b64decode(page.arrays[reference["array"]]), kinds[reference["type"]]).reshape(reference["shape"])


def test_the_pages_numbers_are_the_explanations() -> None:
    found = explanation()
    page = explanation_page_data(found)
    content = page.content["explained"]
    for entry in content["traces"]:
        effect = next(
            one for one in found.traces if (one.site_kind, one.direction, one.measure) == (entry["site"], entry["direction"], "logit_diff")
        )
        np.testing.assert_array_equal(numbers(page, entry["values"]), effect.values)
    assert len(content["traces"]) == 5
    (lens,) = [entry for entry in content["traces"] if entry["direction"] == "clean"]
    tops = next(one for one in found.traces if one.measure == "top_token")
    assert lens["cells"] == [found.token_texts[int(number)] for number in tops.values.flat]
    np.testing.assert_array_equal(numbers(page, content["heads"][0]["values"]), found.head_map("swap"))
    for entry in content["attention"]:
        weights = numbers(page, entry["values"])
        for head in range(HEADS):
            expected = found.trace("looks", f"attention_from_last_head_{head}", entry["image"], "weight").values
            np.testing.assert_array_equal(weights[:, head], expected)
    assert [entry["image"] for entry in content["attention"]] == ["clean", "corrupt"]


def test_weights_of_a_large_model_are_rounded_and_say_what_255_stands_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explained, "MOST_BYTES", 10)
    found = explanation()
    page = explanation_page_data(found)
    entry = page.content["explained"]["attention"][0]
    weights = numbers(page, entry["values"]) * entry["largest"] / 255
    expected = found.trace("looks", "attention_from_last_head_2", "clean", "weight").values
    np.testing.assert_allclose(weights[:, 2], expected, atol=entry["largest"] / 500)


def test_sentences_and_tables_say_what_the_arrays_hold() -> None:
    found = explanation()
    text = "\n".join(explained_sentences(found))
    layer, word, value = found.strongest_cells(found.trace("patches", "mlp_output"), 1)[0]
    assert f"at layer {layer} by {word!r}, {value:+.2f} nats, {value / 6:.0%} of the difference" in text
    (head, worth), *_ = found.strongest_heads("swap")
    assert f"replaced by the other image's activation: {head} ({worth:+.2f} nats)" in text
    assert "goes from +4.00 to -2.00 nats" in text
    assert text.endswith("on a dataset can.")
    cells, heads = explained_tables(found)
    assert cells.rows[0][3] == pytest.approx(value)
    assert heads.rows[0][:2] == (str(head), pytest.approx(worth))
    assert sum(len(table.rows) for table in (cells, heads)) <= 12


def test_two_images_that_are_answered_alike_are_said_to_leave_little_to_carry() -> None:
    found = explanation()
    alike = dataclasses.replace(found, edited=dataclasses.replace(found.edited, logit_diff=3.7))
    assert any("differ by 0.30 nats only" in sentence for sentence in explained_sentences(alike))
    assert all("of the difference." not in sentence for sentence in explained_sentences(alike))


def test_the_figure_shows_each_site_and_attention_where_its_positions_look() -> None:
    found = explanation()
    assert isinstance(explained_figure(found), Figure)
    over = attention_on_image(found, np.array([1.0, 2.0, 3.0, 4.0]))
    assert over is not None
    assert over.shape == (40, 60)
    assert [over[5, 5], over[5, 55], over[35, 5], over[35, 55]] == [1.0, 2.0, 3.0, 4.0]
    without = dataclasses.replace(found, prompt=dataclasses.replace(found.prompt, image_boxes=None))
    assert attention_on_image(without, np.ones(4)) is None
    assert isinstance(explained_figure(without), Figure)


def test_no_page_takes_the_place_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = explanation()
    assert [write_explanation(found).as_posix() for _ in range(2)] == ["reports/explain-1/index.html", "reports/explain-2/index.html"]
    listed = Path("reports/index.html").read_text(encoding="utf-8")
    assert "explain-2" in listed
    assert "<img src=x" not in listed
    named = write_explanation(found, tmp_path / "mine")
    before = named.read_bytes()
    with pytest.raises(VseamError, match="no page takes the place of another"):
        write_explanation(found, tmp_path / "mine")
    assert named.read_bytes() == before
    text = named.read_text(encoding="utf-8")
    assert len(text) < 500_000
    assert "<img src=x" not in text
    data = json.loads(re.findall(r'<script type="application/json" id="page">(.*?)</script>', text, re.DOTALL)[0])
    assert data["title"] == MARKUP


@pytest.fixture(scope="module")
def opened(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:  # noqa: F811
    file = write_explanation(explanation(), tmp_path_factory.mktemp("page") / "explained")
    found = Opened(browser.new_page(viewport={"width": 1400, "height": 900}, accept_downloads=True))
    found.page.goto(file.as_uri())
    yield found
    found.page.close()


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: `apt-get install chromium`")
def test_a_browser_shows_the_answer_and_a_click_on_a_head_lays_its_attention_over_the_image(opened: Opened, tmp_path: Path) -> None:
    view = opened.show("explained")
    assert view.locator(".explained-images img").count() == 3
    assert view.locator(".explained-images canvas").count() == 2
    frames = view.locator("figure.frame")
    assert frames.count() == 3
    grid = frames.nth(2).locator("svg.grid")
    grid.scroll_into_view_if_needed()
    geometry = grid.evaluate("node => ({...node.geometry, scale: node.getBoundingClientRect().width / node.geometry.size[0]})")
    # The last layer is on top: layer 1 is the second row of three.
    place = {
        axis: (geometry[edge] + geometry[size] * 1.5) * geometry["scale"]
        for axis, edge, size in (("x", "left", "width"), ("y", "top", "height"))
    }
    grid.click(position=place)
    found = explanation()
    weights = found.trace("looks", "attention_from_last_head_1", "clean", "weight").values[1]
    share = f"{100 * weights[1:5].sum():.0f} % goes to the image"
    assert f"layer 1, head 1, from the last position: {share}" in frames.nth(0).locator("figcaption").last.inner_text()
    path = saved(opened, frames.nth(1).locator("button.save-csv"), tmp_path)
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if (row["site"], row["direction"]) == ("mlp_output", "noising")]
    expected = found.trace("patches", "mlp_output", "noising").values
    np.testing.assert_array_equal(np.array([float(row["value"]) for row in rows], np.float32), expected.ravel())
    assert [row["token"] for row in rows[:4]] == ["<s>", "Is", "red", ":"]
    assert opened.problems == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in opened.requests)
    assert opened.page.title() == MARKUP
