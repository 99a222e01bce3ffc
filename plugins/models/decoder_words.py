"""Prompts of models whose encoder reads the image alone: words stand in the decoder behind its start token, or in the image.

Pix2Struct, Donut and TrOCR (vision-encoder-decoder), PP-FormulaNet. A Pix2Struct that answers questions has them written above its image:
then its decoder holds the start token alone, and no word has a position.
"""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image

from vseam_core.engine.module_discovery import image_encoder_of
from vseam_core.errors import UnsupportedError

WORDS = "decoder_input_ids"


def words_in_decoder(module: Any, processor: Any, start: int | None) -> DecoderWords | None:
    """What makes the prompts of such a model; None for any other."""
    try:
        found = image_encoder_of(module)
    except UnsupportedError:
        return None
    return None if found is None or start is None else DecoderWords(module.config, processor, start)


class DecoderWords:
    """Makes the inputs of a model whose words stand in its decoder, as the library's `generate` takes them.

    `are_drawn` says that a question is drawn into the image, so that no word of it is in the decoder.
    """

    def __init__(self, config: Any, processor: Any, start: int):
        self._processor = processor
        self.are_drawn = bool(getattr(processor.image_processor, "is_vqa", False))
        # Donut's tasks have start tokens of their own among their words: the library puts nothing in front of them.
        donut = "donut" in str(getattr(getattr(config, "encoder", None), "model_type", ""))
        self._start = () if donut else (start,)

    def inputs(self, image: Image.Image, text: str) -> dict[str, torch.Tensor]:
        """What the encoder reads of the image, and the ids that the decoder begins with. Raises whatever the processor raises."""
        drawn = {"text": [text]} if self.are_drawn else {}
        made = self._processor(images=[image], return_tensors="pt", **drawn)
        words = () if self.are_drawn else tuple(self._processor.tokenizer(text, add_special_tokens=False)["input_ids"])
        ids = words if words[:1] == self._start else (*self._start, *words)
        return {name: value for name, value in made.items() if isinstance(value, torch.Tensor)} | {WORDS: torch.tensor([ids])}
