from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from vseam_core.analysis.frames import FLAG, NUMBER, TEXT, WHOLE, frame_records, nullable_frame

COLUMNS = {"name": TEXT, "n": WHOLE, "mean": NUMBER, "flag": FLAG}


def test_none_and_missing_keys_come_back_as_none_and_numbers_as_plain_python() -> None:
    frame = nullable_frame([{"name": "a", "n": np.int64(3), "mean": np.float64(0.5)}, {"mean": None, "flag": True}], COLUMNS)
    assert frame_records(frame) == [
        {"name": "a", "n": 3, "mean": 0.5, "flag": None},
        {"name": None, "n": None, "mean": None, "flag": True},
    ]
    assert [type(value) for value in frame_records(frame)[0].values()] == [str, int, float, type(None)]


def test_an_empty_table_keeps_its_columns_and_types() -> None:
    frame = nullable_frame([], COLUMNS)
    assert list(frame.columns) == list(COLUMNS)
    assert frame_records(frame) == []
    assert frame["n"].dtype == pd.Int64Dtype()


@pytest.mark.parametrize("bad", [float("nan"), np.float64("inf"), np.float32("nan")])
def test_nan_and_infinity_never_enter_a_table(bad: float) -> None:
    with pytest.raises(ValueError, match="'mean' holds NaN or infinity"):
        nullable_frame([{"mean": bad}], COLUMNS)


def test_a_value_without_a_column_is_an_error() -> None:
    with pytest.raises(ValueError, match="without a column: typo"):
        nullable_frame([{"typo": 1}], COLUMNS)
