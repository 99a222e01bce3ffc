"""One batch of runs on recorded prompts, replayed layer by layer."""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vseam_core.api.interventions import AttentionBlock, RunResult
from vseam_core.engine.attention import PackedAttention
from vseam_core.engine.attention_call import AttentionCall, Keys, KeysFound, KeysOfPrompt, RecordedLayer, Values, ValuesOfPrompt
from vseam_core.engine.decoder import Decoder
from vseam_core.engine.hooks import CACHE_NAMES, EditHooks, SiteHooks, SiteKey
from vseam_core.engine.layout import Layout, Span
from vseam_core.engine.own_positions import CountingModules, counts_positions
from vseam_core.engine.plan import PlannedRun
from vseam_core.engine.readouts import GeneratorLens, lens_sites, results_of
from vseam_core.engine.recording import NOT_BY_POSITION, Recording, position_axis
from vseam_core.engine.shared_keys import SharedKeys
from vseam_core.engine.states import PackedStates, State, StateCall
from vseam_core.errors import UnsupportedError

# Keys and values of tokens that a layer was called with before: more than those it is called with.
HeldKeys = Float[Tensor, "held key_value_heads head_dim"]
HeldValues = Float[Tensor, "held key_value_heads value_dim"]


class ReplayBatch:
    """Carries runs through the layers: they join where their first change lies, and share what comes before with those of their prompt.

    `edits` must have been entered, and the attention installed. Runs of several prompts may stand in one batch where their recordings
    say so (`packs_with_others`); runs of one prompt should be neighbours.
    """

    def __init__(self, decoder: Decoder, attention: PackedAttention, states: PackedStates, plans: Sequence[PlannedRun], edits: EditHooks):
        self._decoder, self._attention, self._states, self._plans, self._edits = decoder, attention, states, plans, edits
        self._layers = decoder.shape.layers
        embeddings = plans[0].base.sites[(0, "residual_before")]
        self._device = embeddings.device
        self._starts = {row: plan.start for row, plan in enumerate(plans)}
        self._active: list[int] = []
        self._hidden = embeddings[:0]
        self._layout = Layout([], self._device)
        self._final = (self._layout, self._hidden)
        self._shared = SharedKeys(decoder, plans)
        self._captured: dict[SiteKey, list[tuple[Layout, torch.Tensor]]] = defaultdict(list)

    def results(self) -> list[RunResult]:
        """The readouts of all runs of the batch, in order."""
        runs = [plan.run for plan in self._plans]
        joining: dict[int, list[int]] = defaultdict(list)
        for row, plan in enumerate(self._plans):
            joining[plan.first_layer].append(row)
        with SiteHooks(self._decoder, lens_sites(runs, self._decoder.shape), self._capture):
            for layer in range(min(joining), self._layers):
                self._pass(layer, joining[layer])
        with GeneratorLens(self._decoder, runs) as generated:
            logits = self._generated() if self._decoder.generator is not None else self._decoder.logits(self._last_residuals())
        return results_of(self._decoder, runs, logits, self._activation, generated)

    def _pass(self, layer: int, joining: Sequence[int]) -> None:
        """Runs that change something before this layer's attention join before it, the others after it."""
        entering = [row for row in joining if self._plans[row].entry is not None]
        self._join([row for row in joining if self._plans[row].entry is None], (layer, "residual_before"))
        if layer == self._layers - 1 and self._decoder.generator is None:
            self._last_layer(layer, entering)
            return
        held = self._suffixes(self._active)
        layout = Layout([*held, *((row, self._entry(row)) for row in entering)], self._device)
        hidden = torch.cat([self._hidden, self._recorded_at((layer, "residual_before"), layout.spans[len(held) :])])
        output = self._call(layer, layout, hidden, entering)
        if any(layer in plan.base.between for plan in self._plans):
            output = output + self._gathered(layout.spans, lambda base: self._between(base, layer))
        if all(len(self._entry(row)) == len(self._plans[row].suffix) for row in entering):
            # Every position of the runs that enter was computed: nothing of the recording is left in them.
            self._hidden = output
            self._active.extend(entering)
            return
        continuing = len(self._hidden)
        self._hidden = output[:continuing]
        following: SiteKey = (layer + 1, "residual_before") if layer + 1 < self._layers else (layer, "residual_after")
        self._join(entering, following)
        joined = Layout(self._suffixes(self._active), self._device)
        for span in layout.spans[len(held) :]:
            selection = joined.select(span.row, span.positions)
            assert selection is not None
            self._hidden[selection.tokens] = output[span.offset : span.offset + len(span.positions)]

    def _last_layer(self, layer: int, entering: Sequence[int]) -> None:
        """Keys and values come from every position of a run, but only the positions that are read go through the rest."""
        held = Layout(self._suffixes(self._active), self._device)
        read: list[tuple[int, tuple[int, ...] | range]] = [
            (row, self._read(row, range(self._starts[row], self._plans[row].length))) for row in self._active
        ]
        part = self._decoder.layers[layer]
        if part.keeps_state:
            # A state comes from every position of a run.
            read = [*self._suffixes(self._active)]
        whole = all(len(positions) == len(span.positions) for (_, positions), span in zip(read, held.spans, strict=True))
        own = None
        if not whole and part.attends:
            shared = part.keys_from is not None
            own = self._shared.at(layer, held, self._prefix) if shared else self._keys_values(layer, held, self._hidden)
        layout = Layout([*read, *((row, self._read(row, self._entry(row))) for row in entering)], self._device)
        chosen = [held.select(row, positions) for row, positions in read]
        parts = [self._hidden[selection.tokens] for selection in chosen if selection is not None]
        entered = [span for span in layout.spans if span.row in entering]
        hidden = torch.cat([*parts, self._recorded_at((layer, "residual_before"), entered)])
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

    def _between(self, base: Recording, layer: int) -> Float[Tensor, "positions width"]:
        """What the model itself adds to the residual after a layer."""
        found = base.between.get(layer)
        return torch.zeros_like(base.sites[(layer, "residual_after")]) if found is None else found

    def _join(self, rows: Sequence[int], site: SiteKey) -> None:
        if rows:
            spans = Layout(self._suffixes(rows), self._device).spans
            self._hidden = torch.cat([self._hidden, self._recorded_at(site, spans)])
            self._active.extend(rows)

    def _recorded_at(self, site: SiteKey, spans: Sequence[Span]) -> Float[Tensor, "tokens width"]:
        """What a site holds in the recordings at the tokens of the spans."""
        return self._gathered(spans, lambda base: base.sites[site])

    def _gathered(
        self, spans: Sequence[Span], value: Callable[[Recording], Float[Tensor, "positions width"]]
    ) -> Float[Tensor, "tokens width"]:
        """A value by position of each prompt, at the tokens of the spans."""
        parts = [value(base).index_select(0, positions) for base, positions in self._by_base(spans)]
        return torch.cat(parts) if parts else self._hidden[:0]

    def _by_base(self, spans: Sequence[Span]) -> Iterator[tuple[Recording, Int[Tensor, " tokens"]]]:
        """Neighbouring spans of one prompt together: its recording and the positions of their tokens."""
        for _, group in itertools.groupby(spans, key=lambda span: id(self._plans[span.row].base)):
            together = list(group)
            layout = Layout([(span.row, span.positions) for span in together], self._device)
            yield self._plans[together[0].row].base, layout.positions()

    def _call(
        self,
        layer: int,
        layout: Layout,
        hidden: Float[Tensor, "tokens width"],
        entering: Sequence[int],
        own: tuple[Layout, tuple[HeldKeys, HeldValues]] | None = None,
    ) -> Float[Tensor, "tokens width"]:
        """The layer's output for packed `hidden`; the runs in `entering` take its attention from the recording."""
        if not layout.tokens:
            return hidden
        part = self._decoder.layers[layer]
        if part.keeps_state:
            return self._call_with_states(layer, layout, hidden, entering)
        if part.attention is None:
            return self._called(layer, layout, hidden)
        if part.keys_from is not None and own is None:
            own = (layout, self._shared.at(layer, layout, self._prefix))
        call = AttentionCall(
            queries=layout,
            keys=own[0] if own else layout,
            starts=self._starts,
            recorded=self._recorded(layer, layout, entering),
            causal=not self._decoder.is_bidirectional,
            given=frozenset(entering),
            own=own[1] if own else None,
            blocks=self._blocks(layer),
            handed=self._handed(layer),
            counting=self._counting(layer, layout),
        )
        self._attention.call = call
        with call.counting if call.counting is not None else contextlib.nullcontext():
            output = self._called(layer, layout, hidden)
        self._shared.keep(layer, call)
        if not call.answered and not part.is_cross_attention:
            raise UnsupportedError(
                f"{type(part.attention).__name__}: its attention implementation cannot be replaced, so it cannot be replayed"
            )
        return output

    def _called(self, layer: int, layout: Layout, hidden: Float[Tensor, "tokens width"]) -> Float[Tensor, "tokens width"]:
        """What the layer itself makes of packed `hidden`, edits applied."""
        self._edits.layout = self._layout = layout
        output = self._decoder.layers[layer].module(hidden[None], **self._arguments(layer, layout))
        return (output[0] if isinstance(output, tuple) else output)[0]

    def _call_with_states(
        self, layer: int, layout: Layout, hidden: Float[Tensor, "tokens width"], entering: Sequence[int]
    ) -> Float[Tensor, "tokens width"]:
        """The output of a layer whose mixer carries a state: every run goes on from that of its prompt."""
        computed = [span.row for span in layout.spans if span.row not in entering and self._starts[span.row]]
        bases = {id(self._plans[row].base): self._plans[row].base for row in computed}
        known = {
            key: self._states_before(base, layer, {self._starts[row] for row in computed if self._plans[row].base is base})
            for key, base in bases.items()
        }
        states = {
            span.row: known[id(self._plans[span.row].base)][self._starts[span.row]] if span.row in computed else None
            for span in layout.spans
        }
        given, site = frozenset(entering), (layer, "head_output")
        self._states.call = StateCall(layout, states, given, lambda row: self._plans[row].base.sites[site])  # type: ignore[index]
        return self._called(layer, layout, hidden)

    def _states_before(self, base: Recording, layer: int, starts: set[int]) -> dict[int, State]:
        """The states of a recorded prompt before some positions; kept for later batches as far as memory allows."""
        known = base.states.get(layer, {})

        def run(first: int, stop: int) -> None:
            # A row that no edit knows: nothing is changed while the recording is read.
            self._edits.layout = self._layout = Layout([(-1, range(first, stop))], self._device)
            hidden = base.sites[(layer, "residual_before")][first:stop]
            self._decoder.layers[layer].module(hidden[None], **_arguments(base, layer, self._layout.positions()))

        found = self._states.scan(sorted(starts), known, run)
        base.keep_states(layer, found, self._states.most_bytes)
        return {**known, **found}

    def _counting(self, layer: int, layout: Layout) -> CountingModules | None:
        """Where the layer's attention makes positions by itself, it gets those of the packed tokens."""
        if layer not in self._plans[0].base.counting:
            return None

        def answer(module: nn.Module, counted: torch.Tensor) -> torch.Tensor:
            return layout.positions().to(counted) if counts_positions(counted, layout.tokens) else counted

        return CountingModules([self._decoder.layers[layer].attention], answer)

    def _handed(self, layer: int) -> frozenset[str]:
        """The names of the tensors that the layer is called with."""
        return frozenset(name for name, value in self._plans[0].base.arguments[layer].items() if isinstance(value, torch.Tensor))

    def _recorded(self, layer: int, layout: Layout, entering: Sequence[int]) -> dict[int, RecordedLayer]:
        """For each row the attention that its prompt's recording holds in this layer; one object per prompt."""
        bases = {id(plan.base): plan.base for plan in self._plans}
        sharing = {id(self._plans[span.row].base) for span in layout.spans if self._starts[span.row] and span.row not in entering}
        if self._decoder.layers[layer].is_cross_attention:
            sharing = set()
        found = {
            key: RecordedLayer(
                length=len(base.prompt),
                allowed=base.allowed(layer),
                prefix=self._prefix(base, layer) if key in sharing else None,
                output=base.sites[(layer, "head_output")],
            )
            for key, base in bases.items()
        }
        return {span.row: found[id(self._plans[span.row].base)] for span in layout.spans}

    def _keys_values(
        self, layer: int, layout: Layout, hidden: Float[Tensor, "tokens width"], base: Recording | None = None
    ) -> tuple[Keys, Values]:
        """A layer's keys and values of packed `hidden`, edits applied.

        With `base` given, `hidden` is that recording's own and nothing is edited.
        """
        counting = self._counting(layer, layout)
        call = AttentionCall(layout, layout, self._starts, only_keys=True, handed=self._handed(layer), counting=counting)
        self._attention.call = call
        self._edits.layout = self._layout = layout
        arguments = self._arguments(layer, layout) if base is None else _arguments(base, layer, layout.positions())
        with contextlib.suppress(KeysFound), counting if counting is not None else contextlib.nullcontext():
            self._decoder.layers[layer].module(hidden[None], **arguments)
        if call.own is None:
            name = type(self._decoder.layers[layer].attention).__name__
            raise UnsupportedError(f"{name}: its attention implementation cannot be replaced, so it cannot be replayed")
        return call.own

    def _prefix(self, base: Recording, layer: int) -> tuple[KeysOfPrompt, ValuesOfPrompt]:
        """A layer's keys and values of a recorded prompt; kept for later batches."""
        source = self._decoder.layers[layer].keys_from
        layer = layer if source is None else source
        if layer not in base.keys_values:
            # A row that no edit knows: nothing is changed while the recording is read.
            layout = Layout([(-1, range(len(base.prompt)))], self._device)
            keys, values = self._keys_values(layer, layout, base.sites[(layer, "residual_before")], base)
            base.keys_values[layer] = (keys.transpose(0, 1).contiguous(), values.transpose(0, 1).contiguous())
        return base.keys_values[layer]

    def _blocks(self, layer: int) -> dict[int, list[AttentionBlock]]:
        blocks: dict[int, list[AttentionBlock]] = {}
        for row, plan in enumerate(self._plans):
            found = [change for change in plan.run.interventions if isinstance(change, AttentionBlock) and layer in change.layers]
            if found:
                blocks[row] = found
        return blocks

    def _capture(self, site: SiteKey, value: torch.Tensor) -> None:
        self._captured[site].append((self._layout, value.reshape(-1, value.shape[-1])))

    def _activation(self, row: int, site: SiteKey, positions: Sequence[int]) -> Float[Tensor, "positions width"]:
        """What a site holds in a run: the recording, and over it what this run computed."""
        value = self._plans[row].base.sites[site][list(positions)].clone()
        for layout, captured in self._captured[site]:
            selection = layout.select(row, positions)
            if selection is not None:
                value[selection.chosen] = captured[selection.tokens]
        return value

    def _last_residuals(self) -> Float[Tensor, "runs width"]:
        """The last residual at the last position of every run."""
        last = torch.stack([plan.base.sites[(self._layers - 1, "residual_after")][-1] for plan in self._plans])
        layout, computed = self._final
        for span in layout.spans:
            if span.positions and span.positions[-1] == self._plans[span.row].length - 1:
                last[span.row] = computed[span.offset + len(span.positions) - 1]
        return last

    def _generated(self) -> Float[Tensor, "runs vocabulary"]:
        """The logits of a decoder that reads what this stack hands over, `[runs, vocabulary]` (T5)."""
        assert self._decoder.generator is not None
        # All runs are of one prompt: an encoder's recordings do not pack with others.
        base, runs = self._plans[0].base, len(self._plans)
        arguments = {
            name: value.expand(runs, *value.shape[1:]) if isinstance(value, torch.Tensor) and value.ndim else value
            for name, value in base.arguments_of_generator.items()
        }
        if self._active:
            handed = base.sites[(self._layers - 1, "residual_after")].repeat(runs, 1, 1)
            for span in Layout(self._suffixes(self._active), self._device).spans:
                handed[span.row] = self._hidden[span.offset : span.offset + len(span.positions)]
            arguments["encoder_hidden_states"] = self._decoder.final_norm(handed)
        with self._attention.standing_aside():
            generated = self._decoder.generator.stack(**arguments)
        return self._decoder.logits(generated.last_hidden_state[:, -1])

    def _arguments(self, layer: int, layout: Layout) -> dict[str, Any]:
        """The layer's recorded arguments at the tokens of the layout, of all prompts one after another."""
        parts = [_arguments(base, layer, positions) for base, positions in self._by_base(layout.spans)]
        if len(parts) == 1:
            return parts[0]
        lengths = [len(base.prompt) for base, _ in self._by_base(layout.spans)]
        first = self._plans[layout.spans[0].row].base.arguments[layer]
        return {name: _joined([part[name] for part in parts], first.get(name), lengths[0]) for name in parts[0]}


