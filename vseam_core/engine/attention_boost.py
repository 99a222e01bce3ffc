"""Attention to some positions turned up while a model generates: a number is added to the newest query's logits there, before the softmax.

An `AttentionBoost` adds strength·|a| to each logit a. An `AttentionShare` adds to all of a head's logits at its positions the one number
with which the head gives them that share. Something stands in for the function that a layer looks up (`attention_stand_in`): it adds the
number to the mask, and hands the call on to the original, which computes everything else as ever.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vseam_core.api.generation import AttentionBoost, AttentionChange, AttentionShare
from vseam_core.engine.attention_stand_in import StandIn
from vseam_core.engine.decoder import Decoder
from vseam_core.errors import UnsupportedError

IMPLEMENTATION = "vseam_boosted"
_CHANGES_LOGITS = ("softcap", "s_aux", "position_bias")


class BoostHooks:
    """Carries the changes of a batch out in every forward pass of one generation; `boosts[row]` are those of a row of the batch.

    `lengths` are those of its prompts, which are padded on the left.

    Raises `UnsupportedError` for layers whose attention cannot be turned up.
    """

    def __init__(self, decoder: Decoder, boosts: Sequence[Sequence[AttentionChange]], lengths: Sequence[int]):
        self._width = max(lengths, default=0)
        self._pads = [self._width - length for length in lengths]
        self._wanted: dict[nn.Module, list[tuple[int, AttentionChange]]] = defaultdict(list)
        layer_of: dict[nn.Module, int] = {}
        for row, some in enumerate(boosts):
            for boost in some:
                for layer in boost.layers:
                    module = _attention_of(decoder, layer)
                    layer_of[module] = layer
                    self._wanted[module].append((row, boost))
        self._stand_in = StandIn(IMPLEMENTATION, layer_of, self._attend)
        self._steps: dict[nn.Module, int] = defaultdict(int)

    def __enter__(self) -> BoostHooks:
        self._stand_in.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stand_in.__exit__(*exception)
        if exception[0] is None:
            for module in self._wanted:
                if not self._steps[module]:
                    raise UnsupportedError(f"{type(module).__name__} does not look up its attention, so it cannot be turned up")

    def _attend(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        scaling: float | None = None,
        **arguments: Any,
    ) -> Any:
        """An attention function as the library's layers call it: queries `[batch, heads, queries, head_dim]`, and all keys so far."""
        expected = self._width + self._steps[module]
        self._steps[module] += 1
        if key.shape[2] != expected or len(query) != len(self._pads):
            raise UnsupportedError(
                f"{type(module).__name__} attends to {key.shape[2]} positions of {len(query)} prompts where "
                f"{expected} of {len(self._pads)} were expected, so attention to the image cannot be turned up"
            )
        if changed := [name for name in _CHANGES_LOGITS if arguments.get(name) is not None]:
            raise UnsupportedError(f"{type(module).__name__}: attention with {changed[0]!r} cannot be turned up")
        causal = self._stand_in.is_causal(module, query, attention_mask, arguments)
        mask = _as_numbers(attention_mask, query, key, causal)
        more = mask.new_zeros(*query.shape[:3], key.shape[2])
        more[:, :, -1:] = self._more(module, query[:, :, -1:], key, mask[..., -1:, :], scaling)
        return self._stand_in.original(module)(module, query, key, value, mask + more, scaling=scaling, **arguments)

    def _more(self, module: nn.Module, newest: Tensor, key: Tensor, mask: Tensor, scaling: float | None) -> Tensor:
        """What is added to the logits of the newest query, `[batch, heads, 1, keys]`; shares are reckoned with the boosts in place."""
        keys = key.repeat_interleave(newest.shape[1] // key.shape[1], 1)
        logits = (newest @ keys.transpose(-1, -2)) * (newest.shape[-1] ** -0.5 if scaling is None else scaling)
        strengths = logits.new_zeros(len(logits), 1, 1, logits.shape[-1])
        for row, change in self._wanted[module]:
            if isinstance(change, AttentionBoost):
                strengths[row, ..., self._places(change, row)] += change.strength
        more = strengths * logits.abs()
        for row, change in self._wanted[module]:
            if isinstance(change, AttentionShare):
                heads, places = list(change.heads), self._places(change, row)
                seen = (logits + more + mask)[row, heads, 0]
                more[row, torch.tensor(heads)[:, None], 0, torch.tensor(places)] += _raised(seen, places, change.share).to(more)
        return more

    def _places(self, change: AttentionChange, row: int) -> list[int]:
        """Where the positions of a row's prompt stand in the batch."""
        return [source + self._pads[row] for source in change.sources]


def _raised(logits: Tensor, places: Sequence[int], share: float) -> Tensor:
    """What raises the weight at `places` to `share`, `[heads, places]`, from all logits `[heads, keys]` (masks in them).

    With weight m there, adding d to those logits gives it m·e^d / (m·e^d + 1 - m), which is `share` for d = logit(share) - logit(m). A
    head that gives them that much already is left alone; a position that a mask hides stays hidden, and so is one that sees none of them.
    """
    lowest = torch.finfo(logits.dtype).min / 2
    exact = torch.where(logits < lowest, -torch.inf, logits.double())
    there = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
    there[list(places)] = True
    inside, outside = (exact.masked_fill(~part, -torch.inf).logsumexp(-1) for part in (there, ~there))
    wanted = math.log(share) - math.log1p(-share) if share > 0 else -math.inf
    raise_by = (wanted - (inside - outside)).clamp(min=0.0)
    raise_by = torch.where(inside.isneginf() | outside.isneginf(), 0.0, raise_by)
    return torch.where(exact[:, list(places)].isneginf(), 0.0, raise_by[:, None])


def _attention_of(decoder: Decoder, layer: int) -> nn.Module:
    if decoder.generator is not None:
        raise UnsupportedError("attention is turned up where the prompt is read and answered by one stack; this is an encoder-decoder")
    if not 0 <= layer < len(decoder.layers):
        raise UnsupportedError(f"layer {layer} does not exist: the model has layers 0 to {len(decoder.layers) - 1}")
    if not decoder.layers[layer].attends:
        raise UnsupportedError(f"layer {layer} has no attention between positions that could be turned up")
    found: nn.Module = decoder.layers[layer].attention
    return found


def _as_numbers(mask: Tensor | None, query: Tensor, key: Tensor, causal: bool) -> Tensor:
    """An attention mask as numbers that are added to the logits, `[batch or 1, heads or 1, queries, keys]`."""
    if mask is None:
        allowed = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device)
        mask = allowed.tril(key.shape[2] - query.shape[2])[None, None] if causal else allowed[None, None]
    if mask.dtype != torch.bool:
        return mask[..., : key.shape[2]]
    return torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, torch.finfo(query.dtype).min)
