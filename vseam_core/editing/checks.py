"""Checks of an edited picture against its original: what changed, and whether it stayed inside the edited region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vseam_core.errors import SampleError
from vseam_core.types import Box

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class EditCheck:
    """How many pixels differ inside and outside the edited boxes, and the share of the picture that the boxes cover."""

    changed_inside: int
    changed_outside: int
    region_share: float


def check_edit(clean: Image, corrupt: Image, boxes: Sequence[Box]) -> EditCheck:
    """Compare two pictures pixel by pixel. Raises `SampleError` where their sizes differ."""
    if clean.size != corrupt.size:
        sizes = [f"{picture.width}×{picture.height}" for picture in (corrupt, clean)]
        raise SampleError(f"the edited picture is {sizes[0]} pixels large, the original {sizes[1]}")
    changed = (np.asarray(clean.convert("RGB")) != np.asarray(corrupt.convert("RGB"))).any(-1)
    inside = region(boxes, clean.size)
    return EditCheck(int((changed & inside).sum()), int((changed & ~inside).sum()), float(inside.mean()))


def region(boxes: Sequence[Box], size: tuple[int, int]) -> np.ndarray:
    """The union of boxes as a boolean array `[height, width]` for a picture of `size` = (width, height)."""
    mask = np.zeros((size[1], size[0]), dtype=bool)
    for x0, y0, x1, y1 in boxes:
        mask[int(np.floor(y0)) : int(np.ceil(y1)), int(np.floor(x0)) : int(np.ceil(x1))] = True
    return mask
