"""Means of many cells with what their clustered errors are made of, some cells at a time: what is worked on then lies in the cache.

`statistics.combined_moments` says what is computed; this is how, for effects of 100,000 samples as for those of twenty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

_AT_ONCE = 1 << 18
"""Numbers that are worked on together."""
_FEWEST_CELLS = 8
"""Cells that lie in one line of the cache: fewer would be fetched for nothing."""


@dataclass(frozen=True, eq=False)
class ClusterOrder:
    """Some samples in the order of their clusters: `starts` is where each of the `clusters` begins in it."""

    order: Rows
    starts: Rows
    clusters: Rows

    @classmethod
    def of(cls, rows: Rows, codes: Rows) -> ClusterOrder:
        """The order of the samples with these row numbers."""
        order = rows[np.argsort(codes[rows], kind="stable")]
        inside = codes[order]
        starts = np.flatnonzero(np.r_[True, inside[1:] != inside[:-1]])
        return cls(order, starts, inside[starts])

    def sums(self, values: Array) -> Array:
        """Sums within clusters of values `[cells, samples]` in this order: `[cells, clusters]`."""
        # One question per image is the usual case, and needs no additions.
        return values if len(self.starts) == values.shape[1] else np.add.reduceat(values, self.starts, axis=1)


@dataclass(frozen=True, eq=False)
class CellMoments:
    """Numbers of every cell: the weighted mean of group means, its CR2 error, skewness and share of clusters that are all zeros."""

    mean: Array
    error: Array
    skewness: Array
    zeros: Array


def cell_moments(values: Array, groups: Rows, weights: Sequence[float], codes: Rows, counts: Rows) -> CellMoments:
    """The moments of `values` `[n, cells]`: `groups` and `codes` `[n]` number groups and clusters, `counts` is `[clusters, groups]`."""
    members = [ClusterOrder.of(np.flatnonzero(groups == group), codes) for group in range(len(weights))]
    every = members[0] if len(members) == 1 else ClusterOrder.of(np.arange(len(values)), codes)
    totals = counts.sum(axis=0)
    factors = np.asarray(weights) / (totals * np.sqrt(1 - counts / totals))
    # What size alone makes of a cluster's spread is divided by, so that large clusters do not look like outliers.
    spread = np.sqrt((counts * (np.asarray(weights) / totals) ** 2).sum(axis=1))
    found = np.zeros((4, values.shape[1]))
    step = max(_FEWEST_CELLS, _AT_ONCE // len(values))
    for start in range(0, values.shape[1], step):
        block = np.ascontiguousarray(values[:, start : start + step].T)
        parts = np.zeros((len(block), len(counts)))
        for group, member in enumerate(members):
            mine = block[:, member.order]
            mean = mine.mean(axis=1, keepdims=True)
            mine -= mean
            parts[:, member.clusters] += member.sums(mine) * factors[member.clusters, group]
            found[0, start : start + step] += weights[group] * mean[:, 0]
        found[1, start : start + step] = np.sqrt(np.einsum("cg,cg->c", parts, parts))
        parts /= spread
        found[2, start : start + step] = _skewness(parts)
        found[3, start : start + step] = _zero_clusters(block, every)
    return CellMoments(*found)


def _skewness(parts: Array) -> Array:
    """m3 / m2^(3/2) of every row; 0 where there is no spread. The parts are overwritten."""
    parts -= parts.mean(axis=1, keepdims=True)
    squares = parts * parts
    second = squares.mean(axis=1)
    third = np.einsum("cg,cg->c", squares, parts) / parts.shape[1]
    return np.divide(third, second**1.5, out=np.zeros_like(second), where=second > 0)


def _zero_clusters(block: Array, every: ClusterOrder) -> Array:
    """The share of clusters whose samples are all exactly 0, for each cell of `[cells, samples]`."""
    nonzero = block != 0
    if nonzero.all():
        return np.zeros(len(block))
    return np.asarray((~np.logical_or.reduceat(nonzero[:, every.order], every.starts, axis=1)).mean(axis=1))
