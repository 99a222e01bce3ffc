from __future__ import annotations

import numpy as np
import pytest

from vseam_core.analysis.bootstrap import resampling_weights


def test_weights_draw_as_many_clusters_as_there_are_and_each_equally_often() -> None:
    weights = resampling_weights(np.random.default_rng(0), 20, 4000)
    assert (weights.sum(axis=1) == 20).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(20), abs=0.08)
    # A draw with replacement leaves a cluster out with probability (1 - 1/20)^20.
    assert np.mean(weights == 0) == pytest.approx(0.95**20, abs=0.01)
