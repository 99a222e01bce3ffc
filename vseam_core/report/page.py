"""The pages of a report: the interactive page of one study, and the list of all reports. Each is one file that asks for nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from vseam_core.pages.rendering import asset, joined_modules, render
from vseam_core.report.data.page_data import PageData

_PACKAGE = "vseam_core.report"
_COLUMNS = ("study", "made", "models", "datasets", "figures")


def report_page(page: PageData, *, live: bool = False) -> str:
    """The HTML of a page: data, views and styles in one file. `live` lets it ask the server that it came from whether there is more."""
    return render(
        _PACKAGE,
        "report.html",
        title=page.title,
        style=asset(_PACKAGE, "report.css"),
        script=joined_modules(_PACKAGE, "main.js"),
        blocks=page.blocks(),
        connect=live,
        subtitle=page.subtitle,
    )


def widget_sources() -> tuple[str, str]:
    """The script and the style of a notebook's widget: the page's own modules and rules, the latter for what lies in `.vseam` alone."""
    script = f"{joined_modules(_PACKAGE, 'widget.js')}\nexport default {{ render }};\n"
    # Nested below one class, so that no rule reaches the rest of the notebook.
    rules = re.sub(r"(?<![\w-])(?::root|body)(?=[\s\[{])", "&", asset(_PACKAGE, "report.css"))
    return script, f".vseam {{\n{rules}\n}}\n.vseam section {{ padding: 0; }}\n"


def index_page(reports: Sequence[Mapping[str, Any]]) -> str:
    """The HTML that lists reports: each with `folder`, `study`, `models`, `datasets`, `figures` and `made` (missing ones are empty)."""
    rows = [
        {
            "address": f"{quote(str(about['folder']))}/index.html",
            "folder": str(about["folder"]),
            "words": [_listed(about.get(name, "")) for name in _COLUMNS],
        }
        for about in reports
    ]
    style = asset(_PACKAGE, "report.css")
    return render(_PACKAGE, "index.html", title="Reports", style=style, columns=("report", *_COLUMNS), rows=rows)


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
