"""The review page in a real browser: the images of an edit stand beside one another, two in a row where the window is narrow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.report.test_browser import CHROMIUM, Opened, browser  # noqa: F401
from vseam_core.editing.folder import EditFolder
from vseam_core.editing.review import review_items
from vseam_core.editing.review_page import review_page
from vseam_core.store import open_store

from .fakes import composed, sample

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: `apt-get install chromium`")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("review")
    editor = composed(EditFolder(folder / "edits"))
    with open_store(folder / "results.db") as store:
        store.save_pairs([editor.edit(sample()), *editor.controls(sample())])
        (folder / "review.html").write_text(review_page(review_items(store), "Edits"), encoding="utf-8")
    return folder / "review.html"


@pytest.mark.parametrize(("width", "rows", "scheme"), [(1400, 1, "light"), (400, 2, "dark")])
def test_an_edit_is_seen_beside_its_original(browser: Any, page: Path, width: int, rows: int, scheme: str) -> None:  # noqa: F811
    found = Opened(browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme))
    found.page.goto(page.as_uri())
    for article in found.page.locator("article").all():
        tops = article.locator("img").evaluate_all("images => images.map(image => Math.round(image.getBoundingClientRect().top))")
        assert len(tops) == 4
        assert len(set(tops)) == rows
    assert found.page.evaluate("document.documentElement.scrollWidth") <= width
    assert found.problems == []
    found.page.close()
