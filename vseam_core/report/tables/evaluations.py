"""The closing table about evaluated runs."""

from __future__ import annotations

from typing import Any

from vseam_core.report.tables.table import ReportTable, table_of
from vseam_core.report.tasks import label_of, study_tasks
from vseam_core.results.evaluated import Evaluated, evaluated
from vseam_core.results.study_results import StudyMaterial

_COLUMNS = (
    "run",
    "model",
    "change",
    "category",
    "pool",
    "split",
    "subset",
    "figure",
    "value",
    "95 %",
    "n",
    "gain",
    "95 % gain",
    "p",
    "over run",
)


def evaluation_table(material: StudyMaterial) -> ReportTable | None:
    """The figure of each run, on each subset, beside its gain over the run that it is held against."""
    tasks = study_tasks(material)
    records = [_record(each, label_of(tasks, each.dataset)) for each in evaluated(material)]
    if not records:
        return None
    note = (
        "95 %: interval over images. gain: after minus before on the samples that both runs answered, paired by sample; p: signs of "
        "whole images flipped."
    )
    folded = ("model", "pool", "split", "subset", "figure")
    return table_of(
        "Evaluated runs", _COLUMNS, records, note, "Every other figure: `vseam eval`, or the table `evaluations`.", folded=folded
    )


def _record(each: Evaluated, label: str) -> dict[str, Any]:
    gain = each.gain or {}
    about = {name: getattr(each, name) for name in ("run", "model", "change", "pool", "split", "subset")}
    figure = {"figure": each.figure["metric"], "value": each.figure["value"], "95 %": _ends(each.figure), "n": each.figure["n"]}
    gained = {"gain": gain.get("value"), "95 % gain": _ends(gain), "p": gain.get("p_value"), "over run": each.compared_with}
    return {**about, "category": label, **figure, **gained}


def _ends(row: dict[str, Any]) -> str | None:
    return None if row.get("low") is None else f"{row['low']:.2f} to {row['high']:.2f}".replace("-", "−")
