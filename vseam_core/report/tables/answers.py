"""Closing tables about answers: accuracy on test images, and the samples that were skipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vseam_core.analysis.frames import frame_records
from vseam_core.report.tables.table import ReportTable, range_of, table_of
from vseam_core.report.tasks import present, study_tasks, task_rows
from vseam_core.results.study_results import StudyMaterial


def accuracy_table(material: StudyMaterial) -> ReportTable | None:
    """Accuracy per model and category on every split, beside pair accuracy, the share of yes answers and the majority answer."""
    frame = material.accuracy
    if frame.empty:
        return None
    splits = present(frame, "split")
    first, *others = splits
    records, counts = [], []
    for model in material.models:
        for task in study_tasks(material):
            rows = frame_records(task_rows(frame, model, task))
            if rows:
                records.append({"model": model, "category": task.label, **_accuracies(rows, first)})
                counts += [row["n"] for row in rows]
    columns = ["model", "category", *(name for split in splits for name in (split, f"95 % {split}"))]
    for name in ("pair", "yes"):
        columns += [name, *(f"{name} {split}" for split in others)]
    columns.append("majority")
    return table_of(
        "Accuracy on test images",
        columns,
        records,
        f"n = {range_of(counts)} questions per category and split; 95 %: interval, clustered by image, and the exact binomial one "
        "over images where all answers or none are right.",
        "pair: right on the clean image and right, with the other answer, on its edited twin. yes: share of yes among the model's "
        f"answers. majority: what always giving the most frequent right answer would score. Where no split is named: {first}.",
    )


def _accuracies(rows: Sequence[Mapping[str, Any]], first: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for row in rows:
        split = row["split"]
        values |= {split: row["accuracy"], f"95 % {split}": _interval(row)}
        pair, yes = ("pair", "yes") if split == first else (f"pair {split}", f"yes {split}")
        values |= {pair: row["pair_accuracy"], yes: row["yes_ratio"]}
        if split == first:
            values["majority"] = row["majority_baseline"]
    return values


def _interval(row: Mapping[str, Any]) -> str | None:
    return None if row["low"] is None else f"{row['low']:.2f}–{row['high']:.2f}"


def skips_table(material: StudyMaterial) -> ReportTable | None:
    """How many samples were skipped, by reason; the reason's own mention of the sample is left out so that equal ones meet."""
    if material.skips.empty:
        return None
    found: dict[str, list[str]] = {}
    for row in frame_records(material.skips[["identifier", "reason"]]):
        identifier, reason = str(row["identifier"]), str(row["reason"])
        found.setdefault(reason.replace(identifier, "…").removeprefix("…: "), []).append(identifier)
    records: list[dict[str, Any]] = [
        {"reason": reason, "samples": len(set(names)), "times": len(names), "first": names[0]} for reason, names in found.items()
    ]
    records.sort(key=lambda record: -record["samples"])
    return table_of(
        "Skipped samples",
        ("reason", "samples", "times", "first"),
        records,
        "Skipped samples are never scored as wrong. times: a sample is skipped in every step that needs it. "
        'Every one by name: vseam query "SELECT identifier, reason FROM skips".',
    )
