"""Mixers that carry a state from position to position (gated delta nets, Mamba 2, short convolutions), on packed runs.

Where attention looks back at keys, such a mixer continues from a state: the last inputs of its convolution and a matrix that it updates at
every position. Replay takes the state at a run's start from the recording and lets the library's own module go on from there, through the
library's own cache. Around each mixer two hooks are attached: before it, the packed tokens become batches of runs of about one length,
padded behind; before its output projection they are packed again, so that everything after it sees tokens as everywhere in replay.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vseam_core.engine.decoder import Decoder
from vseam_core.engine.hooks import CACHE_NAMES
from vseam_core.engine.layout import Layout, of_like_length, padded
from vseam_core.errors import UnsupportedError

# The kernels work through positions in chunks: a run of a few costs as much as one of so many.
CHUNK = 64

Packed = Float[Tensor, "tokens width"]


@dataclass(frozen=True, eq=False)
class State:
    """What a mixer remembers before a position, by the library's number of the state: convolution inputs `[1, channels, kernel]`
    and recurrent matrices `[1, heads, …]` (None where it has none)."""

    convolutions: Mapping[int, Tensor]
    matrices: Mapping[int, Tensor | None]

    @property
    def bytes(self) -> int:
        """The memory it holds."""
        held = [*self.convolutions.values(), *(matrix for matrix in self.matrices.values() if matrix is not None)]
        return sum(value.nbytes for value in held)


@dataclass(eq=False)
class StateCall:
    """What the next layer's mixer works on: the tokens of `layout`, each run from its state in `states` (None: from nothing).

    The heads of the rows in `given` are not computed: `recorded(row)` says what W_O is given there, `[positions, width]`.
    """

    layout: Layout
    states: Mapping[int, State | None]
    given: frozenset[int] = frozenset()
    recorded: Callable[[int], Packed] | None = None


@dataclass(eq=False)
class _Scan:
    """States wanted of one prompt: the positions from `first` on are handed to the layer, and the state before each of `starts` is kept."""

    first: int
    starts: Sequence[int]
    state: State | None
    found: dict[int, State] = field(default_factory=dict)


class _HeadsFound(Exception):
    """Ends a mixer's call at its output projection: what that was given is all that is wanted."""

    def __init__(self, heads: Tensor):
        super().__init__()
        self.heads = heads


class _StatesFound(Exception):
    """Ends a layer's call once the states are known."""


