"""What is written to the database is what is read from it."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vseam_core.api.types import HeadEffect
from vseam_core.errors import StoreError
from vseam_core.store.codec import decode_array, decode_head_effect, encode_array, encode_head_effect, encode_json, with_checksum

SHAPE = arrays.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=6)
MATRIX = arrays.arrays(np.float32, SHAPE, elements=st.floats(allow_nan=False, allow_infinity=False, width=32))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12)


@given(MATRIX, st.booleans())
def test_a_matrix_comes_back_bit_for_bit_however_it_lay_in_memory(matrix: np.ndarray, turned: bool) -> None:
    matrix = matrix.T if turned else matrix
    found = decode_array(with_checksum(encode_array(matrix, "it")), "it")
    assert found.dtype == np.float32
    assert found.shape == matrix.shape
    assert found.tobytes() == np.ascontiguousarray(matrix).tobytes()


@given(MATRIX, st.integers(1, 3))
def test_a_record_that_lost_bytes_is_called_damaged(matrix: np.ndarray, lost: int) -> None:
    row = with_checksum(encode_array(np.pad(matrix, ((0, 1), (0, 1))), "it"))
    with pytest.raises(StoreError, match="damaged"):
        decode_array({**row, "data": row["data"][:-lost]}, "it")


@given(MATRIX, st.data())
def test_of_a_partly_measured_effect_the_measured_cells_come_back_and_nothing_else(matrix: np.ndarray, data: st.DataObject) -> None:
    measured = data.draw(st.none() | arrays.arrays(np.bool_, matrix.shape))
    effect = HeadEffect("resample", "all", "logit_diff", "decoder", matrix, 0.0, measured=measured)
    found = decode_head_effect(with_checksum(encode_head_effect(effect, "it")), "it")
    expected = matrix if measured is None else np.where(measured, matrix, np.nan)
    np.testing.assert_array_equal(found, expected)


@given(VALUES)
def test_structured_values_come_back_from_json(value: Any) -> None:
    assert json.loads(encode_json(value, "it")) == value


@given(VALUES, st.sampled_from([math.nan, math.inf, -math.inf]))
def test_a_number_that_is_not_finite_is_never_written(value: Any, bad: float) -> None:
    with pytest.raises(StoreError, match="cannot be stored"):
        encode_json([value, {"bad": bad}], "it")
