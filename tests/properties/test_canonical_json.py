"""The identity of a unit: one spelling for equal values, different ones for different values."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vseam_core.runs.identity import Component, canonical_json, unit_key

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12)


def reordered(value: Any) -> Any:
    """The same value with every mapping written the other way round and every list as a tuple."""
    if isinstance(value, dict):
        return {key: reordered(inner) for key, inner in reversed(value.items())}
    return tuple(reordered(inner) for inner in value) if isinstance(value, list) else value


@given(VALUES)
def test_the_spelling_reads_back_as_the_value_and_ignores_the_order_of_mappings(value: Any) -> None:
    text = canonical_json(value)
    assert json.loads(text) == value
    assert canonical_json(reordered(value)) == text
    assert canonical_json(json.loads(text)) == text


@given(VALUES, VALUES)
def test_different_values_have_different_keys(first: Any, second: Any) -> None:
    same = canonical_json(first) == canonical_json(second)
    assert same == (repr(reordered_by_key(first)) == repr(reordered_by_key(second)))
    assert (unit_key(value=first) == unit_key(value=second)) == same


def reordered_by_key(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reordered_by_key(value[key]) for key in sorted(value)}
    return [reordered_by_key(inner) for inner in value] if isinstance(value, list) else value


@given(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False, width=32), st.booleans())
def test_numpy_scalars_are_the_numbers_that_they_equal(integer: int, number: float, flag: bool) -> None:
    plain = {"integer": integer, "number": number, "flag": flag}
    scalars = {"integer": np.int64(integer), "number": np.float64(number), "flag": np.bool_(flag)}
    assert canonical_json(scalars) == canonical_json(plain)


@given(st.dictionaries(st.text(), VALUES, max_size=3), st.sampled_from([math.nan, math.inf, -math.inf]))
def test_a_number_that_is_not_finite_is_refused_at_any_depth(value: dict[str, Any], bad: float) -> None:
    with pytest.raises(ValueError, match="finite numbers only"):
        canonical_json({**value, "deep": [value, {"bad": bad}]})


@given(st.dictionaries(st.text(), VALUES, max_size=3), st.integers(1, 9))
def test_options_of_any_name_stay_inside_their_component(options: dict[str, Any], version: int) -> None:
    found = json.loads(canonical_json({"operation": Component("resample", version, options), "positions": "all"}))
    assert found == {"operation": {"name": "resample", "version": version, "options": options}, "positions": "all"}
