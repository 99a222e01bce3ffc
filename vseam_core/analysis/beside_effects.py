"""Do heads of which something is read also cause? A reading of every head beside the effect of replacing it, as a rank correlation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vseam_core.analysis.bootstrap import resampling_weights
from vseam_core.analysis.frames import NUMBER, TEXT, WHOLE
from vseam_core.analysis.statistics import MINIMUM_CLUSTERS, Array, cluster_codes, finite, generator

DRAWS, PERMUTATIONS = 1000, 999
FEWEST_HEADS = 3
BESIDE_COLUMNS: dict[str, str] = {
    **dict.fromkeys(("tracer", "site_kind", "reading", "operation", "effect"), TEXT),
    "rank_correlation": NUMBER,
    "low": NUMBER,
    "high": NUMBER,
    "p_value": NUMBER,
    **dict.fromkeys(("heads", "n_readings", "n_effects", "images"), WHOLE),
}


def reading_beside_effect(
    readings: ArrayLike, reading_images: Sequence[str], effects: ArrayLike, effect_images: Sequence[str], *, absolute: bool, seed: int
) -> dict[str, Any]:
    """Spearman's correlation over heads of a mean reading and a mean effect, both `[n, layers, heads]`: a part of `BESIDE_COLUMNS`.

    `absolute` takes the size of the mean effect. `low` and `high` are the 2.5 and 97.5 % points over draws of images with replacement, the
    same images for both (None below 10 images, or where a draw has none of one side): they say how far these images settle it, not what
    other heads would show. Every draw adds noise to both maps, so that the interval lies nearer to 0 than the estimate, if anything.
    `p_value` is that of heads exchanged within their layers, two-sided. Heads that were not measured (NaN in effects) are left out. Raises
    `ValueError` for shapes that do not fit.
    """
    first, second = np.asarray(readings, dtype=np.float64), np.asarray(effects, dtype=np.float64)
    if first.ndim != 3 or second.ndim != 3 or first.shape[1:] != second.shape[1:]:
        raise ValueError(f"readings and effects must be [n, layers, heads] of one model, got {first.shape} and {second.shape}")
    known: NDArray[np.bool_] = np.asarray(~np.isnan(second).any(axis=0))
    one, two = finite("readings", first[:, known]), finite("effects", second[:, known])
    row: dict[str, Any] = {"heads": int(known.sum()), "n_readings": len(one), "n_effects": len(two)}
    codes, images = cluster_codes(np.array([*reading_images, *effect_images], dtype=object), len(one) + len(two))
    row["images"] = int(images)
    if known.sum() < FEWEST_HEADS or not len(one) or not len(two):
        return row
    maps = one.mean(axis=0)[None], _sized(two.mean(axis=0)[None], absolute)
    (estimate,) = _rank_correlations(*maps)
    if not np.isfinite(estimate):
        return row
    row["rank_correlation"] = float(estimate)
    row["p_value"] = _exchanged(*maps, layers=np.nonzero(known)[0], seed=seed)
    if images >= MINIMUM_CLUSTERS:
        weights = resampling_weights(generator(seed, "beside effects"), images, DRAWS)
        sides = weights[:, codes[: len(one)]], weights[:, codes[len(one) :]]
        if all((side.sum(axis=1) > 0).all() for side in sides):
            means = [(side @ values) / side.sum(axis=1, keepdims=True) for side, values in zip(sides, (one, two), strict=True)]
            found = _rank_correlations(means[0], _sized(means[1], absolute))
            row["low"], row["high"] = (float(point) for point in np.nanquantile(found, [0.025, 0.975]))
    return row


def _sized(values: Array, absolute: bool) -> Array:
    return np.abs(values) if absolute else values


def _rank_correlations(first: Array, second: Array) -> Array:
    """Spearman's correlation of each row, NaN where a side is constant."""
    from scipy.stats import rankdata

    ranks = [rankdata(values, axis=1) for values in (first, second)]
    centred = [part - part.mean(axis=1, keepdims=True) for part in ranks]
    size = np.sqrt(np.prod([(part**2).sum(axis=1) for part in centred], axis=0))
    product = (centred[0] * centred[1]).sum(axis=1)
    correlations: Array = np.divide(product, size, out=np.full(len(product), np.nan), where=size > 0)
    return correlations


def _exchanged(first: Array, second: Array, layers: NDArray[np.intp], seed: int) -> float:
    """How often heads exchanged within their layers correlate as much, either way."""
    random = generator(seed, "beside effects", "exchanged")
    keys = random.random((PERMUTATIONS, first.shape[1]))
    order = np.lexsort((keys, np.broadcast_to(layers, keys.shape)), axis=1)
    correlations = _rank_correlations(first[0][order], np.broadcast_to(second[0], order.shape))
    (observed,) = _rank_correlations(first, second)
    # Heads are in the order of their layers, so that sorting by layer and then by chance exchanges within layers only.
    return float((1 + (np.abs(correlations) >= abs(observed) - 1e-12).sum()) / (1 + PERMUTATIONS))