class PackedStates:
    """Lets the stack's mixers with a state work on packed runs while it is entered; set `call` before such a layer.

    A recording keeps states up to `most_bytes`. Raises `UnsupportedError` for a mixer that takes no cache.
    """

    def __init__(self, decoder: Decoder, most_bytes: int = 0):
        self._decoder, self.most_bytes = decoder, most_bytes
        self._layers = [index for index, layer in enumerate(decoder.layers) if layer.keeps_state]
        self._names = {index: _cache_name(decoder.layers[index].attention) for index in self._layers}
        self.call: StateCall | None = None
        self._scan: _Scan | None = None
        self._break: int | None = None
        self._inside = False
        self._joined: Tensor | None = None

    @contextmanager
    def installed(self) -> Iterator[PackedStates]:
        """Attach the hooks; they are removed whatever happens in between."""
        with ExitStack() as stack:
            for index in self._layers:
                layer = self._decoder.layers[index]
                before = layer.attention.register_forward_pre_hook(self._before(index), with_kwargs=True)
                # In front of other hooks: edits of the heads act on packed tokens.
                joined = layer.output_projection.register_forward_pre_hook(self._pack, prepend=True)
                stack.callback(before.remove)
                stack.callback(joined.remove)
            try:
                yield self
            finally:
                self.call, self._scan, self._joined, self._inside = None, None, None, False

    @contextmanager
    def broken_at(self, position: int) -> Iterator[None]:
        """While entered, in plain forward passes of the whole model each mixer stops before a position and goes on from its state there."""
        with self.installed():
            self._break = position
            try:
                yield
            finally:
                self._break = None

    def scan(self, starts: Sequence[int], known: Mapping[int, State], run_layer: Callable[[int, int], object]) -> dict[int, State]:
        """The states before `starts` that are not `known`, in one pass over the positions from the last known state on.

        `run_layer(first, stop)` calls the layer with what the recording holds at these positions.
        """
        missing = sorted(set(starts) - set(known))
        if not missing:
            return {}
        first = max((start for start in known if start < missing[0]), default=0)
        self._scan = scan = _Scan(first, missing, known.get(first))
        try:
            run_layer(first, missing[-1])
        except _StatesFound:
            return scan.found
        finally:
            self._scan = None
        raise UnsupportedError("a mixer that carries a state was not reached by its layer's call")

    def _before(self, layer: int) -> Callable[..., Any]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if self._inside or (self.call is None and self._scan is None and self._break is None):
                return None
            hidden = args[0] if args else kwargs["hidden_states"]
            rest = (args[1:], {name: value for name, value in kwargs.items() if name != "hidden_states"})
            if self._scan is not None:
                self._keep_states(layer, hidden, rest)
                raise _StatesFound
            if self._break is not None:
                cache = self._empty()
                parts = [self._mix(layer, part, rest, cache) for part in (hidden[:, : self._break], hidden[:, self._break :])]
                self._joined = torch.cat(parts, 1)
            else:
                assert self.call is not None
                self._joined = self._heads(layer, hidden[0], rest, self.call)[None]
            # The module's own call has nothing left to do but its output projection.
            rest[1][self._names[layer]] = None
            return (hidden[:, :1], *rest[0]), rest[1]

        return hook

    def _pack(self, projection: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if self._inside:
            raise _HeadsFound(args[0])
        if self._joined is None:
            return None
        joined, self._joined = self._joined, None
        return (joined, *args[1:])

    def _heads(self, layer: int, hidden: Packed, rest: Any, call: StateCall) -> Packed:
        """What W_O is given at every token of the call."""
        projection = self._decoder.layers[layer].output_projection
        heads = hidden.new_zeros(len(hidden), projection.in_features)
        for span in call.layout.spans:
            if span.row in call.given:
                assert call.recorded is not None
                positions = torch.as_tensor(span.positions, device=hidden.device)
                heads[span.offset : span.offset + len(positions)] = call.recorded(span.row)[positions]
        computed = [span for span in call.layout.spans if span.row not in call.given]
        for begun in (False, True):
            for alike in of_like_length([span for span in computed if (call.states[span.row] is not None) == begun]):
                batch = padded(alike, hidden.device)
                cache = self._continued(layer, [call.states[span.row] for span in alike]) if begun else None
                found = self._mix(layer, batch.of(hidden), rest, cache)
                heads[batch.tokens[batch.real]] = found[batch.real].to(heads.dtype)
        return heads

    def _keep_states(self, layer: int, hidden: Tensor, rest: Any) -> None:
        scan = self._scan
        assert scan is not None
        cache = self._empty() if scan.state is None else self._continued(layer, [scan.state])
        place = scan.first
        for start in scan.starts:
            self._mix(layer, hidden[:, place - scan.first : start - scan.first], rest, cache)
            scan.found[start] = self._state(layer, cache)
            place = start

    def _mix(self, layer: int, batch: Tensor, rest: Any, cache: Any) -> Tensor:
        """What W_O is given for a batch `[runs, positions, width]` by the module itself, which goes on from `cache`."""
        self._inside = True
        try:
            self._decoder.layers[layer].attention(batch, *rest[0], **{**rest[1], self._names[layer]: cache})
        except _HeadsFound as found:
            return found.heads
        finally:
            self._inside = False
        raise UnsupportedError(f"{type(self._decoder.layers[layer].attention).__name__}: its output projection was not called")

    def _empty(self) -> Any:
        from transformers import DynamicCache

        return DynamicCache(config=self._decoder.stack.config)  # type: ignore[arg-type]

    def _number(self, layer: int) -> int:
        """The number by which the library's cache knows the layer."""
        return int(getattr(self._decoder.layers[layer].attention, "layer_idx", layer))

    def _state(self, layer: int, cache: Any) -> State:
        """A copy of what the cache remembers of a layer, which the next call would overwrite."""
        number = self._number(layer)
        numbers = range(cache.layers[number].number_of_states)
        convolutions = {index: cache.get_conv_state(number, index) for index in numbers}
        matrices = {index: cache.get_recurrent_state(number, index) for index in numbers}
        return State(
            {index: value.clone() for index, value in convolutions.items() if value is not None},
            {index: None if value is None else value.clone() for index, value in matrices.items()},
        )

    def _continued(self, layer: int, states: Sequence[State | None]) -> Any:
        """A cache of the library in which every run remembers its own state."""
        number, cache = self._number(layer), self._empty()
        some = [state for state in states if state is not None]
        for index in some[0].convolutions:
            cache.update_conv_state(torch.cat([state.convolutions[index] for state in some]), number, index)
        for index, matrix in some[0].matrices.items():
            if matrix is not None:
                joined = [state.matrices[index] for state in some]
                cache.update_recurrent_state(torch.cat(joined), number, index)  # type: ignore[arg-type]
        return cache


def _cache_name(mixer: nn.Module) -> str:
    parameters = inspect.signature(mixer.forward).parameters
    name = next((name for name in CACHE_NAMES if name in parameters), None)
    if name is None:
        raise UnsupportedError(f"{type(mixer).__name__} carries a state and takes no cache to continue from")
    return name
