"""What contrasting methods put beside a question: the same with a noised image, or without its image."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from vseam_core.api.prompts import EncodedPrompt
from vseam_core.errors import UnsupportedError

if TYPE_CHECKING:
    import torch

    from vseam_core.api.interfaces import VisionLanguageModel

DIFFUSION_STEPS = 1000


@lru_cache(maxsize=1)
def kept_signal() -> torch.Tensor:
    """ᾱ by diffusion step, float64 `[1000]`: the share of an image's variance that is left, by the sigmoid schedule of VCD's authors.

    β_t rises from 1e-5 to 0.005 as the sigmoid of -6 … 6 does; ᾱ_t = Π (1 - β).
    """
    import torch

    rise = torch.sigmoid(torch.linspace(-6, 6, DIFFUSION_STEPS, dtype=torch.float64))
    return torch.cumprod(1 - (rise * (0.5e-2 - 1e-5) + 1e-5), 0)


def noised(prompt: EncodedPrompt, step: int, seed: int) -> EncodedPrompt:
    """The same question about its image after `step` steps of diffusion: √ᾱ·x + √(1-ᾱ)·ε on what the vision tower is given.

    The noise is drawn from the image and the seed. Raises `UnsupportedError` for a prompt without image inputs.
    """
    import torch

    images = {name: value for name, value in prompt.inputs.items() if name.startswith("pixel_values") and value.is_floating_point()}
    if not images:
        raise UnsupportedError("an image is noised where the model is given pixel values; this prompt has none")
    kept = kept_signal()[step]
    changed, digest = dict(prompt.inputs), hashlib.sha256(prompt.key.encode())
    for name, value in images.items():
        content = hashlib.sha256(f"{seed}:{step}:{name}".encode() + value.contiguous().cpu().numpy().tobytes()).digest()
        digest.update(content)
        generator = torch.Generator().manual_seed(int.from_bytes(content[:8], "big") >> 1)
        noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        changed[name] = (kept.sqrt() * value + (1 - kept).sqrt() * noise).to(value.dtype)
    return replace(prompt, inputs=changed, key=digest.hexdigest())


def without_image(prompt: EncodedPrompt, model: VisionLanguageModel) -> EncodedPrompt:
    """The same question with its image taken away: the text before the image positions, then the text after them.

    Raises `UnsupportedError` for a model that reads nothing without an image.
    """
    import torch

    if not model.reads_without_image:
        raise UnsupportedError(f"{model.info.name} reads no question without its image, so there is no text-only branch to contrast with")
    kept, length = list(prompt.text_positions), len(prompt)
    places = torch.tensor(kept)
    inputs = {name: value[:, places] for name, value in prompt.inputs.items() if value.dim() == 2 and value.shape[1] == length}
    if "input_ids" not in inputs:
        raise UnsupportedError(f"{model.info.name} has no token for each position, so its image cannot be taken away")
    return replace(
        prompt,
        inputs=inputs,
        ids=tuple(prompt.ids[at] for at in kept),
        tokens=tuple(prompt.tokens[at] for at in kept),
        classes=tuple(prompt.classes[at] for at in kept),
        roles=tuple(prompt.roles[at] for at in kept),
        key=hashlib.sha256(f"{prompt.key} without its image".encode()).hexdigest(),
        image_boxes=None,
        notes={**prompt.notes, "no_regions": "the image was taken away"},
    )
