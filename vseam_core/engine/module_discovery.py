"""Where a Hugging Face model keeps the parts that the engine needs, found by structure and by the library's usual names.

`decoder.find_decoder` puts them together. Everything here reads modules and configurations; nothing runs a model.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from vseam_core.engine.lanes import with_lanes
from vseam_core.errors import UnsupportedError

_INNER_NAMES = ("language_model", "text_model", "model", "decoder", "transformer", "text_decoder", "bert", "git", "encoder")
_LAYER_LISTS = ("layers", "block", "h", "blocks", "layer")
_ATTENTION_NAMES = ("self_attn", "self_attention", "attention", "attn")
# Mixers that carry a state from position to position: they stand where attention does.
_STATE_NAMES = ("linear_attn", "conv", "mamba")
# Attention to the image that is a layer's only attention, and such as stands beside its own.
_CROSS_ATTENTION_NAMES = ("cross_attn",)
_BESIDE_NAMES = ("encoder_attn", "crossattention", "cross_attn")
# The one part of a layer that holds nothing else: attention, a mixer with a state, or an MLP (Nemotron-H).
_ONLY_PART = "mixer"
PROJECTION_NAMES = ("o_proj", "out_proj", "dense", "c_proj", "wo", "o")
_MLP_NAMES = ("mlp", "feed_forward", "block_sparse_moe", "ffn")
_NORM_NAMES = ("norm", "final_layer_norm", "final_layernorm", "ln_f", "norm_f", "embedding_norm", "layer_norm")
_QUERY_KEY_VALUE_NAMES = (("q_proj", "k_proj", "v_proj"), ("q", "k", "v"), ("query", "key", "value"))
# What an encoder says that it reads first, where that is words; others read pixels or patches alone.
_READS_WORDS = ("input_ids", "inputs_embeds")
_HEAD_COUNT_NAMES = ("num_heads", "n_heads", "num_attention_heads", "num_v_heads")


@dataclass(frozen=True, eq=False)
class LayerParts:
    """What a layer is made of; see `DecoderLayer`. A part that was not found is None, and `missing` says so for each kind of site.

    `is_single` marks a layer that holds one of the parts alone: what is missing there is not overlooked.
    """

    attention: nn.Module | None
    output_projection: nn.Module | None
    mlp: nn.Module | None
    attention_writer: nn.Module | None = None
    cross_attention: nn.Module | None = None
    cross_projection: nn.Module | None = None
    is_cross_attention: bool = False
    mlp_is_flat: bool = False
    keeps_state: bool = False
    is_single: bool = False
    missing: Mapping[str, str] = field(default_factory=dict)


def find_stacks(module: Any) -> tuple[nn.Module, nn.Module | None]:
    """The stack that holds text positions, and the decoder that generates from it (None: the stack generates itself).

    An encoder that reads words holds the image's positions too. Beside one that reads the image alone (Pix2Struct), words stand in the
    decoder, which looks at the image by cross-attention.
    """
    pair = _encoder_and_decoder(module)
    if pair is None:
        return _find_decoder_only(module), None
    encoder, generator = pair
    if not reads_words(encoder):
        return _find_decoder_only(generator), None
    # The words' layers of T5Gemma 2 stand beside a vision tower.
    found = with_layers(encoder)
    if found is None:
        raise UnsupportedError(f"{type(module).__name__}: no encoder with a list of layers found beside its text decoder")
    return found, generator


def reads_words(encoder: nn.Module) -> bool:
    """Whether an encoder is given words (and perhaps an image), by what it says itself."""
    return getattr(encoder, "main_input_name", _READS_WORDS[0]) in _READS_WORDS


def image_encoder_of(module: Any) -> nn.Module | None:
    """The encoder of an encoder-decoder that reads the image alone; None where there is none."""
    pair = _encoder_and_decoder(module)
    return None if pair is None or reads_words(pair[0]) else pair[0]


def _encoder_and_decoder(module: Any) -> tuple[nn.Module, nn.Module] | None:
    """Both halves of what its configuration calls an encoder-decoder, else None. Raises `UnsupportedError` where they are not found."""
    if not _is_encoder_decoder(module):
        return None
    current = module
    while current is not None:
        encoder, generator = getattr(current, "encoder", None), getattr(current, "decoder", None)
        if isinstance(encoder, nn.Module) and isinstance(generator, nn.Module):
            return encoder, generator
        current = _child(current, _INNER_NAMES)
    raise UnsupportedError(f"{type(module).__name__}: no encoder found beside its text decoder")


def with_layers(stack: nn.Module) -> nn.Module | None:
    """The stack itself or what in it has a list of layers; None where nothing has."""
    current: nn.Module | None = stack
    while current is not None and layers_of(current) is None:
        current = _child(current, _INNER_NAMES)
    return current


def layers_of(stack: nn.Module) -> nn.ModuleList | None:
    """The stack's own list of layers, if it has one."""
    for name in _LAYER_LISTS:
        candidate = getattr(stack, name, None)
        if isinstance(candidate, nn.ModuleList) and len(candidate):
            return candidate
    return None


