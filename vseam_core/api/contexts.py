"""What tracers and head interventions are told about a model and a sample, and what they answer with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vseam_core.api.interventions import AnswerIds, SiteEdit
from vseam_core.api.types import HeadId, Pair
from vseam_core.errors import UnknownNameError

if TYPE_CHECKING:
    import numpy as np

    from vseam_core.api.prompts import EncodedPrompt


@dataclass(frozen=True)
class ModelShape:
    """Layers, heads and head width of a stack that methods address.

    Where layers differ, `heads` and `head_dim` are those of the layer with most, and `heads_by_layer` says how many each has (0: a
    convolution, or an MLP alone); empty where all have `heads`. `key_value_heads` is smaller than `heads` where
    several heads read the same keys and values (grouped queries); 0: as many as heads. In the layers `without_attention` no positions
    look at each other (cross-attention, a mixer with a state, an MLP alone).
    """

    layers: int
    heads: int
    head_dim: int
    stack: str = "decoder"
    heads_by_layer: tuple[int, ...] = ()
    key_value_heads: int = 0
    without_attention: tuple[int, ...] = ()

    @property
    def attention_layers(self) -> tuple[int, ...]:
        """The layers in which positions look at each other."""
        return tuple(layer for layer in range(self.layers) if layer not in self.without_attention)

    def heads_in(self, layer: int) -> int:
        """How many heads a layer has."""
        return self.heads_by_layer[layer] if self.heads_by_layer else self.heads

    def require(self, head: HeadId) -> None:
        """Raise `UnknownNameError` for a head that a model of this shape does not have."""
        if head.stack != self.stack or not 0 <= head.layer < self.layers or not 0 <= head.head < self.heads_in(head.layer):
            known = f"the {self.stack} has layers 0 to {self.layers - 1} with heads 0 to {self.heads - 1}"
            if self.heads_by_layer and 0 <= head.layer < self.layers:
                known = f"layer {head.layer} of the {self.stack} has {self.heads_in(head.layer) or 'no'} heads"
            raise UnknownNameError(f"head {head} does not exist: {known}")


@dataclass(frozen=True, eq=False)
class TraceContext:
    """Everything that a tracer may know about one pair: both prompts, the answer, the edited region and the model's shape.

    `stack` is the stack that was named, whose rows are no positions of the prompts; "" where image and words stand in it.
    """

    pair: Pair
    clean: EncodedPrompt
    corrupt: EncodedPrompt
    answer: AnswerIds
    shape: ModelShape
    image_size: tuple[int, int]
    seed: int = 0
    stack: str = ""


@dataclass(frozen=True)
class Needs:
    """What a head intervention must be given: how many resampling donors, dataset means, the other image of the pair."""

    donors: int = 0
    means: bool = False
    pair: bool = False


@dataclass(frozen=True, eq=False)
class HeadContext:
    """What a head intervention may know about one sample.

    `positions` is where heads are replaced (`None`: everywhere). `donors` are prompts of other images with the same template and
    length. `means[layer]` holds dataset means resolved to this prompt's token roles, float32 `[positions, heads, head_dim]` over all
    of the prompt's positions. `other` is the other image of the pair.
    """

    base: EncodedPrompt
    shape: ModelShape
    positions: tuple[int, ...] | None = None
    donors: tuple[EncodedPrompt, ...] = ()
    means: Mapping[int, np.ndarray] | None = None
    other: EncodedPrompt | None = None


@dataclass(frozen=True, eq=False)
class Variant:
    """One way to carry an intervention out; effects are averaged over an intervention's variants (resampling donors)."""

    edits: tuple[SiteEdit, ...]
    donor: EncodedPrompt | None = None
