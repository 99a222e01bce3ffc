"""Closing tables about attention heads: who passes a claim, and whether it holds on test images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vseam_core.analysis.frames import frame_records
from vseam_core.analysis.head_claims import MINIMUM_RELIABILITY, SIGNIFICANCE
from vseam_core.analysis.head_sets import ranked_heads, select_heads
from vseam_core.analysis.heads import HeadScores, Sign
from vseam_core.analysis.multiple_testing import FEWEST_SETS
from vseam_core.api.types import HeadId
from vseam_core.errors import counted
from vseam_core.report.head_states import exploratory, nothing_selected, passing_heads, primary_maps
from vseam_core.report.summaries import AblationSummary, ablation_summaries
from vseam_core.report.tables.table import ReportTable, table_of
from vseam_core.report.tasks import Task, study_tasks
from vseam_core.results.study_results import HeadMap, StudyMaterial

HEADS_PER_TASK = 3
CANNOT = "cannot be tested at this size"
TIES_SEED = 0


def head_table(material: StudyMaterial, sign: Sign) -> ReportTable | None:
    """The strongest heads of one sign per model and category with intervals and q, or why there are none."""
    maps, records = primary_maps(material), []
    if not maps:
        return None
    for model in material.models:
        for task in study_tasks(material):
            if (model, task.dataset) in maps:
                records += _head_records(model, task, maps[model, task.dataset].claims, sign)
    records, untested = _without_untested(records)
    columns = ("model", "category", "head", "nats", "low", "high", "q", "n", "reliability", "rest", "remark")
    effect = "lowers it over all sampled questions" if sign == "positive" else "raises it on wrong answers"
    title = "Positive heads" if sign == "positive" else "Negative heads (confirmed on test images)"
    replaced = " or ".join(sorted({scan.replaced_by for scan in maps.values()}))
    return table_of(
        title,
        columns,
        records,
        f"The {HEADS_PER_TASK} strongest heads that pass. nats: logit difference before minus after replacing the head by "
        f"{replaced}, with a 95 % t interval, clustered by image; a {sign} head {effect}, for gold yes and gold no alike "
        f"(q < {SIGNIFICANCE:g} over all heads).",
        f"reliability: split-half over images; below {MINIMUM_RELIABILITY:g} a map is not resolved and no head of it is named; rest: "
        "the same without the strongest head.",
        "Every noisy head raises wrong answers when it is replaced; named are those without which, replaced by their mean and by zero, "
        "more test questions are answered right, beyond a mere shift of yes against no."
        if sign == "negative"
        else "",
        *untested,
    )


def _head_records(model: str, task: Task, scores: HeadScores, sign: Sign) -> list[dict[str, Any]]:
    mean, side = ("support", "support") if sign == "positive" else ("mean_wrong", "wrong")
    common = {
        "model": model,
        "category": task.label,
        "n": scores.n_sampled if sign == "positive" else scores.n_wrong,
        "reliability": scores.reliability_support if sign == "positive" else scores.reliability_wrong,
        "rest": _rest(scores, sign),
    }
    selected = select_heads(scores, sign, HEADS_PER_TASK, TIES_SEED)
    if not selected.heads:
        return [common | {"remark": nothing_selected(scores, sign)}]
    rows = {(row["layer"], row["head"]): row for row in frame_records(scores.frame)}
    passing = int(passing_heads(scores, sign).sum())
    records = []
    for head in selected:
        row = rows[head.layer, head.head]
        record = common | {"remark": "", "head": str(head), "nats": row[mean], "q": row[f"q_{sign}"]}
        records.append(record | {"low": row[f"low_{side}"], "high": row[f"high_{side}"]})
    records[0]["remark"] = counted(passing, "head") + (" pass" if passing != 1 else " passes")
    return records


def _rest(scores: HeadScores, sign: Sign) -> float | None:
    values = scores.map(f"reliability_{'support' if sign == 'positive' else 'wrong'}_rest")
    return None if values is None else float(np.nanmax(values))


def _without_untested(records: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """The records without those of maps that could not be tested, and what these lack, said once."""
    tested = [record for record in records if CANNOT not in record["remark"]]
    short = [f"{record['model']} {record['category']} ({_needs(record['remark'])})" for record in records if record not in tested]
    return tested, [f"Cannot be tested at this size: {'; '.join(short)}."] if short else []


def _needs(remark: str) -> str:
    return remark.partition(CANNOT)[2].partition(";")[0].strip(": ")


def suppressor_table(material: StudyMaterial) -> ReportTable | None:
    """Heads that work against the right answer over all sampled questions, a finding of its own; None without any."""
    records = []
    for (model, dataset), scan in primary_maps(material).items():
        if not scan.claims.resolved_support:
            continue
        label = next((task.label for task in study_tasks(material) if task.dataset == dataset), dataset)
        rows = [row for row in frame_records(scan.claims.frame) if row["claim_suppressor"]]
        for row in sorted(rows, key=lambda row: row["support"])[:HEADS_PER_TASK]:
            name = str(HeadId(row["layer"], row["head"], row["stack"]))
            record = {"model": model, "category": label, "head": name, "nats": row["support"], "q": row["q_suppressor"]}
            records.append(record | {"low": row["low_support"], "high": row["high_support"], "n": row["n_sampled"]})
    if not records:
        return None
    return table_of(
        "Suppressors",
        ("model", "category", "head", "nats", "low", "high", "q", "n"),
        records,
        "Replacing these heads raises the logit difference over all sampled questions, for gold yes and gold no alike: they write against "
        "the right answer, often to balance another head, and the model need not be better without them.",
    )


def ablation_tables(material: StudyMaterial) -> dict[str, ReportTable]:
    """By sign: what ablating the selected heads does on test images, beside matched random sets."""
    maps, tables = primary_maps(material), {}
    for sign in ("positive", "negative"):
        records, sets = [], set()
        for model in material.models:
            for found in ablation_summaries(material.ablations, model, study_tasks(material)):
                if found.sign == sign:
                    records.append(_ablation_record(model, found, maps.get((model, found.task.dataset))))
                    sets.add(len(found.effect.random))
        if records:
            tables[sign] = _ablation_table(sign, records, sorted(sets))
    return tables


def _ablation_table(sign: str, records: Sequence[dict[str, Any]], sets: Sequence[int]) -> ReportTable:
    effect = "drop" if sign == "positive" else "gain"
    columns = ("model", "category", "split", "by", "n", "k", "base", effect, "±", "random", "p", "nats", "p nats", "remark")
    measures = " or ".join(sorted({record["measure"] for record in records}))
    verb = "falls" if sign == "positive" else "rises"
    return table_of(
        f"Ablation of {sign} heads on test images, against matched random sets",
        columns,
        records,
        f"{effect}: how much {measures} {verb} from base when the k selected heads are replaced by what `by` says; random: the "
        "mean over random sets of the same size, matched in layer and norm; nats: the same for the mean logit difference.",
        f"p = (1 + random sets with at least that effect) / (1 + random sets), {' or '.join(map(str, sets))} random sets.",
        "Random sets are drawn from the heads of the same layers and norms, selected ones included, each set once; with fewer than "
        f"{FEWEST_SETS} there is no p. ±: standard error of {effect} over images.",
        "exploratory: the highest ranked heads, since none passed the claim; such a row says nothing about a claimed head."
        if any(record["remark"] for record in records)
        else "",
        folded=("split", "by", "n", "k"),
    )


def _ablation_record(model: str, found: AblationSummary, scan: HeadMap | None) -> dict[str, Any]:
    effect = "drop" if found.sign == "positive" else "gain"
    record: dict[str, Any] = {
        "model": model,
        "category": found.task.label,
        "split": found.split,
        "by": found.operation,
        "k": len(found.heads),
        "n": found.n,
        "measure": found.measure,
        "base": found.base,
        effect: found.effect.selected,
        "±": found.error,
        "random": found.effect.mean_random,
        "p": found.effect.p_value,
        "remark": "exploratory" if exploratory(scan.claims if scan else None, found.heads, found.sign) else "",
    }
    if found.nats is not None:
        record |= {"nats": found.nats.selected, "random nats": found.nats.mean_random, "p nats": found.nats.p_value}
    return record


def published_table(material: StudyMaterial) -> ReportTable | None:
    """The highest published scores per model and category, for parity with the published scripts."""
    records = []
    for scan in _published_maps(material):
        assert scan.published is not None
        task = next(task for task in study_tasks(material) if task.dataset == scan.dataset)
        record: dict[str, Any] = {"model": scan.model, "category": task.label, "by": scan.operation}
        for sign in ("positive", "negative"):
            best = ranked_heads(scan.published, sign, 1, TIES_SEED, by="published")
            scores = scan.published.map(sign)
            if best.heads and scores is not None:
                record |= {sign: str(best[0]), f"{sign} score": float(scores[best[0].layer, best[0].head])}
        records.append(record | {"n correct": scan.published.n_correct, "n wrong": scan.published.n_wrong})
    if not records:
        return None
    columns = ("model", "category", "by", "positive", "positive score", "negative", "negative score", "n correct", "n wrong")
    return table_of(
        "Highest head scores by the published formulas (parity only)",
        columns,
        records,
        "In probability. These scores reward variance: no significance is claimed on them, and no other table rests on them.",
        folded=("by",),
    )


def _published_maps(material: StudyMaterial) -> list[HeadMap]:
    """One map per model and dataset: of the published replacement where it was scanned, else of any other."""
    found: dict[tuple[str, str], HeadMap] = {}
    for scan in material.heads:
        if scan.published is not None and (scan.replacement.parity or (scan.model, scan.dataset) not in found):
            found[scan.model, scan.dataset] = scan
    order = [task.dataset for task in study_tasks(material)]
    return sorted(found.values(), key=lambda scan: (material.models.index(scan.model), order.index(scan.dataset)))
