"""InstructBLIP: a Q-Former reads image and question and hands a few query tokens to the language model.

The image positions come first, the beginning-of-text token after them; they have no place in the image (`image_boxes` is None).
The Q-Former reads the same prompt as the language model, with its own tokenizer.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from vseam_core.errors import UnsupportedError
from vseam_plugins.models.family_prompts import FAMILY_PROMPTS, FamilyPrompt
from vseam_plugins.models.hf import HuggingFaceModel


class InstructBlipModel(HuggingFaceModel):
    """An InstructBLIP checkpoint (Llama or Vicuna) with the prompt of the published V-SEAM scripts."""

    model_types: ClassVar[tuple[str, ...]] = ("instructblip",)
    family_prompt: ClassVar[FamilyPrompt | None] = FAMILY_PROMPTS["instructblip"]

    def save(self, folder: Path) -> None:
        """Write a checkpoint folder. Raises `UnsupportedError` for a prompt of the caller's: this family's processor keeps none."""
        if not self._is_asked_as_its_folder():
            raise UnsupportedError(
                f"model {self.info.name!r}: an InstructBLIP folder cannot keep a prompt_template; load the model without one"
            )
        super().save(folder)


load = InstructBlipModel.load
describe = InstructBlipModel.describe
