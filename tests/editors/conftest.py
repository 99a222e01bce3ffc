"""Tiny checkpoints that tests share; a test that damages one works on a copy."""

from __future__ import annotations

from pathlib import Path

import pytest

from .checkpoints import END, write_pipeline, write_powerpaint_v1, write_powerpaint_v2


@pytest.fixture(scope="session")
def inpainting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out like stable-diffusion-inpainting."""
    return write_pipeline(tmp_path_factory.mktemp("checkpoints") / "inpainting", 9, "StableDiffusionInpaintPipeline")


@pytest.fixture(scope="session")
def text_to_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out like stable-diffusion-v1-5."""
    return write_pipeline(tmp_path_factory.mktemp("checkpoints") / "plain", 4, "StableDiffusionPipeline")


@pytest.fixture(scope="session")
def powerpaint_v1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out like PowerPaint-v1; it lies over `inpainting`."""
    return write_powerpaint_v1(tmp_path_factory.mktemp("checkpoints") / "v1", END + 1)


@pytest.fixture(scope="session")
def powerpaint_v2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out like PowerPaint-v2-1."""
    return write_powerpaint_v2(tmp_path_factory.mktemp("checkpoints") / "v2")
