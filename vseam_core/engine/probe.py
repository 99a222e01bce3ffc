"""The prompt that models are tried on before anybody asks them anything."""

from __future__ import annotations

import numpy as np
from PIL import Image

from vseam_core.api.interfaces import VisionLanguageModel
from vseam_core.api.prompts import EncodedPrompt


def probe(model: VisionLanguageModel, question: str = "Is the dog red?") -> EncodedPrompt:
    """A prompt with an image of noise, always the same."""
    generator = np.random.default_rng(0)
    image = Image.fromarray(generator.integers(0, 256, (120, 120, 3), dtype=np.uint8))
    return model.encode(image, question)