def final_norm_of(stack: nn.Module) -> nn.Module | None:
    """The norm after the stack's last layer, with what reads several residual lanes before it."""
    return with_lanes(stack, _child(stack, _NORM_NAMES))


def parts_of(layer: nn.Module, projections: Sequence[str] = PROJECTION_NAMES) -> LayerParts:
    """The parts of one layer, as far as they are found; `projections` are the names that W_O may have."""
    found = next(filter(None, (kind(layer) for kind in (_like_t5, _like_bert, _like_pix2struct))), None)
    if found is None:
        only = _child(layer, (_ONLY_PART,))
        found = _usual(layer, projections) if only is None else _single(only, projections)
    if found.output_projection is None and not found.is_single:
        # What has no output projection of its own may add the residual inside: its output is not attention's.
        found = replace(found, attention=None)
    parts = {"attention_output": found.attention, "head_output": found.output_projection, "mlp_output": found.mlp}
    names = {"attention_output": "attention", "head_output": "attention output projection", "mlp_output": "MLP"}
    among = [child for child, _ in layer.named_children()]
    said = (
        f"this layer is {type(only).__name__} alone: it has no %s"
        if found.is_single
        else f"{type(layer).__name__}: no %s found among {among}"
    )
    missing = {kind: said % names[kind] for kind, part in parts.items() if part is None}
    return replace(found, missing={**missing, **found.missing})


def _like_t5(layer: nn.Module) -> LayerParts | None:
    """A layer that is a list of sub-layers which add to the residual themselves."""
    inner = getattr(layer, "layer", None)
    if not isinstance(inner, nn.ModuleList) or not hasattr(inner[0], "SelfAttention"):
        return None
    attention, cross = _child(inner[0], ("SelfAttention",)), _child(inner[1], ("EncDecAttention",))
    return LayerParts(
        attention=attention,
        output_projection=_projection_of(attention, PROJECTION_NAMES),
        mlp=_child(inner[-1], ("DenseReluDense",)),
        cross_attention=cross,
        cross_projection=_projection_of(cross, PROJECTION_NAMES),
    )


def _like_bert(layer: nn.Module) -> LayerParts | None:
    """A layer whose sub-layers end in a module that projects, adds the residual and norms the sum: what it adds is what it projects."""
    attention, output = getattr(layer, "attention", None), getattr(layer, "output", None)
    inner = _child(attention, ("self",)) if isinstance(attention, nn.Module) else None
    if inner is None or output is None or not isinstance(getattr(layer, "intermediate", None), nn.Module):
        return None
    projection, cross = _dense_of(attention), getattr(layer, "crossattention", None)
    # A hook on the MLP would be called for each chunk of positions.
    chunks = bool(getattr(layer, "chunk_size_feed_forward", 0))
    return LayerParts(
        attention=inner,
        output_projection=projection,
        mlp=None if chunks else _child(output, ("dense",)),
        attention_writer=projection,
        cross_attention=_child(cross, ("self",)) if isinstance(cross, nn.Module) else None,
        cross_projection=None if cross is None else _dense_of(cross),
        missing={"mlp_output": f"{type(layer).__name__}: its MLP takes the positions in chunks"} if chunks else {},
    )


