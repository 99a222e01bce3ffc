"""The head maps of a page: every head's scores, and the effects on single samples that they rest on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vseam_core.analysis.heads import CLAIM_MEASURES
from vseam_core.report.data.known_samples import KnownSamples
from vseam_core.report.data.page_data import PageData
from vseam_core.report.head_states import map_state
from vseam_core.report.traced import UNITS
from vseam_core.results.stored_study import StoredStudy, measured_row, replacement_in, scores_of_rows
from vseam_core.store.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from vseam_core.store.records import HeadEffectSet

CLAIM_COLUMNS = (
    *("support", "low_support", "high_support", "q_positive", "claim_positive", "q_suppressor", "claim_suppressor"),
    *("mean_wrong", "low_wrong", "high_wrong", "q_negative", "claim_negative", "mean_correct", "below_noise_floor"),
)
PUBLISHED_COLUMNS = ("positive", "negative", "signed")


def add_scans(page: PageData, store: Store, chosen: StoredStudy, samples: KnownSamples) -> dict[tuple[str, str], np.ndarray]:
    """Put every scan of a study into the page, the claims and the published scores each as one map.

    Returns how much each head stands out, by model and dataset: `[layers * heads]` of the language model.
    """
    scores = store.scores("head_scores", chosen.run_ids)
    strengths: dict[tuple[str, str], np.ndarray] = {}
    if scores.empty:
        return strengths
    place = {name: index for index, name in enumerate((*chosen.models, *chosen.datasets))}
    keys = ["run_id", "model", "dataset", "operation", "positions", "stack", "measure"]
    groups: list[tuple[Any, pd.DataFrame]] = list(scores.groupby(keys, sort=False))
    groups.sort(key=lambda group: (place.get(group[0][1], len(place)), place.get(group[0][2], len(place)), group[0][6] != "logit_diff"))
    encoders = set(scores.loc[scores["stack"] == "encoder", "model"])
    for key, rows in groups:
        about = dict(zip(keys, key, strict=True))
        page.content["scans"].append(_scan(page, store, about=about, rows=rows, samples=samples, chosen=chosen))
        if about["measure"] == "logit_diff" and about["stack"] == ("encoder" if about["model"] in encoders else "decoder"):
            task, found = (about["model"], about["dataset"]), _strength(rows)
            strengths[task] = np.fmax(found, strengths[task]) if task in strengths else found
    return strengths


def _strength(rows: pd.DataFrame) -> np.ndarray:
    """How much each head stands out in a scan: its largest mean effect as a share of all heads' largest, and 1 more where it passes."""
    frame = rows.sort_values(["layer", "head"], kind="stable")
    means, claims = (
        np.stack([frame[name].astype("Float64").to_numpy(dtype=float, na_value=0.0) for name in names])
        for names in (("support", "mean_wrong"), ("claim_positive", "claim_suppressor", "claim_negative"))
    )
    most = np.abs(means).max(-1, keepdims=True)
    return np.asarray((np.abs(means) / np.where(most > 0, most, 1)).max(0) + claims.max(0))


def _scan(
    page: PageData, store: Store, about: dict[str, Any], rows: pd.DataFrame, samples: KnownSamples, chosen: StoredStudy
) -> dict[str, Any]:
    replacement = replacement_in(chosen, int(about["run_id"]), about["operation"])
    frame = rows.sort_values(["layer", "head"], kind="stable")
    first = measured_row(frame)
    columns = CLAIM_COLUMNS if about["measure"] == "logit_diff" else PUBLISHED_COLUMNS
    values = np.stack([frame[name].astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan) for name in columns])
    layers, heads = int(frame["layer"].max()) + 1, int(frame["head"].max()) + 1
    where = {name: about[name] for name in ("operation", "positions", "stack")}
    effects = store.head_effects(int(about["run_id"]), measure=about["measure"], **where)
    return {
        "run": int(about["run_id"]),
        "model": about["model"],
        "dataset": about["dataset"],
        **where,
        "words": replacement.words or about["operation"],
        "parity": replacement.parity,
        "measure": about["measure"],
        "unit": UNITS.get(about["measure"], "probability"),
        "layers": layers,
        "heads": heads,
        **{name: first[name] for name in ("n", "n_sampled", "n_correct", "n_wrong")},
        "columns": list(columns),
        "values": page.array(values, "float64"),
        "states": _states(first, frame),
        "effects": _effects(page, effects, samples) if about["measure"] in CLAIM_MEASURES else None,
        "sql": sample_query(about),
    }


def _states(first: dict[str, Any], frame: pd.DataFrame) -> dict[str, Any]:
    """What may be said about each side of the map."""
    if first["measure"] != "logit_diff":
        return {}
    scores = scores_of_rows(frame)
    return {sign: vars(map_state(scores, sign)) for sign in ("positive", "negative")}


def _effects(page: PageData, effects: HeadEffectSet, samples: KnownSamples) -> dict[str, Any] | None:
    if not len(effects):
        return None
    names = list(effects.samples["identifier"])
    samples.add(names)
    correct = effects.samples["correct_strict"].astype("Int64").fillna(2).to_numpy(dtype=np.uint8)
    return {
        "sample": page.array([samples.place(name) for name in names], "int32"),
        "correct": page.array(correct, "uint8"),
        "base": page.array(effects.base, "float64"),
        "values": page.array(effects.values, "float32"),
    }


def sample_query(about: dict[str, Any]) -> str:
    """The query that gives one head's effects by sample; LAYER and HEAD stand for the head."""
    conditions = [f"units.run_id = {int(about['run_id'])}"]
    conditions += [f"head_effects.{name} = {_quoted(about[name])}" for name in ("operation", "positions", "measure", "stack")]
    scored = [f"run_id = {int(about['run_id'])}", f"measure = {_quoted(about['measure'])}", "layer = LAYER", "head = HEAD"]
    return (
        f"SELECT * FROM head_scores WHERE {' AND '.join(scored)};\n"
        "SELECT samples.identifier, head_effects.base, head_effects.data FROM head_effects\n"
        "JOIN units ON units.id = head_effects.unit_id JOIN samples ON samples.id = head_effects.sample_id\n"
        f"WHERE {' AND '.join(conditions)};"
    )


def _quoted(text: str) -> str:
    return "'" + str(text).replace("'", "''") + "'"
