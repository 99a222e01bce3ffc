"""What is stored of a tried rescaling: a gain with its interval where heads or a threshold were changed, 0 alone where nothing was."""

from __future__ import annotations

import numpy as np
import pytest

from vseam_core.analysis.rescaling import Setting
from vseam_core.api.types import HeadId
from vseam_core.experiments.rescaling.candidates import Candidate
from vseam_core.experiments.rescaling.fit import _row

RIGHT = np.array([1.0, 0.0] * 10)
IMAGES = [f"image-{index}" for index in range(len(RIGHT))]


@pytest.mark.parametrize(
    ("role", "candidate", "changes"),
    [
        ("fitted", Candidate("ours", Setting(0.0, 0)), False),
        ("fitted", Candidate("ours", Setting(1.0, 1), {HeadId(1, 2): 1.5}), True),
        ("bias", Candidate("yes/no bias", Setting(0.0, 0)), False),
        ("bias", Candidate("yes/no bias", Setting(0.3, 0)), True),
    ],
)
def test_only_what_changes_something_has_an_interval_and_a_p(role: str, candidate: Candidate, changes: bool) -> None:
    row = _row(candidate, role, chosen_on="choose", evaluated_on="test", correct=RIGHT, base=RIGHT, clusters=IMAGES, answers=None)
    assert (row.gain, row.accuracy, row.base_accuracy, row.n) == (0.0, 0.5, 0.5, 20)
    if changes:
        # No answer of twenty changed: as much as one in six may still change.
        assert row.gain_low is not None
        assert row.gain_high is not None
        assert -0.2 < row.gain_low < -0.1 < 0.1 < row.gain_high < 0.2
        assert row.p_value == 1.0
    else:
        assert (row.gain_low, row.gain_high, row.gain_error, row.p_value) == (None, None, None, None)
