"""The mean score of answers with its clustered error, and whether an answer says yes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from vseam_core.analysis.statistics import MINIMUM_CLUSTERS, Estimate, clustered_mean


def accuracy_estimate(correct: Sequence[float] | np.ndarray, clusters: Sequence[Any] | np.ndarray) -> Estimate:
    """The mean score (0/1, or part marks between) with its clustered error; the interval as `summarise` describes it."""
    values = np.asarray(correct, dtype=np.float64)
    estimate = clustered_mean(values, clusters)
    if estimate.mean is None or estimate.clusters < MINIMUM_CLUSTERS or estimate.low is None or estimate.high is None:
        return estimate
    low, high, reason = max(0.0, estimate.low), min(1.0, estimate.high), ""
    if np.ptp(values) == 0 and estimate.mean in (0.0, 1.0):
        from scipy import stats  # a second of importing, for a case that is rare

        images = estimate.clusters
        ends = stats.binomtest(images if estimate.mean else 0, images).proportion_ci(method="exact")
        low, high = float(ends.low), float(ends.high)
        reason = f"{'all' if estimate.mean else 'none'} right: exact binomial interval over {images} images"
    # Where all are equal the spread is 0, which is no error: what is known is the interval.
    error = None if reason else estimate.standard_error
    return replace(estimate, standard_error=error, low=low, high=high, reason=reason)


def says_yes(texts: pd.Series) -> pd.Series:
    """Whether each answer is yes: the word alone, whatever its case, spaces and final punctuation."""
    return texts.str.strip().str.rstrip(".!,").str.strip().str.casefold() == "yes"
