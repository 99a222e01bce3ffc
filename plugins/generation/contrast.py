"""Contrastive decoding: what a model would say anyway is taken away from what it says of the image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, ClassVar

from vseam_core.api.generation import AttentionBoost, Branch, BranchedGeneration, GenerationContext
from vseam_core.errors import UnsupportedError, VseamError
from vseam_plugins.generation.prompts import DIFFUSION_STEPS, noised, without_image

if TYPE_CHECKING:
    from torch import Tensor


def plausible(combined: Tensor, original: Tensor, beta: float) -> Tensor:
    """Logits `[vocabulary]` of the tokens that are originally at least `beta` times as likely as the likeliest; -inf for others."""
    if beta == 0:
        return combined
    return combined.masked_fill(original < original.max() + math.log(beta), float("-inf"))


class NoisedImageContrast(BranchedGeneration):
    """Visual contrastive decoding (VCD, Leng et al. 2023, equations 3 to 5): (1+α)·logits(image) - α·logits(noised image).

    The image is noised by `noise_step` of 1000 diffusion steps; tokens that the image itself makes less than `beta` times as likely as the
    likeliest one are ruled out. `alpha` 0 is plain decoding.
    """

    name: ClassVar[str] = "vcd"

    def __init__(self, alpha: float = 1.0, beta: float = 0.1, noise_step: int = 500) -> None:
        if alpha < 0 or not 0 <= beta <= 1 or not 0 <= noise_step < DIFFUSION_STEPS:
            raise VseamError(f"vcd: expected alpha ≥ 0, beta from 0 to 1, noise_step from 0 to {DIFFUSION_STEPS - 1}")
        self.alpha, self.beta, self.noise_step = float(alpha), float(beta), noise_step

    def branches(self, context: GenerationContext) -> Sequence[Branch]:
        """The question about its image, and about the noised one."""
        return (Branch(context.prompt), Branch(noised(context.prompt, self.noise_step, context.seed)))

    def combine(self, logits: Tensor, step: int) -> Tensor:
        """The contrast, of plausible tokens only."""
        image, noise = logits
        return plausible((1 + self.alpha) * image - self.alpha * noise, image, self.beta)

    def options(self) -> Mapping[str, object]:
        """α, β and the noise step."""
        return {"alpha": self.alpha, "beta": self.beta, "noise_step": self.noise_step}

    def settings(self) -> Sequence[Mapping[str, object]]:
        """The published setting, then weaker and stronger contrasts and another noise."""
        return [{"alpha": alpha, "noise_step": step} for step, alpha in product((500, 900), (1.0, 0.5, 2.0))]


class ImageAttention(BranchedGeneration):
    """Paying more attention to the image (PAI, Liu et al. 2024): attention logits to the image a + α·|a|, and a text-only contrast.

    Logits are γ·logits(image) + (1-γ)·logits(text alone); tokens below `beta` times the likeliest are ruled out. Attention is turned up in
    the layers from `first_layer` on (to `last_layer`, included), at the last position. `alpha` 0 and `gamma` 1 are plain decoding.
    """

    name: ClassVar[str] = "pai"

    def __init__(
        self, alpha: float = 0.5, gamma: float = 1.1, beta: float = 0.1, first_layer: int = 2, last_layer: int | None = None
    ) -> None:
        if alpha < 0 or gamma < 1 or not 0 <= beta <= 1 or first_layer < 0:
            raise VseamError("pai: expected alpha ≥ 0, gamma ≥ 1, beta from 0 to 1, first_layer ≥ 0")
        if last_layer is not None and last_layer < first_layer:
            raise VseamError(f"pai: last_layer {last_layer} comes before first_layer {first_layer}")
        self.alpha, self.gamma, self.beta = float(alpha), float(gamma), float(beta)
        self.first_layer, self.last_layer = first_layer, last_layer

    def branches(self, context: GenerationContext) -> Sequence[Branch]:
        """The question with attention to its image turned up, and beside it the question alone."""
        image = Branch(context.prompt, boosts=self._boosts(context) if self.alpha else ())
        return (image,) if self.gamma == 1 else (image, Branch(without_image(context.prompt, context.model)))

    def _boosts(self, context: GenerationContext) -> tuple[AttentionBoost, ...]:
        sources, last = context.prompt.positions("image"), context.shape.layers - 1
        if not sources:
            raise UnsupportedError("attention to the image is turned up where the image has positions in the prompt; here it has none")
        end = last if self.last_layer is None else self.last_layer
        if self.first_layer > last or end > last:
            raise UnsupportedError(f"pai: layers {self.first_layer} to {end} are not all there: the model has layers 0 to {last}")
        return (AttentionBoost(tuple(range(self.first_layer, end + 1)), sources, self.alpha),)

    def combine(self, logits: Tensor, step: int) -> Tensor:
        """The contrast with the text alone, of plausible tokens only."""
        image = logits[0]
        if self.gamma == 1:
            return image
        return plausible(self.gamma * image + (1 - self.gamma) * logits[1], image, self.beta)

    def options(self) -> Mapping[str, object]:
        """α, γ, β and the layers."""
        layers = {"first_layer": self.first_layer, "last_layer": self.last_layer}
        return {"alpha": self.alpha, "gamma": self.gamma, "beta": self.beta, **layers}

    def settings(self) -> Sequence[Mapping[str, object]]:
        """The published setting for LLaVA, then others of each part."""
        return [{"alpha": alpha, "gamma": gamma} for gamma, alpha in product((1.1, 1.5), (0.5, 0.2, 0.8))]
