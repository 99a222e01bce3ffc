"""Makes the images of docs/report.md: opens a report's page in chromium and photographs three of its views.

vseam run && python docs/images/make.py reports/default-1/index.html
"""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).parent
WIDTH = 1400
VIEWS = {
    "heads": ("light", "#heads?model=llava-tiny&dataset=scenes/color&head=1.2"),
    "traces": ("light", "#traces?model=llava-tiny&dataset=scenes/color&tracer=tokenwise&pair={pair}"),
    "samples": ("dark", "#samples"),
}


def main(report: str) -> None:
    """Photograph each view in its theme and keep it as a small PNG."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for name, (theme, address) in VIEWS.items():
            page = browser.new_page(viewport={"width": WIDTH, "height": 1000}, color_scheme=theme)  # type: ignore[arg-type]
            page.goto(Path(report).resolve().as_uri())
            page.evaluate("address => { location.hash = address; }", address.format(pair=first_traced_pair(page)))
            page.locator(f"section#{name}.built").wait_for()
            page.wait_for_timeout(800)
            photograph(page, name)
        browser.close()


def first_traced_pair(page: Page) -> int:
    """The place of the first pair about colours in the page's data."""
    content = json.loads(page.locator("#page").text_content() or "{}")
    datasets = [content["samples"][pair["clean"]]["dataset"] for pair in content["pairs"]]
    return datasets.index("scenes/color")


def photograph(page: Page, name: str) -> None:
    """A section of the page as a small PNG."""
    data = page.locator(f"section#{name} .view").screenshot()
    image = Image.open(io.BytesIO(data)).convert("RGB")
    image.save(HERE / f"report-{name}.png", optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
