"""Cluster bootstrap: whole clusters are drawn with replacement, as multinomial weights, so that all draws are one matrix product."""

from __future__ import annotations

import numpy as np

from vseam_core.analysis.statistics import Array


def resampling_weights(random: np.random.Generator, clusters: int, draws: int) -> Array:
    """How often each cluster is drawn, `[draws, clusters]`: every row sums to the number of clusters."""
    chosen = random.integers(0, clusters, (draws, clusters)) + clusters * np.arange(draws)[:, None]
    counts = np.bincount(chosen.ravel(), minlength=draws * clusters)
    return counts.reshape(draws, clusters).astype(np.float64)
