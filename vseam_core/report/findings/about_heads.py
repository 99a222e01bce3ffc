"""Sentences about attention heads: which matter, whether that holds on test images, which are shared, and what stays open."""

from __future__ import annotations

from typing import Any

from vseam_core.analysis.ablation_tests import AgainstRandom
from vseam_core.analysis.frames import frame_records
from vseam_core.analysis.head_claims import MINIMUM_RELIABILITY, SIGNIFICANCE
from vseam_core.api.types import HeadId
from vseam_core.errors import counted
from vseam_core.report.findings.sample_sizes import images_for_strongest, samples_for_reliability
from vseam_core.report.findings.wording import Finding, link, listed, nats, number, percent, probability
from vseam_core.report.head_states import exploratory, passing_heads, primary_maps, tested
from vseam_core.report.summaries import AblationSummary, ablation_summaries
from vseam_core.report.tasks import label_of, model_rows, only, study_tasks
from vseam_core.results.study_results import HeadMap, StudyMaterial

NAMED_TASKS = 2


def head_findings(material: StudyMaterial) -> list[Finding]:
    """Per model the heads that come first on most tasks, each with its effect; models take turns."""
    maps, tasks = primary_maps(material), study_tasks(material)
    by_model = []
    for model in material.models:
        firsts: dict[str, list[tuple[str, dict[str, Any], HeadMap]]] = {}
        for task in tasks:
            scan = maps.get((model, task.dataset))
            if scan is None or not passing_heads(scan.claims, "positive").any():
                continue
            rows = frame_records(scan.claims.frame[passing_heads(scan.claims, "positive").ravel()])
            best = max(rows, key=lambda row: row["support"])
            firsts.setdefault(str(HeadId(best["layer"], best["head"], best["stack"])), []).append((task.label, best, scan))
        ordered = sorted(firsts.items(), key=lambda item: (-len(item[1]), -max(row["support"] for _, row, _ in item[1])))
        by_model.append([_head_sentence(model, head, parts) for head, parts in ordered])
    turns = max(map(len, by_model), default=0)
    return [sentences[turn] for turn in range(turns) for sentences in by_model if turn < len(sentences)]


def _head_sentence(model: str, head: str, parts: list[tuple[str, dict[str, Any], HeadMap]]) -> Finding:
    parts = sorted(parts, key=lambda part: -part[1]["support"])
    _, first, scan = parts[0]
    effects = [
        f"on {label} {nats(row['support'], row['low_support'], row['high_support'])}{_size(row, scan)}"
        for label, row, scan in parts[:NAMED_TASKS]
    ]
    others = [f"{label} ({number(row['support'])})" for label, row, _ in parts[NAMED_TASKS:]]
    also = f"; it comes first on {listed(others)} too" if others else ""
    text = f"{model}: of all heads, replacing {head} by {scan.replaced_by} costs most {listed(effects)}{also}."
    return Finding(text, "found", link("heads", model=model, dataset=scan.dataset, head=f"{first['layer']}.{first['head']}"))


def _size(row: dict[str, Any], scan: HeadMap) -> str:
    """How many samples, how sure, and the head that comes next: the first of many is overestimated, and may lead by little."""
    others = scan.claims.frame[passing_heads(scan.claims, "positive").ravel()].nlargest(2, "support")
    follows = "".join(
        f"; next {HeadId(one['layer'], one['head'], one['stack'])}: {number(one['support'])}" for one in frame_records(others)[1:]
    )
    return f" (n = {row['n_sampled']}, {probability('q', row['q_positive'])}{follows})"


def ablation_findings(material: StudyMaterial) -> list[Finding]:
    """One sentence on all sets of claimed heads that were ablated on test images beside matched random sets."""
    maps = primary_maps(material)
    found: list[tuple[float, str, AblationSummary, AgainstRandom]] = []
    for model in material.models:
        for summary in ablation_summaries(material.ablations, model, study_tasks(material)):
            scan, effect = maps.get((model, summary.task.dataset)), summary.nats
            if summary.sign != "positive" or effect is None or effect.p_value is None:
                continue
            if not exploratory(scan.claims if scan else None, summary.heads, "positive"):
                found.append((effect.p_value, model, summary, effect))
    if not found:
        return []
    clear = [part for part in found if part[0] < SIGNIFICANCE]
    p_value, model, best, effect = min(clear or found, key=lambda part: (part[0], -part[3].selected))
    text = (
        f"On test images, replacing the {counted(len(best.heads), 'selected head')} of {model} lowers the logit difference on "
        f"{best.task.label} by {number(effect.selected)} nats, matched random sets by {number(effect.mean_random or 0.0)} on average "
        f"({probability('p', p_value)}, {len(effect.random)} sets, n = {best.n}); "
        f"p < {SIGNIFICANCE:g} in {len(clear)} of {counted(len(found), 'such test')}."
    )
    return [Finding(text, "found" if clear else "open", link("ablation", model=model))]


def negative_findings(material: StudyMaterial) -> list[Finding]:
    """Heads without which more test questions are answered right; nothing where no candidate was confirmed (`open_heads` says so)."""
    if material.confirmations is None or material.confirmations.empty:
        return []
    rows = [row for row in frame_records(material.confirmations) if row["verdict"] == "confirmed" and row["gain"] is not None]
    if not rows:
        return []
    best = max(rows, key=lambda row: row["gain"])
    head, label = str(HeadId(best["layer"], best["head"], best["stack"])), label_of(study_tasks(material), best["dataset"])
    text = (
        f"{best['model']}: without {head}, {percent(best['gain'], best['gain_low'], best['gain_high'])} more {label} test questions are "
        f"answered right ({probability('p', best['p_value'])}, n = {best['n']}, replaced by {best['operation']})."
    )
    return [Finding(text, "found", link("heads", model=best["model"], dataset=best["dataset"], head=f"{best['layer']}.{best['head']}"))]


