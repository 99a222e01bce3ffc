"""Keys and values that layers take from an earlier one (Gemma 4), for packed runs: a change there reaches every layer that reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from vseam_core.engine.attention_call import AttentionCall, Keys, KeysOfPrompt, Values, ValuesOfPrompt
from vseam_core.engine.decoder import Decoder
from vseam_core.engine.layout import Layout, Span
from vseam_core.engine.plan import PlannedRun
from vseam_core.engine.recording import Recording


@dataclass(frozen=True, eq=False)
class _Kept:
    """What a layer computed for the runs that it computed itself."""

    layout: Layout
    rows: frozenset[int]
    keys: Keys
    values: Values


class SharedKeys:
    """What later layers read, in one batch of runs: that of the run where it passed the layer that makes it, else of the recording."""

    def __init__(self, decoder: Decoder, plans: Sequence[PlannedRun]):
        self._decoder, self._plans = decoder, plans
        self._read = {part.keys_from for part in decoder.layers}
        self._kept: dict[int, _Kept] = {}

    def keep(self, layer: int, call: AttentionCall) -> None:
        """Note what a layer's call computed, where a later layer reads it."""
        if layer in self._read and call.own is not None:
            rows = frozenset(span.row for span in call.keys.spans) - call.given
            self._kept[layer] = _Kept(call.keys, rows, *call.own)

    def at(
        self, layer: int, layout: Layout, recorded: Callable[[Recording, int], tuple[KeysOfPrompt, ValuesOfPrompt]]
    ) -> tuple[Keys, Values]:
        """Keys and values that a layer reads at the tokens of a layout; `recorded(base, layer)` is what a recording holds."""
        source = self._decoder.layers[layer].keys_from
        assert source is not None
        kept = self._kept.get(source)
        parts = []
        for span in layout.spans:
            if kept is not None and span.row in kept.rows:
                tokens = _tokens(kept.layout, span)
                parts.append((kept.keys[tokens], kept.values[tokens]))
            else:
                keys, values = recorded(self._plans[span.row].base, source)
                positions = torch.as_tensor(tuple(span.positions), device=keys.device)
                parts.append((keys[:, positions].transpose(0, 1), values[:, positions].transpose(0, 1)))
        return torch.cat([keys for keys, _ in parts]), torch.cat([values for _, values in parts])


def _tokens(layout: Layout, span: Span) -> slice | torch.Tensor:
    held = layout.span(span.row)
    assert held is not None
    if held.positions == span.positions:
        return slice(held.offset, held.offset + len(held.positions))
    selection = layout.select(span.row, span.positions)
    assert selection is not None
    return selection.tokens
