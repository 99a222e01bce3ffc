"""The report as one page: tables and figures, everything escaped, nothing that runs."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from vseam_core.report.tables.table import ReportTable

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1500px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px; }
th, td { padding: .2rem .7rem; text-align: left; vertical-align: top; }
thead th { border-bottom: 1px solid #888; }
tbody tr:nth-child(even) { background: #f5f5f5; }
.number { text-align: right; }
.note { color: #444; font-size: 13.5px; max-width: 75em; margin: .3rem 0; }
img { max-width: 100%; height: auto; }
figure { margin: 1.5rem 0 2.5rem; }
"""


@dataclass(frozen=True)
class Figure:
    """A written figure: the file's name beside the page, and what it shows in words."""

    file: str
    title: str
    caption: str


def report_page(name: str, tables: Sequence[ReportTable], figures: Sequence[Figure], notes: Sequence[str]) -> str:
    """The HTML of a study's report; it holds no script and refers to nothing but the figures beside it."""
    parts = [
        *_opening(f"Study {name}"),
        *(f'<p class="note">{html.escape(note)}</p>' for note in notes),
        *(_table(table) for table in tables),
    ]
    if figures:
        parts.append("<h2>Figures</h2>")
        parts += [_figure(figure) for figure in figures]
    return "\n".join([*parts, "</body></html>", ""])


def index_page(reports: Sequence[Mapping[str, Any]]) -> str:
    """The HTML that lists reports: each with `folder`, `study`, `models`, `datasets`, `figures` and `made` (missing ones are empty)."""
    lines = ["<thead><tr><th>report</th><th>study</th><th>made</th><th>models</th><th>datasets</th><th>figures</th></tr></thead>"]
    for about in reports:
        folder = str(about["folder"])
        words = [_listed(about.get(name, "")) for name in ("study", "made", "models", "datasets", "figures")]
        cells = "".join(f"<td>{html.escape(word)}</td>" for word in words)
        lines.append(f'<tr><td><a href="{quote(folder)}/index.html">{html.escape(folder)}</a></td>{cells}</tr>')
    table = "\n".join(lines)
    return "\n".join([*_opening("Reports"), f'<div class="wide"><table>\n{table}\n</table></div>', "</body></html>", ""])


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _opening(title: str) -> list[str]:
    words = html.escape(title)
    return [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{words}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{words}</h1>",
    ]


def shown(value: Any) -> str:
    """A value as a reader sees it: four digits, a dash for what is unknown."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(table: ReportTable) -> str:
    numeric = [all(isinstance(row[index], int | float | None) for row in table.rows) for index in range(len(table.columns))]
    marks = [' class="number"' if flag else "" for flag in numeric]
    head = "".join(f"<th{mark}>{html.escape(name)}</th>" for mark, name in zip(marks, table.columns, strict=True))
    lines = []
    for row in table.rows:
        # An empty cell says nothing, a dash says that there is no value: words are left empty, numbers get the dash.
        words = ["" if value is None and not flag else shown(value) for value, flag in zip(row, numeric, strict=True)]
        cells = "".join(f"<td{mark}>{html.escape(text)}</td>" for mark, text in zip(marks, words, strict=True))
        lines.append(f"<tr>{cells}</tr>")
    notes = "".join(f'<p class="note">{html.escape(note)}</p>' for note in table.notes)
    body = "\n".join(lines)
    return (
        f'<h2>{html.escape(table.title)}</h2>\n<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n'
        f"{body}\n</tbody></table></div>\n{notes}"
    )


def _figure(figure: Figure) -> str:
    words = html.escape(f"{figure.title}. {figure.caption}", quote=True)
    source = quote(figure.file)
    return f'<figure><a href="{source}"><img src="{source}" alt="{words}" loading="lazy"></a></figure>'
