"""What `vseam run` and the verbs of single stages share: a study, run as far as the verb asks, and its closing tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vseam_cli.application import Application
from vseam_cli.options import given
from vseam_cli.output import Table
from vseam_core.config.study import Study, default_study, load_study
from vseam_core.errors import EXIT_DONE, EXIT_DONE_WITH_SKIPS, VseamError

if TYPE_CHECKING:
    from vseam_core.results.study_results import StudyMaterial
    from vseam_core.runs.workspace import Workspace

    Finish = Callable[[Workspace, StudyMaterial], str]


def study_of(application: Application, file: str | Path | None, limit: int | None, **overrides: Any) -> Study:
    """The study of a file, or the default one, with what the command line says laid over it; every name is checked."""
    from vseam_core.config.study import check_names

    study = load_study(file, application.registry) if file else default_study()
    overrides["editor"] = application.editor_choice(overrides.get("editor"), study.editor)
    study = study.with_overrides(limit=limit, **given(**overrides))
    check_names(study, application.registry)
    application.check_loading(study.models)
    return study


def run_stages(
    application: Application,
    study: Study,
    schema: str,
    *,
    database: str,
    device: str | None,
    reports: str | Path | None,
    finish: Finish | None = None,
) -> int:
    """Run a study, print its closing tables (or JSON), draw its figures if a folder is given. Returns the exit code.

    `finish` is done while the models are still loaded and says what it did; if it fails, that is raised after the tables.
    """
    from vseam_core.experiments.nothing_left import require_results
    from vseam_core.experiments.study_run import run_study

    remark, problem = "", None
    with application.workspace(database, device, study.seed) as workspace:
        for warning in workspace.store.warnings:
            application.output.note(warning)
        material = run_study(workspace, study)
        require_results(workspace, study, material)
        try:
            remark = finish(workspace, material) if finish else ""
        except VseamError as error:
            problem = error
    figures = _draw(material, reports)
    _print(application, material, schema=schema, database=database, figures=figures, reports=reports)
    if problem is not None:
        raise problem
    if remark:
        application.output.note(remark)
    return EXIT_DONE_WITH_SKIPS if len(material.skips) else EXIT_DONE


def _draw(material: StudyMaterial, reports: str | Path | None) -> list[Path]:
    if reports is None:
        return []
    from vseam_core.report.writer import add_report

    return add_report(material, Path(reports))


def _print(
    application: Application, material: StudyMaterial, schema: str, database: str, figures: Sequence[Path], reports: str | Path | None
) -> None:
    from vseam_core.report.tables.closing import closing_tables

    tables = closing_tables(material)
    data = {
        "study": material.name,
        "database": database,
        "tables": [asdict(table) for table in tables],
        "notes": material.notes,
        "figures": [str(path) for path in figures],
    }
    application.output.result(schema, data, [Table(table.columns, table.rows, _titled(table)) for table in tables])
    for note in material.notes:
        application.output.note(note)
    application.output.note(f"every number is in {database}; ask it with `vseam query`")
    if figures:
        application.output.note(f"{len(figures)} figures and pages are in {figures[0].parent}; {reports}/index.html lists all reports")


def _titled(table: Any) -> str:
    return "\n".join((table.title, *table.notes))
