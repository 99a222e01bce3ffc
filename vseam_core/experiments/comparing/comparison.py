"""What a comparison comes to: a row for each method, with its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, eq=False)
class Compared:
    """One row of a comparison: the method, the setting that was chosen, and its figures, each by name as a row of `METRIC_COLUMNS`.

    `change` says what was changed; `tried` settings were tried on the choose pool, where the chosen one had `chosen_accuracy`. A method
    that could not be measured has no figures, and `refused` says why.
    """

    method: str
    change: str = ""
    run: int | None = None
    tried: int = 1
    chosen_accuracy: float | None = None
    figures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    skips: int = 0
    made: int = 0
    reused: int = 0
    refused: str = ""


@dataclass(frozen=True, eq=False)
class Comparison:
    """All methods of one model on one dataset, `none` and the threshold first."""

    model: str
    dataset: str
    split: str
    n_choose: int
    n_test: int
    rows: Sequence[Compared]
    threshold_reason: str = ""
    run: int | None = None
