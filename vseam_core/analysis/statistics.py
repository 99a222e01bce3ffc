"""Errors, intervals and tests for samples that come in clusters (several questions about one image).

Standard errors are CR2 (Bell & McCaffrey 2002) with t intervals of G - 1 degrees of freedom, G the number of clusters;
below `MINIMUM_CLUSTERS` there is none, and the reason is given instead. Every function raises `ValueError` for NaN or
infinity: a value that could not be computed must have been skipped by name before it comes here. Nothing uses numpy's
global generator.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

MINIMUM_CLUSTERS = 10
EXACT_CLUSTERS = 14
"""Up to this many clusters with a difference, all sign flips are enumerated (2^14 = 16,384)."""

Array = NDArray[np.float64]
Alternative = Literal["two-sided", "greater", "less"]


@dataclass(frozen=True)
class Estimate:
    """A mean (or difference) with its clustered error. Where no error can be given it is None and `reason` says why."""

    mean: float | None
    standard_error: float | None
    low: float | None
    high: float | None
    n: int
    clusters: int
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Moments:
    """Means and CR2 standard errors of many cells at once; `standard_error` is None below the minimum of clusters."""

    mean: Array
    standard_error: Array | None
    n: int
    clusters: int
    reason: str = ""

    def interval(self, confidence: float = 0.95) -> tuple[Array, Array] | None:
        """Lower and upper ends by Student's t with G - 1 degrees of freedom, or None without standard errors."""
        if self.standard_error is None:
            return None
        width = stats.t.ppf(0.5 + confidence / 2, self.clusters - 1) * self.standard_error
        return self.mean - width, self.mean + width

    def p_values(self) -> Array | None:
        """Two-sided p of a mean of zero by Student's t with G - 1 degrees; a cell that is zero everywhere has p = 1."""
        if self.standard_error is None:
            return None
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.abs(self.mean) / self.standard_error
        return np.where(self.mean == 0, 1.0, 2 * stats.t.sf(np.nan_to_num(ratio, nan=0.0), self.clusters - 1))


@dataclass(frozen=True)
class SignFlipTest:
    """A cluster sign-flip test: two-sided p for a mean difference of zero, and whether all flips were enumerated."""

    mean: float
    p_value: float
    exact: bool
    n: int
    clusters: int


@dataclass(frozen=True)
class PairedComparison:
    """Two runs on the same samples: both means, the difference second - first with its error, and the sign-flip p."""

    first: float
    second: float
    difference: Estimate
    p_value: float
    exact: bool


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """A random generator for one purpose of one seed, so that two uses of a seed do not share their draws."""
    keys = [part if isinstance(part, int) else zlib.crc32(part.encode()) for part in purpose]
    return np.random.default_rng(np.random.SeedSequence([seed, *keys]))


