"""Evaluated runs as the page draws them: figures and gains by subset, and the answers that became another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vseam_core.analysis.frames import frame_records
from vseam_core.report.data.page_data import PageData
from vseam_core.report.tasks import label_of, study_tasks
from vseam_core.results.evaluated import Evaluated, evaluated
from vseam_core.results.study_results import StudyMaterial
from vseam_core.store.store import Store

if TYPE_CHECKING:
    import pandas as pd

MOST_TURNED = 1000
"""Answers of a run that are listed; the page says how many there are."""


def add_evaluations(page: PageData, store: Store, material: StudyMaterial) -> None:
    """Put evaluated runs into the page; none where no run is an evaluation."""
    tasks = study_tasks(material)
    runs: dict[int, dict[str, Any]] = {}
    for each in evaluated(material):
        entry = runs.setdefault(each.run, {**_about(each), "label": label_of(tasks, each.dataset), "rows": [], "turned": []})
        entry["rows"].append({"subset": each.subset, **_ends(each.figure), "gain": _gain(each)})
        if each.compared_with and not entry["turned"]:
            entry["turned"] = _turned(store, each.compared_with, each.run)[:MOST_TURNED]
    page.content["evaluations"] = list(runs.values())


def _about(each: Evaluated) -> dict[str, Any]:
    names = ("run", "model", "dataset", "pool", "split", "change", "compared_with")
    return {**{name: getattr(each, name) for name in names}, "metric": each.figure["metric"]}


def _ends(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("value", "low", "high", "n", "reason")}


def _gain(each: Evaluated) -> dict[str, Any] | None:
    if each.gain is None:
        return None
    return {**_ends(each.gain), "p": each.gain["p_value"], "better": each.better, "worse": each.worse}


def _turned(store: Store, before: int, after: int) -> list[dict[str, Any]]:
    """The samples whose score is another after the change, those that got worse first."""
    one, two = _answers(store, before), _answers(store, after)
    both = two.merge(one[["identifier", "predicted", "score"]], on="identifier", suffixes=("", "_before"))
    changed = both[both["score"] != both["score_before"]].sort_values(["score", "identifier"], kind="stable")
    return [
        {
            "id": row["identifier"],
            "question": row["question"],
            "gold": row["answer"],
            "before": row["predicted_before"],
            "after": row["predicted"],
            "better": row["score"] > row["score_before"],
        }
        for row in frame_records(changed)
    ]


def _answers(store: Store, run: int) -> pd.DataFrame:
    """The answers of an evaluation, or of a study's run, to unedited images."""
    frame = store.answers(run)
    frame = store.baselines(run) if frame.empty else frame
    return frame[frame["pair_role"].isin(["", "clean"])].drop_duplicates("identifier", keep="last")
