"""Tables without NaN: nullable pandas columns in a fixed order, and their rows as plain Python values for the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

WHOLE = "Int64"
NUMBER = "Float64"
FLAG = "boolean"
TEXT = "string"


def nullable_frame(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> pd.DataFrame:
    """A table of `columns` (name → nullable dtype) in that order; `None` becomes null, a missing key too.

    Raises `ValueError` for NaN or infinity, which must never pass for a null or a number, and for a key without a
    column.
    """
    for row in rows:
        unknown = set(row) - set(columns)
        if unknown:
            raise ValueError(f"a row has values without a column: {', '.join(sorted(unknown))}")
    data = {}
    for name, dtype in columns.items():
        values = [row.get(name) for row in rows]
        if any(isinstance(value, float | np.floating) and not np.isfinite(value) for value in values):
            raise ValueError(f"column {name!r} holds NaN or infinity; use None where a value is unknown")
        data[name] = pd.array(values, dtype=dtype)  # type: ignore[call-overload]
    return pd.DataFrame(data)


def frame_records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as dictionaries of plain Python values: null is `None`, numpy scalars are unpacked."""
    columns = {name: [_plain(value) for value in frame[name].tolist()] for name in frame.columns}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def optional(values: Iterable[float] | None) -> list[float | None] | None:
    """An array flattened to Python floats, or None where there is no array."""
    return None if values is None else [float(value) for value in np.ravel(np.asarray(values))]


def _plain(value: Any) -> Any:
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return None
    return value.item() if isinstance(value, np.generic) else value
