"""Benjamini-Hochberg against its definition, written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vseam_core.analysis.multiple_testing import benjamini_hochberg

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=20)


def rejected(p_values: list[float], level: float) -> list[bool]:
    """The step-up rule of Benjamini and Hochberg (1995): reject the k smallest, k the largest with p_(k) <= k/m * level."""
    ordered = sorted(p_values)
    passing = [rank for rank in range(1, len(ordered) + 1) if ordered[rank - 1] <= rank / len(ordered) * level]
    threshold = ordered[max(passing) - 1] if passing else -1.0
    return [value <= threshold for value in p_values]


@given(P_VALUES, st.floats(0.001, 0.999))
def test_the_hypotheses_with_a_small_q_are_those_that_the_step_up_rule_rejects(p_values: list[float], level: float) -> None:
    q_values = benjamini_hochberg(p_values)
    for q_value, expected in zip(q_values, rejected(p_values, level), strict=True):
        if abs(q_value - level) > 1e-9:  # at the level itself rounding decides
            assert (q_value <= level) == expected


@given(P_VALUES)
def test_q_values_keep_the_order_and_shape_and_are_no_smaller_than_p(p_values: list[float]) -> None:
    q_values = benjamini_hochberg(p_values)
    assert (q_values >= np.array(p_values) - 1e-12).all()
    assert (q_values <= 1).all()
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(q_values[order]) >= -1e-12).all()
    assert benjamini_hochberg(np.array(p_values)[None, :, None]).shape == (1, len(p_values), 1)


@given(P_VALUES, st.permutations(range(20)))
def test_the_order_of_the_hypotheses_does_not_matter(p_values: list[float], order: list[int]) -> None:
    chosen = [index for index in order if index < len(p_values)]
    assert benjamini_hochberg(np.array(p_values)[chosen]) == pytest.approx(benjamini_hochberg(p_values)[chosen])
