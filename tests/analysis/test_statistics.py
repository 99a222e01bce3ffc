from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy import stats

from vseam_core.analysis import statistics
from vseam_core.analysis.statistics import (
    accuracy_change,
    bell_mccaffrey_degrees,
    cluster_sign_flip,
    clustered_difference,
    clustered_mean,
    clustered_moments,
    clustered_ratio,
    combined_moments,
    generator,
    paired_comparison,
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


def degrees_by_matrices(design: np.ndarray, contrast: np.ndarray, clusters: np.ndarray) -> float:
    """Bell and McCaffrey's degrees: 2 E[V]^2 / Var[V] of the CR2 variance as a quadratic form in independent errors."""
    bread = np.linalg.inv(design.T @ design)
    residual_maker = np.eye(len(design)) - design @ bread @ design.T
    forms = []
    for cluster in np.unique(clusters):
        rows = clusters == cluster
        values, vectors = np.linalg.eigh(np.eye(rows.sum()) - design[rows] @ bread @ design[rows].T)
        forms.append(contrast @ bread @ design[rows].T @ vectors @ np.diag(values**-0.5) @ vectors.T @ residual_maker[rows])
    gram = np.array(forms) @ np.array(forms).T
    return float(np.trace(gram) ** 2 / np.trace(gram @ gram))


def test_the_clustered_error_of_a_mean_equals_cr2_computed_with_matrices() -> None:
    random = np.random.default_rng(0)
    clusters = unequal_clusters(random, 14)
    values = random.normal(size=len(clusters)) + random.normal(size=14)[clusters]
    estimate = clustered_mean(values, clusters)
    assert estimate.standard_error is not None
    assert estimate.standard_error == pytest.approx(np.sqrt(cr2_by_matrices(np.ones((len(values), 1)), values, clusters)[0, 0]))
    width = stats.t.ppf(0.975, degrees_by_matrices(np.ones((len(values), 1)), np.ones(1), clusters)) * estimate.standard_error
    assert (estimate.low, estimate.high) == pytest.approx((values.mean() - width, values.mean() + width))


def test_the_error_of_combined_group_means_equals_cr2_with_clusters_in_both_groups() -> None:
    random = np.random.default_rng(1)
    clusters = unequal_clusters(random, 25)
    second = random.random(len(clusters)) < 0.4
    values = random.normal(size=len(clusters)) + random.normal(size=25)[clusters] + second
    design = np.column_stack([~second, second]).astype(float)
    covariance = cr2_by_matrices(design, values, clusters)
    for weights in ((-1.0, 1.0), (0.5, 0.5)):
        moments = combined_moments(values, second.astype(int), weights, clusters)
        assert float(moments.mean) == pytest.approx(weights[0] * values[~second].mean() + weights[1] * values[second].mean())
        assert moments.standard_error == pytest.approx(np.sqrt(np.array(weights) @ covariance @ np.array(weights)))
        assert moments.degrees == pytest.approx(degrees_by_matrices(design, np.array(weights), clusters))


def test_degrees_of_freedom_are_those_of_equal_clusters_only_where_clusters_are_equal() -> None:
    assert bell_mccaffrey_degrees(np.full((17, 1), 3)) == pytest.approx(16)
    fifth = np.array([8] * 4 + [1] * 16)[:, None]
    half = np.array([19] + [1] * 19)[:, None]
    assert 7 < bell_mccaffrey_degrees(fifth) < 8
    assert 3 < bell_mccaffrey_degrees(half) < 4


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
    names = np.array([f"image {97 - cluster}" for cluster in clusters])
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
    moments = combined_moments(values, (np.arange(60) < 9).astype(int), (0.5, 0.5), np.arange(60))
    assert moments.standard_error is None
    assert "9 images" in moments.reason
    with pytest.raises(ValueError, match="at least one value"):
        combined_moments(values, np.zeros(60, dtype=int), (0.5, 0.5), np.arange(60))


def test_no_samples_give_nulls_and_a_reason() -> None:
    estimate = clustered_mean([], [])
    assert (estimate.mean, estimate.n, estimate.reason) == (None, 0, "no samples")


@pytest.mark.parametrize("images", [10, 15, 20, 40])
@pytest.mark.parametrize("layout", ["equal", "a fifth hold 8", "one holds half"])
def test_t_intervals_cover_the_true_mean_however_questions_are_spread_over_images(layout: str, images: int) -> None:
    # 3,000 studies: the standard error of a coverage of 0.95 is 0.4 %.
    random = np.random.default_rng(6)
    sizes = np.full(images, 3) if layout == "equal" else np.ones(images, dtype=int)
    if layout == "a fifth hold 8":
        sizes[: images // 5] = 8
    if layout == "one holds half":
        sizes[0] = images - 1
    clusters = np.repeat(np.arange(images), sizes)
    values = random.normal(size=(len(clusters), 3000)) + 0.5 * random.normal(size=(images, 3000))[clusters]
    interval = clustered_moments(values, clusters).interval()
    assert interval is not None
    assert 0.93 <= np.mean((interval[0] <= 0) & (interval[1] >= 0)) <= 0.99


def test_skewed_and_mostly_zero_cells_are_flagged_and_normal_ones_hardly_ever() -> None:
    random = np.random.default_rng(7)
    normal = random.normal(size=(40, 2000))
    skewed = np.exp(random.normal(size=(40, 2000)))
    rare = normal * (random.random((40, 2000)) < 0.3)
    shares = [clustered_moments(values, np.arange(40)).irregular().mean() for values in (normal, skewed, rare)]  # type: ignore[union-attr]
    assert shares[0] < 0.07
    assert min(shares[1:]) > 0.9


def test_a_cell_that_is_zero_everywhere_has_p_one_and_a_constant_one_has_p_zero() -> None:
    values = np.column_stack([np.zeros(20), np.full(20, 0.25)])
    p_values = clustered_moments(values, np.arange(20)).p_values()
    assert p_values is not None
    assert p_values.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("images", [10, 40])
@pytest.mark.parametrize("change", [-1.0, 0.0, 1.0])
def test_changes_that_are_all_alike_have_the_exact_binomial_interval_over_images(change: float, images: int) -> None:
    clusters = np.repeat(np.arange(images), 3)
    before = np.full(3 * images, max(0.0, -change))
    found = accuracy_change(before, before + change, clusters)
    # Clopper and Pearson's bound for none of so many, in closed form: 1 - 0.025^(1 / images).
    most = 1 - 0.025 ** (1 / images)
    assert (found.mean, found.standard_error) == (change, None)
    expected = {-1.0: (-1.0, most - 1), 0.0: (-most, most), 1.0: (1 - most, 1.0)}[change]
    assert (found.low, found.high) == pytest.approx(expected)
    assert f"exact binomial interval over {images} images" in found.reason


def test_changes_that_differ_have_their_clustered_error() -> None:
    before = np.arange(40) % 2
    after = (np.arange(40) % 5 > 0).astype(float)
    assert accuracy_change(before, after, np.arange(40)) == clustered_mean(after - before, np.arange(40))


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
        lambda: combined_moments(BAD, [0, 1, 1], (1.0, 1.0), [0, 1, 2]),
        lambda: clustered_ratio([1, 2, 3], BAD, [0, 1, 2]),
        lambda: cluster_sign_flip(BAD, [0, 1, 2], seed=0),
        lambda: paired_comparison(BAD, [1, 2, 3], [0, 1, 2], seed=0),
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
