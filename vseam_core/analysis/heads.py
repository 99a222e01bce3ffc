"""Scores of attention heads from the effects of replacing them one at a time, and which heads pass as positive or negative.

Two protocols stand side by side in one table and are never mixed. The columns `positive`, `negative` and `signed` are
the published V-SEAM formulas (EMNLP 2025); no significance is claimed on them. All other columns are the claims
protocol: signed means, apart for correct and wrong baseline answers and for gold yes and no.

The claim on one head needs both gold classes, because a head that pushes "Yes" whatever the picture shows lowers the
logit difference where the answer is yes. So its p-value is an intersection-union test (Berger 1982): the larger of the
two class p-values, each two-sided by the clustered t test (CR2, G - 1 degrees), and 1 where a class mean has the wrong
sign. Putting the wrong sign at 1 keeps Benjamini-Hochberg valid for what is claimed, which is a direction. The t test
is used because the p of a bootstrap cannot fall below 1 / (draws + 1), too coarse for many heads; intervals come from
the cluster bootstrap.

Correct means that the model's answer is the gold one, so a head that supports whichever answer is given passes both
claims. Such a head has `claim_positive` and `claim_negative`; `sign` names the stronger one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from vseam_core.analysis.bootstrap import cluster_bootstrap
from vseam_core.analysis.frames import FLAG, NUMBER, TEXT, WHOLE, nullable_frame, optional
from vseam_core.analysis.statistics import (
    MINIMUM_CLUSTERS,
    Array,
    benjamini_hochberg,
    cluster_codes,
    cluster_sums,
    clustered_moments,
    finite,
    generator,
)

Sign = Literal["positive", "negative"]
Flags = NDArray[np.bool_]

CLAIM_MEASURES: tuple[str, ...] = ("logit_diff", "logprob")
MINIMUM_ANSWERS = 10
MINIMUM_RELIABILITY = 0.7
SIGNIFICANCE = 0.05
FLOOR_FACTOR = 3.0

HEAD_COLUMNS: dict[str, str] = {
    "stack": TEXT,
    "layer": WHOLE,
    "head": WHOLE,
    "n": WHOLE,
    "n_correct": WHOLE,
    "n_wrong": WHOLE,
    "positive": NUMBER,
    "negative": NUMBER,
    "signed": NUMBER,
    "mean_correct": NUMBER,
    "se_correct": NUMBER,
    "low_correct": NUMBER,
    "high_correct": NUMBER,
    "mean_correct_yes": NUMBER,
    "mean_correct_no": NUMBER,
    "p_positive": NUMBER,
    "q_positive": NUMBER,
    "mean_wrong": NUMBER,
    "se_wrong": NUMBER,
    "low_wrong": NUMBER,
    "high_wrong": NUMBER,
    "mean_wrong_yes": NUMBER,
    "mean_wrong_no": NUMBER,
    "p_negative": NUMBER,
    "q_negative": NUMBER,
    "claim_positive": FLAG,
    "claim_negative": FLAG,
    "sign": TEXT,
    "resolved": FLAG,
    "reliability_correct": NUMBER,
    "reliability_wrong": NUMBER,
    "below_noise_floor": FLAG,
    "reason": TEXT,
}


@dataclass(frozen=True, eq=False)
class HeadScores:
    """The scores of all heads of one stack on one task: a row per head in `frame` (columns `HEAD_COLUMNS`, nulls instead of NaN).

    `base_correct` and `base_wrong` are the mean measure without any replacement, to hold effects against. A map is
    `resolved` when its split-half reliability over images reaches `MINIMUM_RELIABILITY`; otherwise its reason says why,
    as it does when too few answers leave nothing to test.
    """

    frame: pd.DataFrame
    measure: str
    stack: str
    shape: tuple[int, int]
    n: int
    n_correct: int
    n_wrong: int
    base_correct: float | None
    base_wrong: float | None
    reliability_correct: float | None
    reliability_wrong: float | None
    resolved_correct: bool
    resolved_wrong: bool
    reason_correct: str
    reason_wrong: str

    def map(self, column: str) -> Array | None:
        """A column as `[layers, heads]`, NaN for heads that were not measured, or None where it is null throughout."""
        values = self.frame[column]
        return None if values.isna().all() else values.to_numpy(dtype=np.float64, na_value=np.nan).reshape(self.shape)


@dataclass(frozen=True, eq=False)
class _Side:
    """One half of the claims: the correct answers (direction +1) or the wrong ones (-1). Arrays are `[layers, heads]` or None."""

    claim: Flags
    reason: str
    n: int = 0
    mean: Array | None = None
    standard_error: Array | None = None
    low: Array | None = None
    high: Array | None = None
    mean_yes: Array | None = None
    mean_no: Array | None = None
    p_value: Array | None = None
    q_value: Array | None = None
    reliability: float | None = None
    resolved: bool = False


@dataclass(frozen=True)
class _Settings:
    measure: str
    seed: int
    draws: int
    splits: int
    noise_floor: float
    family: int | None


def score_heads(
    effects: ArrayLike,
    base: ArrayLike,
    correct: ArrayLike,
    gold_yes: ArrayLike | None,
    clusters: ArrayLike,
    *,
    measure: str,
    seed: int,
    stack: str = "decoder",
    draws: int = 2000,
    splits: int = 100,
    noise_floor: float = 0.0,
    family: int | None = None,
) -> HeadScores:
    """Scores every head from `effects` `[n, layers, heads]`, the measure without minus with the head replaced.

    `base` `[n]` is the measure without replacement, `correct` `[n]` whether the baseline answer was right, `gold_yes`
    `[n]` whether the gold answer is yes (None for open questions: the claims then rest on all samples as one class),
    `clusters` `[n]` the images. Published formulas: positive = mean over correct of max(0, effect), negative = mean
    over wrong of max(0, -effect), signed = mean over all; they are the published scores when `measure` is
    `published_prob` and `correct` is `correct_published`. On measures outside `CLAIM_MEASURES` no p-values are given. A
    head whose mean stays below 3 × `noise_floor` passes no claim. `family` is the number of heads that these were
    chosen from, where it is larger: q-values hold over all of them, those not given counting with p = 1. Raises
    `ValueError` for NaN, infinity or arrays that do not belong together.
    """
    array, right, gold = _checked(effects, base, correct, gold_yes)
    codes, _ = cluster_codes(clusters, len(array))
    settings = _Settings(measure, seed, draws, splits, noise_floor, family)
    good = _side(array, right, gold, codes, "correct", settings)
    bad = _side(array, ~right, gold, codes, "wrong", settings)
    values = np.asarray(base, dtype=np.float64)
    return HeadScores(
        frame=_frame(array, right, good, bad, stack, noise_floor),
        measure=measure,
        stack=stack,
        shape=(array.shape[1], array.shape[2]),
        n=len(array),
        n_correct=good.n,
        n_wrong=bad.n,
        base_correct=float(values[right].mean()) if good.n else None,
        base_wrong=float(values[~right].mean()) if bad.n else None,
        reliability_correct=good.reliability,
        reliability_wrong=bad.reliability,
        resolved_correct=good.resolved,
        resolved_wrong=bad.resolved,
        reason_correct=good.reason,
        reason_wrong=bad.reason,
    )


def split_half_reliability(effects: ArrayLike, clusters: ArrayLike, *, seed: int, splits: int = 100) -> float | None:
    """How well a map of means `[layers, heads]` repeats on other images: split-half correlation, Spearman-Brown corrected.

    Images are split into halves `splits` times; the correlation over heads between the two maps is averaged and then
    corrected, 2r / (1 + r). None below `MINIMUM_CLUSTERS` images or where a map has no spread.
    """
    array = finite("effects", effects)
    codes, count = cluster_codes(clusters, len(array))
    if count < MINIMUM_CLUSTERS:
        return None
    sums = cluster_sums(array.reshape(len(array), -1), codes, count)
    sizes = np.bincount(codes, minlength=count)
    ranks = generator(seed, "split half").random((splits, count)).argsort(axis=1).argsort(axis=1)
    first = (ranks < count // 2).astype(np.float64)
    one = (first @ sums) / (first @ sizes)[:, None]
    two = ((1 - first) @ sums) / ((1 - first) @ sizes)[:, None]
    one -= one.mean(axis=1, keepdims=True)
    two -= two.mean(axis=1, keepdims=True)
    scale = np.sqrt((one**2).sum(axis=1) * (two**2).sum(axis=1))
    if not (scale > 0).all():
        return None
    correlation = float(np.mean((one * two).sum(axis=1) / scale))
    # The correction is for agreement; below zero there is none to correct, and it runs off to minus infinity.
    return 2 * correlation / (1 + correlation) if correlation > 0 else correlation


def permute_gold(effects: ArrayLike, gold_yes: ArrayLike, *, seed: int) -> tuple[Array, Flags]:
    """Effects and gold labels with the labels permuted over samples: the null that the claims' p-values must hold.

    `logit_diff` is gold minus competitor, so where the permuted label differs the two answers change places and the
    effect changes sign. Which samples count as correct must stay as it was: recomputed from permuted labels it would
    select the samples where label and prediction agree, and there a head that supports the model's own answer has a
    true effect.
    """
    array, gold = finite("effects", effects), np.asarray(gold_yes, dtype=bool)
    permuted = generator(seed, "permuted gold").permutation(gold)
    sign = np.where(permuted == gold, 1.0, -1.0)
    return array * sign.reshape(-1, *[1] * (array.ndim - 1)), permuted


def _checked(effects: ArrayLike, base: ArrayLike, correct: ArrayLike, gold: ArrayLike | None) -> tuple[Array, Flags, Flags | None]:
    array, values = finite("effects", effects), finite("base", base)
    if array.ndim != 3:
        raise ValueError(f"effects must be [n, layers, heads], got shape {array.shape}")
    flags = [_flags("correct", correct), None if gold is None else _flags("gold_yes", gold)]
    if any(part is not None and part.shape != array.shape[:1] for part in (values, *flags)):
        raise ValueError(f"base, correct and gold_yes must have one entry for each of {len(array)} samples")
    assert flags[0] is not None
    return array, flags[0], flags[1]


def _flags(name: str, values: ArrayLike) -> Flags:
    array = finite(name, values)
    if not np.isin(array, (0, 1)).all():
        raise ValueError(f"{name} must be true or false for every sample")
    return array.astype(bool)


def _side(effects: Array, mask: Flags, gold: Flags | None, codes: NDArray[np.intp], name: str, settings: _Settings) -> _Side:
    """The claims of one half, from the samples in `mask`."""
    n, shape = int(mask.sum()), effects.shape[1:]
    none = np.zeros(shape, dtype=bool)
    if not n:
        return _Side(claim=none, reason=f"too few {name} answers (0 < {MINIMUM_ANSWERS})")
    part, groups = effects[mask], codes[mask]
    moments = clustered_moments(part, groups)
    interval = cluster_bootstrap(part, groups, seed=settings.seed, draws=settings.draws)
    classes = {} if gold is None else {"yes": mask & gold, "no": mask & ~gold}
    means = {label: effects[rows].mean(axis=0) for label, rows in classes.items() if rows.any()}
    reliability = None
    if n >= MINIMUM_ANSWERS:
        reliability = split_half_reliability(part, groups, seed=settings.seed, splits=settings.splits)
    direction = 1.0 if name == "correct" else -1.0
    p_value, reason = _claim_p_values(effects, classes or {"": mask}, codes, direction, name, settings.measure)
    if n < MINIMUM_ANSWERS:
        p_value, reason = None, f"too few {name} answers ({n} < {MINIMUM_ANSWERS})"
    q_value = None if p_value is None else _q_values(p_value, settings.family)
    claim = none if q_value is None else (q_value < SIGNIFICANCE) & (np.abs(moments.mean) >= FLOOR_FACTOR * settings.noise_floor)
    resolved = reliability is not None and reliability >= MINIMUM_RELIABILITY
    if not resolved and n >= MINIMUM_ANSWERS:
        reason = "; ".join(filter(None, (_unresolved(reliability, n, name), reason)))
    return _Side(
        claim=claim,
        reason=reason,
        n=n,
        mean=moments.mean,
        standard_error=moments.standard_error,
        low=interval.low,
        high=interval.high,
        mean_yes=means.get("yes"),
        mean_no=means.get("no"),
        p_value=p_value,
        q_value=q_value,
        reliability=reliability,
        resolved=resolved,
    )


def _claim_p_values(
    effects: Array, classes: dict[str, Flags], codes: NDArray[np.intp], direction: float, name: str, measure: str
) -> tuple[Array | None, str]:
    """The intersection-union p of every head, or None and why."""
    if measure not in CLAIM_MEASURES:
        return None, f"{measure} is a published measure: no significance is claimed on it"
    p_values = []
    for label, rows in classes.items():
        images = len(np.unique(codes[rows]))
        if images < MINIMUM_CLUSTERS:
            gold = f" with gold answer {label}" if label else ""
            return None, f"too few images with {name} answers{gold} ({images} < {MINIMUM_CLUSTERS})"
        moments = clustered_moments(effects[rows], codes[rows])
        p = moments.p_values()
        assert p is not None
        p_values.append(np.where(direction * moments.mean > 0, p, 1.0))
    return np.max(p_values, axis=0), ""


def _q_values(p_value: Array, family: int | None) -> Array:
    others = max(0, (family or 0) - p_value.size)
    return benjamini_hochberg(np.concatenate([p_value.ravel(), np.ones(others)]))[: p_value.size].reshape(p_value.shape)


def _unresolved(reliability: float | None, n: int, name: str) -> str:
    shown = "cannot be computed" if reliability is None else f"{_below(reliability)} < {MINIMUM_RELIABILITY}"
    return f"{name} answers not resolved at n = {n}: split-half reliability {shown}"


def _below(reliability: float) -> str:
    """Two decimals, or as many more as it takes not to look like the limit itself."""
    text = f"{reliability:.2f}"
    return text if float(text) < MINIMUM_RELIABILITY else f"{reliability:.4f}"


def _frame(effects: Array, correct: Flags, good: _Side, bad: _Side, stack: str, noise_floor: float) -> pd.DataFrame:
    """One row per head, in the order of layers and heads."""
    _, layers, heads = effects.shape
    signs = _signs(good, bad)
    published = {
        "positive": np.maximum(0, effects[correct]).mean(axis=0) if good.n else None,
        "negative": np.maximum(0, -effects[~correct]).mean(axis=0) if bad.n else None,
        "signed": effects.mean(axis=0) if len(effects) else None,
    }
    columns: dict[str, Any] = {name: optional(values) for name, values in published.items()}
    for side, suffix, claim in ((good, "correct", "positive"), (bad, "wrong", "negative")):
        columns[f"mean_{suffix}"] = optional(side.mean)
        columns[f"se_{suffix}"] = optional(side.standard_error)
        columns[f"low_{suffix}"], columns[f"high_{suffix}"] = optional(side.low), optional(side.high)
        columns[f"mean_{suffix}_yes"], columns[f"mean_{suffix}_no"] = optional(side.mean_yes), optional(side.mean_no)
        columns[f"p_{claim}"], columns[f"q_{claim}"] = optional(side.p_value), optional(side.q_value)
        columns[f"claim_{claim}"] = side.claim.ravel().tolist()
        columns[f"reliability_{suffix}"] = [side.reliability] * (layers * heads)
    rows = []
    for index in range(layers * heads):
        row = {name: None if values is None else values[index] for name, values in columns.items()}
        row |= {"stack": stack, "layer": index // heads, "head": index % heads, "sign": signs[index]}
        row |= {"n": len(effects), "n_correct": good.n, "n_wrong": bad.n}
        row["resolved"] = bad.resolved if signs[index] == "negative" else good.resolved
        known = [mean for mean in (row["mean_correct"], row["mean_wrong"]) if mean is not None]
        row["below_noise_floor"] = max(map(abs, known), default=0.0) < FLOOR_FACTOR * noise_floor
        row["reason"] = "; ".join(filter(None, (good.reason, bad.reason)))
        rows.append(row)
    return nullable_frame(rows, HEAD_COLUMNS)


def _signs(good: _Side, bad: _Side) -> list[str]:
    """`positive`, `negative` or `none` per head; a head that passes both goes to the smaller p, then to the larger mean."""
    signs = []
    for index in np.ndindex(good.claim.shape):
        if good.claim[index] and bad.claim[index]:
            signs.append("positive" if _strength(good, index) >= _strength(bad, index) else "negative")
        else:
            signs.append("positive" if good.claim[index] else "negative" if bad.claim[index] else "none")
    return signs


def _strength(side: _Side, index: tuple[int, ...]) -> tuple[float, float]:
    assert side.p_value is not None
    assert side.mean is not None
    return -float(side.p_value[index]), abs(float(side.mean[index]))
