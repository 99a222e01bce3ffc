"""Greedy generation whatever a checkpoint's own generation settings say, and the logits of its first step."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from vseam_core.api.prompts import EncodedPrompt
from vseam_core.errors import UnsupportedError
from vseam_plugins.models.padding import PER_POSITION


class FirstLogits:
    """A logits processor that changes nothing and keeps what it is shown first: the logits `[batch, vocabulary]` of the first token."""

    logits: torch.Tensor

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if not hasattr(self, "logits"):
            self.logits = scores.clone()
        return scores


class CombinedLogits(FirstLogits):
    """A logits processor that puts what a function makes of a step's logits in their place, and keeps those of the first step."""

    def __init__(self, combine: Callable[[torch.Tensor, int], torch.Tensor]) -> None:
        self._combine, self._step = combine, 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        combined = self._combine(scores, self._step)
        self._step += 1
        return super().__call__(input_ids, combined)


def first_logits(module: Any, batch: dict[str, torch.Tensor], kept: FirstLogits) -> torch.Tensor:
    """What the first step read `[batch, vocabulary]`; by a pass of its own where `generate` hands no logits processor on (Janus).

    Raises `UnsupportedError` there for a processor that changes what is generated.
    """
    if hasattr(kept, "logits"):
        return kept.logits
    if type(kept) is not FirstLogits:
        raise UnsupportedError(f"{type(module).__name__} takes no logits processor, so no method can change what it generates")
    with torch.no_grad():
        found: torch.Tensor = module(**batch, use_cache=False).logits[:, -1].float()
    return found


@contextlib.contextmanager
def greedy_settings(module: Any, tokenizer: Any, starts: tuple[int, ...] | None, max_new_tokens: int) -> Iterator[None]:
    """Put a plain greedy configuration in place of the checkpoint's own while generating.

    The library fills every setting that is passed as None from there, and a family may generate by an inner module.
    """
    from transformers import GenerationConfig

    ends, pad = _end_ids(module, tokenizer), tokenizer.pad_token_id
    plain = GenerationConfig(
        max_new_tokens=max_new_tokens, do_sample=False, num_beams=1, eos_token_id=ends or None,
        pad_token_id=pad if pad is not None else next(iter(ends), 0), decoder_start_token_id=starts[0] if starts else None,
    )  # fmt: skip
    owners: list[Any] = [inner for inner in module.modules() if getattr(inner, "generation_config", None) is not None]
    originals = [inner.generation_config for inner in owners]
    try:
        for inner in owners:
            inner.generation_config = plain
        yield
    finally:
        for inner, original in zip(owners, originals, strict=True):
            inner.generation_config = original


def _end_ids(module: Any, tokenizer: Any) -> list[int]:
    """Every id that the checkpoint calls the end of a text."""
    ends: set[int] = set()
    for holder in (getattr(module, "generation_config", None), module.config.get_text_config(decoder=True), tokenizer):
        value = getattr(holder, "eos_token_id", None)
        ends.update(value if isinstance(value, (list, tuple)) else [] if value is None else [value])
    return sorted(ends)


def batches(prompts: Sequence[EncodedPrompt], pads: bool) -> dict[tuple[Any, ...], list[int]]:
    """Indices of prompts that can stand in one batch together; where the model `pads`, their lengths may differ."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index, prompt in enumerate(prompts):
        padded_inputs = ("input_ids", *PER_POSITION) if pads else ()
        named = ((name, tensor) for name, tensor in prompt.inputs.items() if not name.startswith("qformer_"))
        shapes = tuple((name, None if name in padded_inputs else tuple(tensor.shape)) for name, tensor in named)
        groups.setdefault(shapes, []).append(index)
    return groups


def needs_image(module: Any) -> bool:
    """Whether a model reads nothing without an image: its forward pass demands one, or a Q-Former looks at it."""
    required = inspect.signature(module.forward).parameters.get("pixel_values")
    demanded = required is not None and required.default is inspect.Parameter.empty
    return demanded or hasattr(module.config, "qformer_config")
