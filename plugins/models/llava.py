"""LLaVA-1.5 and its like: one grid of image patches in the language model's sequence, asked with V-SEAM's prompt."""

from __future__ import annotations

from typing import ClassVar

from vseam_plugins.models.family_prompts import FAMILY_PROMPTS, FamilyPrompt
from vseam_plugins.models.hf import HuggingFaceModel


class LlavaModel(HuggingFaceModel):
    """A LLaVA checkpoint with the prompt of the published V-SEAM scripts."""

    model_types: ClassVar[tuple[str, ...]] = ("llava", "vipllava")
    family_prompt: ClassVar[FamilyPrompt | None] = FAMILY_PROMPTS["llava"]


load = LlavaModel.load
describe = LlavaModel.describe
