"""One batch of runs on one recorded prompt, replayed layer by layer."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch

from vseam_core.engine.attention import AttentionCall, KeysFound, PackedAttention
from vseam_core.engine.decoder import Decoder
from vseam_core.engine.hooks import EditHooks, SiteHooks, SiteKey
from vseam_core.engine.layout import Layout
from vseam_core.engine.plan import PlannedRun
from vseam_core.engine.readouts import lens_sites, results_of
from vseam_core.engine.recording import Recording
from vseam_core.errors import UnsupportedError
from vseam_core.interventions import AttentionBlock, RunResult

# These do not go by query position, or are handled by the attention itself.
_NOT_BY_POSITION = frozenset({"position_bias", "cross_attention_states", "encoder_hidden_states", "encoder_attention_mask"})


class ReplayBatch:
    """Carries the runs of one prompt through the layers: they join where their first change lies, and share what comes before.

    `edits` must have been entered, and the attention installed.
    """

    def __init__(self, decoder: Decoder, attention: PackedAttention, base: Recording, plans: Sequence[PlannedRun], edits: EditHooks):
        self._decoder, self._attention, self._base, self._plans, self._edits = decoder, attention, base, plans, edits
        self._layers = decoder.shape.layers
        embeddings = base.sites[(0, "residual_before")]
        self._device = embeddings.device
        self._starts = {row: plan.start for row, plan in enumerate(plans)}
        self._active: list[int] = []
        self._hidden = embeddings[:0]
        self._layout = Layout([], self._device)
        self._final = (self._layout, self._hidden)
        self._captured: dict[SiteKey, list[tuple[Layout, torch.Tensor]]] = defaultdict(list)

    def results(self) -> list[RunResult]:
        """The readouts of all runs of the batch, in order."""
        runs = [plan.run for plan in self._plans]
        joining: dict[int, list[int]] = defaultdict(list)
        for row, plan in enumerate(self._plans):
            joining[plan.first_layer].append(row)
        with SiteHooks(self._decoder, lens_sites(runs, self._layers), self._capture):
            for layer in range(min(joining), self._layers):
                self._pass(layer, joining[layer])
        logits = self._generated() if self._decoder.generator is not None else self._decoder.logits(self._last_residuals())
        return results_of(self._decoder, runs, logits, self._activation)

    def _pass(self, layer: int, joining: Sequence[int]) -> None:
        """Runs that change something before this layer's attention join before it, the others after it."""
        entering = [row for row in joining if self._plans[row].entry is not None]
        self._join([row for row in joining if self._plans[row].entry is None], self._base.sites[(layer, "residual_before")])
        if layer == self._layers - 1 and self._decoder.generator is None:
            self._last_layer(layer, entering)
            return
        held = self._suffixes(self._active)
        layout = Layout([*held, *((row, self._entry(row)) for row in entering)], self._device)
        hidden = torch.cat([self._hidden, self._recorded_at((layer, "residual_before"), layout, len(held))])
        output = self._call(layer, layout, hidden, entering)
        if layer in self._base.between:
            output = output + self._base.between[layer][layout.positions()]
        continuing = len(self._hidden)
        self._hidden = output[:continuing]
        following: SiteKey = (layer + 1, "residual_before") if layer + 1 < self._layers else (layer, "residual_after")
        self._join(entering, self._base.sites[following])
        joined = Layout(self._suffixes(self._active), self._device)
        for span in layout.spans[len(held) :]:
            selection = joined.select(span.row, span.positions)
            assert selection is not None
            self._hidden[selection.tokens] = output[span.offset : span.offset + len(span.positions)]

    def _last_layer(self, layer: int, entering: Sequence[int]) -> None:
        """Keys and values come from every position of a run, but only the positions that are read go through the rest."""
        held = Layout(self._suffixes(self._active), self._device)
        read = [(row, self._read(row, range(self._starts[row], self._plans[row].length))) for row in self._active]
        whole = all(len(positions) == len(span.positions) for (_, positions), span in zip(read, held.spans, strict=True))
        own = None
        if not whole and not self._decoder.layers[layer].is_cross_attention:
            own = self._keys_values(layer, held, self._hidden)
        layout = Layout([*read, *((row, self._read(row, self._entry(row))) for row in entering)], self._device)
        chosen = [held.select(row, positions) for row, positions in read]
        parts = [self._hidden[selection.tokens] for selection in chosen if selection is not None]
        hidden = torch.cat([*parts, self._recorded_at((layer, "residual_before"), layout, len(read))])
        if layout.tokens:
            self._final = (layout, self._call(layer, layout, hidden, entering, None if own is None else (held, own)))

    def _read(self, row: int, computed: Sequence[int]) -> tuple[int, ...]:
        """The positions of a run that are computed and whose last residual is read."""
        return tuple(position for position in self._plans[row].last_positions if position in computed)

    def _entry(self, row: int) -> tuple[int, ...] | range:
        entry = self._plans[row].entry
        assert entry is not None
        return entry

    def _suffixes(self, rows: Sequence[int]) -> list[tuple[int, range]]:
        return [(row, self._plans[row].suffix) for row in rows]

    def _join(self, rows: Sequence[int], recorded: torch.Tensor) -> None:
        if not rows:
            return
        positions = Layout(self._suffixes(rows), self._device).positions()
        self._hidden = torch.cat([self._hidden, recorded[positions]])
        self._active.extend(rows)

    def _recorded_at(self, site: SiteKey, layout: Layout, first: int) -> torch.Tensor:
        """What a site holds in the recording at the tokens of the layout's spans from number `first` on."""
        spans = [(span.row, span.positions) for span in layout.spans[first:]]
        return self._base.sites[site][Layout(spans, self._device).positions()]

    def _call(
        self,
        layer: int,
        layout: Layout,
        hidden: torch.Tensor,
        entering: Sequence[int],
        own: tuple[Layout, tuple[torch.Tensor, torch.Tensor]] | None = None,
    ) -> torch.Tensor:
        """The layer's output `[tokens, width]` for packed `hidden`; the runs in `entering` take its attention from the recording."""
        if not layout.tokens:
            return hidden
        computed = [span.row for span in layout.spans if span.row not in entering]
        shares = any(self._starts[row] for row in computed) and not self._decoder.layers[layer].is_cross_attention
        call = AttentionCall(
            queries=layout,
            keys=own[0] if own else layout,
            starts=self._starts,
            length=len(self._base.prompt),
            allowed=self._base.allowed(layer),
            causal=not self._base.bidirectional,
            prefix=self._prefix(layer) if shares else None,
            given=frozenset(entering),
            recorded_output=self._base.sites[(layer, "head_output")],
            own=own[1] if own else None,
            blocks=self._blocks(layer),
        )
        self._attention.call = call
        self._edits.layout = self._layout = layout
        output = self._decoder.layers[layer].module(hidden[None], **_arguments(self._base, layer, layout.positions()))
        if not call.answered and not self._decoder.layers[layer].is_cross_attention:
            name = type(self._decoder.layers[layer].attention).__name__
            raise UnsupportedError(f"{name}: its attention implementation cannot be replaced, so it cannot be replayed")
        return (output[0] if isinstance(output, tuple) else output)[0]

    def _keys_values(self, layer: int, layout: Layout, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A layer's keys and values of packed `hidden`, each `[tokens, key_value_heads, head_dim]`, edits applied."""
        call = AttentionCall(layout, layout, self._starts, len(self._base.prompt), only_keys=True)
        self._attention.call = call
        self._edits.layout = self._layout = layout
        with contextlib.suppress(KeysFound):
            self._decoder.layers[layer].module(hidden[None], **_arguments(self._base, layer, layout.positions()))
        if call.own is None:
            name = type(self._decoder.layers[layer].attention).__name__
            raise UnsupportedError(f"{name}: its attention implementation cannot be replaced, so it cannot be replayed")
        return call.own

    def _prefix(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """A layer's keys and values of the recorded prompt, each `[key_value_heads, positions, head_dim]`; kept for later batches."""
        if layer not in self._base.keys_values:
            # A row that no edit knows: nothing is changed while the recording is read.
            layout = Layout([(-1, range(len(self._base.prompt)))], self._device)
            keys, values = self._keys_values(layer, layout, self._base.sites[(layer, "residual_before")])
            self._base.keys_values[layer] = (keys.transpose(0, 1).contiguous(), values.transpose(0, 1).contiguous())
        return self._base.keys_values[layer]

    def _blocks(self, layer: int) -> dict[int, list[AttentionBlock]]:
        blocks: dict[int, list[AttentionBlock]] = {}
        for row, plan in enumerate(self._plans):
            found = [change for change in plan.run.interventions if isinstance(change, AttentionBlock) and layer in change.layers]
            if found:
                blocks[row] = found
        if blocks and self._decoder.layers[layer].is_cross_attention:
            raise UnsupportedError(f"layer {layer} is a cross-attention layer: its attention has no prompt positions to cut")
        return blocks

    def _capture(self, site: SiteKey, value: torch.Tensor) -> None:
        self._captured[site].append((self._layout, value.reshape(-1, value.shape[-1])))

    def _activation(self, row: int, site: SiteKey, positions: Sequence[int]) -> torch.Tensor:
        """What a site holds in a run, `[positions, width]`: the recording, and over it what this run computed."""
        value = self._base.sites[site][list(positions)].clone()
        for layout, captured in self._captured[site]:
            selection = layout.select(row, positions)
            if selection is not None:
                value[selection.chosen] = captured[selection.tokens]
        return value

    def _last_residuals(self) -> torch.Tensor:
        """The last residual at the last position of every run, `[runs, width]`."""
        recorded = self._base.sites[(self._layers - 1, "residual_after")][-1]
        last = recorded.repeat(len(self._plans), 1)
        layout, computed = self._final
        for span in layout.spans:
            if span.positions and span.positions[-1] == self._plans[span.row].length - 1:
                last[span.row] = computed[span.offset + len(span.positions) - 1]
        return last

    def _generated(self) -> torch.Tensor:
        """The logits of a decoder that reads what this stack hands over, `[runs, vocabulary]` (T5)."""
        assert self._decoder.generator is not None
        recorded = self._base.sites[(self._layers - 1, "residual_after")]
        handed = recorded.repeat(len(self._plans), 1, 1)
        for span in Layout(self._suffixes(self._active), self._device).spans:
            handed[span.row] = self._hidden[span.offset : span.offset + len(span.positions)]
        arguments = {
            name: value.expand(len(handed), *value.shape[1:]) if isinstance(value, torch.Tensor) and value.ndim else value
            for name, value in self._base.generation.items()
        }
        arguments |= {"encoder_hidden_states": self._decoder.final_norm(handed), "use_cache": False, "past_key_values": None}
        return self._decoder.logits(self._decoder.generator(**arguments).last_hidden_state[:, -1])


def _arguments(base: Recording, layer: int, positions: torch.Tensor) -> dict[str, Any]:
    """The layer's recorded arguments at the packed `positions`; mask and cache are left to the attention."""
    length = len(base.prompt)
    arguments: dict[str, Any] = {}
    for name, value in base.arguments[layer].items():
        if name in ("attention_mask", "past_key_values", "past_key_value"):
            arguments[name] = None
        elif name == "use_cache":
            arguments[name] = False
        else:
            arguments[name] = value if name in _NOT_BY_POSITION else _at_positions(value, length, positions)
    return arguments


def _at_positions(value: Any, length: int, positions: torch.Tensor) -> Any:
    if isinstance(value, (tuple, list)):
        return type(value)(_at_positions(part, length, positions) for part in value)
    if not isinstance(value, torch.Tensor) or value.ndim == 0:
        return value
    if value.ndim > 1 and value.shape[-2] == length:
        return value.index_select(-2, positions)
    return value.index_select(-1, positions) if value.shape[-1] == length else value
