"""The search page of a small site that is made with the settings of the real one: what it says at once, and where its index is missing."""

from __future__ import annotations

import importlib.util
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


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    places = "\n\n".join(f"## Heads {place}\n\nWords." for place in range(PLACES))
    (folder / "index.md").write_text(f"# Start\n\n{places}\n", encoding="utf-8")
    # The real settings, which read pyproject.toml two folders above.
    (folder / "conf.py").write_text(f"import sys\n__file__ = {str(DOCS / 'conf.py')!r}\nexec(open(__file__).read())\n", encoding="utf-8")
    shutil.copytree(DOCS / "_static", folder / "_static")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", str(folder), str(folder / "made")]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
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
