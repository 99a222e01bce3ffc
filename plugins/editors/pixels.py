"""Painters that need no weights: noise, blur and grey, the pixel-level corruptions that semantic edits are compared with.

They ignore what the plan says and destroy what lies in the mask.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from vseam_core.api.interfaces import EditPlan, Painter
from vseam_core.errors import SampleError, VseamError

if TYPE_CHECKING:
    from PIL.Image import Image


class PixelPainter(Painter):
    """A painter that computes each pixel of the mask from the image alone; `strength` from 0 (excluded) to 1 is how much it changes."""

    is_cheap = True

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = checked_strength(self.name, strength)

    def paint(self, image: Image, mask: np.ndarray, plan: EditPlan, seed: int) -> Image:
        """The image with new pixels in the mask; outside it every pixel stays."""
        from PIL import Image as images

        pixels = np.asarray(image.convert("RGB"))
        require_paintable(mask, pixels.shape[:2])
        painted = self.paint_pixels(pixels, mask, plan, seed)
        return images.fromarray(np.where(mask[..., None], np.rint(np.clip(painted, 0, 255)).astype(np.uint8), pixels))

    @abstractmethod
    def paint_pixels(self, pixels: np.ndarray, mask: np.ndarray, plan: EditPlan, seed: int) -> np.ndarray:
        """New values (0 to 255, float, `[height, width, 3]`) of `pixels` (uint8); only those inside the mask are used."""

    def identity(self) -> Mapping[str, object]:
        return {"strength": self.strength}


class NoisePainter(PixelPainter):
    """Adds Gaussian noise to each channel of each pixel; its standard deviation is `strength` × 255."""

    name = "noise"
    follows_plan = False

    def __init__(self, strength: float = 0.5) -> None:
        super().__init__(strength)

    def paint_pixels(self, pixels: np.ndarray, mask: np.ndarray, plan: EditPlan, seed: int) -> np.ndarray:
        return pixels + np.random.default_rng(seed).normal(0.0, self.strength * 255, pixels.shape)


class BlurPainter(PixelPainter):
    """Blurs what lies in the mask with a Gaussian whose standard deviation is `strength` × a quarter of the mask's extent.

    The extent is the side of the square with as many pixels as the mask, so that small and large things lose equally much.
    """

    name = "blur"
    follows_plan = False

    def __init__(self, strength: float = 0.5) -> None:
        super().__init__(strength)

    def paint_pixels(self, pixels: np.ndarray, mask: np.ndarray, plan: EditPlan, seed: int) -> np.ndarray:
        from scipy.ndimage import gaussian_filter

        sigma = self.strength * math.sqrt(mask.sum()) / 4
        return gaussian_filter(pixels.astype(np.float64), sigma=(sigma, sigma, 0), mode="nearest")


class GreyPainter(PixelPainter):
    """Fills the mask with middle grey; a strength below 1 leaves that much of the image's own colour."""

    name = "grey"
    follows_plan = False

    def paint_pixels(self, pixels: np.ndarray, mask: np.ndarray, plan: EditPlan, seed: int) -> np.ndarray:
        return pixels + self.strength * (128.0 - pixels)


def require_paintable(mask: np.ndarray, size: tuple[int, ...]) -> None:
    """Raise `SampleError` for a mask that has another size (height, width) than the image, or is empty."""
    if mask.shape != tuple(size):
        raise SampleError(f"the mask has {mask.shape[1]}×{mask.shape[0]} pixels, the image {size[1]}×{size[0]}")
    if not mask.any():
        raise SampleError("the mask is empty: there is nothing to paint")


def checked_strength(painter: str, value: Any) -> float:
    """The option `strength`. Raises `VseamError` where it is no number above 0 and up to 1."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value <= 1:
        raise VseamError(f"editor {painter!r}: strength is {value!r}; expected a number above 0 and up to 1")
    return float(value)
