"""Tests over many heads at once: false discovery rates, claims that need two things to hold, permutation p-values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from vseam_core.analysis.statistics import Array, Moments, expected_skewness, finite

Alternative = Literal["two-sided", "greater", "less"]
FEWEST_SETS = 19
"""Arrangements beside the observed one below which a permutation test cannot give p ≤ 0.05."""


def benjamini_hochberg(p_values: ArrayLike) -> Array:
    """q-values that control the false discovery rate over all given p-values, in the same shape."""
    p = finite("p-values", p_values)
    from scipy import stats  # a second of importing, for head claims only

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


def positive_mean_p_values(moments: Moments) -> Array:
    """One-sided p-values of means above zero that hold for skewed effects too, in the shape of the cells.

    The t statistic is corrected for skewness (Hall 1992, J. R. Statist. Soc. B 54), and only ever downwards: a few samples with a
    long left tail often show none of it, and then look like a small, sure, positive effect. So a cell counts as at least as skewed to
    the left as the cells of its map are to either side beyond chance: one head's ten images cannot show a tail, fifty heads' can.
    Raises `ValueError` for moments without standard errors.
    """
    ratio, skewness = moments.t_statistics(), moments.skewness
    if ratio is None or skewness is None:
        raise ValueError(moments.reason)
    common = np.sqrt(max(0.0, float(np.mean(skewness**2)) - expected_skewness(moments.clusters)))
    left = np.minimum(skewness, -common)
    root = np.sqrt(moments.clusters)
    bounded = np.clip(ratio, -1e6, 1e6)
    corrected = bounded + left / (6 * root) * (2 * bounded**2 + 1) + left**2 * bounded**3 / (27 * root**2)
    from scipy import special

    p_values = special.stdtr(moments.degrees, -np.minimum(bounded, corrected))
    return np.where(moments.mean > 0, p_values, 1.0)


def both_hold_q_values(p_values: Sequence[ArrayLike], others: int = 0) -> Array:
    """q-values of "the effect is there in both classes", from one p-value per class and cell; in the shape of a cell.

    The adaptive filter of Wang, Gui, Su, Sabatti and Owen (2022, Annals of Statistics 50): the larger p decides, and the number of
    tests that it is corrected for is not that of all heads but of those whose *smaller* p passes the same threshold, since only these
    could be false. It controls the false discovery rate of the intersection for independent p-values, and finds far more than
    Benjamini-Hochberg on the larger p. With one class it is Benjamini-Hochberg. `others` heads were not tested but chosen from,
    and count as if they had passed the filter.
    """
    classes = [finite("p-values", values) for values in p_values]
    if len(classes) == 1:
        flat = np.concatenate([classes[0].ravel(), np.ones(others)])
        return benjamini_hochberg(flat)[: classes[0].size].reshape(classes[0].shape)
    smaller, larger = np.min(classes, axis=0).ravel(), np.max(classes, axis=0).ravel()
    order = np.argsort(larger, kind="stable")
    sorted_larger = larger[order]
    candidates = np.searchsorted(np.sort(smaller), sorted_larger, side="right") + others
    passing = np.searchsorted(sorted_larger, sorted_larger, side="right")
    raw = sorted_larger * candidates / passing
    q_values = np.empty_like(larger)
    q_values[order] = np.minimum(1.0, np.minimum.accumulate(raw[::-1])[::-1])
    return q_values.reshape(classes[0].shape)
