"""A study small enough for a test, on the embedded LLaVA, run once for all tests that only read it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.checked_once import checked_once
from vseam_core.config.study import HeadScan, Method, Sizes, Study
from vseam_core.experiments.study.run import run_study
from vseam_core.results.study_results import StudyMaterial
from vseam_core.runs.workspace import Workspace, open_workspace

SIZES = Sizes(
    pairs=3,
    random_model_pairs=1,
    score=24,
    hard=24,
    scan_sampled=20,
    scan_wrong=2,
    choose=6,
    test=8,
    ablation=3,
    random_sets=6,
    reference=16,
)


def small_study(**changes: object) -> Study:
    fields = {
        "name": "small",
        "models": ["llava-tiny"],
        "datasets": ["scenes/color", "scenes/action"],
        "tracers": [Method(name=name) for name in ("tokenwise", "groups", "regions", "lens", "knockout")],
        "heads": [HeadScan(), HeadScan(operation="mean_of_others", protocol="published")],
        "donors": 2,
        "sizes": SIZES,
    }
    return Study(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _checked_once() -> Iterator[None]:
    with checked_once():
        yield


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, StudyMaterial]]:
    with open_workspace(tmp_path_factory.mktemp("study") / "results.db") as workspace:
        yield workspace, run_study(workspace, small_study())
