"""One forward pass, and everything that a replay needs of it: activations at sites, each layer's own arguments, masks, keys and values."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import nn

from vseam_core.api.interfaces import VisionLanguageModel
from vseam_core.api.interventions import SiteKind
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.engine.attention import FUNCTION_TABLE
from vseam_core.engine.decoder import Decoder
from vseam_core.engine.hooks import CACHE_NAMES, SiteHooks, SiteKey, named_arguments
from vseam_core.engine.own_positions import CountingModules, counts_positions
from vseam_core.engine.states import State
from vseam_core.errors import UnsupportedError

# Arguments of layers that do not go by query position, or are handled by the attention itself.
NOT_BY_POSITION = frozenset({"position_bias", "cross_attention_states", "encoder_hidden_states", "encoder_attention_mask"})


@dataclass(eq=False)
class Recording:
    """What one prompt left behind in the stack.

    `sites[(layer, kind)]` is `[positions, width]`; `arguments[layer]` are the keyword arguments the layer was called with, its
    hidden states apart; `between[layer]` is what the model itself adds to the residual after the layer (deepstack features),
    where it adds anything. `generation` holds the arguments of the decoder that reads an encoder's output (T5). `keys_values[layer]`
    are filled in by replay when it first needs them, and `states[layer][position]`, what a mixer remembers before a position. `counting`
    are the layers whose attention makes positions by itself.
    """

    prompt: EncodedPrompt
    kinds: frozenset[SiteKind]
    bidirectional: bool = False
    sites: dict[SiteKey, torch.Tensor] = field(default_factory=dict)
    arguments: dict[int, dict[str, Any]] = field(default_factory=dict)
    between: dict[int, torch.Tensor] = field(default_factory=dict)
    generation: dict[str, Any] = field(default_factory=dict)
    keys_values: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    states: dict[int, dict[int, State]] = field(default_factory=dict)
    counting: set[int] = field(default_factory=set)
    _masks: dict[int, torch.Tensor | None] = field(default_factory=dict)
    _measured: tuple[tuple[int, ...], int] = ((), 0)

    @property
    def arguments_of_generator(self) -> dict[str, Any]:
        """What the decoder that reads the encoder's output is called with to compute the same again."""
        return {name: value for name, value in self.generation.items() if name not in CACHE_NAMES} | {"use_cache": False}

    @property
    def bytes(self) -> int:
        """The memory it holds; tensors that share storage count once."""
        # Entries are only ever added, so their number says whether there is more to count. The cache of recordings asks at every use.
        entries = (len(self.sites), len(self.between), len(self.keys_values), *map(len, self.states.values()))
        if self._measured[0] != entries:
            held = [*self.sites.values(), *self.between.values(), *(part for pair in self.keys_values.values() for part in pair)]
            storages = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in held}
            states = sum(state.bytes for states in self.states.values() for state in states.values())
            self._measured = entries, sum(storages.values()) + states
        return self._measured[1]

    def keep_states(self, layer: int, found: Mapping[int, State], most_bytes: int) -> None:
        """Keep what a mixer remembers before some positions, the earliest first, as long as all states hold no more than `most_bytes`.

        From an early one the later ones are a few steps.
        """
        held = sum(state.bytes for states in self.states.values() for state in states.values())
        for position, state in sorted(found.items()):
            held += state.bytes
            if held > most_bytes:
                break
            self.states.setdefault(layer, {})[position] = state

    def allowed(self, layer: int) -> torch.Tensor | None:
        """Which key each query of the layer may see, bool `[positions, positions]`; None where it is plain causal attention (in
        an encoder: where everything is seen). Raises `UnsupportedError` for a mask that says more than yes and no."""
        mask = self.arguments[layer].get("attention_mask")
        if mask is None:
            return None
        if id(mask) not in self._masks:
            self._masks[id(mask)] = _yes_or_no(mask, len(self.prompt), self.bidirectional)
        return self._masks[id(mask)]

    @cached_property
    def packs_with_others(self) -> bool:
        """Whether runs of this prompt can stand in one batch with runs of others: no layer is given tensors that do not go by position."""
        if self.bidirectional:
            return False
        given = [(name, part) for named in self.arguments.values() for name, value in named.items() for part in _tensors_in(value)]
        # An image may have as many keys as the prompt has positions: these never go by position, whatever their shape.
        return all(
            name not in NOT_BY_POSITION and position_axis(part, len(self.prompt)) is not None
            for name, part in given
            if name != "attention_mask"
        )

    def safe_start(self, position: int) -> int:
        """The first position, at most `position`, past which no earlier position looks, in any layer.

        Where words or image patches see later ones (prefix language models, bidirectional image blocks), a change reaches them too.
        """
        if self.bidirectional:
            return 0
        masks = [self.allowed(layer) for layer in self.arguments]
        for allowed in {id(mask): mask for mask in masks if mask is not None}.values():
            # The furthest key that the queries up to each position see.
            furthest = (allowed * torch.arange(1, len(allowed) + 1, device=allowed.device)).amax(-1).cummax(0).values - 1
            reach = furthest.tolist()
            while position > 0 and reach[position - 1] >= position:
                position = next(query for query in range(position) if reach[query] >= position)
        return position


