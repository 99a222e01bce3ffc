"""Sentences about evaluated runs: how often each is right, and what it gains over the run that it is held against."""

from __future__ import annotations

from vseam_core.analysis.head_claims import SIGNIFICANCE
from vseam_core.errors import counted
from vseam_core.report.findings.wording import Finding, link, number, percent, probability
from vseam_core.report.tasks import label_of, study_tasks
from vseam_core.results.evaluated import ALL, MAIN, UNCHANGED, Evaluated, evaluated
from vseam_core.results.study_results import StudyMaterial


def evaluation_findings(material: StudyMaterial) -> list[Finding]:
    """One sentence for each evaluated run, over all of its samples; runs that are held against another come first."""
    tasks = study_tasks(material)
    found = [each for each in evaluated(material) if each.subset == ALL and each.figure["value"] is not None]
    found.sort(key=lambda each: each.gain is None)
    return [_sentence(each, label_of(tasks, each.dataset)) for each in found]


def _sentence(each: Evaluated, label: str) -> Finding:
    row, name = each.figure, each.model if each.change == UNCHANGED else f"{each.model}, {each.change}"
    value = f"{each.figure['metric'].replace('_', ' ')} {_value(row)}"
    if row["metric"] == MAIN:
        value = f"{percent(row['value'], row['low'], row['high'])} of answers are right"
    text = f"{name}, on {label} ({each.split}): {value} (n = {row['n']})"
    if each.gain is None or each.gain["value"] is None:
        return Finding(f"{text}.", "found", link("evaluations"))
    gain = each.gain
    tested = "" if gain["p_value"] is None else f"{probability('p', gain['p_value'])}, "
    turned = "" if each.better is None else f": {counted(each.better, 'answer')} better, {each.worse} worse"
    told = gain["p_value"] is not None and gain["p_value"] < SIGNIFICANCE
    change = percent(gain["value"], gain["low"], gain["high"]).replace(" %", " points")
    text += f"; a gain of {change} over run {each.compared_with} ({tested}n = {gain['n']}){turned}."
    return Finding(text, "found" if told else "open", link("evaluations"))


def _value(row: dict[str, float]) -> str:
    ends = "" if row["low"] is None else f" [{number(row['low'])}, {number(row['high'])}]"
    return f"{number(row['value'])}{ends}"
