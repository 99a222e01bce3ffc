"""The data of a stored study's page: everything that its views draw, read from the database alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from vseam_core.analysis.frames import frame_records
from vseam_core.report.data.evaluations import add_evaluations
from vseam_core.report.data.how import how_measured
from vseam_core.report.data.known_samples import KnownSamples, answered_pairs
from vseam_core.report.data.looks import add_looks
from vseam_core.report.data.methods import add_methods
from vseam_core.report.data.page_data import PageData
from vseam_core.report.data.rows import add_rows
from vseam_core.report.data.scans import add_scans
from vseam_core.report.data.traces import add_traces
from vseam_core.report.findings import study_findings
from vseam_core.report.tables.table import ReportTable
from vseam_core.report.tasks import Task, study_tasks
from vseam_core.results.stored_study import StoredStudy
from vseam_core.results.study_results import StudyMaterial
from vseam_core.store.store import Store


def tables_page_data(material: StudyMaterial, tables: Sequence[ReportTable]) -> PageData:
    """The part of a page that a study's tables carry alone: its findings, summaries and tables."""
    page = PageData(material.name)
    tasks = study_tasks(material)
    page.content["models"] = list(material.models)
    page.content["tasks"] = [asdict(task) for task in tasks]
    page.content["findings"] = [asdict(finding) for finding in study_findings(material)]
    add_rows(page, material, tasks, tables)
    add_methods(page, material)
    return page


def study_page_data(store: Store, chosen: StoredStudy, material: StudyMaterial, tables: Sequence[ReportTable]) -> PageData:
    """The page of a study, or of some runs, as `page_data` describes it."""
    page, tasks = tables_page_data(material, tables), study_tasks(material)
    add_evaluations(page, store, material)
    samples = KnownSamples(page, store)
    add_traces(page, store, chosen=chosen, material=material, tasks=tasks, samples=samples)
    samples.add_prompts(chosen.models, samples.names)
    add_looks(page, store, chosen, samples, add_scans(page, store, chosen, samples))
    samples.add_pairs(answered_pairs(store, chosen.run_ids))
    samples.add_answers(chosen.models, chosen.run_ids)
    page.content["skips"] = _skips(store, chosen, tasks)
    page.content["how"] = how_measured(store, chosen)
    samples.add_images()
    return page


def _skips(store: Store, chosen: StoredStudy, tasks: Sequence[Task]) -> list[dict[str, Any]]:
    labels = {task.dataset: task.label for task in tasks}
    place = {run: index for index, run in enumerate(chosen.run_ids)}
    rows = sorted(frame_records(store.skips(chosen.run_ids)), key=lambda row: place[row["run_id"]])
    return [
        {"id": row["identifier"], "label": labels.get(row["dataset"], row["dataset"])}
        | {name: row[name] for name in ("model", "dataset", "method", "reason")}
        for row in rows
        if "@random-" not in row["model"]
    ]
