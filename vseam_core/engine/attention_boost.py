"""More attention to some positions while a model generates: the newest query's logits there become a + strength·|a|, before the softmax.

The function that a layer looks up is stood in for while its attention module runs, as for reading weights (`attention_weights`): it adds
the difference to the mask, and hands the call on to the original, which computes everything else as ever.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from vseam_core.api.generation import AttentionBoost
from vseam_core.engine.attention import FUNCTION_TABLE
from vseam_core.engine.attention_weights import implementation_of, is_causal, original_of
from vseam_core.engine.decoder import Decoder
from vseam_core.errors import UnsupportedError

IMPLEMENTATION = "vseam_boosted"
_CHANGES_LOGITS = ("softcap", "s_aux", "position_bias")


class BoostHooks:
    """Carries the boosts of a batch out in every forward pass of one generation; `boosts[row]` are those of a row of the batch.

    `lengths` are those of its prompts, which are padded on the left.

    Raises `UnsupportedError` for layers whose attention cannot be turned up.
    """

    def __init__(self, decoder: Decoder, boosts: Sequence[Sequence[AttentionBoost]], lengths: Sequence[int]):
        self._width = max(lengths, default=0)
        self._pads = [self._width - length for length in lengths]
        self._wanted: dict[nn.Module, list[tuple[int, AttentionBoost]]] = defaultdict(list)
        for row, some in enumerate(boosts):
            for boost in some:
                for layer in boost.layers:
                    self._wanted[_attention_of(decoder, layer)].append((row, boost))
        self._used: dict[nn.Module, str] = {}
        self._steps: dict[nn.Module, int] = defaultdict(int)
        self._stack = ExitStack()

    def __enter__(self) -> BoostHooks:
        if not self._wanted:
            return self
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        with ExitStack() as stack:
            stack.enter_context(FUNCTION_TABLE)
            ALL_ATTENTION_FUNCTIONS[IMPLEMENTATION] = self._attend
            stack.callback(ALL_ATTENTION_FUNCTIONS.pop, IMPLEMENTATION, None)
            for module in self._wanted:
                self._used[module] = implementation_of(module)
                stack.callback(self._give_back, module)
                stack.callback(module.register_forward_pre_hook(self._take_over).remove)
                stack.callback(module.register_forward_hook(self._after, always_call=True).remove)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()
        if exception[0] is None:
            for module in self._wanted:
                if not self._steps[module]:
                    raise UnsupportedError(f"{type(module).__name__} does not look up its attention, so it cannot be turned up")

    def _take_over(self, module: Any, args: tuple[Any, ...]) -> None:
        # Only now: the masks were made before, in the form of the implementation in use.
        module.config._attn_implementation = IMPLEMENTATION

    def _after(self, module: Any, args: tuple[Any, ...], output: Any) -> None:
        self._give_back(module)

    def _give_back(self, module: Any) -> None:
        module.config._attn_implementation = self._used[module]

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
        causal = attention_mask is None and self._used[module] == "sdpa" and is_causal(module, query, arguments)
        mask = _as_numbers(attention_mask, query, key, causal) + self._more(module, query, key, scaling)
        return original_of(module, self._used[module])(module, query, key, value, mask, scaling=scaling, **arguments)

    def _more(self, module: nn.Module, query: Tensor, key: Tensor, scaling: float | None) -> Tensor:
        """What is added to the logits `[batch, heads, queries, keys]`: strength·|a| for the newest query, at the boosted keys."""
        newest = query[:, :, -1:]
        keys = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
        logits = (newest @ keys.transpose(-1, -2)) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
        strengths = logits.new_zeros(len(query), 1, 1, key.shape[2])
        for row, boost in self._wanted[module]:
            strengths[row, ..., torch.tensor(boost.sources, device=logits.device, dtype=torch.long) + self._pads[row]] += boost.strength
        more = logits.new_zeros(*query.shape[:3], key.shape[2])
        more[:, :, -1:] = strengths * logits.abs()
        return more


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
