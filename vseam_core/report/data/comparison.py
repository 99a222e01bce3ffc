"""The data of a page that holds two studies against each other: a map of differences for every scan that both have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vseam_core.analysis.head_claims import SIGNIFICANCE
from vseam_core.api.types import HeadId
from vseam_core.report.data.page_data import PageData
from vseam_core.report.data.scans import sample_query
from vseam_core.report.findings.wording import Finding, link, listed, nats, probability
from vseam_core.report.tables.table import ReportTable
from vseam_core.results.comparing import HeadDifference

COLUMNS = ("difference", "low_difference", "high_difference", "q_difference", "differs")
HEADS_PER_SCAN = 5


def comparison_page(names: tuple[str, str], found: Sequence[HeadDifference]) -> PageData:
    """The page of a comparison; its findings are `comparison_findings`, its table `comparison_table`."""
    page = PageData(f"{names[1]} against {names[0]}", "How much more each head does in the second study than in the first.")
    datasets = list(dict.fromkeys(one.dataset for one in found))
    labels = {dataset: dataset.rsplit("/", 1)[-1] for dataset in datasets}
    if len(set(labels.values())) < len(labels):
        labels = {dataset: dataset for dataset in datasets}
    page.content["models"] = list(dict.fromkeys(_model(one) for one in found))
    page.content["tasks"] = [{"dataset": name, "label": labels[name], "level": "", "category": labels[name]} for name in datasets]
    page.content["findings"] = [vars(finding) for finding in comparison_findings(found, labels)]
    page.content["scans"] = [_scan(page, one, names) for one in found]
    table = comparison_table(found)
    page.content["tables"] = [{"title": table.title, "columns": table.columns, "rows": table.rows, "notes": table.notes}]
    return page


def _model(one: HeadDifference) -> str:
    return one.models[0] if one.models[0] == one.models[1] else f"{one.models[1]} against {one.models[0]}"


def _scan(page: PageData, one: HeadDifference, names: tuple[str, str]) -> dict[str, Any]:
    unknown = np.full(one.difference.shape, np.nan)
    values = [one.difference, *(unknown if part is None else part for part in (one.low, one.high, one.q_value)), _differs(one)]
    layers, heads = one.difference.shape
    how = "sample by sample on the same samples" if one.paired else "between the means of different samples"
    where = {name: getattr(one, name) for name in ("operation", "positions", "stack")}
    return {
        "run": one.runs[1],
        "model": _model(one),
        "dataset": one.dataset,
        **where,
        "words": one.operation,
        "measure": "logit_diff",
        "unit": "nats",
        "layers": layers,
        "heads": heads,
        **dict.fromkeys(("n", "n_sampled", "n_correct", "n_wrong"), one.n),
        "columns": list(COLUMNS),
        "values": page.array(np.stack([part.ravel() for part in values]), "float64"),
        "states": {"difference": {"shown": True, "resolved": True, "words": f"{_size(one)}, {one.reason or how}"}},
        "caption": f"Effect in {names[1]} minus effect in {names[0]}; 95 % t intervals over {one.clusters} images.",
        "effects": None,
        "sql": sample_query({"run_id": one.runs[1], "measure": "logit_diff", **where}),
    }


def _size(one: HeadDifference) -> str:
    return f"n = {one.n}{', wrong answers added to the drawn questions included' if one.wrong_added else ''}"


def _differs(one: HeadDifference) -> np.ndarray:
    """Which heads differ, bool `[layers, heads]`: q below the level that claims have."""
    return np.zeros(one.difference.shape, dtype=bool) if one.q_value is None else one.q_value < SIGNIFICANCE


def _strongest(one: HeadDifference) -> list[tuple[int, int]]:
    """Heads from the largest difference on."""
    order = np.argsort(-np.abs(np.nan_to_num(one.difference)), axis=None, kind="stable")
    return [(int(place) // one.difference.shape[1], int(place) % one.difference.shape[1]) for place in order]


def _words(one: HeadDifference, place: tuple[int, int]) -> str:
    name = HeadId(*place, one.stack)
    if one.low is None or one.high is None or one.q_value is None:
        return f"{name} by {nats(float(one.difference[place]), None, None)}"
    effect = nats(float(one.difference[place]), float(one.low[place]), float(one.high[place]))
    return f"{name} by {effect} ({probability('q', float(one.q_value[place]))})"


def comparison_findings(found: Sequence[HeadDifference], labels: dict[str, str] | None = None) -> list[Finding]:
    """One sentence per scan, those with most heads that differ in front; at most ten."""
    named = labels or {}
    sentences: list[tuple[int, Finding]] = []
    for one in found:
        places = [place for place in _strongest(one) if _differs(one)[place]]
        where = f"{_model(one)}, {named.get(one.dataset, one.dataset)}, {one.operation}"
        first = places[0] if places else _strongest(one)[0]
        view = link("heads", model=_model(one), dataset=one.dataset, head=f"{first[0]}.{first[1]}")
        size = f"{_size(one)}, {one.clusters} images"
        same = ": they hold the same measurements" if one.same_units else ""
        if not np.nan_to_num(one.difference).any():
            sentences.append((0, Finding(f"{where}: every head has the same effect in both ({size}){same}.", "open", view)))
        elif places:
            most = listed([_words(one, place) for place in places[:2]])
            text = f"{where}: {len(places)} of {int(np.isfinite(one.difference).sum())} heads differ, most of all {most} ({_size(one)})."
            sentences.append((len(places), Finding(text, "found", view)))
        else:
            text = f"{where}: no head is told apart between the two ({size}); the largest difference is {_words(one, first)}."
            sentences.append((0, Finding(text, "open", view)))
    return [finding for _, finding in sorted(sentences, key=lambda part: -part[0])][:10]


def comparison_table(found: Sequence[HeadDifference]) -> ReportTable:
    """The largest differences of every scan."""
    rows = []
    for one in found:
        for place in [place for place in _strongest(one) if np.isfinite(one.difference[place])][:HEADS_PER_SCAN]:
            known = [None if part is None else float(part[place]) for part in (one.low, one.high, one.q_value)]
            head = str(HeadId(*place, one.stack))
            rows.append(
                (
                    _model(one),
                    one.dataset,
                    one.operation,
                    head,
                    float(one.difference[place]),
                    *known,
                    one.n,
                    "paired" if one.paired else "means",
                )
            )
    columns = ("model", "dataset", "by", "head", "difference", "low", "high", "q", "n", "compared")
    return ReportTable("Largest differences of head effects", columns, tuple(rows), ("In nats; q over all heads of a map.",))
