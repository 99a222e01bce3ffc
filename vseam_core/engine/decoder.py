"""What the engine touches in a model: the layers that carry image and text positions, their parts, final norm and unembedding.

`find_decoder` finds them in any Hugging Face VLM. Where the language model is an encoder-decoder (T5), the layers are the encoder's:
image and text positions live there, and the decoder only generates from what it hands over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from vseam_core.api.interfaces import ModelShape
from vseam_core.engine import module_discovery as finder
from vseam_core.errors import UnsupportedError


@dataclass(frozen=True, eq=False)
class DecoderLayer:
    """One layer's parts: the layer itself, its attention, the attention's output projection (W_O), its MLP.

    `query`, `key` and `value` are the linear projections whose outputs are `[batch, positions, heads × head_dim]` (key and value:
    key_value_heads × head_dim), before any head norm and rotation. They are None where the family computes them in one fused
    projection, and `key` and `value` are None in a cross-attention layer (Mllama), where they have no prompt positions: they read
    the picture. `mlp_is_flat` marks an MLP output of `[batch × positions, width]` (OPT).
    """

    module: nn.Module
    attention: nn.Module
    output_projection: Any
    mlp: nn.Module
    query: nn.Module | None = None
    key: nn.Module | None = None
    value: nn.Module | None = None
    is_cross_attention: bool = False
    mlp_is_flat: bool = False


@dataclass(frozen=True, eq=False)
class Decoder:
    """The stack of a VLM that the engine addresses; `shape.stack` says whether it is a decoder or an encoder.

    `key_value_heads` is smaller than `shape.heads` under grouped-query attention. `generator` is None in a decoder-only model.
    Otherwise (T5) it is the decoder that must run again with new `encoder_hidden_states`, namely `final_norm` of this stack's last
    residual. Logits are `softcap · tanh(logit_scale · unembedding(…) / softcap)`, the softcap where there is one.
    """

    stack: nn.Module
    layers: tuple[DecoderLayer, ...]
    final_norm: nn.Module
    unembedding: Any
    shape: ModelShape
    logit_softcap: float | None
    logit_scale: float = 1.0
    key_value_heads: int = 0
    generator: nn.Module | None = None

    def logits(self, residual: torch.Tensor) -> torch.Tensor:
        """The logits `[…, vocabulary]` of the last residual `[…, width]`.

        In a decoder-only model the residual that leaves the last layer, before the final norm. With a `generator`, the
        generator's last hidden state as it returns it, after its own final norm.
        """
        hidden = residual if self.generator is not None else self.final_norm(residual)
        logits = self.unembedding(hidden)
        if self.logit_scale != 1.0:
            logits = logits * self.logit_scale
        if self.logit_softcap:
            logits = torch.tanh(logits / self.logit_softcap) * self.logit_softcap
        return logits

    @property
    def is_bidirectional(self) -> bool:
        """Whether every position sees every other when no attention mask is given (an encoder), not only earlier ones."""
        return self.shape.stack == "encoder"


def find_decoder(module: Any) -> Decoder:
    """The addressed stack of a Hugging Face model. Raises `UnsupportedError` naming what could not be found.

    Structural, not by model name: what cannot be found is refused, never guessed. Whether the logits come out as the model's own is
    for the self-check at load to see.
    """
    name = type(module).__name__
    stack, generator = finder.find_stacks(module)
    layers = tuple(_layer(layer) for layer in finder.layers_of(stack) or ())
    final_norm = finder.final_norm_of(stack)
    unembedding = module.get_output_embeddings()
    if final_norm is None or unembedding is None:
        missing = "final norm" if final_norm is None else "unembedding"
        raise UnsupportedError(f"{name}: no {missing} found in {type(stack).__name__}")
    if getattr(stack, "project_out", None) is not None:
        raise UnsupportedError(f"{name}: {type(stack).__name__} projects its last residual to another width before the unembedding")
    heads, head_dim = finder.heads_of(module, [layer.attention for layer in layers], [layer.output_projection for layer in layers])
    softcap, scale = finder.logit_transform(module, unembedding)
    return Decoder(
        stack=stack,
        layers=layers,
        final_norm=final_norm,
        unembedding=unembedding,
        shape=ModelShape(len(layers), heads, head_dim, "decoder" if generator is None else "encoder"),
        logit_softcap=softcap,
        logit_scale=scale,
        key_value_heads=finder.key_value_heads_of(module, [(layer.attention, layer.value) for layer in layers], heads, head_dim),
        generator=generator,
    )


def _layer(layer: nn.Module) -> DecoderLayer:
    parts = finder.parts_of(layer)
    query, key, value = finder.projections_of(parts.attention)
    if parts.is_cross_attention:
        key = value = None
    return DecoderLayer(
        module=layer,
        attention=parts.attention,
        output_projection=parts.output_projection,
        mlp=parts.mlp,
        query=query,
        key=key,
        value=value,
        is_cross_attention=parts.is_cross_attention,
        mlp_is_flat=parts.mlp_is_flat,
    )
