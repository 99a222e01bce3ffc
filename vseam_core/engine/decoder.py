"""Finds what the engine must touch in any Hugging Face VLM: decoder layers, attention, W_O, MLP, final norm, unembedding.

Structural, not by model name. Everything it assumes is checked here or by the self-check at load; what cannot be found is an
`UnsupportedError` with the module that lacks it, never a guess.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from vseam_core.errors import UnsupportedError
from vseam_core.interfaces import ModelShape

_INNER_NAMES = ("language_model", "text_model", "model", "decoder", "transformer")
_LAYER_LISTS = ("layers", "block", "h", "blocks")
_ATTENTION_NAMES = ("self_attn", "self_attention", "attention", "attn")
_PROJECTION_NAMES = ("o_proj", "out_proj", "dense", "c_proj", "wo")
_MLP_NAMES = ("mlp", "feed_forward", "block_sparse_moe", "fc2")
_NORM_NAMES = ("norm", "final_layer_norm", "final_layernorm", "ln_f", "norm_f")


@dataclass(frozen=True, eq=False)
class DecoderLayer:
    """One decoder layer's parts: the layer itself, its attention, the attention's output projection (W_O), its MLP."""

    module: nn.Module
    attention: nn.Module
    output_projection: Any
    mlp: nn.Module


@dataclass(frozen=True, eq=False)
class Decoder:
    """The language decoder of a VLM as the engine addresses it."""

    stack: nn.Module
    layers: tuple[DecoderLayer, ...]
    final_norm: nn.Module
    unembedding: Any
    shape: ModelShape
    logit_softcap: float | None

    def logits(self, residual: torch.Tensor) -> torch.Tensor:
        """Final norm and unembedding of a residual `[…, width]`; a softcap is applied where the family has one."""
        logits = self.unembedding(self.final_norm(residual))
        if self.logit_softcap:
            logits = torch.tanh(logits / self.logit_softcap) * self.logit_softcap
        return logits


def find_decoder(module: Any) -> Decoder:
    """The decoder of a Hugging Face model. Raises `UnsupportedError` naming what could not be found."""
    if getattr(module.config, "is_encoder_decoder", False) or getattr(_text_config(module), "is_encoder_decoder", False):
        raise UnsupportedError(f"{type(module).__name__}: encoder-decoder language models are not supported by this engine yet")
    stack = _find_stack(module)
    layers = tuple(_find_layer(layer) for layer in _layer_list(stack) or ())
    final_norm = _child(stack, _NORM_NAMES)
    unembedding = module.get_output_embeddings()
    if final_norm is None or unembedding is None:
        missing = "final norm" if final_norm is None else "unembedding"
        raise UnsupportedError(f"{type(module).__name__}: no {missing} found in {type(stack).__name__}")
    shape = _shape(module, layers)
    softcap = getattr(_text_config(module), "final_logit_softcapping", None)
    return Decoder(stack, layers, final_norm, unembedding, shape, softcap)


def _text_config(module: Any) -> Any:
    return module.config.get_text_config(decoder=True)


def _layer_list(module: nn.Module) -> nn.ModuleList | None:
    for name in _LAYER_LISTS:
        candidate = getattr(module, name, None)
        if isinstance(candidate, nn.ModuleList) and len(candidate):
            return candidate
    return None


def _child(module: nn.Module, names: tuple[str, ...]) -> nn.Module | None:
    for name in names:
        candidate = getattr(module, name, None)
        if isinstance(candidate, nn.Module):
            return candidate
    return None


def _find_stack(module: Any) -> Any:
    # get_decoder() is not transitive (BLIP-2 returns a whole causal LM), so descend until a layer list appears.
    current: Any = module
    seen: list[Any] = []
    while current is not None and all(current is not other for other in seen):
        seen.append(current)
        if _layer_list(current) is not None:
            return current
        following = current.get_decoder() if hasattr(current, "get_decoder") else current
        if following is current or following is None:
            following = _child(current, _INNER_NAMES)
        current = following
    raise UnsupportedError(f"{type(module).__name__}: no list of decoder layers found")


def _find_layer(layer: nn.Module) -> DecoderLayer:
    attention = _child(layer, _ATTENTION_NAMES)
    projection = _child(attention, _PROJECTION_NAMES) if attention is not None else None
    mlp = _child(layer, _MLP_NAMES)
    for part, name in ((attention, "attention"), (projection, "attention output projection"), (mlp, "MLP")):
        if part is None:
            raise UnsupportedError(f"{type(layer).__name__}: no {name} found among {[n for n, _ in layer.named_children()]}")
    assert attention is not None
    assert projection is not None
    assert mlp is not None
    return DecoderLayer(layer, attention, projection, mlp)


def _shape(module: Any, layers: tuple[DecoderLayer, ...]) -> ModelShape:
    # Llama-like attention modules carry no head count: a fallback constant would slice them wrongly without any error.
    attention = layers[0].attention
    own = (getattr(attention, name, None) for name in ("num_heads", "n_heads", "num_attention_heads"))
    heads = next((count for count in own if isinstance(count, int)), None)
    if heads is None:
        heads = getattr(_text_config(module), "num_attention_heads", None)
    if not heads:
        raise UnsupportedError(f"{type(attention).__name__}: the number of heads is neither in the module nor in the config")
    width = int(layers[0].output_projection.in_features)
    if width % heads:
        raise UnsupportedError(f"{type(attention).__name__}: W_O reads {width} features, not a multiple of {heads} heads")
    return ModelShape(len(layers), int(heads), int(width) // int(heads))
