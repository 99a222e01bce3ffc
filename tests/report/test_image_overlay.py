"""Effects of image positions and of regions, laid over the clean image of a pair in a real browser, layer by layer."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.report.test_browser import CHROMIUM, Opened, browser  # noqa: F401
from vseam_core.report.data.page_data import PageData
from vseam_core.report.page import report_page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: `apt-get install chromium`")
QUARTERS = [(x / 2, y / 2, (x + 1) / 2, (y + 1) / 2) for y in range(2) for x in range(2)]
# Layers × image positions: layer 0 acts at the first quarter, layer 1 against it at the last.
EFFECTS = np.array([[2.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, -2.0]], dtype=np.float32)
REGIONS = np.array([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0]], dtype=np.float32)


def one_pair() -> PageData:
    """A page with one pair, traced at its four image positions and by regions; the edit was in the left half."""
    page, content = PageData("overlay"), io.BytesIO()
    Image.new("RGB", (40, 20), (200, 200, 200)).save(content, format="WEBP")
    image = page.image(content.getvalue())
    about = {"dataset": "made", "question": "Is it red?", "pool": "score", "image": image}
    page.content["models"] = ["tiny"]
    page.content["tasks"] = [{"dataset": "made", "label": "made", "level": "object", "category": "made"}]
    page.content["samples"] = [{"id": "clean", "gold": "Yes", **about}, {"id": "edited", "gold": "No", **about}]
    edit = {"editor": "made", "kind": "edit", "source": "red", "target": "blue", "boxes": [[0, 0, 20, 20]], "size": [40, 20], "why": ""}
    page.content["pairs"] = [{"id": "pair", "clean": 0, "edited": 1, **edit}]
    tokens = [[0, 1, "<s>", "structural_before", ""], [1, 4, "<image>", "image", ""], [5, 1, "?", "last", ""]]
    page.content["prompts"] = [{"model": "tiny", "sample": 0, "tokens": tokens, "boxes": page.array(QUARTERS, "float32")}]
    for tracer, kind, columns, values in (
        ("positions", "position", ["1", "2", "3", "4"], EFFECTS),
        ("regions", "group", ["region", "complement", "random"], REGIONS),
    ):
        axis = {"layers": [0, 1], "kind": kind, "columns": columns, "roles": ["image"] * len(columns)}
        page.content["axes"].append(axis)
        index = page.array([[0], [len(page.content["axes"]) - 1], [0]], "int32")
        sample = {"site": "residual_after", "direction": "denoising", "index": index, "ends": page.array([[4.0], [-4.0]], "float64")}
        shown = {"title": "effects", "caption": "", "measure": "logit difference", "unit": "nats", "stack": "decoder", "shares": False}
        named = {"sites": {"residual_after": "residual stream"}, "columns": {}, "directions": ["denoising"], "shown": [], "aggregates": []}
        trace = {"model": "tiny", "dataset": "made", "tracer": tracer, "view": "map", **shown, **named}
        page.content["traces"].append({**trace, "samples": [{**sample, "values": page.array(values, "float32"), "cells": None}]})
    return page


def quarters_of(view: Any) -> list[tuple[str, int]]:
    """What lies over the middle of each quarter of the clean image: orange, blue or nothing, and how opaque it is."""
    canvas = view.locator("canvas.effects")
    pixels = canvas.evaluate(
        "canvas => [[1, 1], [3, 1], [1, 3], [3, 3]].map(([x, y]) => Array.from(canvas.getContext('2d')"
        ".getImageData(x * canvas.width / 4, y * canvas.height / 4, 1, 1).data))"
    )
    return [("nothing" if alpha == 0 else "orange" if red > blue else "blue", alpha) for red, _, blue, alpha in pixels]


def test_effects_lie_over_the_image_at_the_layer_that_a_click_chooses(browser: Any, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "index.html").write_text(report_page(one_pair()), encoding="utf-8")
    found = Opened(browser.new_page(viewport={"width": 1400, "height": 900}, color_scheme="light"))
    found.page.goto((tmp_path / "index.html").as_uri())
    view = found.show("traces")
    strong = pytest.approx(0.75 * 255, abs=2)
    assert quarters_of(view) == [("orange", strong), ("nothing", 0), ("nothing", 0), ("nothing", 0)]
    assert "effects at layer 0" in view.inner_text()
    grid = view.locator("svg.grid")
    grid.focus()
    for key in ("ArrowDown", "ArrowDown", "Enter"):
        grid.press(key)
    assert quarters_of(view) == [("nothing", 0), ("nothing", 0), ("nothing", 0), ("blue", strong)]
    view.locator(".controls label", has_text="Traced").locator("select").select_option("regions")
    assert quarters_of(view) == [("orange", strong), ("nothing", 0), ("orange", strong), ("nothing", 0)]
    assert "edited region 1 nats, the rest 0, a random region 0" in view.inner_text()
    grid = view.locator("svg.grid")
    grid.focus()
    for key in ("ArrowDown", "ArrowDown", "Enter"):
        grid.press(key)
    assert quarters_of(view) == [("nothing", 0), ("blue", strong), ("nothing", 0), ("blue", strong)]
    # The browser minds that this test reads pixels back.
    assert [problem for problem in found.problems if "getImageData" not in problem] == []
    found.page.close()
