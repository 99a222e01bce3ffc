"""Image positions lie where the processor's pixels come from: a bright spot lights up the patch whose box it fills."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from vseam_core.api.types import Box
from vseam_core.errors import UnsupportedError
from vseam_plugins.models.hf import HuggingFaceModel
from vseam_plugins.models.image_regions import ImagePrompt, NoPlacesError, image_places

from .builders import GRID, IMAGE_SIZE, PATCH_SIZE, picture

CROP = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
PROCESSORS = {
    "centre crop": CLIPImageProcessorPil(size={"shortest_edge": IMAGE_SIZE}, crop_size=CROP),
    "crop from larger": CLIPImageProcessorPil(size={"shortest_edge": 40}, crop_size=CROP),
    "squeeze": BlipImageProcessorPil(size=CROP),
    "pad to square": LlavaImageProcessorPil(do_pad=True, size={"shortest_edge": IMAGE_SIZE}, crop_size=CROP),
}
CONFIG = SimpleNamespace(model_type="llava", vision_config=SimpleNamespace(patch_size=PATCH_SIZE))


def pixels_of(processor: Any, image: Image.Image) -> torch.Tensor:
    return processor(image, return_tensors="pt")["pixel_values"]


def boxes_of(processor: Any, image: Image.Image) -> tuple[Box, ...]:
    return image_places(ImagePrompt(CONFIG, processor, {"pixel_values": pixels_of(processor, image)}, GRID * GRID, image.size))


def brightest_patch(processor: Any, image: Image.Image) -> int:
    pixels = pixels_of(processor, image)[0].mean(0)
    dark = pixels_of(processor, Image.new("RGB", image.size))[0].mean(0)
    patches = (pixels - dark).reshape(GRID, PATCH_SIZE, GRID, PATCH_SIZE).mean((1, 3))
    return int(patches.argmax())


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize("size", [(96, 96), (160, 96), (96, 150)])
def test_a_bright_spot_lights_the_patch_whose_box_it_fills(name: str, size: tuple[int, int]) -> None:
    processor = PROCESSORS[name]
    tried = 0
    for index, (x0, y0, x1, y1) in enumerate(boxes_of(processor, Image.new("RGB", size))):
        if (x1 - x0) * size[0] < 8 or (y1 - y0) * size[1] < 8:
            continue  # padding, or a sliver of the image
        canvas = np.zeros((size[1], size[0], 3), dtype=np.uint8)
        canvas[int(y0 * size[1]) + 2 : int(y1 * size[1]) - 2, int(x0 * size[0]) + 2 : int(x1 * size[0]) - 2] = 255
        assert brightest_patch(processor, Image.fromarray(canvas)) == index
        tried += 1
    assert tried >= 8


def test_boxes_of_a_square_image_tile_it(llava_words: HuggingFaceModel) -> None:
    prompt = llava_words.encode(picture(), "Is the dog red?")
    assert prompt.image_boxes is not None
    assert prompt.image_boxes[0] == (0.0, 0.0, 0.25, 0.25)
    assert prompt.image_boxes[GRID + 2] == (0.5, 0.25, 0.75, 0.5)
    assert sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in prompt.image_boxes) == pytest.approx(1.0)
    first_image = prompt.classes.index("image")
    assert prompt.image_positions_in([(24, 12, 36, 24)], (48, 48)) == (first_image + GRID + 2,)


def test_padding_belongs_to_no_part_of_the_image() -> None:
    boxes = boxes_of(PROCESSORS["pad to square"], Image.new("RGB", (96, 24)))
    assert all(0 <= edge <= 1 for box in boxes for edge in box)
    assert boxes[0][1] == boxes[0][3] == 0.0, "the first row of patches is padding"


def test_positions_that_are_no_single_grid_have_no_boxes(instructblip_words: HuggingFaceModel) -> None:
    image = picture()
    pixels = pixels_of(PROCESSORS["squeeze"], image)
    without_patches = SimpleNamespace(model_type="llava")
    for config, tensor, count in (
        (CONFIG, pixels, GRID * GRID + 1), (CONFIG, torch.zeros(2, 3, 32, 32), GRID * GRID), (without_patches, pixels, GRID * GRID)
    ):  # fmt: skip
        with pytest.raises(NoPlacesError, match="one grid of patches"):
            image_places(ImagePrompt(config, PROCESSORS["squeeze"], {"pixel_values": tensor}, count, image.size))
    prompt = instructblip_words.encode(image, "Is the dog red?")
    with pytest.raises(UnsupportedError, match="a Q-Former mixes the whole image"):
        prompt.image_positions_in([(0, 0, 1, 1)], image.size)