def sharing_findings(material: StudyMaterial) -> list[Finding]:
    """Whether tasks share heads beyond chance, and whether tasks of one level share more than others."""
    findings = []
    for model, sign, test in material.level_tests:
        if sign != "positive" or test.p_value is None:
            continue
        rows = only(model_rows(material.shared, model), sign=sign)
        compared = rows[rows["q_value"].notna()]
        clear = compared["q_value"] < SIGNIFICANCE
        # A pair shares something of its own only if heads that matter in every task do not explain it.
        beyond = int((clear & (compared["p_importance"] < SIGNIFICANCE).fillna(False)).sum())
        k = int(rows["k"].iloc[0])
        resolved = test.p_value < SIGNIFICANCE
        least = 1 / test.groupings if test.groupings else 1.0
        limit = "" if least < SIGNIFICANCE else f"; with {test.tasks} tasks no p below {least:.2g} is possible, more categories are needed"
        verdict = "share more heads" if resolved else "are not told apart from others in what they share"
        forms = (
            "only pairs that are asked in different forms count, so that it is not the form that is shared"
            if test.across_forms
            else "levels mostly differ in the form of their questions too, so it can be the form that is shared: a control is in "
            "docs/statistics.md"
        )
        text = (
            f"{model}: tasks of one level {verdict}: {number(test.within or 0.0)} of their {k} strongest within levels, "
            f"{number(test.across or 0.0)} across ({probability('p', test.p_value)}{limit}; {forms}). {int(clear.sum())} of "
            f"{counted(len(compared), 'pair')} share more than heads permuted within layers do (q < {SIGNIFICANCE:g}), {beyond} of them "
            "also more than heads that matter in every task explain."
        )
        findings.append(Finding(text, "found" if resolved or beyond else "open", link("shared", model=model)))
    return findings


def open_heads(material: StudyMaterial) -> list[Finding]:
    """What the maps of heads could not resolve, and how many samples would."""
    sentences = [_nothing_passes(material), _unresolved(material)]
    return [finding for finding in sentences if finding is not None]


def _nothing_passes(material: StudyMaterial) -> Finding | None:
    """Maps on which no positive head passes although they repeat on other images, apart from those that are too small for any to pass."""
    parts, untested, first = [], [], None
    for (model, dataset), scan in primary_maps(material).items():
        if not scan.claims.resolved_support or passing_heads(scan.claims, "positive").any():
            continue
        if not tested(scan.claims, "positive"):
            first = first or (model, dataset)
            untested.append(f"{model} {label_of(study_tasks(material), dataset)} (n = {scan.claims.n_sampled}; {_lacking(scan)})")
            continue
        images = images_for_strongest(scan.claims, "positive")
        words = f"{model} {label_of(study_tasks(material), dataset)} (n = {scan.claims.n_sampled}"
        parts.append((images or 0, words + (f"; {images} images of each gold answer)" if images else ")")))
        first = first or (model, dataset)
    if first is None:
        return None
    parts.sort(key=lambda part: (part[0] == 0, part))
    text = f"Open: no head passes on {_first_three([words for _, words in parts])}." if parts else ""
    if any(images for images, _ in parts[:3]):
        text += " In brackets is what finding the strongest head there in 80 % of cases takes, were its effect as large as measured."
    if untested:
        text += f"{' ' if text else 'Open: '}Heads could not be tested, so that none passes, on {_first_three(untested)}."
    return Finding(text, "open", link("heads", model=first[0], dataset=first[1]))


def _lacking(scan: HeadMap) -> str:
    return scan.claims.reason_support.removeprefix("cannot be tested at this size: ")


def _first_three(words: list[str]) -> str:
    return listed(words[:3]) + (f", and {len(words) - 3} more" if len(words) > 3 else "")


def _unresolved(material: StudyMaterial) -> Finding | None:
    """Maps that do not repeat on other images, or that have too few answers, on either side."""
    maps = primary_maps(material)
    if not maps:
        return None
    parts = []
    for (model, dataset), scan in maps.items():
        label = f"{model} {label_of(study_tasks(material), dataset)}"
        scores = scan.claims
        if not scores.resolved_support:
            needed = samples_for_reliability(scores.n_sampled, scores.reliability_support)
            parts.append(f"{label} (n = {scores.n_sampled}, reliability {_shown(scores.reliability_support)}{_needed(needed)})")
    negative = [scan for scan in maps.values() if not passing_heads(scan.claims, "negative").any()]
    text = ""
    if parts:
        text = f"Not resolved are the maps of {_first_three(parts)}. "
    if negative:
        wrong = [scan.claims.n_wrong for scan in negative]
        few = sum(count < 10 for count in wrong)
        where = "" if few == len(negative) else f"on {few} of them "
        scarce = f", {where}fewer than the 10 that it takes" if few else ""
        text += f"Open: no negative head is confirmed on {len(negative)} of {len(maps)} maps (n = {_span(wrong)} wrong answers{scarce})."
    return Finding(text.strip(), "open", link("heads")) if text else None


def _needed(samples: int | None) -> str:
    return "" if samples is None else f"; about {samples} samples would reach {MINIMUM_RELIABILITY:g}"


def _shown(reliability: float | None) -> str:
    return "unknown" if reliability is None else f"{reliability:.2f}"


def _span(values: list[int]) -> str:
    return str(values[0]) if min(values) == max(values) else f"{min(values)} to {max(values)}"