def finite(name: str, values: ArrayLike) -> Array:
    """`values` as float64. Raises `ValueError` naming them when one is NaN, infinite or null."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be numbers, without nulls") from None
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity; skip such samples by name before any statistics")
    return array


def cluster_codes(clusters: ArrayLike, n: int) -> tuple[NDArray[np.intp], int]:
    """Cluster labels as codes 0 … G - 1 in sorted order of the labels, and G.

    Raises `ValueError` when there are not `n` labels or one is null.
    """
    labels = np.asarray(clusters)
    if labels.shape != (n,):
        raise ValueError(f"clusters must be one label for each of {n} samples, got shape {labels.shape}")
    codes, names = pd.factorize(labels, sort=True)
    if n and codes.min() < 0:
        raise ValueError("a cluster label is null")
    return codes, len(names)


def cluster_sums(values: Array, codes: NDArray[np.intp], count: int) -> Array:
    """Sums within clusters: `[n, …]` to `[clusters, …]`."""
    if not count:
        return np.zeros((0, *values.shape[1:]))
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(count))
    return np.add.reduceat(values[order], starts, axis=0)


def clustered_moments(values: ArrayLike, clusters: ArrayLike) -> Moments:
    """Means over samples with CR2 standard errors, for `values` `[n, …]` with n >= 1; results have the shape of one sample.

    For a mean, CR2's adjustment (I - H_gg)^(-1/2) acts on the ones vector as a factor, so that
    SE² = 1/N² Σ_g S_g² / (1 - n_g / N), with S_g the sum of cluster g's residuals.
    """
    array = finite("values", values)
    if array.ndim == 0 or not len(array):
        raise ValueError("a mean needs at least one value")
    codes, count = cluster_codes(clusters, len(array))
    mean = array.mean(axis=0)
    if count < MINIMUM_CLUSTERS:
        return Moments(mean, None, len(array), count, too_few_clusters(count))
    sums = cluster_sums(array - mean, codes, count)
    leverage = np.bincount(codes) / len(array)
    variance = np.tensordot(1 / (1 - leverage), sums**2, axes=1) / len(array) ** 2
    return Moments(mean, np.sqrt(variance), len(array), count)


def too_few_clusters(count: int) -> str:
    """The reason why there is no standard error."""
    return f"no standard error: {count} images, at least {MINIMUM_CLUSTERS} needed"


def clustered_mean(values: ArrayLike, clusters: ArrayLike, confidence: float = 0.95) -> Estimate:
    """The mean of `values` `[n]` with its clustered error; null with a reason where n is 0."""
    array = finite("values", values)
    if not array.size:
        return Estimate(None, None, None, None, 0, 0, "no samples")
    if array.ndim != 1:
        raise ValueError(f"values must be one number per sample, got shape {array.shape}")
    moments = clustered_moments(array, clusters)
    interval = moments.interval(confidence)
    if interval is None or moments.standard_error is None:
        return Estimate(float(moments.mean), None, None, None, moments.n, moments.clusters, moments.reason)
    low, high = (float(end) for end in interval)
    return Estimate(float(moments.mean), float(moments.standard_error), low, high, moments.n, moments.clusters)


def clustered_difference(first: ArrayLike, second: ArrayLike, clusters: ArrayLike, confidence: float = 0.95) -> Estimate:
    """The mean of second - first over the same samples, with its clustered error."""
    before, after = finite("first", first), finite("second", second)
    if before.shape != after.shape:
        raise ValueError(f"first and second must be the same samples, got {before.shape} and {after.shape}")
    return clustered_mean(after - before, clusters, confidence)


def clustered_group_difference(values: ArrayLike, in_second: ArrayLike, clusters: ArrayLike, confidence: float = 0.95) -> Estimate:
    """The mean of one group of samples minus that of the rest; a cluster may have samples in both groups.

    CR2 for the regression on two group indicators. Its hat matrix is block diagonal by group, so within a cluster each
    group's residual sum is divided by sqrt(1 - n_gk / N_k). The degrees of freedom are those of the group with fewer
    clusters, minus 1, and each group needs `MINIMUM_CLUSTERS`: a large group does not lend its precision to a small
    one.
    """
    array, member = finite("values", values), np.asarray(in_second, dtype=bool)
    codes, count = cluster_codes(clusters, len(array))
    if member.shape != array.shape:
        raise ValueError(f"in_second must be one flag for each of {len(array)} samples, got shape {member.shape}")
    if not member.any() or member.all():
        return Estimate(None, None, None, None, len(array), count, "one of the two groups is empty")
    means, parts, sizes = [], [], []
    for group in (~member, member):
        mean = array[group].mean()
        share = np.bincount(codes[group], minlength=count) / group.sum()
        sums = cluster_sums(np.where(group, array - mean, 0.0), codes, count)
        with np.errstate(divide="ignore", invalid="ignore"):
            parts.append(np.nan_to_num(sums / (group.sum() * np.sqrt(1 - share))))
        means.append(mean)
        sizes.append(int(np.count_nonzero(share)))
    difference = float(means[1] - means[0])
    if min(sizes) < MINIMUM_CLUSTERS:
        return Estimate(difference, None, None, None, len(array), count, too_few_clusters(min(sizes)))
    error = float(np.sqrt(np.sum((parts[1] - parts[0]) ** 2)))
    width = float(stats.t.ppf(0.5 + confidence / 2, min(sizes) - 1)) * error
    return Estimate(difference, error, difference - width, difference + width, len(array), count)


def clustered_ratio(numerator: ArrayLike, denominator: ArrayLike, clusters: ArrayLike) -> Moments:
    """Ratios of sums Σ numerator / Σ denominator, for `[n, …]` over `[n]`, with linearised clustered standard errors.

    The error is that of the mean of numerator - ratio · denominator, divided by the mean denominator (Cochran 1977, ch.
    6). Raises `ValueError` where the denominators sum to zero.
    """
    top, bottom = finite("numerator", numerator), finite("denominator", denominator)
    total = bottom.sum()
    if total == 0:
        raise ValueError("the denominators sum to zero")
    ratio = top.sum(axis=0) / total
    residuals = top - np.multiply.outer(bottom, ratio)
    moments = clustered_moments(residuals, clusters)
    error = None if moments.standard_error is None else moments.standard_error * len(bottom) / abs(total)
    return Moments(ratio, error, moments.n, moments.clusters, moments.reason)


def cluster_sign_flip(differences: ArrayLike, clusters: ArrayLike, *, seed: int, permutations: int = 9999) -> SignFlipTest:
    """Whether paired differences `[n]` have mean zero, by flipping the sign of whole clusters; two-sided.

    Exact over all flips when at most `EXACT_CLUSTERS` clusters differ at all (clusters with sum zero do not change the
    statistic), else Monte Carlo with (b + 1) / (m + 1). Raises `ValueError` without samples.
    """
    array = finite("differences", differences)
    codes, count = cluster_codes(clusters, len(array))
    if not count:
        raise ValueError("a sign-flip test needs at least one sample")
    sums = cluster_sums(array, codes, count)
    sums = sums[sums != 0]
    mean = float(array.mean())
    # Flips that only differ in the order of additions must count as equal.
    threshold = abs(sums.sum()) - 1e-9 * np.abs(sums).sum()
    if len(sums) <= EXACT_CLUSTERS:
        bits = (np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums))) & 1
        p_value = float(np.mean(np.abs((2.0 * bits - 1) @ sums) >= threshold))
        return SignFlipTest(mean, p_value, True, len(array), count)
    random = generator(seed, "sign flip")
    extreme = 0
    for start in range(0, permutations, 1000):
        signs = random.integers(0, 2, (min(1000, permutations - start), len(sums)), dtype=np.int8)
        extreme += int(np.count_nonzero(np.abs((2.0 * signs - 1) @ sums) >= threshold))
    return SignFlipTest(mean, (extreme + 1) / (permutations + 1), False, len(array), count)


def paired_comparison(first: ArrayLike, second: ArrayLike, clusters: ArrayLike, *, seed: int) -> PairedComparison:
    """Compares two runs on the same samples (accuracies as 0/1): difference with clustered error, and sign-flip p."""
    before, after = finite("first", first), finite("second", second)
    difference = clustered_difference(before, after, clusters)
    test = cluster_sign_flip(after - before, clusters, seed=seed)
    return PairedComparison(float(before.mean()), float(after.mean()), difference, test.p_value, test.exact)


def benjamini_hochberg(p_values: ArrayLike) -> Array:
    """q-values that control the false discovery rate over all given p-values, in the same shape."""
    p = finite("p-values", p_values)
    return np.asarray(stats.false_discovery_control(p.ravel(), method="bh")).reshape(p.shape) if p.size else p


def permutation_p_value(
    observed: float, null: ArrayLike | Sequence[float], *, alternative: Alternative = "greater", exact: bool = False
) -> float:
    """The p of an observed statistic among null statistics `[m]`.

    `exact`: the null holds every arrangement, the observed one among them, and p = b / m. Otherwise it is a random
    sample and p = (b + 1) / (m + 1). Two-sided is twice the smaller tail. Ties count as extreme. Raises `ValueError`
    for an empty null.
    """
    value, draws = float(finite("observed", observed)), finite("null", null).ravel()
    if not draws.size:
        raise ValueError("a permutation test needs at least one null statistic")
    slack = 1e-12 * max(1.0, float(np.abs(draws).max()))
    extra = 0 if exact else 1
    above = (np.count_nonzero(draws >= value - slack) + extra) / (draws.size + extra)
    below = (np.count_nonzero(draws <= value + slack) + extra) / (draws.size + extra)
    tails = {"greater": above, "less": below, "two-sided": min(1.0, 2 * min(above, below))}
    return float(tails[alternative])
