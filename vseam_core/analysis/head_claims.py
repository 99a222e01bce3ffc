"""What may be claimed about heads from their effects: tests, intervals and reliability of one map at a time.

Three claims, all on effects = the measure without minus with the head replaced, and all for gold yes and gold no alike:

- **positive**: the mean effect over *all* sampled questions of each gold class is above zero. Not over the rightly answered ones: a
  head that only adds noise helps to decide which answers are right, so that on those its own draw is better than any other.
- **suppressor**: it is below zero, over the same questions.
- **negative candidate**: over the wrongly answered questions it is below zero. Here the noise of any head regresses to the mean, which
  is why it is a candidate until removing the head has raised accuracy on test images (`confirmation`).
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vseam_core.analysis.multiple_testing import both_hold_q_values, positive_mean_p_values
from vseam_core.analysis.statistics import (
    MINIMUM_CLUSTERS,
    Array,
    Moments,
    cluster_codes,
    cluster_sums,
    clustered_moments,
    combined_moments,
    finite,
    generator,
)

Flags = NDArray[np.bool_]

MINIMUM_ANSWERS = 10
MINIMUM_RELIABILITY = 0.7
SIGNIFICANCE = 0.05
FLOOR_FACTOR = 3.0
SPLITS = 100
_DRAWS_AT_ONCE = 500_000
FOUND_IN = 0.8
"""The share of cases in which `smallest_effect` would have been found."""


@dataclass(frozen=True, eq=False)
class Samples:
    """The effects `[n, layers, heads]` of a scan and what is known about its samples, each `[n]`.

    `sampled` were drawn without a look at the model's answer, the others because it was wrong.
    """

    effects: Array
    correct: Flags
    gold_yes: Flags | None
    sampled: Flags
    codes: NDArray[np.intp]

    def classes(self, rows: Flags) -> dict[str, Flags]:
        """Those of `rows` by gold answer; all as one class where questions are open."""
        return {"": rows} if self.gold_yes is None else {"yes": rows & self.gold_yes, "no": rows & ~self.gold_yes}

    def images(self, rows: Flags) -> int:
        """How many images these samples show."""
        return int(np.count_nonzero(np.bincount(self.codes[rows])))

    def moments(self, rows: Flags) -> Moments:
        """Means over some samples with their clustered errors."""
        return clustered_moments(self.effects[rows], self.codes[rows])


@dataclass(frozen=True, eq=False)
class Claim:
    """One claim on every head of a map: p and q `[layers, heads]`, which heads pass; None with a reason where it cannot be tested."""

    passes: Flags
    p_value: Array | None = None
    q_value: Array | None = None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class MeanMap:
    """Means of effects over some answers, `[layers, heads]` each: overall and by gold class, with t intervals and reliability.

    `reliability` is split-half over images, `reliability_rest` the same without the strongest head: one strong head among noise makes
    the first high. None where there are no such answers, or too few for an interval.
    """

    n: int = 0
    images: int = 0
    mean: Array | None = None
    standard_error: Array | None = None
    low: Array | None = None
    high: Array | None = None
    mean_yes: Array | None = None
    mean_no: Array | None = None
    irregular: Flags | None = None
    reliability: float | None = None
    reliability_rest: float | None = None

    @property
    def resolved(self) -> bool:
        """Whether the map repeats on other images."""
        return self.reliability is not None and self.reliability >= MINIMUM_RELIABILITY


def mean_map(samples: Samples, rows: Flags, seed: int, splits: int, balanced: bool = False) -> MeanMap:
    """The map over `rows`. `balanced` weighs gold yes and gold no alike, where there are enough images of both."""
    if not rows.any():
        return MeanMap()
    classes = samples.classes(rows)
    effects, codes = (samples.effects, samples.codes) if rows.all() else (samples.effects[rows], samples.codes[rows])
    enough = len(classes) == 2 and min(samples.images(part) for part in classes.values()) >= MINIMUM_CLUSTERS
    if balanced and enough and samples.gold_yes is not None:
        moments = combined_moments(effects, samples.gold_yes[rows].astype(int), (0.5, 0.5), codes)
    else:
        moments = clustered_moments(effects, codes)
    low, high = moments.interval() or (None, None)
    by_class = {label: mean_over(effects, part[rows]) for label, part in classes.items() if label and part.any()}
    reliability, rest = None, None
    if len(effects) >= MINIMUM_ANSWERS:
        halves = _half_maps(effects, codes, seed, splits)
        strongest = int(np.abs(effects.mean(axis=0)).argmax())
        reliability, rest = _agreement(halves), _agreement(np.delete(halves, strongest, axis=2))
    return MeanMap(
        n=len(effects),
        images=samples.images(rows),
        mean=moments.mean,
        standard_error=moments.standard_error,
        low=low,
        high=high,
        mean_yes=by_class.get("yes"),
        mean_no=by_class.get("no"),
        irregular=moments.irregular(),
        reliability=reliability,
        reliability_rest=rest,
    )


def mean_over(effects: Array, rows: Flags) -> Array:
    """The mean of effects `[n, …]` over some samples, without a copy of them."""
    return np.asarray(np.tensordot(rows.astype(np.float64), effects, axes=1) / rows.sum())


def sampled_claims(samples: Samples, family: int | None, least: Flags) -> tuple[Claim, Claim]:
    """Positive heads and suppressors: over the sampled questions, in every gold class.

    `least` `[layers, heads]` flags heads whose effect is large enough to be claimed at all.
    """
    found, reason = _class_moments(samples, samples.sampled)
    none = np.zeros(samples.effects.shape[1:], dtype=bool)
    if reason:
        return Claim(none, reason=reason), Claim(none, reason=reason)
    positive, suppressor = (
        _claim([positive_mean_p_values(moments) for moments in parts], family, least)
        for parts in (found, [moments.negated() for moments in found])
    )
    return positive, suppressor


def _claim(p_values: Sequence[Array], family: int | None, least: Flags, reason: str = "") -> Claim:
    """The claim that rests on these p-values, one for each gold class in which it must hold."""
    q_value = both_hold_q_values(p_values, _others(least, family))
    return Claim((q_value < SIGNIFICANCE) & least, np.max(p_values, axis=0), q_value, reason)


def negative_claim(samples: Samples, family: int | None, least: Flags) -> Claim:
    """Candidates for negative heads: replacing them raises the measure on wrong answers, in every gold class.

    Where only one gold class has enough wrong answers (a model that errs towards yes), the test is made there, and beside a control: a
    head that merely pushes one answer gains on the class that errs what it loses on the other, so the gain has to exceed that loss.
    """
    wrong = ~samples.correct
    none = np.zeros(samples.effects.shape[1:], dtype=bool)
    found, reason = _class_moments(samples, wrong)
    if not reason:
        return _claim([positive_mean_p_values(moments.negated()) for moments in found], family, least)
    classes = samples.classes(wrong)
    erring = [label for label, rows in classes.items() if label and samples.images(rows) >= MINIMUM_CLUSTERS]
    if not erring:
        return Claim(none, reason=_cannot_be_tested(samples, classes))
    label = erring[0]
    other = samples.sampled & (samples.gold_yes if label == "no" else ~samples.gold_yes)  # type: ignore[operator]
    if samples.images(other) < MINIMUM_CLUSTERS:
        return Claim(none, reason=f"{_cannot_be_tested(samples, classes)}; the other class, for a control, has {samples.images(other)}")
    rows = classes[label] | other
    control = combined_moments(-samples.effects[rows], other[rows].astype(int), (1.0, 1.0), samples.codes[rows])
    gain = clustered_moments(-samples.effects[classes[label]], samples.codes[classes[label]])
    p_value = np.maximum(positive_mean_p_values(gain), positive_mean_p_values(control))
    said = f"wrong answers with gold {label} only: tested there, beside a control for pushing one answer"
    return _claim([p_value], family, least, said)


def smallest_effect(images: tuple[int, ...], heads: int) -> float | None:
    """The effect, in standard deviations, that a lone true head among `heads` shows in 80 % of cases; `images` by gold class.

    By the noncentral t distribution, with as many false heads in the filter as chance lets through, for one question per image. None
    where a class has fewer than `MINIMUM_CLUSTERS` images.
    """
    if not images or min(images) < MINIMUM_CLUSTERS:
        return None
    from scipy import stats  # a second of importing, for what is said where nothing passes

    classes = len(images)
    levels = np.geomspace(1e-7, SIGNIFICANCE, 2000)
    expected = 1 + (heads - 1) * (1 - (1 - levels) ** classes if classes > 1 else 1.0)
    level = levels[levels * expected <= SIGNIFICANCE].max()
    sizes = np.arange(0.05, 12, 0.01)
    thresholds = [(count, stats.t.isf(level, count - 1)) for count in images]

    def power(size: float) -> float:
        return math.prod(stats.nct.sf(threshold, count - 1, size * math.sqrt(count)) for count, threshold in thresholds)

    # Power grows with the size, so that halving finds the first size that is large enough.
    found = bisect.bisect_left(sizes, True, key=lambda size: power(size) >= FOUND_IN)
    return float(sizes[found]) if found < len(sizes) else None


def split_half_reliability(effects: ArrayLike, clusters: ArrayLike, *, seed: int, splits: int = SPLITS) -> float | None:
    """How well a map of means repeats on other images: split-half correlation over heads, Spearman-Brown corrected.

    `effects` `[n, …]`. Images are split into halves `splits` times; the correlation over heads between the two maps is averaged and
    then corrected, 2r / (1 + r). None below `MINIMUM_CLUSTERS` images or where a map has no spread.
    """
    return _agreement(_half_maps(effects, clusters, seed, splits))


def _half_maps(effects: ArrayLike, clusters: ArrayLike, seed: int, splits: int) -> Array:
    """The maps of means of both halves of the images, `[2, splits, cells]`; without splits below `MINIMUM_CLUSTERS` images.

    The sums of all splits are one matrix product, some splits at a time so that many images fit the memory.
    """
    array = finite("effects", effects)
    codes, count = cluster_codes(clusters, len(array))
    if count < MINIMUM_CLUSTERS:
        return np.zeros((2, 0, array[0].size if len(array) else 0))
    sums = cluster_sums(array.reshape(len(array), -1), codes, count)
    sizes = np.bincount(codes, minlength=count).astype(np.float64)
    total = sums.sum(axis=0)
    halves, at_once = _halves(seed, count, splits), max(1, _DRAWS_AT_ONCE // count)
    maps = np.zeros((2, splits, sums.shape[1]))
    for start in range(0, splits, at_once):
        first = halves[start : start + at_once].astype(np.float64)
        one, images = first @ sums, (first @ sizes)[:, None]
        maps[0, start : start + at_once] = one / images
        maps[1, start : start + at_once] = (total - one) / (len(codes) - images)
    return maps


@lru_cache(maxsize=4)
def _halves(seed: int, images: int, splits: int) -> Flags:
    """Which images are in the first half, `[splits, images]`: those whose draws are the smallest.

    Kept, since the measures of a scan, and scans of one size, are halved alike, and drawing takes longer than what is done with it.
    """
    random, at_once = generator(seed, "split half"), max(1, _DRAWS_AT_ONCE // images)
    first = np.zeros((splits, images), dtype=bool)
    for start in range(0, splits, at_once):
        draws = random.random((min(at_once, splits - start), images))
        # The limit is found without sorting.
        first[start : start + at_once] = draws < np.partition(draws, images // 2, axis=1)[:, images // 2, None]
    first.setflags(write=False)
    return first


def _agreement(halves: Array) -> float | None:
    """The corrected correlation over cells of both halves' maps `[2, splits, cells]`; None without splits or where a map has no spread."""
    if not halves.shape[1]:
        return None
    one, two = halves - halves.mean(axis=2, keepdims=True)
    scale = np.sqrt((one**2).sum(axis=1) * (two**2).sum(axis=1))
    if not (scale > 0).all():
        return None
    correlation = float(np.mean((one * two).sum(axis=1) / scale))
    # The correction is for agreement; below zero there is none to correct, and it runs off to minus infinity.
    return 2 * correlation / (1 + correlation) if correlation > 0 else correlation


def _class_moments(samples: Samples, rows: Flags) -> tuple[list[Moments], str]:
    """Means of every head in each gold class with their errors, or why there are none."""
    classes = samples.classes(rows)
    if min(samples.images(part) for part in classes.values()) < MINIMUM_CLUSTERS:
        return [], _cannot_be_tested(samples, classes)
    return [samples.moments(part) for part in classes.values()], ""


def _cannot_be_tested(samples: Samples, classes: dict[str, Flags]) -> str:
    counts = [f"{samples.images(rows)} with gold {label}" if label else str(samples.images(rows)) for label, rows in classes.items()]
    each = " of each" if len(counts) > 1 else ""
    return f"cannot be tested at this size: needs {MINIMUM_CLUSTERS} images{each}, has {' and '.join(counts)}"


def _others(heads: Flags, family: int | None) -> int:
    return max(0, (family or 0) - heads.size)
