from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy import stats

from vseam_core.analysis import statistics
from vseam_core.analysis.statistics import (
    benjamini_hochberg,
    cluster_sign_flip,
    clustered_difference,
    clustered_group_difference,
    clustered_mean,
    clustered_moments,
    clustered_ratio,
    generator,
    paired_comparison,
    permutation_p_value,
)


def unequal_clusters(random: np.random.Generator, count: int) -> np.ndarray:
    return np.repeat(np.arange(count), random.integers(1, 8, count))


def cr2_by_matrices(design: np.ndarray, outcome: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """The textbook CR2 covariance of a regression: symmetric inverse roots of I - H_gg, cluster by cluster."""
    bread = np.linalg.inv(design.T @ design)
    residuals = outcome - design @ (bread @ design.T @ outcome)
    meat = np.zeros((design.shape[1], design.shape[1]))
    for cluster in np.unique(clusters):
        rows = design[clusters == cluster]
        values, vectors = np.linalg.eigh(np.eye(len(rows)) - rows @ bread @ rows.T)
        score = rows.T @ (vectors @ np.diag(values**-0.5) @ vectors.T) @ residuals[clusters == cluster]
        meat += np.outer(score, score)
    return bread @ meat @ bread


def test_the_clustered_error_of_a_mean_equals_cr2_computed_with_matrices() -> None:
    random = np.random.default_rng(0)
    clusters = unequal_clusters(random, 14)
    values = random.normal(size=len(clusters)) + random.normal(size=14)[clusters]
    estimate = clustered_mean(values, clusters)
    assert estimate.standard_error is not None
    assert estimate.standard_error == pytest.approx(np.sqrt(cr2_by_matrices(np.ones((len(values), 1)), values, clusters)[0, 0]))
    width = stats.t.ppf(0.975, 13) * estimate.standard_error
    assert (estimate.low, estimate.high) == pytest.approx((values.mean() - width, values.mean() + width))


def test_the_error_of_a_difference_between_groups_equals_cr2_with_clusters_in_both_groups() -> None:
    random = np.random.default_rng(1)
    clusters = unequal_clusters(random, 25)
    second = random.random(len(clusters)) < 0.4
    values = random.normal(size=len(clusters)) + random.normal(size=25)[clusters] + second
    estimate = clustered_group_difference(values, second, clusters)
    covariance = cr2_by_matrices(np.column_stack([~second, second]).astype(float), values, clusters)
    assert estimate.mean == pytest.approx(values[second].mean() - values[~second].mean())
    assert estimate.standard_error == pytest.approx(np.sqrt([-1, 1] @ covariance @ [-1, 1]))


def test_with_one_sample_per_cluster_the_error_is_the_ordinary_one() -> None:
    values = np.random.default_rng(2).normal(size=40)
    estimate = clustered_mean(values, np.arange(40))
    assert estimate.standard_error == pytest.approx(stats.sem(values))
    low, high = stats.t.interval(0.95, 39, values.mean(), stats.sem(values))
    assert (estimate.low, estimate.high) == pytest.approx((low, high))
    p_values = clustered_moments(values, np.arange(40)).p_values()
    assert p_values == pytest.approx(stats.ttest_1samp(values, 0).pvalue)


def test_copying_every_sample_within_its_cluster_changes_nothing() -> None:
    values = np.random.default_rng(3).normal(size=30)
    once, twice = clustered_mean(values, np.arange(30)), clustered_mean(np.repeat(values, 5), np.repeat(np.arange(30), 5))
    assert once.standard_error == pytest.approx(twice.standard_error)
    assert once.low == pytest.approx(twice.low)


def test_order_of_samples_and_names_of_clusters_do_not_matter() -> None:
    random = np.random.default_rng(4)
    clusters = unequal_clusters(random, 20)
    values = random.normal(size=len(clusters))
    order = random.permutation(len(values))
    names = np.array([f"picture {97 - cluster}" for cluster in clusters])
    one, two = clustered_mean(values, clusters), clustered_mean(values[order], names[order])
    assert one.standard_error == pytest.approx(two.standard_error)


def test_below_ten_clusters_there_is_a_mean_but_no_error_and_the_reason_is_given() -> None:
    nine, ten = (clustered_mean(np.arange(20.0), np.arange(20) % count) for count in (9, 10))
    assert (nine.mean, nine.standard_error, nine.low, nine.high) == (9.5, None, None, None)
    assert nine.reason == "no standard error: 9 images, at least 10 needed"
    assert ten.standard_error is not None
    assert ten.reason == ""


def test_a_small_group_is_not_given_an_error_by_a_large_one() -> None:
    values = np.random.default_rng(5).normal(size=60)
    estimate = clustered_group_difference(values, np.arange(60) < 9, np.arange(60))
    assert estimate.standard_error is None
    assert "9 images" in estimate.reason
    assert clustered_group_difference(values, np.zeros(60), np.arange(60)).reason == "one of the two groups is empty"


def test_no_samples_give_nulls_and_a_reason() -> None:
    estimate = clustered_mean([], [])
    assert (estimate.mean, estimate.n, estimate.reason) == (None, 0, "no samples")


def test_t_intervals_cover_the_true_mean_in_95_of_100_cases() -> None:
    # 4,000 studies of 30 unequal clusters: the standard error of the coverage is 0.35 %, so 94-96.5 % is within 3 of them of a true
    # 95 %, with a little room for unequal clusters, for which t with G - 1 degrees is not exact.
    random = np.random.default_rng(6)
    clusters = unequal_clusters(random, 30)
    values = random.normal(size=(len(clusters), 4000)) + random.normal(size=(30, 4000))[clusters]
    interval = clustered_moments(values, clusters).interval()
    assert interval is not None
    assert 0.935 <= np.mean((interval[0] <= 0) & (interval[1] >= 0)) <= 0.965
    p_values = clustered_moments(values, clusters).p_values()
    assert p_values is not None
    assert 0.035 <= np.mean(p_values < 0.05) <= 0.065


def test_a_cell_that_is_zero_everywhere_has_p_one_and_a_constant_one_has_p_zero() -> None:
    values = np.column_stack([np.zeros(20), np.full(20, 0.25)])
    p_values = clustered_moments(values, np.arange(20)).p_values()
    assert p_values is not None
    assert p_values.tolist() == [1.0, 0.0]


def test_the_error_of_a_ratio_matches_the_spread_over_repeated_samples() -> None:
    random = np.random.default_rng(7)
    ratios, errors = [], []
    for _ in range(600):
        shared = random.normal(size=40).repeat(3)
        bottom = 4 + shared + random.normal(size=120)
        top = 0.3 * bottom + shared + random.normal(size=120)
        moments = clustered_ratio(top, bottom, np.arange(40).repeat(3))
        assert moments.standard_error is not None
        ratios.append(float(moments.mean))
        errors.append(float(moments.standard_error))
    assert np.mean(errors) == pytest.approx(np.std(ratios), rel=0.12)
    assert np.mean(ratios) == pytest.approx(0.3, abs=0.01)


def sign_flip_by_loops(differences: np.ndarray, clusters: np.ndarray) -> float:
    sums = [differences[clusters == cluster].sum() for cluster in np.unique(clusters)]
    flipped = [abs(sum(s * v for s, v in zip(signs, sums, strict=True))) for signs in itertools.product((1, -1), repeat=len(sums))]
    return float(np.mean([value >= abs(sum(sums)) - 1e-9 for value in flipped]))


def test_the_exact_sign_flip_p_equals_an_enumeration_by_loops() -> None:
    random = np.random.default_rng(8)
    clusters = unequal_clusters(random, 9)
    for shift in (0.0, 0.5, 2.0):
        differences = random.normal(size=len(clusters)) + shift
        result = cluster_sign_flip(differences, clusters, seed=0)
        assert result.exact
        assert result.p_value == pytest.approx(sign_flip_by_loops(differences, clusters))


def test_clusters_without_a_difference_do_not_change_the_exact_p() -> None:
    differences = np.array([1.0, 1.0, 1.0, 1.0, 1.0] + [0.0] * 500)
    result = cluster_sign_flip(differences, np.arange(505), seed=0)
    assert result.exact
    assert result.p_value == 2 / 2**5
    assert cluster_sign_flip(np.zeros(30), np.arange(30), seed=0).p_value == 1.0


def test_the_monte_carlo_sign_flip_agrees_with_the_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(9)
    differences = random.normal(size=13) + 0.4
    exact = cluster_sign_flip(differences, np.arange(13), seed=1)
    monkeypatch.setattr(statistics, "EXACT_CLUSTERS", 5)
    sampled = cluster_sign_flip(differences, np.arange(13), seed=1)
    assert not sampled.exact
    # 9,999 flips: five standard errors of a proportion.
    assert sampled.p_value == pytest.approx(exact.p_value, abs=5 * np.sqrt(exact.p_value / 9999))
    assert sampled.p_value == cluster_sign_flip(differences, np.arange(13), seed=1).p_value
    assert sampled.p_value != cluster_sign_flip(differences, np.arange(13), seed=2).p_value


def test_the_smallest_monte_carlo_sign_flip_p_is_one_in_the_flips_plus_one() -> None:
    assert cluster_sign_flip(np.ones(60), np.arange(60), seed=0, permutations=199).p_value == 1 / 200


def test_sign_flips_reject_a_true_null_in_at_most_5_of_100_cases_however_strong_the_clusters() -> None:
    # 1,000 studies: 3 standard errors of a 5 % rate are 2.1 %.
    random = np.random.default_rng(10)
    clusters = np.repeat(np.arange(10), 4)
    rejected = 0
    for _ in range(1000):
        differences = random.normal(size=40) + 2 * random.normal(size=10)[clusters]
        rejected += cluster_sign_flip(differences, clusters, seed=0).p_value <= 0.05
    assert rejected <= 71


def test_a_paired_comparison_reports_both_accuracies_their_difference_and_its_test() -> None:
    random = np.random.default_rng(11)
    before = random.random(200) < 0.6
    after = before | (random.random(200) < 0.3)
    clusters = np.repeat(np.arange(50), 4)
    result = paired_comparison(before, after, clusters, seed=0)
    assert result.second - result.first == pytest.approx(result.difference.mean)
    assert result.difference == clustered_difference(before, after, clusters)
    assert result.p_value < 0.001
    assert paired_comparison(before, before, clusters, seed=0).p_value == 1.0


def test_q_values_equal_the_step_up_rule_written_as_loops() -> None:
    p_values = np.random.default_rng(12).random((4, 6)) ** 3
    flat = p_values.ravel()
    expected = []
    for value in flat:
        larger = [other for other in flat if other >= value]
        expected.append(min(other * len(flat) / sum(flat <= other) for other in larger))
    assert benjamini_hochberg(p_values) == pytest.approx(np.minimum(1, expected).reshape(4, 6))
    assert benjamini_hochberg([]).shape == (0,)


@pytest.mark.parametrize(
    ("alternative", "exact", "expected"),
    [("greater", False, 3 / 6), ("less", False, 5 / 6), ("two-sided", False, 1.0), ("greater", True, 2 / 5), ("less", True, 4 / 5)],
)
def test_permutation_p_values_count_ties_and_the_observed_arrangement(alternative: Any, exact: bool, expected: float) -> None:
    assert permutation_p_value(3.0, [1.0, 2.0, 2.5, 3.0, 7.0], alternative=alternative, exact=exact) == pytest.approx(expected)


def test_different_purposes_of_one_seed_draw_differently_and_the_same_purpose_alike() -> None:
    draws = [generator(5, purpose).random() for purpose in ("a", "b", "a")]
    assert draws[0] == draws[2] != draws[1]


BAD = [1.0, float("nan"), 2.0]


@pytest.mark.parametrize(
    "call",
    [
        lambda: clustered_mean(BAD, [0, 1, 2]),
        lambda: clustered_mean(np.array([1.0, None, 2.0]), [0, 1, 2]),
        lambda: clustered_moments(BAD, [0, 1, 2]),
        lambda: clustered_difference([1, 2, 3], BAD, [0, 1, 2]),
        lambda: clustered_group_difference(BAD, [0, 1, 1], [0, 1, 2]),
        lambda: clustered_ratio([1, 2, 3], BAD, [0, 1, 2]),
        lambda: cluster_sign_flip(BAD, [0, 1, 2], seed=0),
        lambda: paired_comparison(BAD, [1, 2, 3], [0, 1, 2], seed=0),
        lambda: benjamini_hochberg(BAD),
        lambda: permutation_p_value(float("nan"), [1.0]),
        lambda: permutation_p_value(1.0, BAD),
        lambda: clustered_mean([1.0, 2.0], np.array(["a", None])),
        lambda: clustered_mean([1.0, np.inf], ["a", "b"]),
    ],
)
def test_nan_infinity_and_nulls_raise_everywhere(call: Any) -> None:
    with pytest.raises(ValueError, match=r"NaN|null"):
        call()


def test_arrays_that_do_not_belong_together_raise() -> None:
    with pytest.raises(ValueError, match="one label for each of 3"):
        clustered_mean([1.0, 2.0, 3.0], [0, 1])
    with pytest.raises(ValueError, match="same samples"):
        clustered_difference([1.0, 2.0], [1.0], [0, 1])
    with pytest.raises(ValueError, match="sum to zero"):
        clustered_ratio([1.0, 2.0], [1.0, -1.0], [0, 1])
