"""Where heads look in an image: attention to image positions, laid onto a grid over the image and kept small."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vseam_core.api.types import Box

NAME = "image_attention"
"""What the details of a scan's unit call it."""
MOST_BYTES = 65_536
"""Of one sample's maps: where there are more heads the grid is coarser."""
_SIDE = 12
"""Cells along each side where image positions are no grid themselves."""
_STEPS = 255


@dataclass(frozen=True, eq=False)
class ImageAttention:
    """Where every head looks in one image.

    `steps` are uint8 `[layers, heads, rows, columns]`: the share of a head's attention that falls into a cell of the image, in 255ths of
    that head's `largest` share, float32 `[layers, heads]` (0: it does not look at the image at all).
    """

    steps: np.ndarray
    largest: np.ndarray

    @property
    def values(self) -> np.ndarray:
        """The share of attention in every cell, float `[layers, heads, rows, columns]`."""
        return np.asarray(self.steps * (self.largest[..., None, None] / _STEPS))

    def record(self) -> dict[str, Any]:
        """As JSON holds it: `attention_of` reads it back."""
        return {
            "shape": list(self.steps.shape),
            "largest": [[float(f"{value:.6g}") for value in row] for row in self.largest],
            "steps": base64.b64encode(np.ascontiguousarray(self.steps).tobytes()).decode("ascii"),
        }


def attention_of(record: Any) -> ImageAttention | None:
    """What `record` says; None where it says nothing that can be read."""
    try:
        steps = np.frombuffer(base64.b64decode(record["steps"]), np.uint8).reshape(record["shape"])
        largest = np.asarray(record["largest"], dtype=np.float32)
    except (TypeError, KeyError, ValueError, binascii.Error):
        return None
    return ImageAttention(steps, largest) if steps.ndim == 4 and largest.shape == steps.shape[:2] else None


def attention_over_image(weights: np.ndarray, boxes: Sequence[Box]) -> ImageAttention:
    """Attention weights `[layers, heads, image positions]` laid over the image, by the part of it that each position looks at.

    Where positions are a grid, its cells are theirs; a position whose part covers several cells gives each its share by area, so that a
    map adds up to what the head gives to the image.
    """
    layers, heads = weights.shape[:2]
    rows, columns = grid_of(boxes, MOST_BYTES // max(layers * heads, 1))
    shares = weights @ overlaps(boxes, rows, columns)
    largest = shares.max(-1)
    steps = np.rint(_STEPS * shares / np.where(largest > 0, largest, 1)[..., None]).astype(np.uint8)
    return ImageAttention(steps.reshape(layers, heads, rows, columns), largest.astype(np.float32))


def grid_of(boxes: Sequence[Box], most: int) -> tuple[int, int]:
    """Rows and columns of cells: those of the positions themselves where they are a grid, and not more than `most` cells."""
    there = [box for box in boxes if box[0] < box[2] and box[1] < box[3]]
    columns, rows = (len({round(box[side], 4) for box in there}) for side in (0, 1))
    if rows * columns != len(there):
        rows = columns = _SIDE
    side = max(1, math.isqrt(most))
    return (rows, columns) if rows * columns <= most else (min(rows, side), min(columns, side))


def overlaps(boxes: Sequence[Box], rows: int, columns: int) -> np.ndarray:
    """Which share of each box lies in each cell, `[boxes, rows * columns]`; a box without an area lies nowhere."""
    x0, y0, x1, y1 = np.asarray(boxes, dtype=float).reshape(-1, 4).T
    across, down = _along(x0, x1, columns), _along(y0, y1, rows)
    return np.asarray((down[:, :, None] * across[:, None, :]).reshape(len(boxes), rows * columns))


def _along(low: np.ndarray, high: np.ndarray, count: int) -> np.ndarray:
    """Which share of each stretch lies in each of `count` equal parts of 0 to 1."""
    edges = np.linspace(0, 1, count + 1)
    shared = np.minimum(high[:, None], edges[1:]) - np.maximum(low[:, None], edges[:-1])
    return np.asarray(np.clip(shared, 0, None) / np.where(high > low, high - low, np.inf)[:, None])