def _dense_of(attention: Any) -> nn.Module | None:
    output = getattr(attention, "output", None)
    return _child(output, ("dense",)) if isinstance(output, nn.Module) else None


def _like_pix2struct(layer: nn.Module) -> LayerParts | None:
    """A layer of named sub-layers which norm their input and add to the residual themselves."""
    attention, cross, mlp = (
        _child(part, (name,)) if isinstance(part, nn.Module) else None
        for part, name in (
            (getattr(layer, "self_attention", None), "attention"),
            (getattr(layer, "encoder_decoder_attention", None), "attention"),
            (getattr(layer, "mlp", None), "DenseReluDense"),
        )
    )
    if attention is None or mlp is None:
        return None
    return LayerParts(
        attention=attention,
        output_projection=_projection_of(attention, PROJECTION_NAMES),
        mlp=mlp,
        cross_attention=cross,
        cross_projection=_projection_of(cross, PROJECTION_NAMES),
    )


def _single(only: nn.Module, projections: Sequence[str]) -> LayerParts:
    attention, mlp, state = _kind_of(only)
    return LayerParts(attention, _projection_of(attention, projections), mlp, keeps_state=state, is_single=True)


def _usual(layer: nn.Module, projections: Sequence[str]) -> LayerParts:
    """A layer that adds the outputs of its parts to the residual."""
    attention, mlp = _child(layer, _ATTENTION_NAMES), _child(layer, _MLP_NAMES)
    cross, state, flat, is_cross = _child(layer, _BESIDE_NAMES), False, False, False
    if attention is None:
        attention, cross = _child(layer, _CROSS_ATTENTION_NAMES), None
        is_cross = attention is not None
    if attention is None:
        attention = _child(layer, _STATE_NAMES)
        state = attention is not None
    if mlp is None and isinstance(getattr(layer, "fc1", None), nn.Module):
        # OPT: no MLP module; the second linear map's output is what the residual gets.
        mlp, flat = _child(layer, ("fc2",)), True
    return LayerParts(
        attention=attention,
        output_projection=_projection_of(attention, projections),
        mlp=mlp,
        cross_attention=cross,
        cross_projection=_projection_of(cross, projections),
        is_cross_attention=is_cross,
        mlp_is_flat=flat,
        keeps_state=state,
    )


def reads_an_encoder(parts: LayerParts) -> bool:
    """Whether a layer's own attention reads an encoder's output too (T5Gemma 2): it makes keys and values of both, one after the other."""
    if parts.attention is None:
        return False
    read = inspect.signature(parts.attention.forward).parameters.get("encoder_hidden_states")
    return read is not None and read.default is inspect.Parameter.empty


def _projection_of(attention: nn.Module | None, projections: Sequence[str]) -> nn.Module | None:
    """W_O by its usual names; one named `output` only where it is a linear map, and no sub-layer that adds the residual."""
    if attention is None:
        return None
    output = getattr(attention, "output", None)
    return _child(attention, projections) or (output if isinstance(output, nn.Linear) else None)


def _kind_of(only: nn.Module) -> tuple[nn.Module | None, nn.Module | None, bool]:
    """A layer's only part as (attention or mixer, MLP, whether it carries a state)."""
    if any(isinstance(child, nn.Conv1d) for child in only.children()):
        return only, None, True
    if _child(only, tuple(name for names in _QUERY_KEY_VALUE_NAMES for name in names[:1])) is not None:
        return only, None, False
    return None, only, False


def projections_of(attention: nn.Module) -> tuple[nn.Module | None, nn.Module | None, nn.Module | None]:
    """Query, key and value projection of an attention module, all None where they are fused or missing."""
    for names in _QUERY_KEY_VALUE_NAMES:
        query, key, value = (_child(attention, (name,)) for name in names)
        if query is not None and key is not None and value is not None:
            return query, key, value
    return None, None, None


