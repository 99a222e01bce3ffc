"""Closing tables about the heads that tasks share, and whether tasks of one level share more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vseam_core.analysis.frames import frame_records
from vseam_core.errors import counted
from vseam_core.report.summaries import reasons_by_task
from vseam_core.report.tables.table import ReportTable, table_of
from vseam_core.report.tasks import Task, label_of, model_rows, only, present, study_tasks
from vseam_core.report.words import ACROSS_FORMS, CONFOUND
from vseam_core.results.study_results import StudyMaterial

PAIRS_PER_MODEL = 8
SMALL_MODEL_HEADS = 100


def shared_table(material: StudyMaterial) -> ReportTable | None:
    """Per model and sign the pairs of tasks that share most, beside chance and ceiling; null pairs are counted, with reasons."""
    if material.shared.empty:
        return None
    tasks = study_tasks(material)
    records: list[dict[str, Any]] = []
    reasons: list[str] = []
    for model in material.models:
        rows = model_rows(material.shared, model)
        for sign in present(rows, "sign"):
            for k in present(only(rows, sign=sign), "k"):
                group = frame_records(only(rows, sign=sign, k=k))
                records += [{"model": model, "sign": sign, "k": k, **record} for record in _records(group, tasks)]
                reasons += [f"{model}, {sign}: {reason}" for reason in _reasons(group, tasks)]
    heads = int(material.shared["heads"].min())
    return table_of(
        "Heads that tasks share",
        ("model", "sign", "k", "first", "second", "overlap", "chance", "ceiling", "p", "q", "p importance", "remark"),
        records,
        "overlap: how many of the k strongest heads that pass are the same; chance: heads permuted within their layers (exact); "
        "ceiling: a task with itself on other images. p: at least this overlap by chance; q: over all pairs.",
        "p importance: the same if every head kept its mean importance over all tasks. A small p beside a large p importance says that "
        "some heads matter in every task, not that these two share more than others do.",
        *(f"Null: {reason}." for reason in reasons),
        f"{heads} heads of a small model cannot settle what larger models share." if heads <= SMALL_MODEL_HEADS else "",
        folded=("k",),
    )


def level_table(material: StudyMaterial) -> ReportTable | None:
    """Whether tasks of one level share more heads than tasks of different levels."""
    if not material.level_tests:
        return None
    records: list[dict[str, Any]] = [
        {
            "model": model,
            "sign": sign,
            "tasks": test.tasks,
            "within": test.within,
            "across": test.across,
            "difference": test.difference,
            "p": test.p_value,
            "groupings": test.groupings if test.p_value is not None else None,
            "remark": test.reason,
        }
        for model, sign, test in material.level_tests
    ]
    columns = ("model", "sign", "tasks", "within", "across", "difference", "p", "groupings", "remark")
    return table_of(
        "Do tasks of one level share more heads?",
        columns,
        records,
        "Mean overlap of pairs within a level minus that across levels; one-sided p over all ways to group the tasks into levels "
        "of the same sizes, so p cannot fall below 1 / groupings. Tasks without enough passing heads are left out.",
        "" if all(test.across_forms for _, _, test in material.level_tests) else CONFOUND,
        ACROSS_FORMS if any(test.across_forms for _, _, test in material.level_tests) else "",
    )


def _records(group: Sequence[dict[str, Any]], tasks: Sequence[Task]) -> list[dict[str, Any]]:
    """The pairs that share most, then one row each for how many others have an overlap and how many have none."""
    tested = [row for row in group if row["overlap"] is not None]
    tested.sort(key=lambda row: (row["q_value"], -row["overlap"]))
    records: list[dict[str, Any]] = [
        {
            "first": label_of(tasks, row["first"]),
            "second": label_of(tasks, row["second"]),
            "overlap": row["overlap"],
            "chance": row["expected_overlap"],
            "ceiling": row["ceiling"],
            "p": row["p_value"],
            "q": row["q_value"],
            "p importance": row["p_importance"],
            "remark": "",
        }
        for row in tested[:PAIRS_PER_MODEL]
    ]
    rest, nulls = tested[PAIRS_PER_MODEL:], len(group) - len(tested)
    if rest:
        records.append({"remark": counted(len(rest), "more pair")})
    if nulls:
        records.append({"remark": f"{nulls} of {counted(len(group), 'pair')} null"})
    return records


def _reasons(group: Sequence[dict[str, Any]], tasks: Sequence[Task]) -> list[str]:
    nulls = [row for row in group if row["overlap"] is None]
    return [
        f"{', '.join(label_of(tasks, name) for name in names)}: {reason}" if names else reason
        for reason, names in reasons_by_task(nulls).items()
    ]
