"""Writes a study's report: the interactive page, and every figure for print as PNG and SVG, in a folder of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vseam_core.errors import VseamError
from vseam_core.files import parse_json, write_atomically
from vseam_core.report.data.page_data import PageData
from vseam_core.report.data.study import tables_page_data
from vseam_core.report.figures.drawing import save_figure
from vseam_core.report.figures.planned import file_name, planned_figures
from vseam_core.report.page import index_page, report_page
from vseam_core.report.tables.closing import closing_tables
from vseam_core.results.study_results import StudyMaterial

PAGE = "index.html"
ABOUT = "report.json"
"""What a report's folder says about itself, for the list of all reports."""


def add_report(material: StudyMaterial, reports: Path, page: PageData | None = None, *, every_figure: bool = False) -> list[Path]:
    """Write a report into a new folder `NAME-NUMBER` of `reports` and list it in `reports/index.html`; its files, the page last.

    The folder appears when it is complete, and no report ever takes the place of another. Raises `VseamError` where something cannot
    be written.
    """

    def write(folder: Path) -> list[Path]:
        return write_report(material, folder, page, every_figure=every_figure)

    return _added(reports, material.name, {"study": material.name, "models": material.models, "datasets": material.datasets}, write)


def add_comparison(page: PageData, reports: Path) -> Path:
    """Write the page of a comparison into a folder of its own, as `add_report` does; where the page is."""

    def write(folder: Path) -> list[Path]:
        write_atomically(folder / PAGE, report_page(page))
        return [folder / PAGE]

    datasets = [task["dataset"] for task in page.content["tasks"]]
    return _added(reports, page.title, {"study": page.title, "models": page.content["models"], "datasets": datasets}, write)[-1]


def _added(reports: Path, title: str, about: dict[str, Any], write: Callable[[Path], list[Path]]) -> list[Path]:
    """What `write` wrote into a folder, moved to a free name below `reports` and listed there."""
    name = file_name(title)
    with _told_in_one_line(reports):
        reports.mkdir(parents=True, exist_ok=True)
        draft = reports / f".{name}.{os.getpid()}.part"
        try:
            written = write(draft)
            about |= {"figures": sum(path.suffix == ".png" for path in written), "made": datetime.now(UTC).isoformat(timespec="seconds")}
            write_atomically(draft / ABOUT, json.dumps(about, ensure_ascii=False, indent=1) + "\n")
            folder = _moved_to_a_free_name(draft, reports, name)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        write_atomically(reports / PAGE, index_page(_listed(reports)))
    return [folder / path.name for path in written]


def write_report(material: StudyMaterial, directory: Path, page: PageData | None = None, *, every_figure: bool = False) -> list[Path]:
    """Write all figures as PNG and SVG, and `index.html`, into `directory`, made if it is missing; what was written, the page last.

    `page` is what the page shows (None: the material's tables alone). Figures of stages that the study left out are left out;
    `every_figure` adds those that repeat others for each category. Files of the same name are replaced, others stay. Raises `VseamError`
    where something cannot be written.
    """
    written = []
    with _told_in_one_line(directory):
        directory.mkdir(parents=True, exist_ok=True)
        for name, draw in planned_figures(material, every_figure):
            written += save_figure(draw(), directory / name)
        file = directory / PAGE
        write_atomically(file, report_page(page or tables_page_data(material, closing_tables(material))))
    return [*written, file]


@contextmanager
def _told_in_one_line(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise VseamError(
            f"report: cannot write {error.filename or directory}: {error.strerror or error}; name another folder or make room"
        ) from error


def _moved_to_a_free_name(draft: Path, reports: Path, name: str) -> Path:
    """Move a complete report to the first number after all that are there; another process may be faster, then it is the next one."""
    pattern = re.compile(rf"{re.escape(name)}-(\d{{1,9}})")
    taken = [int(match.group(1)) for entry in reports.iterdir() if (match := pattern.fullmatch(entry.name))]
    number = max(taken, default=0) + 1
    while True:
        folder = reports / f"{name}-{number}"
        if not folder.exists():
            try:
                return draft.rename(folder)
            except FileExistsError:
                pass
            except OSError:
                if not folder.exists():
                    raise
        number += 1


def _listed(reports: Path) -> list[dict[str, Any]]:
    """What the folders say about themselves, the latest report first; a folder that says nothing is no report."""
    found = []
    for file in reports.glob(f"*/{ABOUT}"):
        try:
            about = parse_json(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(about, dict):
            found.append({**about, "folder": file.parent.name})
    return sorted(found, key=lambda about: (str(about.get("made")), about["folder"]), reverse=True)
