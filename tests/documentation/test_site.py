"""A small site made with the settings of the real one: what its search says at once, and what a notebook's results ask for."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .pages import DOCS

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NEEDED = ("furo", "myst_nb", "sphinx", "sphinx_click", "sphinx_copybutton")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: `apt-get install chromium`"),
    pytest.mark.skipif(not all(map(importlib.util.find_spec, NEEDED)), reason="needs what builds the site: pip install 'vseam[docs]'"),
]
# Sphinx hands out a result every 5 ms: more than are there at once.
PLACES = 120
# A result that is a widget beside a table, as a kernel leaves it.
STATE = "application/vnd.jupyter.widget-state+json"
VIEW = "application/vnd.jupyter.widget-view+json"
SHOWN = {VIEW: {"model_id": "one"}, "text/html": "<table><tr><td>6.95</td></tr></table>", "text/plain": "Widget()"}
NOTEBOOK = {
    "cells": [
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# A look"},
        {"cell_type": "code", "id": "b", "metadata": {}, "source": "heads", "execution_count": 1}
        | {"outputs": [{"output_type": "execute_result", "execution_count": 1, "metadata": {}, "data": SHOWN}]},
    ],
    "metadata": {
        "kernelspec": {"name": "python3", "display_name": "Python 3"},
        "language_info": {"name": "python", "pygments_lexer": "ipython3"},
        "widgets": {STATE: {"state": {"one": {"state": {"blocks": "x" * 9000}}}, "version_major": 2, "version_minor": 0}},
    },
    "nbformat": 4,
    "nbformat_minor": 5,
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    (folder / "look.ipynb").write_text(json.dumps(NOTEBOOK), encoding="utf-8")
    places = "\n\n".join(f"## Heads {place}\n\nWords." for place in range(PLACES))
    (folder / "index.md").write_text(f"# Start\n\n{places}\n\n```{{toctree}}\nlook\n```\n", encoding="utf-8")
    # The real settings, which read pyproject.toml two folders above.
    (folder / "conf.py").write_text(f"import sys\n__file__ = {str(DOCS / 'conf.py')!r}\nexec(open(__file__).read())\n", encoding="utf-8")
    shutil.copytree(DOCS / "_static", folder / "_static")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", str(folder), str(folder / "made")]
    subprocess.run(command, check=True, capture_output=True, timeout=300, env={**os.environ, "VSEAM_DOCS_EXECUTE": "off"})
    return folder / "made"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (extra dev)")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=CHROMIUM, headless=True, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


def found(browser: Any, site: Path, query: str) -> tuple[str, int]:
    """The heading of the search page and how many results it lists, the moment that it is loaded."""
    page = browser.new_page(viewport={"width": 400, "height": 800})
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(f"{(site / 'search.html').as_uri()}?q={query}", wait_until="load")
    told = page.evaluate(
        "[document.querySelector('#search-results h2').textContent, document.querySelectorAll('#search-results li').length]"
    )
    assert problems == []
    assert page.get_by_label("Search the documentation").input_value() == query
    page.close()
    return told[0], told[1]


def test_results_are_there_with_the_page_and_it_no_longer_says_that_it_searches(browser: Any, site: Path) -> None:
    heading, results = found(browser, site, "heads")
    assert heading == "Search results"
    assert results >= PLACES


def test_a_word_of_no_page_is_said_to_be_of_none(browser: Any, site: Path) -> None:
    assert found(browser, site, "qwzxy") == ("Nothing found", 0)


def test_a_site_without_its_index_says_so(browser: Any, site: Path, tmp_path: Path) -> None:
    shutil.copytree(site, tmp_path / "saved")
    (tmp_path / "saved" / "searchindex.js").unlink()
    assert found(browser, tmp_path / "saved", "heads") == ("Search is not possible here", 0)


def test_a_result_of_a_notebook_is_its_table_and_the_page_asks_nobody_for_anything(browser: Any, site: Path) -> None:
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((site / "look.html").as_uri())
    assert page.locator("td", has_text="6.95").is_visible()
    assert [address for address in asked if not address.startswith(("file:", "data:"))] == []
    assert "x" * 9000 not in page.content()
    page.close()
