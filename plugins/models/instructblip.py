"""InstructBLIP: a Q-Former reads image and question and hands a few query tokens to the language model.

The image positions come first, the beginning-of-text token after them; they have no place in the picture (`image_boxes` is None).
The Q-Former reads the same prompt as the language model, with its own tokenizer.
"""

from __future__ import annotations

from typing import ClassVar

from vseam_plugins.models.hf import HuggingFaceModel


class InstructBlipModel(HuggingFaceModel):
    """An InstructBLIP checkpoint (Llama or Vicuna) with the prompt of the published V-SEAM scripts."""

    model_types: ClassVar[tuple[str, ...]] = ("instructblip",)
    family_template: ClassVar[str | None] = "Question: {question} Answer using a single word."


load = InstructBlipModel.load