def heads_of(module: Any, attention: nn.Module, projection: Any, keeps_state: bool = False) -> tuple[int, int] | str:
    """The number of heads of one layer and the width of each, as the input of W_O holds them; a reason where that is unknown.

    A mixer that keeps a state has the heads that it says itself: the configuration's are attention's, and a convolution has none (0).
    """
    if keeps_state and not any(isinstance(getattr(attention, name, None), int) for name in _HEAD_COUNT_NAMES):
        return 0, 0
    heads = _head_count(module, attention)
    width = width_read_by(projection)
    if not heads:
        return f"{type(attention).__name__}: the number of heads is neither in the module nor in the config"
    if width is None or width % heads:
        return f"{type(attention).__name__}: W_O reads {width} features, not a multiple of {heads} heads"
    return heads, width // heads


def width_read_by(projection: Any) -> int | None:
    """How many features a linear map reads; GPT-2's name it in their own way."""
    width = getattr(projection, "in_features", getattr(projection, "nx", None))
    return width if isinstance(width, int) else None


def key_value_heads_of(module: Any, attention: nn.Module, value: Any, heads: int, head_dim: int) -> int:
    """How many key and value heads a layer has, read off the value projection where there is one, else off the module or config."""
    if value is not None and isinstance(getattr(value, "out_features", None), int) and value.out_features >= head_dim:
        return int(value.out_features) // head_dim
    own = getattr(attention, "num_key_value_heads", None)
    if isinstance(own, int):
        return own
    groups = getattr(attention, "num_key_value_groups", None)
    if isinstance(groups, int) and groups:
        return heads // groups
    return int(getattr(_text_config(module), "num_key_value_heads", None) or heads)


def sources_of_keys(attentions: Sequence[nn.Module | None]) -> dict[int, int]:
    """For each layer that makes no keys and values, the earlier one whose it reads (Gemma 4: the last of its kind that makes some)."""
    sources: dict[int, int] = {}
    made: dict[str, int] = {}
    for layer, attention in enumerate(attentions):
        kind = str(getattr(attention, "layer_type", ""))
        if getattr(attention, "is_kv_shared_layer", False) and kind in made:
            sources[layer] = made[kind]
        elif getattr(attention, "store_full_length_kv", False):
            made[kind] = layer
    return sources


def source_of(function: Any) -> str:
    """How a function is written; "" where its source is not there."""
    try:
        return inspect.getsource(function)
    except (TypeError, OSError):
        return ""


def _text_config(module: Any) -> Any:
    return module.config.get_text_config(decoder=True)


def _is_encoder_decoder(module: Any) -> bool:
    return bool(getattr(module.config, "is_encoder_decoder", False) or getattr(_text_config(module), "is_encoder_decoder", False))


def _child(module: nn.Module, names: Sequence[str]) -> nn.Module | None:
    for name in names:
        candidate = getattr(module, name, None)
        if isinstance(candidate, nn.Module):
            return candidate
    return None


def _find_decoder_only(module: Any) -> nn.Module:
    # get_decoder() is not transitive (BLIP-2 returns a whole causal LM), so descend until a layer list appears.
    current: Any = module
    seen: list[Any] = []
    while current is not None and all(current is not other for other in seen):
        seen.append(current)
        if layers_of(current) is not None:
            return current
        following = current.get_decoder() if hasattr(current, "get_decoder") else current
        if following is current or following is None:
            following = _child(current, _INNER_NAMES)
        current = following
    raise UnsupportedError(f"{type(module).__name__}: no list of decoder layers found")


def _head_count(module: Any, attention: nn.Module) -> int | None:
    # Llama-like attention modules carry no head count: a fallback constant would slice them wrongly without any error.
    own = (getattr(attention, name, None) for name in _HEAD_COUNT_NAMES)
    count = next((count for count in own if isinstance(count, int)), None)
    groups, per_group = getattr(attention, "num_key_value_groups", None), getattr(attention, "num_key_value_heads", None)
    if count is None and isinstance(groups, int) and isinstance(per_group, int):
        count = groups * per_group
    if count is None:
        config = getattr(attention, "config", None)
        count = getattr(config, "num_attention_heads", None) or getattr(_text_config(module), "num_attention_heads", None)
    return int(count) if isinstance(count, int) and count else None
