from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import stats

from vseam_core.analysis import bootstrap
from vseam_core.analysis.bootstrap import cluster_bootstrap, resampling_weights
from vseam_core.analysis.statistics import generator


def test_weights_draw_as_many_clusters_as_there_are_and_each_equally_often() -> None:
    weights = resampling_weights(np.random.default_rng(0), 20, 4000)
    assert (weights.sum(axis=1) == 20).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(20), abs=0.08)
    # A draw with replacement leaves a cluster out with probability (1 - 1/20)^20.
    assert np.mean(weights == 0) == pytest.approx(0.95**20, abs=0.01)


def test_every_draw_equals_a_resampling_of_whole_clusters_by_loops() -> None:
    random = np.random.default_rng(1)
    clusters = np.repeat(np.arange(12), random.integers(1, 5, 12))
    values = random.normal(size=(len(clusters), 2, 3))
    draws = 40
    means = []
    for row in resampling_weights(generator(7, "cluster bootstrap"), 12, draws):
        parts = [values[clusters == cluster] for cluster in range(12) for _ in range(int(row[cluster]))]
        means.append(np.concatenate(parts).mean(axis=0))
    result = cluster_bootstrap(values, clusters, seed=7, draws=draws)
    assert result.low is not None
    assert result.low == pytest.approx(np.quantile(means, 0.025, axis=0))
    assert result.high == pytest.approx(np.quantile(means, 0.975, axis=0))
    assert result.standard_error == pytest.approx(np.std(means, axis=0, ddof=1))


def test_the_p_value_equals_the_studentised_bootstrap_by_loops() -> None:
    random = np.random.default_rng(2)
    clusters = np.repeat(np.arange(11), 3)
    values = random.normal(size=33) + 0.35

    def mean_and_error(samples: list[np.ndarray]) -> tuple[float, float]:
        together = np.concatenate(samples)
        scatter = sum((part - together.mean()).sum() ** 2 for part in samples)
        return float(together.mean()), float(np.sqrt(scatter) / len(together))

    parts = [values[clusters == cluster] for cluster in range(11)]
    mean, error = mean_and_error(parts)
    extreme = 0
    for row in resampling_weights(generator(3, "cluster bootstrap"), 11, 300):
        drawn_mean, drawn_error = mean_and_error([part for part, times in zip(parts, row, strict=True) for _ in range(int(times))])
        extreme += abs(drawn_mean - mean) / drawn_error >= abs(mean) / error
    result = cluster_bootstrap(values, clusters, seed=3, draws=300)
    assert result.p_value is not None
    assert float(result.p_value) == pytest.approx((extreme + 1) / 301)


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_with_one_sample_per_cluster_intervals_agree_with_scipy(method: str) -> None:
    values = np.random.default_rng(4).exponential(size=60)
    reference = stats.bootstrap((values,), np.mean, n_resamples=20000, method=method, rng=np.random.default_rng(5))
    result = cluster_bootstrap(values, np.arange(60), seed=0, draws=20000, method=method)  # type: ignore[arg-type]
    # Two Monte Carlo intervals of 20,000 draws differ by about 2 % of a standard error.
    tolerance = 0.08 * float(reference.standard_error)
    assert result.low == pytest.approx(reference.confidence_interval.low, abs=tolerance)
    assert result.high == pytest.approx(reference.confidence_interval.high, abs=tolerance)


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_intervals_cover_the_true_mean_in_about_95_of_100_cases(method: str) -> None:
    # 2,000 studies of 60 images: standard error 0.5 %; bootstrap intervals of a mean are known to be 1 % short at this size.
    random = np.random.default_rng(6)
    clusters = np.repeat(np.arange(60), random.integers(1, 5, 60))
    values = random.normal(size=(len(clusters), 2000)) + random.normal(size=(60, 2000))[clusters]
    result = cluster_bootstrap(values, clusters, seed=1, draws=500, method=method)  # type: ignore[arg-type]
    assert result.low is not None
    assert result.high is not None
    assert 0.92 <= np.mean((result.low <= 0) & (result.high >= 0)) <= 0.965


