"""LLaVA-1.5 and its like: one grid of image patches in the language model's sequence, asked with V-SEAM's prompt."""

from __future__ import annotations

from typing import ClassVar

from vseam_plugins.models.hf import FAMILY_TEMPLATES, HuggingFaceModel


class LlavaModel(HuggingFaceModel):
    """A LLaVA checkpoint with the prompt of the published V-SEAM scripts."""

    model_types: ClassVar[tuple[str, ...]] = ("llava", "vipllava")
    family_template: ClassVar[str | None] = FAMILY_TEMPLATES["llava"]


load = LlavaModel.load
describe = LlavaModel.describe
