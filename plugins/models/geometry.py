"""Which part of the picture each image position looks at, for models whose image positions are one grid of patches."""

from __future__ import annotations

from typing import Any

import torch

from vseam_core.types import Box


def patch_boxes(config: Any, image_processor: Any, pixels: Any, count: int, picture: tuple[int, int]) -> tuple[Box, ...] | None:
    """The box of every image position in reading order, as fractions of the picture (width, height), or None.

    `pixels` `[1, channels, height, width]` is what the vision tower reads. None where the image positions are not exactly one
    grid of its patches (several crops, merged patches, a class token, a Q-Former), or where the processor crops in an unknown way.
    """
    size = _patch_size(config)
    if size is None or getattr(config, "qformer_config", None) is not None:
        return None
    if not isinstance(pixels, torch.Tensor) or pixels.ndim != 4 or pixels.shape[0] != 1:
        return None
    height, width = pixels.shape[-2:]
    rows, columns = height // size, width // size
    view = picture_view(image_processor, picture, (width, height))
    if rows * columns != count or view is None:
        return None
    left, top, right, bottom = view
    step_x, step_y = (right - left) * size / width, (bottom - top) * size / height
    return tuple(
        _inside(left + column * step_x, top + row * step_y, left + (column + 1) * step_x, top + (row + 1) * step_y)
        for row in range(rows)
        for column in range(columns)
    )


def picture_view(image_processor: Any, picture: tuple[int, int], pixels: tuple[int, int]) -> Box | None:
    """The part of the picture that the processor's output shows, as fractions (beyond 0 and 1 where it pads), or None.

    Follows the library's image processors: pad to a square (LLaVA's), resize to a fixed size or by the shortest edge, crop the
    centre. Sizes are (width, height) in pixels.
    """
    canvas, offset = picture, (0, 0)
    if getattr(image_processor, "do_pad", None):
        if not hasattr(image_processor, "pad_to_square"):
            return None
        side = max(picture)
        canvas, offset = (side, side), ((side - picture[0]) // 2, (side - picture[1]) // 2)
    resized = _resized(image_processor, canvas)
    if resized is None:
        return None
    left, top, (width, height) = 0, 0, resized
    if getattr(image_processor, "do_center_crop", False):
        crop = dict(image_processor.crop_size or {})
        width, height = crop.get("width", 0), crop.get("height", 0)
        left, top = (resized[0] - width) // 2, (resized[1] - height) // 2
    if pixels != (width, height):
        return None
    scale_x, scale_y = canvas[0] / resized[0], canvas[1] / resized[1]
    return (
        (left * scale_x - offset[0]) / picture[0],
        (top * scale_y - offset[1]) / picture[1],
        ((left + width) * scale_x - offset[0]) / picture[0],
        ((top + height) * scale_y - offset[1]) / picture[1],
    )


def _resized(image_processor: Any, canvas: tuple[int, int]) -> tuple[int, int] | None:
    """The size (width, height) after resizing, or None for a rule that is not known here."""
    if not getattr(image_processor, "do_resize", False):
        return canvas
    size, (width, height) = dict(image_processor.size or {}), canvas
    if set(size) == {"height", "width"}:
        return size["width"], size["height"]
    if set(size) != {"shortest_edge"}:
        return None
    edge = size["shortest_edge"]
    return (edge, int(edge * height / width)) if width <= height else (int(edge * width / height), edge)


def _patch_size(config: Any) -> int | None:
    """The side of a square patch in pixels, or None where the vision tower has none."""
    size = getattr(getattr(config, "vision_config", None), "patch_size", None)
    if isinstance(size, (list, tuple)):
        return int(size[0]) if len(set(size)) == 1 else None
    return int(size) if isinstance(size, int) else None


def _inside(*edges: float) -> Box:
    """Clip a box to the picture: padding belongs to no part of it."""
    left, top, right, bottom = (min(max(edge, 0.0), 1.0) for edge in edges)
    return left, top, right, bottom
