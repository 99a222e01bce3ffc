"""Native hooks that record or edit activations, attached on entry and removed on exit whatever happens in between.

Other people's hooks on the same modules are left alone: only handles made here are removed.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from vseam_core.api.interventions import IMAGE_STACKS, AttentionBlock, SiteKind
from vseam_core.engine.decoder import Decoder, DecoderLayer
from vseam_core.engine.lanes import WITHOUT_LANES, as_handed_on, lanes_stand_first, side_by_side
from vseam_core.engine.layout import Layout
from vseam_core.engine.operations import EditOfRow, apply_edits
from vseam_core.errors import UnsupportedError

SiteKey = tuple[int, SiteKind]
# What the library's modules call the cache that they are handed: versions and families differ.
CACHE_NAMES = ("cache", "past_key_values", "past_key_value", "cache_params")
Change = Callable[[torch.Tensor], torch.Tensor | None]


class SiteHooks:
    """Calls `visit((layer, kind), activation)` at every wanted site; a returned tensor replaces the activation.

    With `first` it stands before the hooks that are there: the library reads image features and hidden states off its layers by hooks that
    it leaves there, and what is changed behind these goes unseen.

    Activations are `[batch, positions, width]`; `head_output` is the input of W_O, `[batch, positions, heads × head_dim]`. A family whose
    MLP works on `[batch × positions, width]` hands over that, a vision tower its rows and columns of patches. Of several residual lanes
    all of a position are one activation, `[batch, positions, lanes × width]`. Raises `UnsupportedError` for a site that the family lacks.
    """

    def __init__(
        self,
        decoder: Decoder,
        sites: Iterable[SiteKey],
        visit: Callable[[SiteKey, torch.Tensor], torch.Tensor | None],
        first: bool = False,
    ):
        self._decoder, self._first = decoder, first
        self._sites = sorted(set(sites))
        self._visit = visit
        self._stack = ExitStack()

    def __enter__(self) -> SiteHooks:
        with ExitStack() as stack:
            for site in self._sites:
                handle = self._attach(site)
                stack.callback(handle.remove)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def _attach(self, site: SiteKey) -> Any:
        layer: DecoderLayer = self._decoder.layers[site[0]]
        if reason := self._decoder.lacks(*site):
            raise UnsupportedError(reason)
        first = lanes_stand_first(layer.module)

        def change(value: torch.Tensor) -> torch.Tensor | None:
            if value.ndim <= WITHOUT_LANES or not site[1].startswith("residual") or self._decoder.shape.stack in IMAGE_STACKS:
                return self._visit(site, value)
            changed = self._visit(site, side_by_side(value, first))
            return None if changed is None else as_handed_on(changed, value, first)

        match site[1]:
            case "residual_before":
                return layer.module.register_forward_pre_hook(_on_input(change), with_kwargs=True, prepend=self._first)
            case "residual_after":
                return layer.module.register_forward_hook(_on_output(change), prepend=self._first)
            case "attention_output":
                return layer.attention_writer.register_forward_hook(_on_output(change), prepend=self._first)
            case "mlp_output":
                return layer.mlp.register_forward_hook(_on_output(change), prepend=self._first)
            case "head_output":
                return layer.output_projection.register_forward_pre_hook(_on_input(change), with_kwargs=True, prepend=self._first)
            case "cross_attention_output":
                return layer.cross_projection.register_forward_hook(_on_output(change), prepend=self._first)
            case "cross_head_output":
                return layer.cross_projection.register_forward_pre_hook(_on_input(change), with_kwargs=True, prepend=self._first)
            case "query" | "key" | "value":
                return getattr(layer, site[1]).register_forward_hook(_on_output(change), prepend=self._first)


def held_while(decoder: Decoder, sites: Iterable[SiteKey], forward: Callable[[], object]) -> dict[SiteKey, torch.Tensor]:
    """What some sites hold while `forward` passes one prompt, each `[positions, width]`.

    Raises `UnsupportedError` for a site that the pass does not come by: the layer is not what the model computes with.
    """
    held: dict[SiteKey, torch.Tensor] = {}
    wanted = set(sites)
    with SiteHooks(decoder, wanted, lambda site, value: held.__setitem__(site, value.reshape(-1, value.shape[-1]).clone())):
        forward()
    if missed := sorted(wanted - set(held)):
        layer, kind = missed[0]
        raise UnsupportedError(f"a forward pass does not come by {kind} of layer {layer} of the {decoder.shape.stack} that was found")
    return held


def _on_input(change: Change) -> Callable[..., Any]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = None if args else next(name for name in ("hidden_states", "input") if name in kwargs)
        changed = change(args[0] if name is None else kwargs[name])
        if changed is None:
            return None
        return ((changed, *args[1:]), kwargs) if name is None else (args, {**kwargs, name: changed})

    return hook


def named_arguments(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call of `module` by name: families differ in which ones they pass by position."""
    names = list(inspect.signature(module.forward).parameters)
    return dict(zip(names, args, strict=False)) | kwargs


