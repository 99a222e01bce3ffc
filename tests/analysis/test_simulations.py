"""The simulations of docs/statistics.md in a small form: every procedure is there and holds what is said of it, within chance."""

from __future__ import annotations

import numpy as np
import pytest

from perf.statistics.__main__ import PAGE, measure, table
from perf.statistics.rows import Row


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Every row of the table from at least 20 cases."""
    return list(measure(0.01))


def limit(row: Row, share: float) -> float:
    """A share that this row's count exceeds in one of 10,000 cases, were the true one `share`."""
    return share + 3.8 * float(np.sqrt(share * (1 - share) / row.cases))


def test_the_page_holds_a_row_for_each_simulation(rows: list[Row]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    missing = [line for row in rows if (line := f"| {row.procedure} | {row.setting} | {row.quantity} |") not in page]
    assert not missing
    assert table(iter(rows)).count("\n") == len(rows) + 1


def test_sizes_and_false_discovery_rates_stay_below_five_percent(rows: list[Row]) -> None:
    exact = ("shared heads, importance kept", "level test", "matched random sets", "sign flips of images", "positive head")
    held = [row for row in rows if row.procedure in exact and row.quantity not in ("power", "power at 0.5 SD")]
    assert len(held) > 25
    assert not [row for row in held if row.value > limit(row, 0.05)]


def test_intervals_cover_and_what_is_there_is_found(rows: list[Row]) -> None:
    covered = [row for row in rows if row.procedure == "t interval, normal" and row.quantity == "coverage of 95 %"]
    assert len(covered) == 4 + 3 * 4 * 2
    assert not [row for row in covered if 1 - row.value > limit(row, 0.07)]
    found = {(row.procedure, row.quantity): row.value for row in rows}
    assert found["harmful noise head", "confirmed negative"] > 0.8
    assert found["harmful noise head", "called positive"] == found["harmful noise head", "another head confirmed"] == 0
    assert found["suppressor", "found"] == 1
    outside = next(row for row in rows if row.procedure == "range of random models" and row.setting == "5 models")
    assert abs(outside.value - 1 / 3) < limit(outside, 1 / 3) - 1 / 3
