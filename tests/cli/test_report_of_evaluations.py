"""`vseam report RUN` of evaluated runs: what is printed and what the page holds, against the answers themselves."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Vseam
from tests.report.test_browser import CHROMIUM, Opened, browser  # noqa: F401

EVAL = ("eval", "--model", "llava-tiny", "--dataset", "scenes/color", "--split", "hard", "--limit", "12")
CHANGED = ("--ablate", "L1H2,L4H5", "--compare", "last")


def page_content(file: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="page">(.*?)</script>', file.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    content: dict[str, Any] = json.loads(found[1])
    return content


def scores(file: str) -> dict[str, dict[str, Any]]:
    return {line["identifier"]: line for line in map(json.loads, Path(file).read_text(encoding="utf-8").splitlines())}


@pytest.fixture
def runs(vseam: Vseam) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """The answers of run 1, the model as it is, and of run 2, without two heads."""
    assert vseam(*EVAL, "--log-samples", "before.jsonl").code == 0
    assert vseam(*EVAL, *CHANGED, "--log-samples", "after.jsonl").code == 0
    return scores("before.jsonl"), scores("after.jsonl")


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: `apt-get install chromium`")
def test_a_changed_run_is_drawn_beside_the_one_that_it_is_held_against(vseam: Vseam, runs: Any, browser: Any) -> None:  # noqa: F811
    before, after = runs
    drawn = vseam("report", "2", "--json")
    assert drawn.code == 0, drawn.stderr
    envelope = json.loads(drawn.stdout)
    rights = [sum(line["score"] for line in side.values()) for side in (before, after)]
    first, second = (finding["text"] for finding in envelope["findings"])
    assert f"llava-tiny, zero L1H2,L4H5, on color (hard): {100 * rights[1] / 12:.0f} %" in first
    assert "over run 1 (" in first
    assert "n = 12" in first
    assert f"llava-tiny, on color (hard): {100 * rights[0] / 12:.0f} %" in second
    (table,) = [table for table in envelope["tables"] if table["title"] == "Evaluated runs"]
    values = {row[table["columns"].index("change")]: row[table["columns"].index("value")] for row in table["rows"]}
    assert values == {"unchanged": pytest.approx(rights[0] / 12), "zero L1H2,L4H5": pytest.approx(rights[1] / 12)}
    page = Path("reports/run-2-1/index.html")
    one, other = page_content(page)["evaluations"]
    assert (one["compared_with"], other["compared_with"]) == (None, 1)
    turned = {name for name in before if before[name]["score"] != after[name]["score"]}
    assert turned, "the change has to change something for this test"
    assert {entry["id"]: (entry["before"], entry["after"]) for entry in other["turned"]} == {
        name: (before[name]["predicted"], after[name]["predicted"]) for name in turned
    }
    opened = Opened(browser.new_page(viewport={"width": 400, "height": 800}))
    opened.page.goto(page.resolve().as_uri())
    view = opened.show("evaluations")
    assert view.locator("svg.drawing").count() == 2
    assert view.locator("tbody tr").count() == len(turned)
    view.locator("svg.drawing").first.focus()
    opened.page.keyboard.press("ArrowRight")
    assert "run 1: " in opened.page.locator(".tooltip").inner_text()
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 400
    assert opened.problems == []
    opened.page.close()


def test_a_run_that_is_held_against_none_has_its_figure_and_no_gain(vseam: Vseam) -> None:
    assert vseam(*EVAL).code == 0
    drawn = vseam("report", "1")
    assert drawn.code == 0, drawn.stderr
    assert re.search(
        r"^1\. llava-tiny, on color \(hard\): \d+ % \[\d+, \d+\] of answers are right \(n = 12\)\.$", drawn.stdout, re.MULTILINE
    )
    assert "gain" not in drawn.stdout.split("Evaluated runs")[0]
