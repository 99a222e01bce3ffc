"""Images and samples that suites work on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from vseam_core.api.types import Pair, RoleSpan, Sample, SceneObject

SIZE = (64, 48)
BOX = (16.0, 12.0, 40.0, 36.0)
QUESTION = "Is the dog red?"


@dataclass(frozen=True)
class Noise:
    """An image of noise; with `edited` a box of it is of another noise."""

    seed: int
    edited: bool = False

    def load(self) -> Image.Image:
        """The image."""
        pixels = np.random.default_rng(self.seed).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
        if self.edited:
            x0, y0, x1, y1 = map(int, BOX)
            pixels[y0:y1, x0:x1] = np.random.default_rng(self.seed + 10_000).integers(0, 256, (y1 - y0, x1 - x0, 3), dtype=np.uint8)
        return Image.fromarray(pixels)


def sample(seed: int = 0, answer: str = "Yes", edited: bool = False) -> Sample:
    """A question about a dog in a box of an image of noise."""
    return Sample(
        identifier=f"noise/{seed}{'/edit' if edited else ''}",
        dataset="noise",
        question_id=str(seed),
        image_id=f"noise/{seed}",
        image=Noise(seed, edited),
        question=QUESTION,
        answer=answer,
        competitor="No" if answer == "Yes" else "Yes",
        level="attribute",
        category="color",
        pool="score",
        roles=(RoleSpan(7, 10, "object"), RoleSpan(11, 14, "attribute")),
        objects=(SceneObject("dog", BOX, ("red",)),),
    )


def pair(seed: int = 0) -> Pair:
    """An image of noise and the same with another noise in the dog's box."""
    return Pair(
        clean=sample(seed), corrupt=sample(seed, "No", edited=True), boxes=(BOX,), editor="noise", source_term="red", target_term="blue"
    )
