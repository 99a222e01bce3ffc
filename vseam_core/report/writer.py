"""Writes a study's report: the interactive page, and every figure for print as PNG, SVG and PDF, in a folder of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vseam_core.files import write_atomically
from vseam_core.report.data.page_data import PageData
from vseam_core.report.data.study import tables_page_data
from vseam_core.report.figures.drawing import FONT_SIZE, lettering, save_figure
from vseam_core.report.figures.planned import planned_figures
from vseam_core.report.folders import PAGE, add_folder, told_in_one_line
from vseam_core.report.page import report_page
from vseam_core.report.tables.closing import closing_tables
from vseam_core.results.study_results import StudyMaterial


@dataclass(frozen=True)
class Print:
    """How figures are written: also those that repeat others for each category, as PDF too, with labels of so many points."""

    every_figure: bool = False
    pdf: bool = False
    font_size: float = FONT_SIZE


USUAL = Print()


def add_report(material: StudyMaterial, reports: Path, page: PageData | None = None, how: Print = USUAL) -> list[Path]:
    """Write a report into a new folder `NAME-NUMBER` of `reports` and list it in `reports/index.html`; its files, the page last.

    The folder appears when it is complete, and no report ever takes the place of another. Raises `VseamError` where something cannot
    be written.
    """

    def write(folder: Path) -> list[Path]:
        return write_report(material, folder, page, how)

    return add_folder(reports, material.name, {"study": material.name, "models": material.models, "datasets": material.datasets}, write)


def add_comparison(page: PageData, reports: Path) -> Path:
    """Write the page of a comparison into a folder of its own, as `add_report` does; where the page is."""

    def write(folder: Path) -> list[Path]:
        write_atomically(folder / PAGE, report_page(page))
        return [folder / PAGE]

    datasets = [task["dataset"] for task in page.content["tasks"]]
    return add_folder(reports, page.title, {"study": page.title, "models": page.content["models"], "datasets": datasets}, write)[-1]


def write_report(material: StudyMaterial, directory: Path, page: PageData | None = None, how: Print = USUAL) -> list[Path]:
    """Write all figures, as PNG and SVG at least, and `index.html`, into `directory`, made if it is missing; what was written, page last.

    `page` is what the page shows (None: the material's tables alone). Figures of stages that the study left out are left out.
    Files of the same name are replaced, others stay. Raises `VseamError` where something cannot be written.
    """
    written = []
    with told_in_one_line(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with lettering(how.font_size):
            for name, draw in planned_figures(material, how.every_figure):
                written += save_figure(draw(), directory / name, how.pdf)
        file = directory / PAGE
        write_atomically(file, report_page(page or tables_page_data(material, closing_tables(material))))
    return [*written, file]
