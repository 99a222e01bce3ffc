"""Cluster bootstrap for many cells at once (heads, layers, positions): intervals, standard errors and p-values.

Whole clusters are drawn with replacement. A draw is a row of multinomial weights over clusters, so that all draws of
all cells are one matrix product, and every cell sees the same draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from vseam_core.analysis.statistics import (
    MINIMUM_CLUSTERS,
    Array,
    cluster_codes,
    cluster_sums,
    finite,
    generator,
    too_few_clusters,
)

Method = Literal["percentile", "bca"]
WEIGHTS_AT_ONCE = 8_000_000
"""Weights held in memory at a time (float64: 64 MB)."""


@dataclass(frozen=True, eq=False)
class BootstrapResult:
    """Means over samples with cluster-bootstrap errors, each `[…]` in the shape of one sample.

    Below the minimum of clusters everything but the mean is None, and `reason` says why.
    """

    mean: Array
    standard_error: Array | None
    low: Array | None
    high: Array | None
    p_value: Array | None
    n: int
    clusters: int
    draws: int
    reason: str = ""


def cluster_bootstrap(
    values: ArrayLike,
    clusters: ArrayLike,
    *,
    seed: int,
    draws: int = 2000,
    confidence: float = 0.95,
    method: Method = "percentile",
) -> BootstrapResult:
    """Bootstraps the mean over samples of `values` `[n, …]` by whole clusters.

    Intervals are percentile or BCa (Efron 1987, acceleration by leaving out one cluster at a time). `p_value` tests a
    mean of zero, two-sided, by the studentised draws (|t*| >= |t|), which hold their level better than an inverted
    percentile interval; it cannot fall below 1 / (draws + 1), so over many heads use `Moments.p_values`. Raises
    `ValueError` for no samples, NaN or infinity.
    """
    array = finite("values", values)
    if array.ndim == 0 or not len(array):
        raise ValueError("a bootstrap needs at least one sample")
    if method not in ("percentile", "bca"):
        raise ValueError(f"method must be 'percentile' or 'bca', got {method!r}")
    codes, count = cluster_codes(clusters, len(array))
    shape = array.shape[1:]
    mean = array.mean(axis=0)
    if count < MINIMUM_CLUSTERS:
        reason = too_few_clusters(count)
        return BootstrapResult(mean, None, None, None, None, len(array), count, draws, reason)
    sums = cluster_sums(array.reshape(len(array), -1), codes, count)
    sizes = np.bincount(codes, minlength=count).astype(np.float64)
    means, errors = _draw(sums, sizes, draws, generator(seed, "cluster bootstrap"))
    tails = np.full((2, sums.shape[1]), [[0.5 - confidence / 2], [0.5 + confidence / 2]])
    if method == "bca":
        tails = _bca_tails(tails, means, mean.ravel(), sums, sizes)
    ordered = np.sort(means, axis=0)
    low, high = (_quantiles(ordered, tail).reshape(shape) for tail in tails)
    p_value = _studentised_p(means, errors, mean.ravel(), sums, sizes).reshape(shape)
    spread = means.std(axis=0, ddof=1).reshape(shape)
    return BootstrapResult(mean, spread, low, high, p_value, len(array), count, draws)


def resampling_weights(random: np.random.Generator, clusters: int, draws: int) -> Array:
    """How often each cluster is drawn, `[draws, clusters]`: every row sums to the number of clusters."""
    chosen = random.integers(0, clusters, (draws, clusters)) + clusters * np.arange(draws)[:, None]
    counts = np.bincount(chosen.ravel(), minlength=draws * clusters)
    return counts.reshape(draws, clusters).astype(np.float64)


def _draw(sums: Array, sizes: Array, draws: int, random: np.random.Generator) -> tuple[Array, Array]:
    """Means and clustered standard errors of every draw, both `[draws, cells]`."""
    cells = sums.shape[1]
    # One product for all four sums that a mean and its error need.
    columns = np.hstack([sums, sums**2, sums * sizes[:, None], sizes[:, None], sizes[:, None] ** 2])
    chunk = max(1, WEIGHTS_AT_ONCE // len(sizes))
    means, errors = [], []
    for start in range(0, draws, chunk):
        weights = resampling_weights(random, len(sizes), min(chunk, draws - start))
        totals = weights @ columns
        n, squared_sizes = totals[:, -2:-1], totals[:, -1:]
        mean = totals[:, :cells] / n
        scatter = totals[:, cells : 2 * cells] - 2 * mean * totals[:, 2 * cells : 3 * cells] + mean**2 * squared_sizes
        means.append(mean)
        errors.append(np.sqrt(np.maximum(scatter, 0)) / n)
    return np.vstack(means), np.vstack(errors)


def _studentised_p(means: Array, errors: Array, mean: Array, sums: Array, sizes: Array) -> Array:
    """(1 + #{|t*| >= |t|}) / (draws + 1), t* centred at the observed mean; 1 where the mean is zero."""
    error = np.sqrt(np.sum((sums - np.multiply.outer(sizes, mean)) ** 2, axis=0)) / sizes.sum()
    # Compared as products, so that a cell without spread divides by nothing. The slack keeps rounding from breaking ties.
    slack = 1e-12 * (np.abs(mean) * error + 1e-300)
    extreme = np.abs(means - mean) * error >= np.abs(mean) * errors - slack
    constant = error <= 1e-12 * np.abs(mean)
    counted = np.where(constant, 0, np.count_nonzero(extreme, axis=0))
    return np.where(mean == 0, 1.0, (1 + counted) / (len(means) + 1))


def _bca_tails(tails: Array, means: Array, mean: Array, sums: Array, sizes: Array) -> Array:
    """The tail probabilities `[2, cells]` corrected for bias and acceleration."""
    draws = len(means)
    below = (np.count_nonzero(means < mean, axis=0) + 0.5 * np.count_nonzero(means == mean, axis=0)) / draws
    bias = stats.norm.ppf(np.clip(below, 1 / (draws + 1), draws / (draws + 1)))
    left_out = (sums.sum(axis=0) - sums) / (sizes.sum() - sizes)[:, None]
    deviation = left_out.mean(axis=0) - left_out
    scale = np.sum(deviation**2, axis=0) ** 1.5
    cubes = np.sum(deviation**3, axis=0)
    acceleration = np.divide(cubes, 6 * scale, out=np.zeros_like(cubes), where=scale > 0)
    shifted = bias + stats.norm.ppf(tails)
    return stats.norm.cdf(bias + shifted / (1 - acceleration * shifted))


def _quantiles(ordered: Array, probabilities: Array) -> Array:
    """One quantile per column of sorted draws `[draws, cells]`, linear between neighbours (numpy's default rule)."""
    place = probabilities * (len(ordered) - 1)
    lower = np.floor(place).astype(np.intp)
    upper = np.minimum(lower + 1, len(ordered) - 1)
    columns = np.arange(ordered.shape[1])
    return ordered[lower, columns] + (place - lower) * (ordered[upper, columns] - ordered[lower, columns])