def test_p_values_reject_a_true_null_in_at_most_5_of_100_cases_even_with_skewed_effects() -> None:
    # 2,000 studies: 3 standard errors of a 5 % rate are 1.5 %.
    random = np.random.default_rng(7)
    clusters = np.repeat(np.arange(40), 2)
    values = random.exponential(size=(80, 2000)) - 1 + random.normal(size=(40, 2000))[clusters]
    result = cluster_bootstrap(values, clusters, seed=2, draws=400)
    assert result.p_value is not None
    assert np.mean(result.p_value <= 0.05) <= 0.065


def test_ignoring_clusters_would_understate_the_error() -> None:
    random = np.random.default_rng(8)
    clusters = np.repeat(np.arange(50), 6)
    values = random.normal(size=50)[clusters]
    by_image = cluster_bootstrap(values, clusters, seed=0).standard_error
    by_sample = cluster_bootstrap(values, np.arange(300), seed=0).standard_error
    assert by_image is not None
    assert by_sample is not None
    assert float(by_image / by_sample) == pytest.approx(np.sqrt(6), rel=0.15)


def test_cells_without_spread_get_a_point_interval_and_p_one_only_at_zero() -> None:
    values = np.column_stack([np.zeros(30), np.full(30, 0.1)])
    for method in ("percentile", "bca"):
        result = cluster_bootstrap(values, np.arange(30), seed=0, draws=99, method=method)
        assert result.low == pytest.approx([0, 0.1])
        assert result.high == pytest.approx([0, 0.1])
        assert result.p_value == pytest.approx([1.0, 0.01])


def test_the_seed_reproduces_every_number_and_another_seed_does_not() -> None:
    values = np.random.default_rng(9).normal(size=(40, 3))
    results = [cluster_bootstrap(values, np.arange(40), seed=seed, draws=200) for seed in (1, 1, 2)]
    assert np.array_equal(results[0].low, results[1].low)  # type: ignore[arg-type]
    assert np.array_equal(results[0].p_value, results[1].p_value)  # type: ignore[arg-type]
    assert not np.array_equal(results[0].low, results[2].low)  # type: ignore[arg-type]


def test_drawing_in_small_portions_to_save_memory_gives_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(10).normal(size=(40, 3))
    whole = cluster_bootstrap(values, np.arange(40), seed=1, draws=200)
    monkeypatch.setattr(bootstrap, "WEIGHTS_AT_ONCE", 40 * 7)
    portions = cluster_bootstrap(values, np.arange(40), seed=1, draws=200)
    assert portions.low == pytest.approx(whole.low)
    assert portions.p_value == pytest.approx(whole.p_value)


def test_below_ten_clusters_only_the_mean_is_given() -> None:
    result = cluster_bootstrap(np.arange(18.0), np.arange(18) % 9, seed=0)
    assert float(result.mean) == 8.5
    assert (result.low, result.high, result.p_value, result.standard_error) == (None, None, None, None)
    assert "9 images" in result.reason


def test_2000_draws_of_a_head_map_take_under_half_a_second() -> None:
    values = np.random.default_rng(11).normal(size=(800, 6, 8))
    clusters = np.repeat(np.arange(400), 2)
    spent = []
    for _ in range(3):
        start = time.process_time()
        cluster_bootstrap(values, clusters, seed=0, draws=2000)
        spent.append(time.process_time() - start)
    assert min(spent) < 0.5


def test_nan_no_samples_and_unknown_methods_raise() -> None:
    with pytest.raises(ValueError, match="NaN"):
        cluster_bootstrap([1.0, np.nan], [0, 1], seed=0)
    with pytest.raises(ValueError, match="at least one sample"):
        cluster_bootstrap([], [], seed=0)
    with pytest.raises(ValueError, match="method"):
        cluster_bootstrap([1.0], [0], seed=0, method="normal")  # type: ignore[arg-type]
