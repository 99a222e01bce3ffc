"""Images made by the tests: a shaded ball on a textured ground, as a photograph would show it."""

from __future__ import annotations

import numpy as np
from PIL import Image

SIZE = (96, 80)


def ball(color: tuple[int, int, int], ground: tuple[int, int, int] = (150, 140, 120), seed: int = 0) -> tuple[Image.Image, np.ndarray]:
    """A ball of a colour under light from the upper left, and its mask (boolean `[height, width]`)."""
    rows, columns = np.mgrid[0 : SIZE[1], 0 : SIZE[0]]
    across, down = (columns - 48) / 28, (rows - 40) / 28
    mask = across**2 + down**2 < 1
    height = np.sqrt(np.clip(1 - across**2 - down**2, 0, None))
    light = np.clip(0.45 + 0.6 * (height - 0.4 * across - 0.4 * down) / 1.2, 0.15, 1.1)
    rng = np.random.default_rng(seed)
    pixels = np.array(ground) * (0.9 + 0.2 * rng.random((*mask.shape, 1)))
    # Light scales linear intensities; the exponent 2.2 stands for the screen's curve.
    pixels = np.where(mask[..., None], np.array(color) * light[..., None] ** (1 / 2.2), pixels)
    return Image.fromarray(np.clip(pixels + rng.normal(0, 2, pixels.shape), 0, 255).astype(np.uint8)), mask
