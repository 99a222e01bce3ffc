"""What the engine touches in a model: the layers that carry image and text positions, their parts, final norm and unembedding.

`find_decoder` finds them in any Hugging Face VLM. Where the language model is an encoder-decoder (T5), the layers are the encoder's:
image and text positions live there, and the decoder only generates from what it hands over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from vseam_core.api.interfaces import ModelShape
from vseam_core.api.interventions import SiteKind
from vseam_core.engine import module_discovery as finder
from vseam_core.engine.lanes import ReadLanes
from vseam_core.engine.unembedding import head_transform_of, logit_transform, masked_tokens_of, unembedding_of, unpadded_vocabulary
from vseam_core.errors import UnsupportedError

CROSS_KINDS: tuple[SiteKind, ...] = ("cross_attention_output", "cross_head_output")


@dataclass(frozen=True, eq=False)
class DecoderLayer:
    """One layer's parts: the layer itself, its attention, the attention's output projection (W_O), its MLP.

    `query`, `key` and `value` are the linear projections whose outputs are `[batch, positions, heads × head_dim]` (key and value:
    key_value_heads × head_dim), before any head norm and rotation. They are None where the family computes them in one fused projection;
    `key` and `value` are None too in a cross-attention layer (Mllama), where they have no prompt positions: they read the image, and in
    one whose own attention `reads_an_encoder` as well (T5Gemma 2). `mlp_is_flat` marks an MLP output of `[batch × positions, width]` (OPT).
    `keeps_state` marks a mixer that carries a state from position to position in attention's place, `attention_writer` is the module that
    gives what attention adds to the residual (W_O, where a module behind it adds the residual too: BERT), `cross_attention` and
    `cross_projection` are attention to what an encoder hands over (the image; a T5's image and words) that stands beside the layer's own,
    and its W_O; `is_single` marks a layer that is attention, such a mixer or an MLP alone. A layer with `keys_from` has no keys and values
    of its own: it reads those of that layer. `missing` gives for each kind of site that the layer lacks the reason; the parts it would
    need are None. Heads and widths are 0 where the layer has no heads.
    """

    module: nn.Module
    attention: Any
    output_projection: Any
    mlp: Any
    query: nn.Module | None = None
    key: nn.Module | None = None
    value: nn.Module | None = None
    attention_writer: Any = None
    cross_attention: Any = None
    cross_projection: Any = None
    is_cross_attention: bool = False
    reads_an_encoder: bool = False
    mlp_is_flat: bool = False
    keeps_state: bool = False
    is_single: bool = False
    keys_from: int | None = None
    heads: int = 0
    head_dim: int = 0
    key_value_heads: int = 0
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def attends(self) -> bool:
        """Whether positions of the prompt look at each other in this layer's attention."""
        return self.attention is not None and not self.is_cross_attention and not self.keeps_state


@dataclass(frozen=True, eq=False)
class Decoder:
    """The stack of a VLM that the engine addresses; `shape.stack` says whether it is a decoder or an encoder.

    `shape` gives the most heads and the widest head of any layer; layers may differ (`DecoderLayer.heads`). `key_value_heads` is smaller
    than `shape.heads` under grouped-query attention. `masked_tokens` are the ids whose logits the model sets to the lowest number,
    `vocabulary` how many logits it keeps where its unembedding is padded (None: all).
    `unreadable` says why no stack was found, where none was: the model still answers. `generator` is None in a decoder-only model.
    Otherwise (T5) it is the decoder that must run again with new `encoder_hidden_states`, namely `final_norm` of this stack's last
    residual: a stack of layers too, whose rows are the tokens that it starts with (without `unembedding` it has no lens). Logits are
    `softcap · tanh(logit_scale · unembedding(…) / softcap)`, the softcap where there is one.
    """

    stack: nn.Module
    layers: tuple[DecoderLayer, ...]
    final_norm: nn.Module
    unembedding: Any
    shape: ModelShape
    logit_softcap: float | None
    logit_scale: float = 1.0
    key_value_heads: int = 0
    generator: Decoder | None = None
    masked_tokens: tuple[int, ...] = ()
    vocabulary: int | None = None
    unreadable: str = ""

    def logits(self, residual: torch.Tensor) -> torch.Tensor:
        """The logits `[…, vocabulary]` of the last residual `[…, width]`.

        In a decoder-only model the residual that leaves the last layer, before the final norm. With a `generator`, the
        generator's last hidden state as it returns it, after its own final norm.
        """
        hidden = residual if self.generator is not None else self.final_norm(residual)
        logits = self.unembedding(hidden)[..., : self.vocabulary]
        if self.logit_scale != 1.0:
            logits = logits * self.logit_scale
        if self.logit_softcap:
            logits = torch.tanh(logits / self.logit_softcap) * self.logit_softcap
        if self.masked_tokens:
            logits = logits.index_fill(-1, torch.tensor(self.masked_tokens, device=logits.device), torch.finfo(logits.dtype).min)
        return logits

    def lacks(self, layer: int, kind: str) -> str:
        """Why a layer has no site of this kind; "" where it has one."""
        part = self.layers[layer]
        if kind in CROSS_KINDS and part.cross_projection is None:
            return f"layer {layer} of this model has no cross-attention beside its own attention"
        if kind in ("query", "key", "value") and getattr(part, kind) is None:
            return f"layer {layer} of this model has no {kind} projection of its own"
        return part.missing.get(kind, "")

    @property
    def reason_against_replay(self) -> str:
        """What layers hold that replay cannot compute again; "" where nothing of the kind is seen."""
        for layer in self.layers:
            if layer.missing and not layer.is_single:
                return next(iter(layer.missing.values()))
        if isinstance(self.final_norm, ReadLanes):
            return "its layers hand on several residual lanes"
        return self.unreadable

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
    layers = tuple(layer_of(module, layer) for layer in finder.layers_of(stack) or ())
    sources = finder.sources_of_keys([layer.attention for layer in layers])
    layers = tuple(replace(layer, keys_from=sources.get(index)) for index, layer in enumerate(layers))
    shape = shape_of_layers("decoder" if generator is None else "encoder", layers)
    unembedding = unembedding_of(module)
    if unembedding is None:
        raise UnsupportedError(f"{name}: no unembedding found in {type(stack).__name__}")
    final_norm = finder.final_norm_of(stack) or head_transform_of(module, unembedding)
    if getattr(stack, "project_out", None) is not None:
        raise UnsupportedError(f"{name}: {type(stack).__name__} projects its last residual to another width before the unembedding")
    softcap, scale = logit_transform(module, unembedding)
    found = Decoder(
        stack=stack,
        layers=layers,
        # Where none is found (BART has none), the check of the logits says whether one is missing.
        final_norm=nn.Identity() if final_norm is None else final_norm,
        unembedding=unembedding,
        shape=shape,
        logit_softcap=softcap,
        logit_scale=scale,
        key_value_heads=max(layer.key_value_heads for layer in layers),
        masked_tokens=masked_tokens_of(module),
        vocabulary=unpadded_vocabulary(module, unembedding),
    )
    return found if generator is None else replace(found, generator=_generator_of(module, generator, found))


def shape_of_layers(stack: str, layers: Sequence[DecoderLayer]) -> ModelShape:
    """The shape of a stack with these layers."""
    heads = max(layer.heads for layer in layers)
    counts = tuple(layer.heads for layer in layers)
    shared = max(layer.key_value_heads for layer in layers)
    return ModelShape(
        len(layers),
        heads,
        max(layer.head_dim for layer in layers),
        stack,
        counts if len(set(counts)) > 1 else (),
        shared if shared < heads else 0,
        tuple(index for index, layer in enumerate(layers) if not layer.attends),
    )


def stack_of_layers(name: str, stack: nn.Module, layers: Sequence[DecoderLayer]) -> Decoder:
    """A stack that edits address and whose last residual has no logits: the vision tower, a Q-Former."""
    shape = shape_of_layers(name, layers)
    shared = max(layer.key_value_heads for layer in layers)
    return Decoder(stack, tuple(layers), nn.Identity(), None, shape, None, key_value_heads=shared)


def _generator_of(module: Any, generator: nn.Module, encoder: Decoder) -> Decoder:
    """The decoder that generates from an encoder's output, as a stack; one that is `unreadable` where its layers are not found."""
    inner = finder.with_layers(generator)
    if inner is None:
        return unreadable_decoder(generator, f"{type(generator).__name__}: no list of layers found in the decoder of this model")
    parts = tuple(layer_of(module, layer) for layer in finder.layers_of(inner) or ())
    norm = finder.final_norm_of(inner) or head_transform_of(module, encoder.unembedding)
    # The logits are made of its last residual.
    return replace(
        encoder,
        stack=generator,
        layers=parts,
        final_norm=nn.Identity() if norm is None else norm,
        shape=shape_of_layers("decoder", parts),
        key_value_heads=max(layer.key_value_heads for layer in parts),
    )


def readable_decoder(module: Any) -> Decoder:
    """The stack of a model, or what stands for it where none can be found: such a model still answers."""
    try:
        return find_decoder(module)
    except UnsupportedError as error:
        return unreadable_decoder(module, str(error))


def unreadable_decoder(module: Any, reason: str) -> Decoder:
    """What stands for the stack of a model in which none was found: no layers, and the reason."""
    return Decoder(
        stack=module,
        layers=(),
        final_norm=nn.Identity(),
        unembedding=None,
        shape=ModelShape(0, 0, 0),
        logit_softcap=None,
        unreadable=reason,
    )


def layer_of(module: Any, layer: nn.Module, projections: Sequence[str] = finder.PROJECTION_NAMES) -> DecoderLayer:
    """One layer of `module`, whose configuration counts heads where the layer itself does not; `projections` are names of W_O."""
    parts = finder.parts_of(layer, projections)
    query, key, value = finder.projections_of(parts.attention) if parts.attention is not None else (None, None, None)
    missing, heads, head_dim, key_value_heads = dict(parts.missing), 0, 0, 0
    if parts.attention is not None:
        found = finder.heads_of(module, parts.attention, parts.output_projection, parts.keeps_state)
        if isinstance(found, str):
            missing["head_output"] = found
        else:
            heads, head_dim = found
            key_value_heads = finder.key_value_heads_of(module, parts.attention, value, heads, head_dim)
    reads_an_encoder = finder.reads_an_encoder(parts)
    if parts.is_cross_attention or reads_an_encoder:
        key = value = None
    if parts.cross_projection is not None and finder.width_read_by(parts.cross_projection) != heads * head_dim:
        missing["cross_head_output"] = f"{type(layer).__name__}: its cross-attention has other heads than its own attention"
    if query is not None and heads and getattr(query, "out_features", 0) == 2 * heads * head_dim:
        query = None  # it makes a gate for each head as well (Qwen3.5)
    return DecoderLayer(
        module=layer,
        attention=parts.attention,
        output_projection=parts.output_projection,
        mlp=parts.mlp,
        query=query,
        key=key,
        value=value,
        attention_writer=parts.attention_writer or parts.attention,
        cross_attention=parts.cross_attention,
        cross_projection=parts.cross_projection,
        is_cross_attention=parts.is_cross_attention,
        reads_an_encoder=reads_an_encoder,
        mlp_is_flat=parts.mlp_is_flat,
        keeps_state=parts.keeps_state,
        is_single=parts.is_single,
        heads=heads,
        head_dim=head_dim,
        key_value_heads=key_value_heads,
        missing=missing,
    )
