"""Attention weights as a readout: recomputed from the queries and keys that each layer's attention is given, while the model runs as it is.

The library gives weights in its eager implementation only, all of them and of every layer. Here something stands in for the function that a
layer looks up (`attention_stand_in`): it works out the weights of the wanted queries, and hands the call on to the original.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vseam_core.api.interventions import AttentionWeights, Run
from vseam_core.engine.attention_stand_in import StandIn, implementation_of
from vseam_core.engine.cross_attention import Look, look_of
from vseam_core.engine.decoder import Decoder
from vseam_core.engine.layout import Layout
from vseam_core.errors import UnsupportedError

IMPLEMENTATION = "vseam_weights"
_READ = frozenset({"position_bias", "softcap", "s_aux"})
# Arguments of attention functions that change no weight: without dropout, and with the mask that says what they say.
_OF_NO_ACCOUNT = frozenset({"dropout", "position_ids", "cache_position", "sliding_window"})


class WeightHooks:
    """Reads the attention weights that the runs of a plain batch `[batch, positions, …]` ask for, while the model is called.

    Set `layout` to the batch's layout before the call. Raises `UnsupportedError` for attention whose weights cannot be worked out.
    """

    def __init__(self, decoder: Decoder, runs: Sequence[Run]):
        self._wanted: dict[nn.Module, list[tuple[int, int, AttentionWeights, Look]]] = defaultdict(list)
        self._looks: dict[tuple[int, int], Look] = {}
        for row, run in enumerate(runs):
            for place, wanted in enumerate(run.attention):
                look = self._looks[row, place] = look_of(decoder, wanted)
                self._wanted[look.module].append((row, place, wanted, look))
        self._found: dict[tuple[int, int], np.ndarray] = {}
        layers = {module: some[0][2].layer for module, some in self._wanted.items()}
        self._stand_in = StandIn(IMPLEMENTATION, layers, self._attend)
        self.layout: Layout | None = None

    def __enter__(self) -> WeightHooks:
        self._stand_in.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stand_in.__exit__(*exception)

    def of(self, row: int, run: Run) -> tuple[np.ndarray, ...]:
        """What a run asked for, each float32 `[heads, targets, keys]`. Raises `UnsupportedError` where a layer gave none."""
        for place, wanted in enumerate(run.attention):
            if (row, place) not in self._found:
                name = type(self._looks[row, place].module).__name__
                raise UnsupportedError(f"layer {wanted.layer} ({name}) does not look up its attention, so its weights cannot be read")
        return tuple(self._found[row, place] for place in range(len(run.attention)))

    def _attend(
        self,
        module: nn.Module,
        query: Float[Tensor, "batch heads positions head_dim"],
        key: Float[Tensor, "batch key_value_heads keys head_dim"],
        value: Float[Tensor, "batch key_value_heads keys value_dim"],
        attention_mask: Tensor | None,
        scaling: float | None = None,
        **arguments: Any,
    ) -> Any:
        """An attention function as the library's layers call it."""
        original = self._stand_in.original(module)
        for name, given in arguments.items():
            if isinstance(given, (float, Tensor)) and name not in _READ | _OF_NO_ACCOUNT and _reads(original, name):
                raise UnsupportedError(f"{type(module).__name__}: attention with {name!r} has weights that cannot be worked out")
        mask = attention_mask
        if self._stand_in.is_causal(module, query, mask, arguments):
            mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril()[None, None]
        for row, place, wanted, look in self._wanted[module]:
            part = _Part(query[row], key[row], _of_row(mask, row), _of_row(arguments.get("position_bias"), row))
            targets = torch.tensor(self._queries(wanted, look, row, query.shape[2]), device=query.device)
            weights = part.weights(targets, scaling, arguments.get("softcap"), arguments.get("s_aux"))
            keys = self._keys(look, row, query.shape[2], key.shape[2])
            self._found[row, place] = weights[..., keys].detach().float().cpu().numpy()
        return original(module, query, key, value, attention_mask, scaling=scaling, **arguments)

    def _queries(self, wanted: AttentionWeights, look: Look, row: int, rows: int) -> list[int]:
        """Where the wanted queries stand among those of a row of the batch."""
        if look.from_prompt:
            return [target + self._shift(row, rows) for target in wanted.targets]
        outside = [target for target in wanted.targets if not -rows <= target < rows]
        if outside:
            raise UnsupportedError(f"row {outside[0]} lies outside the {rows} rows of the decoder that generates")
        return [target % rows for target in wanted.targets]

    def _keys(self, look: Look, row: int, rows: int, keys: int) -> slice:
        """Where the keys that are looked at stand among those of a row of the batch, without pads."""
        if look.keys == "image":
            return slice(None)
        own = 0 if look.keys == "prompt" else rows
        start = own + self._shift(row, keys - own)
        return slice(start, start + len(self._span(row).positions))

    def _span(self, row: int) -> Any:
        assert self.layout is not None
        return self.layout.span(row)

    def _shift(self, row: int, width: int) -> int:
        """How many pads stand in front of a row's own positions."""
        return int(self._span(row).offset) - row * width


class _Part:
    """One row's queries and keys, `[heads, positions, head_dim]`, with its mask and bias where there are any."""

    def __init__(self, query: Tensor, key: Tensor, mask: Tensor | None, bias: Tensor | None):
        self.query, self.key, self.mask, self.bias = query, key, mask, bias

    def weights(
        self, targets: Tensor, scaling: float | None, softcap: float | None, sinks: Tensor | None
    ) -> Float[Tensor, "heads targets keys"]:
        """The softmax over the scores of some queries, in float32 at least."""
        query = self.query[:, targets]
        keys = self.key.repeat_interleave(len(self.query) // len(self.key), 0)
        scores = (query @ keys.transpose(-1, -2)) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        if softcap:
            scores = torch.tanh(scores / softcap) * softcap
        if self.bias is not None:
            scores = scores + self.bias[:, targets, : scores.shape[-1]]
        blind = torch.zeros(1, dtype=torch.bool, device=scores.device)
        if self.mask is not None:
            mask = self.mask[:, targets, : scores.shape[-1]]
            seen = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
            scores = scores.masked_fill(~seen, float("-inf")) if mask.dtype == torch.bool else scores + mask
            blind = ~seen.any(-1, keepdim=True)
        if sinks is not None:
            scores = torch.cat([scores, sinks.reshape(-1, 1, 1).expand(*scores.shape[:2], 1).to(scores)], -1)
        # A query that may look nowhere has no weights: the softmax alone would spread them evenly, or give NaN.
        weights = scores.softmax(-1).masked_fill(blind, 0.0)
        return weights if sinks is None else weights[..., :-1]


def check_attention(decoder: Decoder, run: Run) -> None:
    """Raise `UnsupportedError` for weights that a run asks for and the model does not have, with the reason."""
    for wanted in run.attention:
        look = look_of(decoder, wanted)
        if look.from_prompt and any(not 0 <= target < len(run.base) for target in wanted.targets):
            raise UnsupportedError(f"position {max(wanted.targets, key=abs)} lies outside a prompt of {len(run.base)} positions")
        implementation_of(look.module, wanted.layer)


def _reads(function: Callable[..., Any], name: str) -> bool:
    """Whether a function may look at an argument of this name."""
    try:
        return name in inspect.getsource(function)
    except (TypeError, OSError):
        return True  # no source to look at


def _of_row(value: Tensor | None, row: int) -> Tensor | None:
    """A row's part of a mask or a bias; one row may stand for all."""
    return None if value is None else value[row if value.shape[0] > 1 else 0]
