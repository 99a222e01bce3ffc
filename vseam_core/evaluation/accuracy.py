"""Accuracy of stored answers with clustered errors, beside what it must be held against: yes-ratio, majority answer, pair accuracy.

Five of the paper's seven GQA subsets contain only "Yes" answers, where a model that always says yes is always right.
Pair accuracy is not fooled by that: it counts pairs answered right on the clean and right, the other answer, on the
corrupt image.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from vseam_core.analysis.frames import FLAG, NUMBER, TEXT, WHOLE, nullable_frame
from vseam_core.analysis.statistics import MINIMUM_CLUSTERS, Estimate, clustered_mean, paired_comparison
from vseam_core.api.types import Pair
from vseam_core.runs.spec import Baseline

GROUPS: tuple[str, ...] = ("model", "category", "split")

BASELINE_COLUMNS: dict[str, str] = {
    "model": TEXT,
    "dataset": TEXT,
    "level": TEXT,
    "category": TEXT,
    "pool": TEXT,
    "split": TEXT,
    "identifier": TEXT,
    "image_id": TEXT,
    "form": TEXT,
    "pair_role": TEXT,
    "clean_identifier": TEXT,
    "answer": TEXT,
    "predicted": TEXT,
    "correct": FLAG,
}
SUMMARY_COLUMNS: dict[str, str] = {
    "n": WHOLE,
    "clusters": WHOLE,
    "accuracy": NUMBER,
    "standard_error": NUMBER,
    "low": NUMBER,
    "high": NUMBER,
    "n_pairs": WHOLE,
    "pair_accuracy": NUMBER,
    "pair_standard_error": NUMBER,
    "pair_low": NUMBER,
    "pair_high": NUMBER,
    "yes_ratio": NUMBER,
    "gold_yes_ratio": NUMBER,
    "majority_answer": TEXT,
    "majority_baseline": NUMBER,
    "precision": NUMBER,
    "recall": NUMBER,
    "f1": NUMBER,
    "reason": TEXT,
}
COMPARISON_COLUMNS: dict[str, str] = {
    "n": WHOLE,
    "clusters": WHOLE,
    "accuracy_first": NUMBER,
    "accuracy_second": NUMBER,
    "gain": NUMBER,
    "standard_error": NUMBER,
    "low": NUMBER,
    "high": NUMBER,
    "p_value": NUMBER,
    "exact": FLAG,
    "fixed": WHOLE,
    "broken": WHOLE,
    "unmatched": WHOLE,
    "reason": TEXT,
}


def baseline_frame(
    baselines: Iterable[Baseline],
    *,
    model: str,
    pairs: Iterable[Pair] = (),
    protocol: Literal["claims", "published"] = "claims",
) -> pd.DataFrame:
    """Baseline rows as the table that `summarise` and `compare` read, columns `BASELINE_COLUMNS`.

    `clean_identifier` links the answer on a corrupt image to that on its clean one (`pairs`). `correct` is the
    benchmark's official rule (claims) or the published argmax rule.
    """
    clean_of = {pair.corrupt.identifier: pair.clean.identifier for pair in pairs}
    rows = []
    for baseline in baselines:
        sample = baseline.sample
        copied = ("dataset", "level", "category", "pool", "split", "identifier", "image_id", "form", "answer")
        row: dict[str, Any] = {name: getattr(sample, name) for name in copied}
        row |= {"model": model, "predicted": baseline.predicted, "pair_role": baseline.pair_role}
        row["clean_identifier"] = clean_of.get(sample.identifier) if baseline.pair_role == "corrupt" else None
        row["correct"] = baseline.correct_strict if protocol == "claims" else baseline.correct_published
        rows.append(row)
    return nullable_frame(rows, BASELINE_COLUMNS)


def summarise(frame: pd.DataFrame, by: Sequence[str] = GROUPS) -> pd.DataFrame:
    """One row per group of `by` with accuracy and its clustered error; columns `by`, then `SUMMARY_COLUMNS`.

    Counts plain and clean samples, each once. Errors cluster by image and intervals stay in [0, 1]; where all or none
    are right the spread says nothing, so the interval is Clopper-Pearson's with one observation per image. `yes_ratio`,
    `precision`, `recall` and `f1` (positive = yes) rest on the yes/no questions and are null without any, or where
    nothing was divided by. Pairs whose clean answer is missing are left out. Raises `ValueError` where `correct` or
    `image_id` has nulls.
    """
    _check(frame)
    questions = frame[frame["pair_role"].isin(("", "clean"))].drop_duplicates(["model", "identifier"])
    corrupt = frame[(frame["pair_role"] == "corrupt") & frame["clean_identifier"].notna()]
    clean = questions[["model", "identifier", "correct"]]
    clean = clean.rename(columns={"identifier": "clean_identifier", "correct": "clean_correct"})
    pairs = corrupt.merge(clean, on=["model", "clean_identifier"])
    grouped_pairs = {_key(key): part for key, part in pairs.groupby(list(by), sort=False)}
    rows = []
    for name, part in questions.groupby(list(by), sort=False):
        row: dict[str, Any] = dict(zip(by, _key(name), strict=True))
        row |= _accuracy_columns(part)
        row |= _pair_columns(grouped_pairs.get(_key(name)))
        row |= _answer_columns(part)
        rows.append(row)
    return nullable_frame(rows, {**dict.fromkeys(by, TEXT), **SUMMARY_COLUMNS})


def compare(first: pd.DataFrame, second: pd.DataFrame, *, seed: int, by: Sequence[str] = ("category", "split")) -> pd.DataFrame:
    """Two runs on the same samples, per group: gain second - first, clustered error, sign-flip p; `by`, then `COMPARISON_COLUMNS`.

    Samples are matched by identifier and pair role; `unmatched` counts those that only one run has. `fixed` were wrong
    in the first and right in the second run, `broken` the other way round. Raises `ValueError` where a run has a sample
    twice, or nulls.
    """
    keys = ["identifier", "pair_role"]
    for frame in (first, second):
        _check(frame)
        if frame.duplicated(keys).any():
            raise ValueError("a run has a sample twice; compare one model with one model")
    right = second[[*keys, *by, "correct"]].rename(columns={"correct": "correct_second"})
    merged = first.merge(right, on=[*keys, *by], how="outer", indicator=True)
    rows = []
    for name, part in merged.groupby(list(by), sort=False):
        both = part[part["_merge"] == "both"]
        row: dict[str, Any] = dict(zip(by, _key(name), strict=True))
        row |= {"n": len(both), "unmatched": len(part) - len(both), "reason": "" if len(both) else "no sample in both runs"}
        rows.append(row | (_gain_columns(both, seed) if len(both) else {}))
    return nullable_frame(rows, {**dict.fromkeys(by, TEXT), **COMPARISON_COLUMNS})


def accuracy_estimate(correct: Sequence[float] | np.ndarray, clusters: Sequence[Any] | np.ndarray) -> Estimate:
    """The mean score (0/1, or part marks between) with its clustered error; the interval as `summarise` describes it."""
    values = np.asarray(correct, dtype=np.float64)
    estimate = clustered_mean(values, clusters)
    if estimate.mean is None or estimate.clusters < MINIMUM_CLUSTERS or estimate.low is None or estimate.high is None:
        return estimate
    low, high, reason = max(0.0, estimate.low), min(1.0, estimate.high), ""
    if np.ptp(values) == 0 and estimate.mean in (0.0, 1.0):
        images = estimate.clusters
        ends = stats.binomtest(images if estimate.mean else 0, images).proportion_ci(method="exact")
        low, high = float(ends.low), float(ends.high)
        reason = f"{'all' if estimate.mean else 'none'} right: exact binomial interval over {images} images"
    return Estimate(estimate.mean, estimate.standard_error, low, high, estimate.n, estimate.clusters, reason)


def says_yes(texts: pd.Series) -> pd.Series:
    """Whether each answer is yes: the word alone, whatever its case, spaces and final punctuation."""
    return texts.str.strip().str.rstrip(".!,").str.strip().str.casefold() == "yes"


def _accuracy_columns(part: pd.DataFrame) -> dict[str, Any]:
    estimate = accuracy_estimate(part["correct"].to_numpy(dtype=bool), part["image_id"].to_numpy())
    columns: dict[str, Any] = {"n": estimate.n, "clusters": estimate.clusters, "accuracy": estimate.mean, "reason": estimate.reason}
    return columns | {"standard_error": estimate.standard_error, "low": estimate.low, "high": estimate.high}


def _pair_columns(pairs: pd.DataFrame | None) -> Mapping[str, Any]:
    if pairs is None or pairs.empty:
        return {"n_pairs": 0}
    both = (pairs["correct"] & pairs["clean_correct"]).to_numpy(dtype=bool)
    estimate = accuracy_estimate(both, pairs["image_id"].to_numpy())
    return {
        "n_pairs": estimate.n,
        "pair_accuracy": estimate.mean,
        "pair_standard_error": estimate.standard_error,
        "pair_low": estimate.low,
        "pair_high": estimate.high,
    }


def _answer_columns(part: pd.DataFrame) -> dict[str, Any]:
    """The majority baseline over all questions, and how yes was used on the yes/no questions."""
    counts = part["answer"].value_counts()
    columns: dict[str, Any] = {"majority_answer": counts.index[0], "majority_baseline": float(counts.iloc[0] / len(part))}
    yes_no = part[part["form"] == "yes_no"]
    if yes_no.empty:
        return columns
    said = says_yes(yes_no["predicted"]).to_numpy(dtype=bool)
    gold = says_yes(yes_no["answer"]).to_numpy(dtype=bool)
    hits = int((said & gold).sum())
    columns |= {"yes_ratio": float(said.mean()), "gold_yes_ratio": float(gold.mean())}
    columns["precision"] = hits / int(said.sum()) if said.any() else None
    columns["recall"] = hits / int(gold.sum()) if gold.any() else None
    columns["f1"] = 2 * hits / int(said.sum() + gold.sum()) if (said | gold).any() else None
    return columns


def _gain_columns(both: pd.DataFrame, seed: int) -> dict[str, Any]:
    before, after = both["correct"].to_numpy(dtype=bool), both["correct_second"].to_numpy(dtype=bool)
    result = paired_comparison(before, after, both["image_id"].to_numpy(), seed=seed)
    return {
        "clusters": result.difference.clusters,
        "accuracy_first": result.first,
        "accuracy_second": result.second,
        "gain": result.difference.mean,
        "standard_error": result.difference.standard_error,
        "low": result.difference.low,
        "high": result.difference.high,
        "p_value": result.p_value,
        "exact": result.exact,
        "fixed": int((after & ~before).sum()),
        "broken": int((before & ~after).sum()),
        "reason": result.difference.reason,
    }


def _check(frame: pd.DataFrame) -> None:
    for column in ("correct", "image_id", "identifier", "pair_role"):
        if frame[column].isna().any():
            raise ValueError(f"column {column!r} has nulls; samples that could not be answered are skips, not rows")


def _key(name: Any) -> tuple[Any, ...]:
    return name if isinstance(name, tuple) else (name,)
