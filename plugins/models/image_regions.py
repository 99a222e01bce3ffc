"""Where each image position lies in the image, family by family: one grid, tiles, merged or pooled patches, or no place at all.

What a position looks at is its own patch; the vision tower attends globally, so its features hold something of the whole image too.
A position without a place of its own (the end of a row in LLaVA-NeXT) has an empty box, which no region overlaps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vseam_core.api.types import Box
from vseam_plugins.models.geometry import WHOLE_IMAGE, grid_boxes, image_view, patch_size

NOWHERE: Box = (0.0, 0.0, 0.0, 0.0)
# The input by which a family says its grid: frames × rows × columns of patches for each image.
_GRID = "image_grid_thw"


class NoPlacesError(Exception):
    """Why a family's image positions, or those of one prompt, have no known place in the image."""


@dataclass(frozen=True)
class ImagePrompt:
    """What places depend on: the model's configuration, its image processor, the forward inputs of one prompt, the number of its
    image positions, and the size (width, height) of the image."""

    config: Any
    image_processor: Any
    inputs: Mapping[str, Any]
    count: int
    image: tuple[int, int]

    @property
    def pixels(self) -> Any:
        """What the vision tower reads. Raises `NoPlacesError` where there is nothing of the kind."""
        found = self.inputs.get("pixel_values")
        if found is None or not hasattr(found, "shape"):
            raise NoPlacesError("the vision tower reads no array of pixels")
        return found

    @property
    def side(self) -> int:
        """Patches along one side of the vision tower's own square image."""
        size = patch_size(self.config)
        if size is None:
            raise NoPlacesError("its vision tower has no square patches")
        return int(self.pixels.shape[-1]) // size


def image_places(case: ImagePrompt) -> tuple[Box, ...]:
    """The box of every image position in order, as fractions of the image. Raises `NoPlacesError` with the reason."""
    if getattr(case.config, "qformer_config", None) is not None:
        raise NoPlacesError("a Q-Former mixes the whole image into each of its query tokens")
    if getattr(case.config, "latent_query_num", None) is not None:
        raise NoPlacesError("a resampler mixes the whole image into each of its positions")
    if case.config.model_type == "udop":
        raise NoPlacesError("patches under its words are read with these, and the others close the gaps")
    if case.count == 0:
        raise NoPlacesError("the image enters by cross-attention, not as positions")
    vision = getattr(getattr(case.config, "vision_config", None), "model_type", None)
    rule = _RULES.get(vision, _RULES.get(case.config.model_type, _single_grid))
    try:
        boxes = rule(case)
    except (ArithmeticError, LookupError, AttributeError, TypeError, ValueError) as error:
        # An image or a configuration of a shape that the family's layout was not made for: no places, never an end of the run.
        size = " × ".join(map(str, case.image))
        raise NoPlacesError(f"its layout of an image of {size} pixels cannot be worked out ({type(error).__name__})") from error
    if len(boxes) != case.count:
        raise NoPlacesError(f"the prompt has {case.count} image positions where its family's layout has {len(boxes)}")
    return tuple(boxes)


