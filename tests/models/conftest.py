"""Checkpoints and loaded models that the tests of this folder share; tests that change a model load their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from vseam_plugins.models import hf, instructblip, llava
from vseam_plugins.models.hf import HuggingFaceModel

from . import builders


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders by `family-tokenizer`."""
    root = tmp_path_factory.mktemp("checkpoints")
    return {
        "llava-words": builders.build_llava(root / "llava-words", seed=1),
        "llava-subwords": builders.build_llava(root / "llava-subwords", tokenizer="subwords", seed=2),
        "instructblip-words": builders.build_instructblip(root / "instructblip-words", seed=3),
        "instructblip-subwords": builders.build_instructblip(root / "instructblip-subwords", tokenizer="subwords", seed=4),
        "idefics": builders.build_idefics(root / "idefics", seed=5),
    }


@pytest.fixture(scope="session")
def loaded(checkpoints: dict[str, Path]) -> dict[str, HuggingFaceModel]:
    """Every checkpoint, loaded by its family's loader."""
    loaders = {"llava": llava.load, "instructblip": instructblip.load, "idefics": hf.load}
    return {name: loaders[name.split("-")[0]](name, str(folder), device="cpu") for name, folder in checkpoints.items()}


@pytest.fixture(scope="session")
def llava_words(loaded: dict[str, HuggingFaceModel]) -> HuggingFaceModel:
    return loaded["llava-words"]


@pytest.fixture(scope="session")
def llava_subwords(loaded: dict[str, HuggingFaceModel]) -> HuggingFaceModel:
    return loaded["llava-subwords"]


@pytest.fixture(scope="session")
def instructblip_words(loaded: dict[str, HuggingFaceModel]) -> HuggingFaceModel:
    return loaded["instructblip-words"]


@pytest.fixture(scope="session")
def instructblip_subwords(loaded: dict[str, HuggingFaceModel]) -> HuggingFaceModel:
    return loaded["instructblip-subwords"]
