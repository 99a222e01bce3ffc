"""LLaVA-1.5 and its like: one grid of image patches in the language model's sequence, asked with V-SEAM's prompt."""

from __future__ import annotations

from typing import ClassVar

from vseam_plugins.models.hf import FAMILY_TEMPLATES, HuggingFaceModel
from vseam_plugins.models.loading import Checkpoint


class LlavaModel(HuggingFaceModel):
    """A LLaVA checkpoint with the prompt of the published V-SEAM scripts."""

    model_types: ClassVar[tuple[str, ...]] = ("llava", "vipllava")
    family_template: ClassVar[str | None] = FAMILY_TEMPLATES["llava"]

    def __init__(self, checkpoint: Checkpoint, template: str | None = None, separator: str | None = None) -> None:
        super().__init__(checkpoint, template, separator)
        self._complete_processor()

    def _complete_processor(self) -> None:
        """Tell the processor of an older checkpoint how many image tokens to write, from the model's configuration."""
        if self.processor.patch_size is None:
            self.processor.patch_size = self.config.vision_config.patch_size
            self.processor.num_additional_image_tokens = 1
        if self.processor.vision_feature_select_strategy is None:
            self.processor.vision_feature_select_strategy = self.config.vision_feature_select_strategy


load = LlavaModel.load
describe = LlavaModel.describe
