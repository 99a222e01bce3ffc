"""Prompts of different length in one batch: which inputs are padded, on which side, and which models must not be padded at all.

The language model's sequence is padded on the left, so that every prompt ends at the last position. Prompts are processed one at a
time, unpadded, and padded here: a processor's own padding is never used (InstructBLIP's puts its pads between image and text).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch

# Inputs with one entry per position of the language model, besides its ids: all are 0 at a padded position.
PER_POSITION = (
    "attention_mask",
    "token_type_ids",
    "mm_token_type_ids",
    "moe_mm_token_type_ids",
    "cross_attention_mask",
    "image_embeds_position_mask",
)
# The Q-Former's text has absolute positions counted from its first token: its pads go to the right.
_QFORMER = "qformer_"
# Frequencies that depend on the length of the sequence, pads included.
_LENGTH_DEPENDENT_ROTATIONS = ("dynamic", "longrope")
# Language models without a rotation that pads do not disturb: OPT counts its positions from the mask, T5's are distances.
_SAFE_WITHOUT_ROTATION = ("opt", "t5")
_KNOWN_LAYERS = {"full_attention", "sliding_attention"}


def reason_against_padding(config: Any, dtype: torch.dtype, attention: str) -> str | None:
    """Why pads on the left would change what this model answers, or None where they do not.

    A rotation tells positions apart by their distance, which pads in front do not change; absolute positions would shift.
    """
    text = config.get_text_config(decoder=True)
    if dtype == torch.float64 and attention == "eager":
        # A pad sees nothing; the mask's lowest float64 overflows in the float32 softmax, and its NaN spreads.
        return "in float64 with eager attention pads become NaN"
    unknown = set(getattr(text, "layer_types", None) or ()) - _KNOWN_LAYERS
    if unknown:
        return f"its layers of type {sorted(unknown)[0]} may count pads"
    if text.model_type in _SAFE_WITHOUT_ROTATION:
        return None
    rotations = list(_rotations(getattr(text, "rope_parameters", None)))
    if not rotations:
        return f"{text.model_type} does not tell positions apart by a rotation"
    scaled = next((kind for kind in rotations if kind in _LENGTH_DEPENDENT_ROTATIONS), None)
    return f"its {scaled} rotation depends on the length of the batch" if scaled else None


def _rotations(parameters: Mapping[str, Any] | None) -> Iterator[str]:
    """The kinds of rotary embedding in a configuration; some families have one for each type of layer."""
    if parameters is None:
        return
    if "rope_type" in parameters:
        yield parameters["rope_type"]
        return
    for nested in parameters.values():
        if isinstance(nested, Mapping):
            yield from _rotations(nested)


def padded(name: str, tensors: Sequence[torch.Tensor], pad_id: int, qformer_pad_id: int) -> list[torch.Tensor]:
    """One input of several prompts, each `[1, positions, …]`, made equally long where it has an entry per position."""
    if name.startswith(_QFORMER):
        return _pad(tensors, qformer_pad_id if name == "qformer_input_ids" else 0, "right")
    if name == "input_ids":
        return _pad(tensors, pad_id, "left")
    return _pad(tensors, 0, "left") if name in PER_POSITION else list(tensors)


def _pad(tensors: Sequence[torch.Tensor], value: int, side: Literal["left", "right"]) -> list[torch.Tensor]:
    longest = max(tensor.shape[1] for tensor in tensors)
    result = []
    for tensor in tensors:
        pads = tensor.new_full((tensor.shape[0], longest - tensor.shape[1], *tensor.shape[2:]), value)
        result.append(torch.cat([pads, tensor] if side == "left" else [tensor, pads], dim=1))
    return result
