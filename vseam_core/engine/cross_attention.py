"""Cross-attention, by which a decoder looks at what an encoder hands over, and the decoder that generates from an encoder (T5).

Beside an encoder of the image alone (BLIP, Pix2Struct) words stand in the decoder, whose layers hold both attentions. Where image and words
stand in the encoder, cross-attention is that of the decoder which generates from it: a stack of its own, whose rows are the tokens that it
starts with. The stack `cross` is a name for cross-attention wherever it stands.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from vseam_core.api.interfaces import ModelShape
from vseam_core.api.interventions import AttentionWeights, Intervention, Run, Site, SiteEdit, SiteKind, Stack
from vseam_core.api.types import HeadId
from vseam_core.engine.decoder import Decoder, DecoderLayer
from vseam_core.engine.vision_tower import stack_of
from vseam_core.errors import UnsupportedError

CROSS: Stack = "cross"
GENERATOR: Stack = "decoder"
_KINDS: dict[SiteKind, SiteKind] = {"attention_output": "cross_attention_output", "head_output": "cross_head_output"}


def in_generator(change: Intervention, decoder: Decoder) -> bool:
    """Whether an intervention lies in the decoder that generates from an encoder."""
    return decoder.generator is not None and stack_of(change) == GENERATOR


def cross_shape(decoder: Decoder) -> ModelShape:
    """Layers and heads of cross-attention. Raises `UnsupportedError` for a model that has none, with the reason."""
    holder = _holder(decoder)
    heads = tuple(map(_cross_heads, holder.layers))
    if not any(heads):
        raise UnsupportedError(_reason_for_none(holder))
    width = max(layer.head_dim for layer in holder.layers if _cross_heads(layer))
    layers = len(heads)
    return ModelShape(layers, max(heads), width, CROSS, heads if len(set(heads)) > 1 else (), 0, tuple(range(layers)))


def projection_of_head(decoder: Decoder, head: HeadId) -> tuple[Any, int]:
    """The output projection whose input holds a head, and the width of the head. Raises `UnknownNameError` for one that is not there."""
    if head.stack == CROSS:
        cross_shape(decoder).require(head)
        layer = _holder(decoder).layers[head.layer]
        return (layer.output_projection if layer.is_cross_attention else layer.cross_projection), layer.head_dim
    stack = decoder.generator if decoder.generator is not None and head.stack == GENERATOR else decoder
    stack.shape.require(head)
    return stack.layers[head.layer].output_projection, stack.layers[head.layer].head_dim


@dataclass(frozen=True, eq=False)
class Look:
    """An attention whose weights are read.

    `from_prompt`: its queries are positions of the prompt, else the rows of a decoder that generates. Its `keys` are the prompt's
    positions, these behind the queries' own, or whatever an encoder of the image hands over.
    """

    module: Any
    from_prompt: bool
    keys: Literal["prompt", "prompt behind rows", "image"]


def look_of(decoder: Decoder, wanted: AttentionWeights) -> Look:
    """Where the weights that are asked for are computed. Raises `UnsupportedError` where they are not, with the reason."""
    stack = decoder.shape.stack
    of_generator, holder = decoder.generator is not None and wanted.stack == GENERATOR, decoder
    if wanted.stack == CROSS:
        cross_shape(decoder)
        holder = _holder(decoder)
    elif decoder.generator is not None and of_generator:
        holder = decoder.generator
    if (wanted.stack not in (CROSS, stack) and not of_generator) or not 0 <= wanted.layer < holder.shape.layers:
        raise UnsupportedError(f"no layer {wanted.layer} of the {wanted.stack}: the {holder.shape.stack} has {holder.shape.layers}")
    layer = holder.layers[wanted.layer]
    if of_generator:
        if not layer.reads_an_encoder:
            raise UnsupportedError(
                f"layer {wanted.layer} of the decoder that generates looks at its own tokens alone: name the stack {CROSS}"
            )
        return Look(layer.attention, False, "prompt behind rows")
    if wanted.stack == CROSS:
        module = layer.attention if layer.is_cross_attention else layer.cross_attention
        if module is None:
            raise UnsupportedError(f"layer {wanted.layer} has no cross-attention")
        to_image = holder is decoder
        return Look(module, to_image, "image" if to_image else "prompt")
    if layer.is_cross_attention:
        raise UnsupportedError(f"layer {wanted.layer} is a cross-attention layer: its attention has no prompt positions to look at")
    if not layer.attends:
        raise UnsupportedError(f"layer {wanted.layer} has no attention between positions")
    return Look(layer.attention, True, "prompt")


def as_computed(run: Run, decoder: Decoder) -> Run:
    """The same run with each site of the stack `cross` named by the stack that holds it. Raises `UnsupportedError` where none does."""
    if all(stack_of(change) != CROSS for change in run.interventions):
        return run
    return replace(run, interventions=tuple(_located(change, decoder) for change in run.interventions))


def _located(change: Intervention, decoder: Decoder) -> Intervention:
    if stack_of(change) != CROSS:
        return change
    if not isinstance(change, SiteEdit):
        raise UnsupportedError("cross-attention cannot be cut")
    shape, site = cross_shape(decoder), change.site
    if site.kind not in _KINDS:
        raise UnsupportedError(f"the stack {CROSS} has {' and '.join(_KINDS)} only, no {site.kind}")
    if not 0 <= site.layer < shape.layers:
        raise UnsupportedError(f"layer {site.layer} does not exist: the decoder has layers 0 to {shape.layers - 1}")
    holder = _holder(decoder)
    kind = site.kind if holder.layers[site.layer].is_cross_attention else _KINDS[site.kind]
    return replace(change, site=Site(site.layer, kind, site.head, cast(Stack, holder.shape.stack)))


def _holder(decoder: Decoder) -> Decoder:
    """The stack whose layers hold cross-attention, if any do: that to the image where there is one beside that to the words (BLIP)."""
    if decoder.generator is None or any(map(_cross_heads, decoder.layers)):
        return decoder
    return decoder.generator


def _cross_heads(layer: DecoderLayer) -> int:
    beside = layer.cross_projection is not None and "cross_head_output" not in layer.missing
    return layer.heads if beside or layer.is_cross_attention else 0


def _reason_for_none(holder: Decoder) -> str:
    if holder.unreadable:
        return holder.unreadable
    other = next((layer.missing["cross_head_output"] for layer in holder.layers if "cross_head_output" in layer.missing), "")
    if other:
        return other
    if any(layer.reads_an_encoder for layer in holder.layers):
        return f"the decoder of this model reads its encoder in its own attention: name the stack {GENERATOR}"
    return "its language model has no cross-attention: image and words stand in one sequence"
