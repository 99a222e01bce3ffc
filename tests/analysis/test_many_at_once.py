"""What is computed for many clusters, heads and splits at once is what one after the other gives."""

from __future__ import annotations

import numpy as np
import pytest

from vseam_core.analysis.head_claims import split_half_reliability
from vseam_core.analysis.shared import split_half_ceiling
from vseam_core.analysis.statistics import cluster_sums, combined_moments, generator

CLUSTERS = {"one question per image": np.random.default_rng(0).permutation(90), "several": np.random.default_rng(1).integers(0, 31, 90)}
EFFECTS = np.random.default_rng(2).exponential(size=(90, 3, 4)) - 0.9
EFFECTS[:, 1, 2] = 0.0
EFFECTS[np.random.default_rng(3).random(90) < 0.7, 2, 1] = 0.0


@pytest.mark.parametrize("kind", CLUSTERS)
def test_sums_within_clusters_are_those_of_a_loop(kind: str) -> None:
    codes = CLUSTERS[kind]
    expected = np.stack([EFFECTS[codes == code].sum(axis=0) for code in range(95)])
    np.testing.assert_allclose(cluster_sums(EFFECTS, codes, 95), expected, rtol=0, atol=1e-12)
    assert not cluster_sums(EFFECTS[:0], codes[:0], 3).any()


@pytest.mark.parametrize("weights", [(1.0,), (0.5, 0.5), (-1.0, 1.0)])
@pytest.mark.parametrize("kind", CLUSTERS)
def test_errors_skewness_and_zeros_are_those_of_a_loop_over_clusters(
    kind: str, weights: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vseam_core.analysis.cluster_moments._AT_ONCE", 1)
    monkeypatch.setattr("vseam_core.analysis.cluster_moments._FEWEST_CELLS", 5)  # five cells at a time
    codes, groups = CLUSTERS[kind], np.arange(90) % len(weights)
    moments = combined_moments(EFFECTS, groups, weights, codes)
    parts, zeros = [], []
    for code in np.unique(codes):
        part, spread = np.zeros((3, 4)), 0.0
        for group, weight in enumerate(weights):
            member, here = groups == group, (groups == group) & (codes == code)
            total, size = member.sum(), here.sum()
            for row in np.flatnonzero(here):
                part += weight * (EFFECTS[row] - EFFECTS[member].mean(axis=0)) / (total * np.sqrt(1 - size / total))
            spread += size * (weight / total) ** 2
        parts.append((part, part / np.sqrt(spread)))
        zeros.append((EFFECTS[codes == code] == 0).all(axis=0))
    np.testing.assert_allclose(moments.standard_error, np.sqrt(sum(part**2 for part, _ in parts)), rtol=1e-12, atol=1e-15)
    even = np.stack([part for _, part in parts])
    spread_out = even - even.mean(axis=0)
    with np.errstate(invalid="ignore"):
        skewness = np.nan_to_num((spread_out**3).mean(axis=0) / (spread_out**2).mean(axis=0) ** 1.5)
    np.testing.assert_allclose(moments.skewness, skewness, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(moments.zeros, np.mean(zeros, axis=0))
    turned, other = combined_moments(-EFFECTS, groups, weights, codes), moments.negated()
    for name in ("mean", "standard_error", "skewness", "zeros"):
        np.testing.assert_array_equal(getattr(turned, name), getattr(other, name))


@pytest.mark.parametrize("kind", CLUSTERS)
def test_reliability_is_that_of_one_split_after_the_other(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vseam_core.analysis.head_claims._DRAWS_AT_ONCE", 200)  # a few splits at a time
    effects = EFFECTS + np.random.default_rng(4).normal(size=(3, 4))
    codes = np.unique(CLUSTERS[kind], return_inverse=True)[1]
    random, correlations = generator(5, "split half"), []
    for _ in range(23):
        ranks = random.random(codes.max() + 1).argsort().argsort()
        inside = ranks[codes] < (codes.max() + 1) // 2
        maps = [effects[rows].mean(axis=0).ravel() for rows in (inside, ~inside)]
        correlations.append(np.corrcoef(*maps)[0, 1])
    expected = np.mean(correlations)
    found = split_half_reliability(effects, CLUSTERS[kind], seed=5, splits=23)
    assert found == pytest.approx(2 * expected / (1 + expected), rel=1e-12)


@pytest.mark.parametrize("sign", ["positive", "negative"])
@pytest.mark.parametrize("kind", CLUSTERS)
def test_a_ceiling_is_that_of_one_split_after_the_other_with_ties_broken_by_chance(kind: str, sign: str) -> None:
    effects = (EFFECTS if sign == "positive" else -EFFECTS).reshape(90, 12)
    effects = np.concatenate([effects, effects[:, :5]], axis=1) - 0.03  # five heads are there twice
    codes = np.unique(CLUSTERS[kind], return_inverse=True)[1]
    random, overlaps = generator(6, "split-half ceiling"), []
    for _ in range(40):
        tops = []
        halves = [np.isin(codes, half) for half in np.array_split(random.permutation(codes.max() + 1), 2)]
        for rows in halves:
            values = effects[rows].mean(axis=0) * (1 if sign == "positive" else -1)
            values = values[[*range(12), *range(5)]]
            order = np.lexsort((random.random(17), -values))
            tops.append({int(head) for head in order[:4] if values[head] > 0})
        overlaps.append(len(tops[0] & tops[1]))
    found = split_half_ceiling(effects, np.ones(90, dtype=bool), CLUSTERS[kind], sign=sign, k=4, seed=6, splits=40)
    assert found.overlap == pytest.approx(np.mean(overlaps), rel=1e-12)
