"""`vseam report`: the report of what is stored, drawn again without running a model."""

from __future__ import annotations

import click

from vseam_cli import options
from vseam_cli.application import Application


@options.verb("report", example="vseam report\nvseam report default --db results.db\nvseam report 12 13")
@click.argument("what", metavar="[STUDY|RUN…]", nargs=-1)
@options.use("db", "reports")
@click.pass_obj
def report(application: Application, what: tuple[str, ...], database: str, reports: str) -> None:
    """Draw the report of a stored study, or of runs by their numbers, again. No model, dataset or plugin is needed.

    Without STUDY the latest one. A database that an older vseam made is read as a copy that is brought up to date; the file itself is
    left as it is.
    """
    from vseam_cli.closing import show_closing, write_pages
    from vseam_core.report.tables.closing import closing_tables
    from vseam_core.results.reading_old import open_any
    from vseam_core.results.stored_study import find_study, read_material

    with open_any(database) as store:
        chosen = find_study(store, what)
        material = read_material(store, chosen)
        tables = closing_tables(material)
        written = write_pages(application, store, material, tables, reports, chosen)
        show_closing(application, material, tables, "report/1", database=database, written=written, reports=reports)
