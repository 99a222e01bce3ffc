"""One forward pass, and everything that a replay needs of it: activations at sites, each layer's own arguments, the last logits."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import nn

from vseam_core.engine.decoder import Decoder
from vseam_core.engine.hooks import SiteHooks, SiteKey
from vseam_core.interfaces import VisionLanguageModel
from vseam_core.interventions import SiteKind
from vseam_core.prompts import EncodedPrompt


@dataclass(eq=False)
class Recording:
    """What one prompt left behind in the decoder.

    `sites[(layer, kind)]` is `[positions, width]`; `arguments[layer]` are the keyword arguments the layer was called with, its
    hidden states apart; `between[layer]` is what the model itself adds to the residual after the layer (deepstack features),
    where it adds anything; `logits` `[vocabulary]` are the model's own at the last position.
    """

    prompt: EncodedPrompt
    kinds: frozenset[SiteKind]
    sites: dict[SiteKey, torch.Tensor] = field(default_factory=dict)
    arguments: dict[int, dict[str, Any]] = field(default_factory=dict)
    between: dict[int, torch.Tensor] = field(default_factory=dict)
    logits: torch.Tensor | None = None

    @cached_property
    def bytes(self) -> int:
        return sum(value.numel() * value.element_size() for value in self.sites.values())


_ALWAYS: frozenset[SiteKind] = frozenset({"residual_before", "residual_after"})


@torch.no_grad()
def record(model: VisionLanguageModel, decoder: Decoder, prompt: EncodedPrompt, kinds: Iterable[SiteKind]) -> Recording:
    """One plain forward pass of `prompt`, kept. Residuals are always kept; `kinds` names what else is."""
    wanted = frozenset(kinds) | _ALWAYS
    recording = Recording(prompt, wanted)
    sites = [(layer, kind) for layer in range(decoder.shape.layers) for kind in wanted]
    with ExitStack() as stack:
        stack.enter_context(SiteHooks(decoder, sites, lambda site, value: recording.sites.__setitem__(site, value[0].detach())))
        for index, part in enumerate(decoder.layers):
            handle = part.module.register_forward_pre_hook(_keep_arguments(recording.arguments, index), with_kwargs=True)
            stack.callback(handle.remove)
        output = model.module(**model.collate([prompt]), use_cache=False)
    recording.logits = output.logits[0, -1].detach()
    for layer in range(decoder.shape.layers - 1):
        after, before = recording.sites[(layer, "residual_after")], recording.sites[(layer + 1, "residual_before")]
        if not torch.equal(after, before):
            recording.between[layer] = before - after
    return recording


def _keep_arguments(store: dict[int, dict[str, Any]], index: int) -> Any:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        names = list(inspect.signature(module.forward).parameters)
        named = dict(zip(names, args, strict=False)) | kwargs
        named.pop("hidden_states", None)
        store[index] = named

    return hook


class RecordingCache:
    """Recordings by prompt key, least recently used dropped first, within a budget of bytes."""

    def __init__(self, model: VisionLanguageModel, decoder: Decoder, budget_bytes: int):
        self._model, self._decoder, self._budget = model, decoder, budget_bytes
        self._kept: OrderedDict[str, Recording] = OrderedDict()

    def get(self, prompt: EncodedPrompt, kinds: Iterable[SiteKind] = ()) -> Recording:
        """The prompt's recording with at least these kinds of sites, made now if it is not kept."""
        wanted = frozenset(kinds)
        kept = self._kept.get(prompt.key)
        if kept is None or not wanted <= kept.kinds:
            kept = record(self._model, self._decoder, prompt, wanted | (kept.kinds if kept else frozenset()))
            self._kept[prompt.key] = kept
        self._kept.move_to_end(prompt.key)
        while len(self._kept) > 1 and sum(entry.bytes for entry in self._kept.values()) > self._budget:
            self._kept.popitem(last=False)
        return kept
