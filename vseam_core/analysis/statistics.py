"""Errors, intervals and tests for samples that come in clusters (several questions about one image).

Standard errors are CR2 with t intervals of Bell and McCaffrey's degrees of freedom (2002, Survey Methodology 28), which are G - 1
for G clusters of equal size and fewer where some are larger; below `MINIMUM_CLUSTERS` there is none, and the reason is given
instead. Every function raises `ValueError` for NaN or
infinity: a value that could not be computed must have been skipped by name before it comes here. Nothing uses numpy's
global generator.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from vseam_core.analysis.cluster_moments import cell_moments

MINIMUM_CLUSTERS = 10
SKEWED = 2.0
"""A cell is called skewed from twice the skewness on that a normal sample of its size shows by chance (root mean square)."""
MOSTLY_ZERO = 0.5
EXACT_CLUSTERS = 14
"""Up to this many clusters with a difference, all sign flips are enumerated (2^14 = 16,384)."""

Array = NDArray[np.float64]


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
    """Means and CR2 standard errors of many cells at once; `standard_error` is None below the minimum of clusters.

    `degrees` are Bell and McCaffrey's degrees of freedom. `skewness` is that of the clusters' contributions to the error, `zeros` the
    share of clusters whose samples are all exactly 0; both say how far a t interval can be relied on (`irregular`).
    """

    mean: Array
    standard_error: Array | None
    n: int
    clusters: int
    reason: str = ""
    degrees: float = 0.0
    skewness: Array | None = None
    zeros: Array | None = None

    def negated(self) -> Moments:
        """The moments of the same values with the other sign."""
        return replace(self, mean=-self.mean, skewness=None if self.skewness is None else -self.skewness)

    def interval(self, confidence: float = 0.95) -> tuple[Array, Array] | None:
        """Lower and upper ends by Student's t, or None without standard errors."""
        if self.standard_error is None:
            return None
        from scipy import special  # a third of a second of importing, which reading effects does not need

        width = special.stdtrit(self.degrees, 0.5 + confidence / 2) * self.standard_error
        return self.mean - width, self.mean + width

    def p_values(self) -> Array | None:
        """Two-sided p of a mean of zero by Student's t; a cell that is zero everywhere has p = 1."""
        ratio = self.t_statistics()
        from scipy import special

        return None if ratio is None else np.where(self.mean == 0, 1.0, 2 * special.stdtr(self.degrees, -np.abs(ratio)))

    def t_statistics(self) -> Array | None:
        """Means over standard errors: 0 for a mean of zero, infinite for a constant that is not."""
        if self.standard_error is None:
            return None
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.mean == 0, 0.0, self.mean / self.standard_error)

    def irregular(self) -> NDArray[np.bool_] | None:
        """Cells whose t interval may cover less than it says: skewed beyond what a normal sample shows, or mostly exact zeros."""
        if self.skewness is None or self.zeros is None:
            return None
        flags: NDArray[np.bool_] = (self.skewness**2 > SKEWED**2 * expected_skewness(self.clusters)) | (self.zeros >= MOSTLY_ZERO)
        return flags


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
    """Sums within clusters: `[n, …]` to `[clusters, …]`; zero for a cluster without samples."""
    if count == 0 or len(codes) == 0:
        return np.zeros((count, *values.shape[1:]))
    if (codes[1:] < codes[:-1]).any():
        order = np.argsort(codes, kind="stable")
        codes, values = codes[order], values[order]
    starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]])
    # One question per image is the usual case, and needs no additions.
    sums = values if len(starts) == len(codes) else np.add.reduceat(values, starts, axis=0)
    if len(starts) == count:
        return sums
    placed = np.zeros((count, *values.shape[1:]))
    placed[codes[starts]] = sums
    return placed


def clustered_moments(values: ArrayLike, clusters: ArrayLike) -> Moments:
    """Means over samples with CR2 standard errors, for `values` `[n, …]` with n >= 1; results have the shape of one sample.

    For a mean, CR2's adjustment (I - H_gg)^(-1/2) acts on the ones vector as a factor, so that
    SE² = 1/N² Σ_g S_g² / (1 - n_g / N), with S_g the sum of cluster g's residuals.
    """
    array = finite("values", values)
    return combined_moments(array, np.zeros(len(array) if array.ndim else 0, dtype=int), (1.0,), clusters)