def _arguments(base: Recording, layer: int, positions: Int[Tensor, " tokens"]) -> dict[str, Any]:
    """The layer's recorded arguments at the packed `positions`; mask and cache are left to the attention."""
    length = len(base.prompt)
    arguments: dict[str, Any] = {}
    for name, value in base.arguments[layer].items():
        if name == "attention_mask" or name in CACHE_NAMES:
            arguments[name] = None
        elif name == "use_cache":
            arguments[name] = False
        elif isinstance(value, MutableMapping):
            # Layers write what they share with later ones into it: the recording's stays as it is.
            arguments[name] = copy.copy(value)
        else:
            arguments[name] = value if name in NOT_BY_POSITION else _at_positions(value, length, positions)
    return arguments


def _at_positions(value: Any, length: int, positions: Int[Tensor, " tokens"]) -> Any:
    if isinstance(value, (tuple, list)):
        return type(value)(_at_positions(part, length, positions) for part in value)
    axis = position_axis(value, length) if isinstance(value, torch.Tensor) else None
    return value if axis is None else value.index_select(axis, positions)


def _joined(parts: Sequence[Any], original: Any, length: int) -> Any:
    """One argument of several prompts, one after another where it goes by position."""
    if isinstance(original, (tuple, list)):
        return type(original)(_joined([part[index] for part in parts], inner, length) for index, inner in enumerate(original))
    axis = position_axis(original, length) if isinstance(parts[0], torch.Tensor) else None
    return parts[0] if axis is None else torch.cat(list(parts), axis)
