"""What `vseam run` and the verbs of single stages share: a study, run as far as the verb asks, its page and its closing words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vseam_cli.application import Application
from vseam_cli.closing import show_closing, write_pages
from vseam_cli.options import given
from vseam_core.config.study import Study, default_study
from vseam_core.config.study_file import load_study
from vseam_core.errors import EXIT_DONE, EXIT_DONE_WITH_SKIPS, VseamError

if TYPE_CHECKING:
    from vseam_core.results.study_results import StudyMaterial
    from vseam_core.runs.workspace import Workspace

    Finish = Callable[[Workspace, StudyMaterial], str]


def study_of(application: Application, file: str | Path | None, limit: int | None, **overrides: Any) -> Study:
    """The study of a file, or the default one, with what the command line says laid over it; every name is checked."""
    from vseam_core.config.study_file import check_names

    study = load_study(file, application.registry) if file else default_study()
    overrides["editor"] = application.editor_choice(overrides.get("editor"), study.editor)
    study = study.with_overrides(limit=limit, **given(**overrides, workers=application.workers.get("workers")))
    if not file and "workers" not in application.workers:
        # One model at the default sizes is done before other processes have loaded it.
        study = study.with_overrides(workers=min(len(study.models), 2))
    check_names(study, application.registry)
    application.check_loading(study.models)
    return study


def run_verb(application: Application, schema: str, running: Mapping[str, Any], file: str | Path | None = None, **fields: Any) -> int:
    """Run the stages that a verb asks for, with the options that such verbs share (`options.OF_STAGES`); returns the exit code."""
    study = study_of(application, file, running["limit"], seed=running["seed"], editor=running["editor"], **fields)
    where = {name: running[name] for name in ("database", "device", "reports")}
    return run_stages(application, study, schema, **where)


def run_stages(
    application: Application,
    study: Study,
    schema: str,
    *,
    database: str,
    device: str | None,
    reports: str | Path | None,
    finish: Finish | None = None,
    about: str = "",
) -> int:
    """Run a study, write its report if a folder is given, print what was found (or JSON). Returns the exit code.

    `about` is the stage that was asked for where others only lead to it: its tables come first. `finish` is done while the models are
    still loaded and says what it did; if it fails, that is raised after the findings.
    """
    from vseam_core.experiments.study.nothing_left import require_results
    from vseam_core.experiments.study.run import run_study
    from vseam_core.report.tables.closing import closing_tables

    remark, problem = "", None
    with application.workspace(database, device, study.seed) as workspace:
        for warning in workspace.store.warnings:
            application.output.note(warning)
        material = run_study(workspace, study, application.executor(study.workers))
        require_results(workspace, study, material)
        try:
            remark = finish(workspace, material) if finish else ""
        except VseamError as error:
            problem = error
        tables = closing_tables(material, about)
        written = write_pages(application, workspace.store, material, tables, reports)
    show_closing(application, material, tables, schema, database=database, written=written, reports=reports)
    if problem is not None:
        raise problem
    if remark:
        application.output.note(remark)
    return EXIT_DONE_WITH_SKIPS if len(material.skips) else EXIT_DONE