def _single_grid(case: ImagePrompt) -> Sequence[Box]:
    """LLaVA, ViP-LLaVA, PaliGemma and their like: one grid of patches in reading order."""
    shape, size = case.pixels.shape, patch_size(case.config)
    if size is None or len(shape) != 4 or shape[0] != 1:
        raise NoPlacesError("its image positions are not known to be one grid of patches")
    return _grid_of(case, shape[-2] // size, shape[-1] // size)


def _behind_a_class(case: ImagePrompt) -> Sequence[Box]:
    """GIT: one grid of patches behind the tower's class token, which has no place of its own."""
    return [NOWHERE, *_single_grid(replace(case, count=case.count - 1))]


def _behind_a_mean(case: ImagePrompt) -> Sequence[Box]:
    """Florence-2: the mean of all cells of a square grid, which has no place of its own, then the grid."""
    side = math.isqrt(case.count - 1)
    return [NOWHERE, *_grid_of(replace(case, count=case.count - 1), side, side)]


def _grid_of(case: ImagePrompt, rows: int, columns: int) -> Sequence[Box]:
    height, width = case.pixels.shape[-2:]
    view = image_view(case.image_processor, case.image, (width, height))
    if view is None:
        raise NoPlacesError("its image processor resizes or crops in a way that is not known")
    if rows * columns != case.count:
        raise NoPlacesError("its image positions are not one grid of patches")
    return grid_boxes(rows, columns, view)


def _pooled(case: ImagePrompt) -> Sequence[Box]:
    """Gemma 3: a square image, its patches averaged in square blocks."""
    if case.pixels.shape[0] != 1:
        raise NoPlacesError("its processor pans and scans: crops of unknown place")
    side = math.isqrt(case.count)
    return _grid_of(case, side, side)


def _merged(case: ImagePrompt) -> Sequence[Box]:
    """Qwen-VL, GLM-V and their like: the image is stretched to a grid, and blocks of merge × merge patches are one position."""
    frames, rows, columns = (int(value) for value in case.inputs[_GRID][0])
    merge = int(getattr(case.config.vision_config, "spatial_merge_size", 0) or case.image_processor.merge_size)
    if frames != 1 or len(case.inputs[_GRID]) != 1:
        raise NoPlacesError("more than one image")
    return grid_boxes(rows // merge, columns // merge)


def _pooled_patches(case: ImagePrompt) -> Sequence[Box]:
    """Gemma 4: the image is stretched to a grid of about its shape, and blocks of patches are averaged; their places are inputs."""
    if len(case.inputs["image_position_ids"]) != 1:
        raise NoPlacesError("more than one image")
    columns, rows = (int(value) + 1 for value in case.inputs["image_position_ids"][0].amax(0))
    pool = int(case.config.vision_config.pooling_kernel_size)
    return grid_boxes(rows // pool, columns // pool)


def _rows_with_breaks(case: ImagePrompt) -> Sequence[Box]:
    """Pixtral and Mistral 3: stretched to whole patches; the ends of rows are tokens of their own, not image positions."""
    size = patch_size(case.config)
    if size is None:
        raise NoPlacesError("its vision tower has no square patches")
    merged = size * int(getattr(case.config, "spatial_merge_size", 1))
    height, width = (int(value) for value in case.inputs["image_sizes"][0])
    return grid_boxes(height // merged, width // merged)


def _shuffled_tiles(case: ImagePrompt) -> Sequence[Box]:
    """InternVL and Aya Vision: stretched over a canvas of square tiles, each a grid of merged patches; then the whole image."""
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

    tiles, _, height, width = case.pixels.shape
    side = math.isqrt(case.count // tiles)
    if tiles == 1:
        return grid_boxes(side, side)
    processor = case.image_processor
    columns, rows = get_optimal_tiled_canvas(case.image[::-1], (height, width), processor.min_patches, processor.max_patches)
    return [*_tiles(rows, columns, side), *grid_boxes(side, side)]


def _padded_tiles(case: ImagePrompt) -> Sequence[Box]:
    """Llama 4: scaled to fit into the upper left of a canvas of square tiles, each a grid of merged patches; then the whole image."""
    import torch
    from transformers.models.llama4.image_processing_llama4 import (
        find_supported_resolutions,
        get_best_fit,
        get_max_res_without_distortion,
    )

    processor, size, tile = case.image_processor, case.image[::-1], int(case.pixels.shape[-1])
    canvases = torch.tensor(find_supported_resolutions(processor.max_patches, processor.size))
    canvas = [int(value) for value in get_best_fit(size, canvases, processor.resize_to_max_canvas)]
    room = canvas if processor.resize_to_max_canvas else [min(max(side, tile), most) for side, most in zip(size, canvas, strict=True)]
    height, width = (max(value, 1) for value in get_max_res_without_distortion(size, (room[0], room[1])))
    view = (0.0, 0.0, canvas[1] / width, canvas[0] / height)
    side = math.isqrt(case.count // len(case.pixels))
    if len(case.pixels) == 1:
        return grid_boxes(side, side, view)
    return [*_tiles(canvas[0] // tile, canvas[1] // tile, side, view), *grid_boxes(side, side)]


def _crops_and_whole(case: ImagePrompt) -> Sequence[Box]:
    """Idefics3 and SmolVLM: the same, the canvas found from the longest edge."""
    edge = int(dict(case.image_processor.max_image_size)["longest_edge"])
    crops = case.pixels.shape[1]
    side = math.isqrt(case.count // crops)
    if crops == 1:
        return grid_boxes(side, side)
    rows, columns = _canvas(*case.image, int(dict(case.image_processor.size)["longest_edge"]), edge)
    return [*_tiles(rows, columns, side), *grid_boxes(side, side)]


def _canvas(width: int, height: int, longest: int, edge: int) -> tuple[int, int]:
    """Rows and columns of crops after the Idefics3 processor's two resizings: to the longest edge, then to whole crops."""
    longer = math.ceil(longest / edge)
    # Divided or multiplied as the library does: rounding can decide about a row.
    if width >= height:
        shorter = int(longest / (width / height))
        shorter += shorter % 2
        return math.ceil(int(longer * edge / (longest / shorter)) / edge), longer
    shorter = int(longest * (width / height))
    shorter += shorter % 2
    return longer, math.ceil(int(longer * edge * (shorter / longest)) / edge)


def _tiles(rows: int, columns: int, side: int, view: Box = WHOLE_IMAGE) -> list[Box]:
    """The positions of tiles in reading order, each tile a grid of side × side positions, over the image or another view."""
    boxes, across = grid_boxes(rows * side, columns * side, view), columns * side
    corners = [(row * side, column * side) for row in range(rows) for column in range(columns)]
    return [boxes[(top + row) * across + left + column] for top, left in corners for row in range(side) for column in range(side)]


def _whole_and_unpadded_tiles(case: ImagePrompt) -> Sequence[Box]:
    """LLaVA-NeXT and LLaVA-OneVision: the whole image squeezed into one tile; then one large grid over the padded canvas of tiles
    without the rows or columns that are padding, a position for the end of each row behind it."""
    from transformers.image_processing_utils import select_best_resolution

    width, height = case.image
    pinpoints, tile = case.config.image_grid_pinpoints, int(case.pixels.shape[-1])
    if list(map(list, pinpoints)) != list(map(list, case.image_processor.image_grid_pinpoints)):
        raise NoPlacesError("its model and its processor cut images in different ways")
    canvas_height, canvas_width = select_best_resolution((height, width), pinpoints)
    view = _padded_view(width, height, canvas_width, canvas_height)
    rows, columns = case.side * (canvas_height // tile), case.side * (canvas_width // tile)
    top, left = _trimmed(width, height, rows, columns)
    boxes = grid_boxes(rows, columns, view)
    kept = [boxes[row * columns + left : (row + 1) * columns - left] for row in range(top, rows - top)]
    return [*grid_boxes(case.side, case.side), *(box for row in _interpolated(case, kept) for box in (*row, NOWHERE))]


def _padded_view(width: int, height: int, canvas_width: int, canvas_height: int) -> Box:
    """The canvas as fractions of the image, which is scaled to fit and centred in it."""
    if canvas_width / width < canvas_height / height:
        fitted_width, fitted_height = canvas_width, min(math.ceil(height * canvas_width / width), canvas_height)
    else:
        fitted_width, fitted_height = min(math.ceil(width * canvas_height / height), canvas_width), canvas_height
    left, top = (canvas_width - fitted_width) // 2, (canvas_height - fitted_height) // 2
    return (-left / fitted_width, -top / fitted_height, (canvas_width - left) / fitted_width, (canvas_height - top) / fitted_height)


def _trimmed(width: int, height: int, rows: int, columns: int) -> tuple[int, int]:
    """Rows at the top (and bottom) and columns at the left (and right) that the model drops as padding, by its own formula."""
    if width / height > columns / rows:
        return (rows - int(round(height * (columns / width), 7))) // 2, 0
    return 0, (columns - int(round(width * (rows / height), 7))) // 2


def _interpolated(case: ImagePrompt, rows: list[list[Box]]) -> list[list[Box]]:
    """LLaVA-OneVision shrinks a grid that is much larger than `anyres_max_N` allows; LLaVA-NeXT never does."""
    limit = getattr(case.config, "vision_aspect_ratio", None)
    if limit is None or not rows:
        return rows
    most = int(str(limit).removeprefix("anyres_max_"))
    ratio = math.sqrt(len(rows) * len(rows[0]) / (most * case.side**2))
    if ratio <= 1.1:
        return rows
    new_rows, new_columns = int(len(rows) // ratio), int(len(rows[0]) // ratio)
    view = (rows[0][0][0], rows[0][0][1], rows[-1][-1][2], rows[-1][-1][3])
    boxes = grid_boxes(new_rows, new_columns, view)
    return [boxes[row * new_columns : (row + 1) * new_columns] for row in range(new_rows)]


# Held, each, against what its own tower does (tests/models/test_places.py): a family that says its grid does not say where it lies.
_STRETCHED = (
    "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe", "glm4v", "glm4v_moe", "glm46v", "exaone4_5",
    "paddleocr_vl", "video_llama_3",
)  # fmt: skip
# By the vision tower's type where that decides (a Pixtral inside a LLaVA), else by the model's.
_RULES: Mapping[Any, Callable[[ImagePrompt], Sequence[Box]]] = {
    "pixtral": _rows_with_breaks,
    "mistral3": _rows_with_breaks,
    **dict.fromkeys(_STRETCHED, _merged),
    "git": _behind_a_class,
    "florence2": _behind_a_mean,
    "gemma3": _pooled,
    "t5gemma2": _pooled,
    "gemma4": _pooled_patches,
    "internvl": _shuffled_tiles,
    "aya_vision": _shuffled_tiles,
    "llama4": _padded_tiles,
    "idefics3": _crops_and_whole,
    "smolvlm": _crops_and_whole,
    "llava_next": _whole_and_unpadded_tiles,
    "llava_onevision": _whole_and_unpadded_tiles,
}
