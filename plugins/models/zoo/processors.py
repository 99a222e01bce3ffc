"""Processors of the embedded models, built locally from the library's own classes and saved next to the weights.

The image processors are the Pillow ones, so that no torchvision is needed.
"""

from __future__ import annotations

from typing import Any

from transformers import InstructBlipProcessor, LlavaProcessor
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from vseam_plugins.models.zoo.architectures import CELLS, IMAGE_SIZE, PATCH_SIZE
from vseam_plugins.models.zoo.prompts import INSTRUCTBLIP, LLAVA
from vseam_plugins.models.zoo.tokenizer import build_tokenizer

PIXEL_MEAN = 0.5
PIXEL_STD = 0.5
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() }}: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }} Please answer with a single word.\n{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def _build_llava_processor() -> LlavaProcessor:
    images = CLIPImageProcessorPil(
        size={"shortest_edge": IMAGE_SIZE},
        crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        image_mean=[PIXEL_MEAN] * 3,
        image_std=[PIXEL_STD] * 3,
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=build_tokenizer(),
        patch_size=PATCH_SIZE,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )


def _build_instructblip_processor(query_tokens: int) -> InstructBlipProcessor:
    images = BlipImageProcessorPil(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}, image_mean=[PIXEL_MEAN] * 3, image_std=[PIXEL_STD] * 3)
    return InstructBlipProcessor(images, build_tokenizer(), build_tokenizer(), num_query_tokens=query_tokens)


def build_processor(name: str, *, query_tokens: int = CELLS * CELLS) -> Any:
    """Build the processor of the model `name`; `query_tokens` is the number of Q-Former queries (InstructBLIP only)."""
    builders = {LLAVA: _build_llava_processor, INSTRUCTBLIP: lambda: _build_instructblip_processor(query_tokens)}
    return builders[name]()
