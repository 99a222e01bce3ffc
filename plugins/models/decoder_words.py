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
_FONT = ("ybelkada/fonts", "Arial.TTF")
_DONUT_MARKS = ("<s_docvqa>", "<s_question>", "</s_question>", "<s_answer>")
_DONUT_QUESTION = "<s_docvqa><s_question>{question}</s_question><s_answer>"


def words_in_decoder(module: Any, processor: Any, starts: tuple[int, ...] | None) -> DecoderWords | None:
    """What makes the prompts of such a model; None for any other."""
    try:
        found = image_encoder_of(module)
    except UnsupportedError:
        return None
    return None if found is None or starts is None else DecoderWords(module.config, processor, starts)


def question_template(tokenizer: Any) -> str:
    """How a question stands in such a decoder: between the marks of Donut's question answering where the vocabulary has them."""
    return _DONUT_QUESTION if set(_DONUT_MARKS) <= set(tokenizer.get_added_vocab()) else "{question}"


def _cached_font() -> str:
    """The font that the library draws questions with, of the hub's local cache: the library would ask the hub for it at every question.

    Raises `UnsupportedError` where it is not there.
    """
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(*_FONT)
    if not isinstance(found, str):
        raise UnsupportedError(
            "this model has its questions drawn into the image, with a font that is not in the hub's local cache; fetch it once: "
            f"hf download {' '.join(_FONT)}"
        )
    return found


class DecoderWords:
    """Makes the inputs of a model whose words stand in its decoder, as the library's `generate` takes them.

    `are_drawn` says that a question is drawn into the image, so that no word of it is in the decoder.
    """

    def __init__(self, config: Any, processor: Any, starts: tuple[int, ...]):
        self._processor = processor
        self.are_drawn = bool(getattr(processor.image_processor, "is_vqa", False))
        self._drawn_with = {"font_path": _cached_font()} if self.are_drawn else {}
        # Donut's tasks have start tokens of their own among their words: the library puts nothing in front of them.
        donut = "donut" in str(getattr(getattr(config, "encoder", None), "model_type", ""))
        self._starts = () if donut else starts

    def inputs(self, image: Image.Image, text: str) -> dict[str, torch.Tensor]:
        """What the encoder reads of the image, and the ids that the decoder begins with. Raises whatever the processor raises."""
        drawn: dict[str, Any] = {"text": [text], **self._drawn_with} if self.are_drawn else {}
        made = self._processor(images=[image], return_tensors="pt", **drawn)
        words = () if self.are_drawn else tuple(self._processor.tokenizer(text, add_special_tokens=False)["input_ids"])
        # What the library makes an answer begin with, it puts behind the start token alone.
        start = self._starts[:1] if words else self._starts
        ids = words if words[:1] == start else (*start, *words)
        return {name: value for name, value in made.items() if isinstance(value, torch.Tensor)} | {WORDS: torch.tensor([ids])}
