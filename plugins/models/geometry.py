"""Single grids: which part of the image each patch looks at, through the resizing, padding and cropping of the image processor.

`places` says for every family which positions there are; it builds on what is here.
"""

from __future__ import annotations

from typing import Any

from vseam_core.api.types import Box

WHOLE_IMAGE: Box = (0.0, 0.0, 1.0, 1.0)


def grid_boxes(rows: int, columns: int, view: Box = WHOLE_IMAGE) -> list[Box]:
    """The cells of a grid over `view` (fractions of the image) in reading order, clipped to the image."""
    left, top, right, bottom = view
    step_x, step_y = (right - left) / columns, (bottom - top) / rows
    return [
        _inside(left + column * step_x, top + row * step_y, left + (column + 1) * step_x, top + (row + 1) * step_y)
        for row in range(rows)
        for column in range(columns)
    ]


def image_view(image_processor: Any, image: tuple[int, int], pixels: tuple[int, int]) -> Box | None:
    """The part of the image that the processor's output shows, as fractions (beyond 0 and 1 where it pads), or None.

    Follows the library's image processors: pad to a square (LLaVA's), resize to a fixed size or by the shortest edge, crop the
    centre. Sizes are (width, height) in pixels.
    """
    canvas, offset = image, (0, 0)
    if getattr(image_processor, "do_pad", None):
        if not hasattr(image_processor, "pad_to_square"):
            return None
        side = max(image)
        canvas, offset = (side, side), ((side - image[0]) // 2, (side - image[1]) // 2)
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
        (left * scale_x - offset[0]) / image[0],
        (top * scale_y - offset[1]) / image[1],
        ((left + width) * scale_x - offset[0]) / image[0],
        ((top + height) * scale_y - offset[1]) / image[1],
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


def patch_size(config: Any) -> int | None:
    """The side of a square patch in pixels, or None where the vision tower has none."""
    size = getattr(getattr(config, "vision_config", None), "patch_size", None)
    if isinstance(size, (list, tuple)):
        return int(size[0]) if len(set(size)) == 1 else None
    return int(size) if isinstance(size, int) else None


def _inside(*edges: float) -> Box:
    """Clip a box to the image: padding belongs to no part of it."""
    left, top, right, bottom = (min(max(edge, 0.0), 1.0) for edge in edges)
    return left, top, right, bottom