def position_axis(value: torch.Tensor, length: int) -> int | None:
    """The axis of a layer's argument that goes by query position, or None where none does."""
    if value.ndim > 1 and value.shape[-2] == length:
        return -2
    return -1 if value.ndim and value.shape[-1] == length else None


def _tensors_in(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors_in(part)


def _yes_or_no(mask: torch.Tensor, length: int, bidirectional: bool) -> torch.Tensor | None:
    if mask.ndim != 4 or mask.shape[-2:] != (length, length) or mask.shape[:2].numel() != 1:
        raise UnsupportedError(f"attention masks of shape {list(mask.shape)} cannot be replayed")
    mask = mask[0, 0]
    if mask.dtype != torch.bool:
        lowest = torch.finfo(mask.dtype).min
        if not bool(((mask == 0) | (mask <= lowest / 2)).all()):
            raise UnsupportedError("attention masks with weights other than yes and no cannot be replayed")
        mask = mask == 0
    everything = torch.ones_like(mask)
    return None if torch.equal(mask, everything if bidirectional else everything.tril()) else mask


# What a replay needs: residuals, where every run starts; head outputs, which spare it the attention of a run's first layer.
ALWAYS: frozenset[SiteKind] = frozenset({"residual_before", "residual_after", "head_output"})


@torch.no_grad()
def record(model: VisionLanguageModel, decoder: Decoder, prompt: EncodedPrompt, kinds: Iterable[SiteKind], keys: bool = False) -> Recording:
    """One plain forward pass of `prompt`, of which `kinds` are kept. With all of `ALWAYS` among them it can be replayed.

    With `keys` its keys and values are kept as well, where the library's sdpa attention is used; elsewhere replay computes them again.
    """
    with keeping(decoder, prompt, kinds, keys) as recording:
        model.module(**model.collate([prompt]), use_cache=False)
    return recording


@contextmanager
def keeping(decoder: Decoder, prompt: EncodedPrompt, kinds: Iterable[SiteKind], keys: bool = False) -> Iterator[Recording]:
    """Keep what one forward pass of `prompt` alone computes while the context is entered; complete when it is left."""
    wanted = frozenset(kinds)
    recording = Recording(prompt, wanted, decoder.is_bidirectional)
    sites = [(layer, kind) for layer in range(decoder.shape.layers) for kind in wanted if not decoder.lacks(layer, kind)]

    def keep(site: SiteKey, value: torch.Tensor) -> None:
        recording.sites[site] = value.detach().reshape(-1, value.shape[-1])

    with ExitStack() as stack:
        if keys:
            stack.enter_context(_keeping_keys(decoder, recording.keys_values))
        stack.enter_context(SiteHooks(decoder, sites, keep))
        if wanted >= ALWAYS:
            stack.enter_context(_noting_counts(decoder, recording))
        for index, part in enumerate(decoder.layers if wanted >= ALWAYS else ()):
            handle = part.module.register_forward_pre_hook(_keep_arguments(recording.arguments, index), with_kwargs=True)
            stack.callback(handle.remove)
        if decoder.generator is not None:
            handle = decoder.generator.stack.register_forward_pre_hook(_keep_generation(recording.generation), with_kwargs=True)
            stack.callback(handle.remove)
        yield recording
    if wanted >= ALWAYS:
        _share(recording, decoder)
        _without_padding_masks(recording, decoder)


def _noting_counts(decoder: Decoder, recording: Recording) -> CountingModules:
    """Notes which layers' attention counts the positions of the prompt by itself."""
    layers = {layer.attention: index for index, layer in enumerate(decoder.layers) if layer.attention is not None and not layer.keeps_state}

    def note(module: nn.Module, counted: torch.Tensor) -> torch.Tensor:
        if counts_positions(counted, len(recording.prompt)):
            recording.counting.add(layers[module])
        return counted

    return CountingModules(list(layers), note)


@contextmanager
def _keeping_keys(decoder: Decoder, store: dict[int, tuple[torch.Tensor, torch.Tensor]]) -> Iterator[None]:
    """Keep what every layer's attention is given as keys and values, each `[key_value_heads, positions, head_dim]`."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    layers = {id(layer.attention): index for index, layer in enumerate(decoder.layers) if not layer.is_cross_attention}

    def attention(module: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *rest: Any, **named: Any) -> Any:
        if id(module) in layers:
            store[layers[id(module)]] = (key[0].detach(), value[0].detach())
        return original(module, query, key, value, *rest, **named)

    with FUNCTION_TABLE:
        original = ALL_ATTENTION_FUNCTIONS["sdpa"]
        ALL_ATTENTION_FUNCTIONS["sdpa"] = attention
        try:
            yield
        finally:
            ALL_ATTENTION_FUNCTIONS["sdpa"] = original


def _share(recording: Recording, decoder: Decoder) -> None:
    """Keep one copy where a layer's output is the next one's input, and what the model adds between them where it adds something."""
    for layer in range(decoder.shape.layers - 1):
        after, before = recording.sites[(layer, "residual_after")], recording.sites[(layer + 1, "residual_before")]
        if torch.equal(after, before):
            recording.sites[(layer, "residual_after")] = before
        else:
            recording.between[layer] = before - after
    first = recording.arguments[0]
    if first.get("position_bias", False) is None and decoder.shape.layers > 1:
        # T5 makes its relative position bias in the first layer and hands it on.
        first["position_bias"] = recording.arguments[1]["position_bias"]


def _without_padding_masks(recording: Recording, decoder: Decoder) -> None:
    """A mixer with a state is told which positions are padding, and a recorded prompt has none. An MLP alone reads no mask."""
    for layer, part in enumerate(decoder.layers):
        mask = recording.arguments[layer].get("attention_mask")
        if part.attention is None:
            recording.arguments[layer].pop("attention_mask", None)
        elif part.keeps_state and mask is not None:
            if not bool((mask != 0).all()):
                raise UnsupportedError(f"{type(part.attention).__name__}: a mask that leaves positions out cannot be replayed")
            recording.arguments[layer]["attention_mask"] = None


def _keep_arguments(store: dict[int, dict[str, Any]], index: int) -> Any:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        named = named_arguments(module, args, kwargs)
        named.pop("hidden_states", None)
        store[index] = named

    return hook


def _keep_generation(store: dict[str, Any]) -> Any:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        store.update(named_arguments(module, args, kwargs))

    return hook


class RecordingCache:
    """Recordings by prompt key, least recently used dropped first, within a budget of bytes."""

    def __init__(self, model: VisionLanguageModel, decoder: Decoder, budget_bytes: int):
        self._model, self._decoder, self.budget = model, decoder, budget_bytes
        self._kept: OrderedDict[str, Recording] = OrderedDict()

    @property
    def bytes(self) -> int:
        """The memory that all kept recordings hold."""
        return sum(entry.bytes for entry in self._kept.values())

    def __contains__(self, key: str) -> bool:
        return key in self._kept

    def get(self, prompt: EncodedPrompt, kinds: Iterable[SiteKind] = (), keys: bool = False) -> Recording:
        """The prompt's recording with at least these kinds of sites, made now (with its `keys`) if it is not kept."""
        wanted = frozenset(kinds)
        kept = self._kept.get(prompt.key)
        if kept is None or not wanted <= kept.kinds:
            kept = record(self._model, self._decoder, prompt, wanted | (kept.kinds if kept else frozenset()), keys)
        self.put(kept)
        return kept

    def put(self, recording: Recording) -> None:
        """Keep a recording as the one used last, and drop the oldest ones beyond the budget."""
        self._kept[recording.prompt.key] = recording
        self._kept.move_to_end(recording.prompt.key)
        while len(self._kept) > 1 and self.bytes > self.budget:
            self._kept.popitem(last=False)