def _on_output(change: Change) -> Callable[..., Any]:
    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        changed = change(output[0] if isinstance(output, tuple) else output)
        if changed is None:
            return None
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    return hook


def heads_at(decoder: Decoder, site: SiteKey) -> int | None:
    """How many heads a site is split into; None where it is not."""
    layer, kind = decoder.layers[site[0]], site[1]
    if kind in ("head_output", "query", "cross_head_output"):
        return layer.heads
    return layer.key_value_heads if kind in ("key", "value") else None


class EditHooks:
    """Carries the edits of a batch of runs out while the model, or some of its layers, are called.

    `edits[(layer, kind)]` lists what to do for which run. Set `layout` to the layout of the activations before each call.
    """

    def __init__(self, decoder: Decoder, edits: dict[SiteKey, list[EditOfRow]]):
        self._decoder = decoder
        self._edits = edits
        self._hooks = SiteHooks(decoder, edits, self._visit)
        self.layout: Layout | None = None

    def __enter__(self) -> EditHooks:
        self._hooks.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._hooks.__exit__(*exception)

    def _visit(self, site: SiteKey, value: torch.Tensor) -> torch.Tensor:
        assert self.layout is not None
        edits = [edit for edit in self._edits[site] if self.layout.span(edit.row) is not None]
        if not edits:
            return value
        flat = value.reshape(-1, value.shape[-1])
        return apply_edits(flat, edits, self.layout, heads_at(self._decoder, site)).reshape(value.shape)


class BlockHooks:
    """Carries attention knockouts out in a plain batch `[batch, positions, …]`, by the attention mask that each layer is given.

    `blocks` are (row of the batch, knockout). Set `layout` to the batch's layout before each call.
    """

    def __init__(self, decoder: Decoder, blocks: Sequence[tuple[int, AttentionBlock]]):
        self._decoder = decoder
        self._blocks: dict[int, list[tuple[int, AttentionBlock]]] = defaultdict(list)
        self._emptied: dict[int, torch.Tensor] = {}
        for row, block in blocks:
            for layer in block.layers:
                self._blocks[layer].append((row, block))
        self._stack = ExitStack()
        self.layout: Layout | None = None

    def __enter__(self) -> BlockHooks:
        with ExitStack() as stack:
            for layer in self._blocks:
                module = self._decoder.layers[layer].module
                stack.callback(module.register_forward_pre_hook(self._block(layer), with_kwargs=True).remove)
            stack.enter_context(SiteHooks(self._decoder, [(layer, "head_output") for layer in self._blocks], self._empty))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()
        self._emptied.clear()

    def _empty(self, site: SiteKey, value: torch.Tensor) -> torch.Tensor:
        # A query that may look nowhere outputs 0: the softmax alone would spread its attention evenly.
        emptied = self._emptied.pop(site[0])
        split = value.reshape(*value.shape[:2], self._decoder.layers[site[0]].heads, -1)
        return split.masked_fill(emptied.transpose(1, 2).unsqueeze(-1), 0.0).reshape(value.shape)

    def _block(self, layer: int) -> Callable[..., Any]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            kwargs = named_arguments(module, args, kwargs)
            hidden = kwargs["hidden_states"]
            if lanes_stand_first(module):
                hidden = hidden[0]
            before = self._allowed(layer, hidden, kwargs.get("attention_mask"))
            allowed = self._without(layer, before)
            self._emptied[layer] = before.any(-1) & ~allowed.any(-1)
            lowest = torch.finfo(hidden.dtype).min
            mask = torch.zeros(allowed.shape, dtype=hidden.dtype, device=hidden.device).masked_fill(~allowed, lowest)
            return (), {**kwargs, "attention_mask": mask}

        return hook

    def _allowed(self, layer: int, hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Which key each query may see, bool `[batch, heads, queries, keys]`."""
        batch, length = hidden.shape[:2]
        if mask is None:
            # sdpa without padding drops the mask and means "causal" in a decoder, "everything" in an encoder.
            allowed = torch.ones(length, length, dtype=torch.bool, device=hidden.device)[None, None]
            allowed = allowed if self._decoder.is_bidirectional else allowed.tril()
        else:
            allowed = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
        return allowed.expand(batch, self._decoder.layers[layer].heads, length, length)

    def _without(self, layer: int, before: torch.Tensor) -> torch.Tensor:
        assert self.layout is not None
        allowed = before.clone()
        length = allowed.shape[-1]
        for row, block in self._blocks[layer]:
            span = self.layout.span(row)
            assert span is not None
            shift = span.offset - row * length
            targets = torch.tensor(block.targets, device=allowed.device) + shift
            sources = torch.tensor(block.sources, device=allowed.device) + shift
            for head in range(allowed.shape[1]) if block.heads is None else block.heads:
                allowed[row, head, targets[:, None], sources[None, :]] = False
        return allowed
