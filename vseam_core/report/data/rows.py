"""Whatever of a page is rows and no array: shared heads, ablations beside random sets, rescalings beside controls, tables, notes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from vseam_core.analysis.frames import frame_records
from vseam_core.analysis.head_sets import select_heads
from vseam_core.report.data.page_data import PageData
from vseam_core.report.head_states import exploratory, primary_maps
from vseam_core.report.summaries import ablation_summaries, rescaling_summaries
from vseam_core.report.tables.heads import TIES_SEED
from vseam_core.report.tables.table import ReportTable
from vseam_core.report.tasks import Task, model_rows, only, present
from vseam_core.report.words import ACROSS_FORMS, CONFOUND
from vseam_core.results.study_results import StudyMaterial


def add_rows(page: PageData, material: StudyMaterial, tasks: list[Task], tables: Sequence[ReportTable]) -> None:
    """Put what is no array into the page: everything here is a few hundred rows at most."""
    page.content["shared"] = _shared(material, tasks)
    page.content["ablations"] = _ablations(material, tasks)
    page.content["rescalings"] = _rescalings(material, tasks)
    page.content["tables"] = [plain_table(table) for table in tables]
    page.content["notes"] = list(material.notes)


def plain_table(table: ReportTable) -> dict[str, Any]:
    """A table as JSON holds it: NaN and infinity are unknown."""
    rows = [[_plain(value) for value in row] for row in table.rows]
    return {"title": table.title, "columns": list(table.columns), "rows": rows, "notes": list(table.notes)}


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):
        value = value.item()
    if value is None or isinstance(value, str | bool | int):
        return value
    return (value if math.isfinite(value) else None) if isinstance(value, float) else str(value)


def _shared(material: StudyMaterial, tasks: list[Task]) -> list[dict[str, Any]]:
    maps, found = primary_maps(material), []
    tests = {(model, sign): asdict(test) for model, sign, test in material.level_tests}
    across = {(model, sign) for model, sign, test in material.level_tests if test.across_forms}
    for model in material.models:
        rows = model_rows(material.shared, model)
        for sign in present(rows, "sign"):
            for k in present(only(rows, sign=sign), "k"):
                records = frame_records(only(rows, sign=sign, k=k))
                named = {name for row in records for name in (row["first"], row["second"])}
                chosen = {
                    name: [str(head) for head in select_heads(maps[model, name].claims, sign, int(k), TIES_SEED).heads]
                    for name in named
                    if (model, name) in maps
                }
                found.append(
                    {
                        "model": model,
                        "sign": sign,
                        "k": int(k),
                        "tasks": [{"dataset": task.dataset, "label": task.label} for task in tasks if task.dataset in named],
                        "rows": [_pair(row, chosen) for row in records],
                        "heads": chosen,
                        "level": tests.get((model, sign)),
                        "forms": ACROSS_FORMS if (model, sign) in across else CONFOUND,
                    }
                )
    return found


def _pair(row: dict[str, Any], heads: dict[str, list[str]]) -> dict[str, Any]:
    one, two = heads.get(row["first"], []), heads.get(row["second"], [])
    kept = {name: row[name] for name in ("overlap", "p_value", "q_value", "p_importance", "ceiling", "jaccard", "rank_correlation")}
    both = [head for head in one if head in two]
    return {
        "first": row["first"],
        "second": row["second"],
        "expected": row["expected_overlap"],
        "reason": row["reason"],
        "both": both,
        **kept,
    }


def _ablations(material: StudyMaterial, tasks: list[Task]) -> list[dict[str, Any]]:
    """Each ablated set with the effect of every random set, and the curves of the first 1 … k heads where they were measured."""
    maps, found = primary_maps(material), []
    for model in material.models:
        for summary in ablation_summaries(material.ablations, model, tasks):
            scan = maps.get((model, summary.task.dataset))
            rows = only(material.ablations, model=model, dataset=summary.task.dataset, sign=summary.sign, operation=summary.operation)
            curve = [
                {
                    name: row.get(name)
                    for name in ("condition", "size", "n", "accuracy", "drop", "drop_low", "drop_high", "mean_logit_diff", "heads")
                }
                for row in frame_records(rows)
                if row["condition"] in ("base", "cumulative", "selected", "faithfulness")
            ]
            found.append(
                {
                    "model": model,
                    "dataset": summary.task.dataset,
                    "label": summary.task.label,
                    "split": summary.split,
                    "sign": summary.sign,
                    "operation": summary.operation,
                    "heads": list(summary.heads),
                    "n": summary.n,
                    "measure": summary.measure,
                    "base": summary.base,
                    "effect": _against(summary.effect),
                    "nats": None if summary.nats is None else _against(summary.nats),
                    "exploratory": exploratory(scan.claims if scan else None, summary.heads, summary.sign),
                    "curve": curve,
                }
            )
    return found


def _against(effect: Any) -> dict[str, Any]:
    return {"selected": effect.selected, "random": list(effect.random), "mean": effect.mean_random, "p": effect.p_value}


def _rescalings(material: StudyMaterial, tasks: list[Task]) -> list[dict[str, Any]]:
    found = []
    for model in material.models:
        for summary in rescaling_summaries(material.modulations, model, tasks):
            roles = {"fitted": summary.fitted, "bias": summary.bias, "published": summary.published}
            gains: list[dict[str, Any]] = [_gain(name, row) for name, row in roles.items() if row is not None]
            gains += [_gain("shuffled", row) for row in summary.shuffled]
            gains += [_gain(f"on {row['evaluated_on'].split('/')[-3]}", row) for row in summary.transfer]
            found.append(
                {
                    "model": model,
                    "dataset": summary.task.dataset,
                    "label": summary.task.label,
                    "split": summary.split,
                    "unchanged": summary.unchanged,
                    "base": summary.fitted["base_accuracy"] if summary.fitted else None,
                    "n": summary.fitted["n"] if summary.fitted else None,
                    "strength": summary.fitted["strength"] if summary.fitted else None,
                    "scales": dict(summary.fitted["scales"]) if summary.fitted else {},
                    "gains": gains,
                }
            )
    return found


def _gain(role: str, row: Any) -> dict[str, Any]:
    return {"role": role, **{name: row.get(name) for name in ("gain", "gain_low", "gain_high", "p_value")}}
