"""`vseam report`: the report of what is stored, drawn again without running a model."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vseam_cli import options
from vseam_cli.application import Application
from vseam_cli.output import Table
from vseam_core.errors import VseamError, counted

if TYPE_CHECKING:
    from vseam_core.results.study_results import StudyMaterial


@options.verb(
    "report",
    example="vseam report\nvseam report default --db results.db\nvseam report 12 13\nvseam report --compare before.db after.db",
)
@click.argument("what", metavar="[STUDY|RUN…]", nargs=-1)
@click.option(
    "--compare",
    nargs=2,
    metavar="A B",
    help="Hold study B against study A (names, numbers, or database files): differences of head maps with intervals.",
)
@options.use("db", "reports")
@click.pass_obj
def report(application: Application, what: tuple[str, ...], compare: tuple[str, str] | None, database: str, reports: str) -> None:
    """Draw the report of a stored study, or of runs by their numbers, again. No model, dataset or plugin is needed.

    Without STUDY the latest one. A database that an older vseam made is read as a copy that is brought up to date; the file itself is
    left as it is.
    """
    if compare:
        if what:
            raise click.UsageError("--compare names both studies: give no other")
        _compare(application, compare, database, reports)
        return
    from vseam_cli.closing import show_closing, write_pages
    from vseam_core.report.tables.closing import closing_tables
    from vseam_core.results.reading_old import open_any
    from vseam_core.results.stored_study import find_study, read_material

    with open_any(database) as store:
        chosen = find_study(store, what)
        material = read_material(store, chosen)
        if material.is_empty:
            kinds = ", ".join(sorted(set(chosen.runs["method"]))) or "no run"
            raise VseamError(
                f"{database}: there is nothing to draw in {chosen.name} ({kinds}){_skipped(material)}; `vseam query` reads what is stored"
            )
        tables = closing_tables(material)
        written = write_pages(application, store, material, tables, reports, chosen)
        show_closing(application, material, tables, "report/1", database=database, written=written, reports=reports)


def _skipped(material: StudyMaterial) -> str:
    """How many samples were skipped, and why the first."""
    if material.skips.empty:
        return ""
    return f": {counted(material.skips['identifier'].nunique(), 'sample')} skipped, such as {material.skips['reason'].iloc[0]}"


def _compare(application: Application, names: tuple[str, str], database: str, reports: str) -> None:
    """Write and print what differs between two studies."""
    from vseam_cli.closing import say_findings
    from vseam_core.report.data.comparison import comparison_findings, comparison_page, comparison_table
    from vseam_core.report.writer import add_comparison
    from vseam_core.results.comparing import compare_studies
    from vseam_core.results.reading_old import open_any
    from vseam_core.results.stored_study import find_study

    with ExitStack() as opened:
        sides = []
        for name in names:
            is_file = Path(name).is_file()
            store = opened.enter_context(open_any(name if is_file else database))
            sides.append((store, find_study(store, () if is_file else (name,))))
        found = compare_studies(sides[0], sides[1])
        page = comparison_page(names, found)
    written = add_comparison(page, Path(reports))
    findings, table = comparison_findings(found), comparison_table(found)
    data = {"compared": list(names), "findings": [asdict(finding) for finding in findings], "tables": [asdict(table)], "page": str(written)}
    say_findings(application, findings)
    application.output.result("report-compare/1", data, [Table(table.columns, table.rows, table.title)] if application.tables else [])
    application.output.note(f"the page is {written}")
