"""Masks: checking them, growing them, blending along their edge, and where they lie in an image.

A mask is a boolean array `[height, width]`, True where an edit may change the image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vseam_core.api.types import Box
from vseam_core.datasets.image_files import read_mask
from vseam_core.errors import SampleError

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_BOXES = 16
"""A mask of more separate parts than this is described by one box around all of them."""


@dataclass(frozen=True)
class MaskFile:
    """A mask that lies in an image file, white where the edit may have changed the image; `read_mask` says what else is understood."""

    path: Path

    def load(self) -> np.ndarray:
        """The mask. Raises `SampleError` when the file is missing or cannot be read."""
        return read_mask(self.path, f"mask {self.path}")


def checked_mask(mask: np.ndarray, size: tuple[int, int], origin: str) -> np.ndarray:
    """The mask as booleans. Raises `SampleError` that names `origin` where it has another size than the image or is empty."""
    array = np.asarray(mask)
    if array.shape != (size[1], size[0]):
        found = "×".join(str(length) for length in array.shape[::-1])
        raise SampleError(f"{origin}: the mask is {found} pixels large, the image {size[0]}×{size[1]}")
    array = array.astype(bool)
    if not array.any():
        raise SampleError(f"{origin}: the mask is empty")
    return array


def check_boxes(boxes: Sequence[Box], size: tuple[int, int], origin: str) -> None:
    """Raise `SampleError` that names `origin` for a box that is turned round, not finite, or has no part in the image."""
    for box in boxes:
        x0, y0, x1, y1 = box
        shown = ", ".join(f"{value:g}" for value in box)
        if not np.isfinite(box).all() or x0 >= x1 or y0 >= y1:
            raise SampleError(f"{origin}: ({shown}) is no box (x0, y0, x1, y1)")
        if x0 >= size[0] or y0 >= size[1] or x1 <= 0 or y1 <= 0:
            raise SampleError(f"{origin}: the box ({shown}) lies outside the image of {size[0]}×{size[1]} pixels")


def dilated(mask: np.ndarray, pixels: int) -> np.ndarray:
    """The mask with every pixel that lies at most `pixels` (Euclidean) from it."""
    from scipy.ndimage import distance_transform_edt

    return mask if pixels == 0 or mask.all() else distance_transform_edt(~mask) <= pixels


def blending_weights(mask: np.ndarray, core: np.ndarray, feather: int) -> np.ndarray:
    """How much of the painted image each pixel takes, float64 `[height, width]`: 0 outside `mask`, 1 on all of `core`.

    In the rim between, the weight rises with the distance to the outside of the mask, up to 1 after `feather` pixels: the edge is
    softened inside the mask only, and the concept itself is never thinned.
    """
    from scipy.ndimage import distance_transform_edt

    if feather == 0 or mask.all():
        return mask.astype(float)
    ramp = np.minimum(distance_transform_edt(mask) / (feather + 1), 1.0)
    return np.where(core, 1.0, ramp) * mask


def composited(clean: Image, raw: Image, weights: np.ndarray) -> Image:
    """The painted image where weights are 1, the original where they are 0, exactly, and a blend between."""
    from PIL import Image as images

    original, painted = (np.asarray(image.convert("RGB")) for image in (clean, raw))
    share = weights[..., None]
    blend = np.rint(share * painted + (1.0 - share) * original).astype(np.uint8)
    return images.fromarray(np.where(share == 0, original, np.where(share == 1, painted, blend)))


def resized_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The mask at another size (width, height): True where any part of the pixel was covered, so that nothing stays unpainted."""
    from PIL import Image as images

    if (mask.shape[1], mask.shape[0]) == size:
        return mask
    covered = images.fromarray(mask.astype(np.float32)).resize(size, images.Resampling.BOX)
    return np.asarray(covered) > 0


def mask_boxes(mask: np.ndarray) -> tuple[Box, ...]:
    """Boxes around the separate parts of a mask (neighbours include diagonals), in reading order."""
    from scipy.ndimage import find_objects, label

    parts, count = label(mask, structure=np.ones((3, 3), dtype=int))
    found = find_objects(parts if count <= MOST_BOXES else mask.astype(int))
    return tuple((float(x.start), float(y.start), float(x.stop), float(y.stop)) for y, x in found)


def mask_digest(mask: np.ndarray) -> str:
    """The identity of a mask: the sha256 of its size and pixels."""
    header = "x".join(map(str, mask.shape)).encode("ascii")
    return hashlib.sha256(header + np.packbits(mask).tobytes()).hexdigest()


def mask_image(mask: np.ndarray) -> Image:
    """The mask as an image: white where the edit may change something."""
    from PIL import Image as images

    return images.fromarray(mask.astype(np.uint8) * 255)
