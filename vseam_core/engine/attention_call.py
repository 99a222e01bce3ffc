"""What replay tells the attention of a layer before it calls the layer: whose positions stand where, and what the recordings hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jaxtyping import Bool, Float
from torch import Tensor

from vseam_core.api.interventions import AttentionBlock
from vseam_core.engine.layout import Layout
from vseam_core.engine.own_positions import CountingModules

Keys = Float[Tensor, "tokens key_value_heads head_dim"]
Values = Float[Tensor, "tokens key_value_heads value_dim"]
KeysOfPrompt = Float[Tensor, "key_value_heads positions head_dim"]
ValuesOfPrompt = Float[Tensor, "key_value_heads positions value_dim"]


class KeysFound(Exception):
    """Ends a layer's call once its keys and values are known: nothing after them is needed."""


@dataclass(frozen=True, eq=False)
class RecordedLayer:
    """What one prompt's recording says about the attention of one layer.

    `allowed` is its mask, bool `[positions, positions]`; None where attention is plain causal (in an encoder: sees everything).
    `prefix` holds keys and values `[key_value_heads, positions, head_dim]`, where some run starts after position 0. `output`
    `[positions, heads × head_dim]` is what W_O was given.
    """

    length: int
    allowed: Bool[Tensor, "positions positions"] | None
    prefix: tuple[KeysOfPrompt, ValuesOfPrompt] | None
    output: Float[Tensor, "positions width"]


@dataclass(eq=False)
class AttentionCall:
    """What the next layer's attention works on.

    `queries` are the tokens that the layer is called with, `keys` those that `own` keys and values `[tokens, key_value_heads, head_dim]`
    hold (the same tokens where `own` is None). `starts[row]` is the first position that a run computes itself; before it its
    prompt's recording, `recorded[row]`, holds. What W_O is given in the rows in `given` is taken from there: nothing before it changed
    (a gate or norm between attention and W_O is in it already). `blocks` are knockouts by row. `handed` names the tensors that the
    layer was called with: attention that gets one of them under its name, and does not read it, is the same without. `counting` answers
    a layer that makes positions by itself. `only_keys` ends the layer once `own` is known; `answered` says that a layer came here.
    """

    queries: Layout
    keys: Layout
    starts: Mapping[int, int]
    recorded: Mapping[int, RecordedLayer] = field(default_factory=dict)
    causal: bool = True
    given: frozenset[int] = frozenset()
    own: tuple[Keys, Values] | None = None
    blocks: Mapping[int, Sequence[AttentionBlock]] = field(default_factory=dict)
    handed: frozenset[str] = frozenset()
    counting: CountingModules | None = None
    only_keys: bool = False
    answered: bool = False
