"""Tiny checkpoints that tests share; a test that damages one works on a copy."""

from __future__ import annotations

from pathlib import Path

import pytest

from .checkpoints import write_pipeline


@pytest.fixture(scope="session")
def inpainting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out like stable-diffusion-inpainting."""
    return write_pipeline(tmp_path_factory.mktemp("checkpoints") / "inpainting", 9, "StableDiffusionInpaintPipeline")


@pytest.fixture(scope="session")
def text_to_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out like stable-diffusion-v1-5."""
    return write_pipeline(tmp_path_factory.mktemp("checkpoints") / "plain", 4, "StableDiffusionPipeline")
