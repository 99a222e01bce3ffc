"""Writes the page of one explained answer: one file, in a folder of its own."""

from __future__ import annotations

from pathlib import Path

from vseam_core.errors import VseamError
from vseam_core.files import write_atomically
from vseam_core.report.data.explained import explanation_page_data
from vseam_core.report.folders import PAGE, add_folder, told_in_one_line
from vseam_core.report.page import report_page
from vseam_core.results.explanation import Explanation

REPORTS = "reports"
NAME = "explain"


def write_explanation(found: Explanation, folder: Path | None = None) -> Path:
    """Write the page into a folder (default: the next `reports/explain-N`, listed with the other reports); returns the page's file.

    Raises `VseamError` where the folder holds a page already, or cannot be written.
    """

    def write(place: Path) -> list[Path]:
        write_atomically(place / PAGE, report_page(explanation_page_data(found)))
        return [place / PAGE]

    if folder is None:
        return add_folder(Path(REPORTS), NAME, {"study": found.question, "models": [found.model], "datasets": []}, write)[-1]
    if (folder / PAGE).exists():
        raise VseamError(f"{folder / PAGE} is there already, and no page takes the place of another: name another folder")
    with told_in_one_line(folder):
        folder.mkdir(parents=True, exist_ok=True)
        return write(folder)[-1]
