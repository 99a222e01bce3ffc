from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vseam_core.analysis.multiple_testing import benjamini_hochberg, both_hold_q_values, permutation_p_value, positive_mean_p_values
from vseam_core.analysis.statistics import clustered_moments


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


def test_q_values_of_two_classes_equal_the_adaptive_filter_written_as_loops() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        first, second = random.random((2, 30)) ** 3
        larger = np.maximum(first, second)
        smaller = np.minimum(first, second)
        expected = []
        for own in larger:
            bounds = [level * sum(smaller <= level) / sum(larger <= level) for level in larger if level >= own]
            expected.append(min(1.0, *bounds) if len(bounds) > 1 else min(1.0, bounds[0]))
        assert both_hold_q_values([first, second]) == pytest.approx(expected)


def test_one_class_is_corrected_by_benjamini_hochberg_over_all_heads_that_could_have_been_chosen() -> None:
    p_values = np.array([[0.001, 0.2], [0.03, 0.9]])
    assert both_hold_q_values([p_values]) == pytest.approx(benjamini_hochberg(p_values))
    longer = benjamini_hochberg(np.concatenate([p_values.ravel(), np.ones(10)]))[:4].reshape(2, 2)
    assert both_hold_q_values([p_values], others=10) == pytest.approx(longer)
    assert (both_hold_q_values([p_values, p_values], others=10) > both_hold_q_values([p_values, p_values])).any()


def test_a_head_that_acts_in_one_class_only_is_found_in_at_most_5_of_100_maps() -> None:
    # 400 maps of 48 heads, one of them strong for gold yes and without effect for gold no.
    random = np.random.default_rng(1)
    wrongly = 0
    for _ in range(400):
        yes, no = random.normal(size=(2, 12, 48))
        yes[:, 0] += 3
        p_values = [positive_mean_p_values(clustered_moments(part, np.arange(12))) for part in (yes, no)]
        wrongly += bool((both_hold_q_values(p_values) < 0.05).any())
    assert wrongly <= 20


def test_the_corrected_p_of_a_mean_holds_its_size_where_the_plain_t_test_of_left_skewed_effects_does_not() -> None:
    random = np.random.default_rng(2)
    corrected, plain = [], []
    for _ in range(60):
        moments = clustered_moments(np.exp(0.5) - np.exp(random.normal(size=(20, 48))), np.arange(20))
        corrected.append(positive_mean_p_values(moments) < 0.01)
        plain.append((moments.p_values() < 0.02) & (moments.mean > 0))  # type: ignore[operator]
    assert np.mean(plain) > 0.06
    assert np.mean(corrected) < 0.015


def test_of_normal_effects_the_corrected_p_is_at_least_the_one_sided_t_test_and_close_to_it() -> None:
    moments = clustered_moments(np.random.default_rng(3).normal(size=(30, 48)) + 0.3, np.arange(30))
    corrected, two_sided = positive_mean_p_values(moments), moments.p_values()
    assert two_sided is not None
    assert (corrected >= two_sided / 2 - 1e-12)[moments.mean > 0].all()
    assert (corrected == 1)[moments.mean <= 0].all()
    assert np.median(corrected[moments.mean > 0] / (two_sided / 2)[moments.mean > 0]) < 1.6


@pytest.mark.parametrize(
    "call",
    [
        lambda: benjamini_hochberg([0.1, float("nan")]),
        lambda: both_hold_q_values([[0.1, float("nan")], [0.1, 0.1]]),
        lambda: permutation_p_value(float("nan"), [1.0]),
        lambda: permutation_p_value(1.0, [1.0, float("nan")]),
    ],
)
def test_nan_raises(call: Any) -> None:
    with pytest.raises(ValueError, match="NaN"):
        call()
