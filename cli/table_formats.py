"""Tables for other programs: comma-separated for a spreadsheet or pandas, Markdown and LaTeX for a paper."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vseam_cli.output import Table

FORMATS = {
    "csv": "Print comma-separated values: numbers at full precision, unknown values empty.",
    "markdown": "Print Markdown tables.",
    "latex": "Print LaTeX tables (package booktabs).",
}


def written(tables: Sequence[Table], form: str, cell: Callable[[Any], str]) -> str:
    """Tables as one text in a form of `FORMATS`; `cell` writes a value for a person.

    Titles are comments (a line with `#` or `%`) or, in Markdown, bold lines; tables are parted by an empty line.
    """
    write = _csv if form == "csv" else _tabulated
    return "\n\n".join(write(table, form, cell).rstrip("\n") for table in tables)


def _csv(table: Table, _form: str, _cell: Callable[[Any], str]) -> str:
    text = io.StringIO()
    text.writelines(f"# {line}\n" for line in table.title.splitlines())
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(["" if value is None or value != value else value for value in row] for row in table.rows)
    return text.getvalue()


def _tabulated(table: Table, form: str, cell: Callable[[Any], str]) -> str:
    from tabulate import tabulate

    numeric = [
        bool(table.rows) and all(isinstance(row[index], int | float | None) for row in table.rows) for index in range(len(table.columns))
    ]
    rows = [[cell(value) for value in row] for row in table.rows]
    body = tabulate(
        rows,
        headers=[str(name) for name in table.columns],
        tablefmt="pipe" if form == "markdown" else "latex_booktabs",
        colalign=["right" if is_numeric else "left" for is_numeric in numeric] if rows else None,
        disable_numparse=True,
    )
    lines = table.title.splitlines()
    if form == "latex":
        return "".join(f"% {line}\n" for line in lines) + body
    heading = f"**{lines[0]}**\n\n" if lines else ""
    return heading + "".join(f"{line}\n\n" for line in lines[1:]) + body