def combined_moments(values: ArrayLike, groups: ArrayLike, weights: Sequence[float], clusters: ArrayLike) -> Moments:
    """Σ_k weights_k · mean of group k, for `values` `[n, …]` and `groups` `[n]` numbered from 0, with its CR2 standard errors.

    (1/2, 1/2) is the mean of two group means, (-1, 1) their difference; a cluster may have samples in several groups. This is CR2
    for the regression on group indicators, whose hat matrix is block diagonal by group: within a cluster each group's residual sum
    is divided by N_k · sqrt(1 - n_gk / N_k). Each group needs `MINIMUM_CLUSTERS` clusters. Raises `ValueError` for an empty group.
    """
    array, member = finite("values", values), np.asarray(groups)
    if array.ndim == 0 or not len(array):
        raise ValueError("a mean needs at least one value")
    codes, count = cluster_codes(clusters, len(array))
    counts = np.stack([np.bincount(codes[member == group], minlength=count) for group in range(len(weights))], axis=1)
    if not counts.sum(axis=0).all():
        raise ValueError("a mean needs at least one value")
    fewest = int((counts > 0).sum(axis=0).min())
    if fewest < MINIMUM_CLUSTERS:
        means = [array[member == group].mean(axis=0) for group in range(len(weights))]
        total = np.asarray(sum(weight * mean for weight, mean in zip(weights, means, strict=True)))
        return Moments(total, None, len(array), count, too_few_clusters(fewest))
    found = cell_moments(array.reshape(len(array), -1), member, weights, codes, counts)
    shape = array.shape[1:]
    return Moments(
        mean=found.mean.reshape(shape),
        standard_error=found.error.reshape(shape),
        n=len(array),
        clusters=count,
        reason="",
        degrees=bell_mccaffrey_degrees(counts, weights),
        skewness=found.skewness.reshape(shape),
        zeros=found.zeros.reshape(shape),
    )


def bell_mccaffrey_degrees(counts: ArrayLike, weights: Sequence[float] = (1.0,)) -> float:
    """The degrees of freedom of a CR2 variance under independent samples of equal variance: 2 E[V]² / Var[V].

    `counts` `[clusters, groups]` are numbers of samples. V is a sum of squares of G linear forms whose covariance is Ω, so that the
    degrees are tr(Ω)² / tr(Ω²). For a mean of equal clusters they are G - 1, as for one sample per cluster.
    """
    sizes = np.asarray(counts, dtype=np.float64)
    totals = sizes.sum(axis=0)
    scale = np.asarray(weights) / totals
    # Ω_gh = Σ_k w_gk w_hk (n_gk [g = h] - n_gk n_hk / N_k), with w_gk² = scale_k² / (1 - n_gk / N_k).
    diagonal = (scale**2 * sizes).sum(axis=1)
    outer = scale * sizes / np.sqrt(totals - sizes)
    # All of Ω but its diagonal is -outer outer'.
    squares = float((diagonal**2).sum() + ((outer.T @ outer) ** 2).sum() - ((outer**2).sum(axis=1) ** 2).sum())
    return float(diagonal.sum()) ** 2 / squares


def expected_skewness(n: int) -> float:
    """The mean squared skewness of a normal sample of size n."""
    return 6 * (n - 2) / ((n + 1) * (n + 3))


def too_few_clusters(count: int) -> str:
    """The reason why there is no standard error."""
    return f"no standard error: {count} image{'' if count == 1 else 's'}, at least {MINIMUM_CLUSTERS} needed"


def clustered_mean(values: ArrayLike, clusters: ArrayLike, confidence: float = 0.95) -> Estimate:
    """The mean of `values` `[n]` with its clustered error; null with a reason where n is 0."""
    array = finite("values", values)
    if not array.size:
        return Estimate(mean=None, standard_error=None, low=None, high=None, n=0, clusters=0, reason="no samples")
    if array.ndim != 1:
        raise ValueError(f"values must be one number per sample, got shape {array.shape}")
    moments = clustered_moments(array, clusters)
    interval = moments.interval(confidence)
    if interval is None or moments.standard_error is None:
        return Estimate(
            mean=float(moments.mean),
            standard_error=None,
            low=None,
            high=None,
            n=moments.n,
            clusters=moments.clusters,
            reason=moments.reason,
        )
    low, high = (float(end) for end in interval)
    return Estimate(
        mean=float(moments.mean), standard_error=float(moments.standard_error), low=low, high=high, n=moments.n, clusters=moments.clusters
    )


def clustered_difference(first: ArrayLike, second: ArrayLike, clusters: ArrayLike, confidence: float = 0.95) -> Estimate:
    """The mean of second - first over the same samples, with its clustered error."""
    before, after = finite("first", first), finite("second", second)
    if before.shape != after.shape:
        raise ValueError(f"first and second must be the same samples, got {before.shape} and {after.shape}")
    return clustered_mean(after - before, clusters, confidence)


def accuracy_change(first: ArrayLike, second: ArrayLike, clusters: ArrayLike, confidence: float = 0.95) -> Estimate:
    """The mean of second - first for answers that are right or wrong, with its clustered error; changes all alike are not an error of 0.

    Where no answer changed, the spread says nothing: what is known is that no image of so many changed, so the interval is the exact
    binomial one over images, to both sides (the most that the share of changed images can be), and there is no standard error. Where
    every answer changed the same way it is the exact one of all images, to the one side there is.
    """
    estimate = clustered_difference(first, second, clusters, confidence)
    if estimate.mean not in (-1.0, 0.0, 1.0) or estimate.standard_error != 0:
        return estimate
    from scipy import stats  # a second of importing, for a case that is rare

    most = float(stats.binomtest(0, estimate.clusters).proportion_ci(confidence, method="exact").high)
    low, high = {-1.0: (-1.0, most - 1), 0.0: (-most, most), 1.0: (1 - most, 1.0)}[estimate.mean]
    reason = f"{'every' if estimate.mean else 'no'} answer changed: exact binomial interval over {estimate.clusters} images"
    return replace(estimate, standard_error=None, low=low, high=high, reason=reason)


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
    return replace(moments, mean=ratio, standard_error=error)


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
