"""One tiny model of each family, built once, with a prompt and a donor of the same template."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.models import builders
from vseam_core.api.interfaces import VisionLanguageModel
from vseam_plugins.models import instructblip, llava

LOADERS = {"llava": (builders.build_llava, llava.load), "instructblip": (builders.build_instructblip, instructblip.load)}


@pytest.fixture(scope="session", params=sorted(LOADERS))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> VisionLanguageModel:
    torch.set_num_threads(1)
    build, load = LOADERS[request.param]
    folder: Path = build(tmp_path_factory.mktemp("engine") / request.param, seed=7)
    return load(request.param, str(folder), device="cpu")
