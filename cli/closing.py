"""The end of every study on the command line: its report is written, its findings are printed, and the tables that few lines hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vseam_cli.application import Application
from vseam_cli.output import Table

if TYPE_CHECKING:
    from vseam_core.report.findings import Finding
    from vseam_core.report.tables.table import ReportTable
    from vseam_core.results.stored_study import StoredStudy
    from vseam_core.results.study_results import StudyMaterial
    from vseam_core.store.store import Store

MOST_LINES = 25
"""Of tables below the findings, unless --tables asks for all."""
_LINES_AROUND = 3


def write_pages(
    application: Application,
    store: Store,
    material: StudyMaterial,
    tables: Sequence[ReportTable],
    reports: str | Path | None,
    chosen: StoredStudy | None = None,
) -> list[Path]:
    """Write the report of a study into a folder of its own; nothing where no folder is wanted.

    `chosen` is what of the store it is about (None: the study that was just run).
    """
    if reports is None:
        return []
    from vseam_core.report.data.study import study_page_data
    from vseam_core.report.writer import Print, add_report
    from vseam_core.results.stored_study import study_of

    if chosen is None and material.study is not None:
        chosen = study_of(store, material.study)
    page = study_page_data(store, chosen, material, tables) if chosen is not None else None
    return add_report(material, Path(reports), page, Print(**application.figures))


def show_closing(
    application: Application,
    material: StudyMaterial,
    tables: Sequence[ReportTable],
    schema: str,
    database: str,
    written: Sequence[Path],
    reports: str | Path | None,
) -> None:
    """Print the findings of a study, and tables as far as few lines hold them (with --tables: all; with --json: one envelope)."""
    from vseam_core.report.findings import study_findings

    findings = study_findings(material)
    data = {
        "study": material.name,
        "database": database,
        "findings": [asdict(finding) for finding in findings],
        "tables": [asdict(table) for table in tables],
        "notes": material.notes,
        "figures": [str(path) for path in written],
    }
    output = application.output
    say_findings(application, findings)
    shown = tables if application.tables else _that_fit(tables)
    output.result(schema, data, [Table(table.columns, table.rows, _titled(table)) for table in shown])
    for note in material.notes:
        output.note(note)
    hidden = len(tables) - len(shown)
    if hidden and not output.json:
        output.note(f"{hidden} more {'table' if hidden == 1 else 'tables'}: --tables prints them{', the page has them' if written else ''}")
    output.note(f"every number is in {database}; ask it with `vseam query`")
    if written:
        output.note(f"the report is {written[-1]}; {reports}/index.html lists all reports")


def say_findings(application: Application, findings: Sequence[Finding]) -> None:
    """Print findings one by one, where no envelope is wanted."""
    if findings and not application.output.json:
        application.output.lines([f"{number}. {finding.text}" for number, finding in enumerate(findings, 1)])


def _that_fit(tables: Sequence[ReportTable]) -> list[ReportTable]:
    """The first tables, as many as have room together."""
    shown, lines = [], 0
    for table in tables:
        lines += len(table.rows) + len(table.notes) + _LINES_AROUND
        if lines > MOST_LINES:
            break
        shown.append(table)
    return shown


def _titled(table: Any) -> str:
    return "\n".join((table.title, *table.notes))
