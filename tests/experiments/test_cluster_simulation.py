"""The simulation of a cluster does every sample's part once, stores it, and its clock is that of the slowest chain."""

from __future__ import annotations

from pathlib import Path

import pytest

from perf.cluster.__main__ import simulate
from perf.cluster.stub import Shape
from vseam_core.store import open_store

DATASETS = ("scenes/color", "scenes/animal")


@pytest.mark.slow  # the planner, the executor and the store of a cluster: their own tests are quick
@pytest.mark.parametrize("workers", [8])
def test_every_unit_is_stored_once_and_time_is_modelled_time_and_what_driver_and_store_took(workers: int, tmp_path: Path) -> None:
    figures = simulate(str(tmp_path / "results.db"), workers, 64, DATASETS, Shape(layers=2, heads=3, text=4))
    with open_store(tmp_path / "results.db") as store:
        runs = store.runs()
        assert runs["units_done"].tolist() == [16] * len(runs)
        # Two models, two datasets: answers of the score pool and of both splits of the test pool, two tracers, two scans.
        assert len(runs) == 4 * 7
        assert len(store.scores("head_scores")["run_id"].unique()) == 4 * 2
        assert not store.scores("shared_head_tests").empty
    assert figures.units == 16 * len(runs)
    assert len(figures.closing) == 4
    assert figures.modelled / workers < figures.length < figures.modelled + figures.storing + figures.driver + figures.planning + 60
