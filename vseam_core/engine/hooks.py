"""Native hooks that record or edit activations, attached on entry and removed on exit whatever happens in between.

Other people's hooks on the same modules are left alone: only handles made here are removed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from vseam_core.engine.decoder import Decoder, DecoderLayer
from vseam_core.engine.operations import EditOfRow, apply_edits
from vseam_core.interventions import AttentionBlock, SiteKind

SiteKey = tuple[int, SiteKind]
Change = Callable[[torch.Tensor], torch.Tensor | None]


class SiteHooks:
    """Calls `visit((layer, kind), activation)` at every wanted site; a returned tensor replaces the activation.

    Activations are `[batch, positions, width]`; `head_output` is the input of W_O, `[batch, positions, heads × head_dim]`.
    """

    def __init__(self, decoder: Decoder, sites: Iterable[SiteKey], visit: Callable[[SiteKey, torch.Tensor], torch.Tensor | None]):
        self._decoder = decoder
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

        def change(value: torch.Tensor) -> torch.Tensor | None:
            return self._visit(site, value)

        match site[1]:
            case "residual_before":
                return layer.module.register_forward_pre_hook(_on_input(change), with_kwargs=True)
            case "residual_after":
                return layer.module.register_forward_hook(_on_output(change))
            case "attention_output":
                return layer.attention.register_forward_hook(_on_output(change))
            case "mlp_output":
                return layer.mlp.register_forward_hook(_on_output(change))
            case "head_output":
                return layer.output_projection.register_forward_pre_hook(_on_input(change), with_kwargs=True)


def _on_input(change: Change) -> Callable[..., Any]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        value = args[0] if args else kwargs["hidden_states"]
        changed = change(value)
        if changed is None:
            return None
        return ((changed, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": changed})

    return hook


def _on_output(change: Change) -> Callable[..., Any]:
    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        changed = change(output[0] if isinstance(output, tuple) else output)
        if changed is None:
            return None
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    return hook


@dataclass(frozen=True, eq=False)
class BlockOfRow:
    """An attention block and the row of the batch that it belongs to."""

    row: int
    block: AttentionBlock


class EditHooks:
    """Carries the edits and attention blocks of a batch of runs out while the model, or some of its layers, are called.

    `edits[(layer, kind)]` lists what to do in which row. A batch may be shorter than the rows known here: replay adds rows layer
    by layer, so an edit whose row has not joined yet is an error of ours and raises `IndexError`.
    """

    def __init__(self, decoder: Decoder, edits: dict[SiteKey, list[EditOfRow]], blocks: Sequence[BlockOfRow] = ()):
        self._decoder = decoder
        self._edits = edits
        self._blocks: dict[int, list[BlockOfRow]] = defaultdict(list)
        self._emptied: dict[int, torch.Tensor] = {}
        for entry in blocks:
            for layer in entry.block.layers:
                self._blocks[layer].append(entry)
        self._stack = ExitStack()

    def __enter__(self) -> EditHooks:
        sites: set[SiteKey] = set(self._edits) | {(layer, "head_output") for layer in self._blocks}
        with ExitStack() as stack:
            stack.enter_context(SiteHooks(self._decoder, sites, self._visit))
            for layer in self._blocks:
                module = self._decoder.layers[layer].module
                stack.callback(module.register_forward_pre_hook(self._block(layer), with_kwargs=True).remove)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()
        self._emptied.clear()

    def _visit(self, site: SiteKey, value: torch.Tensor) -> torch.Tensor | None:
        heads = self._decoder.shape.heads if site[1] == "head_output" else None
        if site[1] == "head_output" and site[0] in self._emptied:
            # A query that may look nowhere outputs 0: the softmax alone would spread its attention evenly.
            emptied = self._emptied.pop(site[0])
            split = value.reshape(*value.shape[:2], self._decoder.shape.heads, -1)
            value = split.masked_fill(emptied.transpose(1, 2).unsqueeze(-1), 0.0).reshape(value.shape)
        edits = self._edits.get(site)
        return apply_edits(value, edits, heads) if edits else value

    def _block(self, layer: int) -> Callable[..., Any]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            hidden = args[0] if args else kwargs["hidden_states"]
            allowed = self._allowed(layer, hidden, kwargs.get("attention_mask"))
            self._emptied[layer] = ~allowed.any(-1)
            lowest = torch.finfo(hidden.dtype).min
            mask = torch.zeros(allowed.shape, dtype=hidden.dtype, device=hidden.device).masked_fill(~allowed, lowest)
            return args, {**kwargs, "attention_mask": mask}

        return hook

    def _allowed(self, layer: int, hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Which key each query may see, bool `[batch, heads, queries, keys]`, after the blocks of this layer."""
        batch, length = hidden.shape[:2]
        heads = self._decoder.shape.heads
        if mask is None:
            # sdpa without padding drops the mask and means "causal".
            allowed = torch.ones(length, length, dtype=torch.bool, device=hidden.device).tril()[None, None]
        else:
            allowed = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
        allowed = allowed.expand(batch, heads, length, length).clone()
        for entry in self._blocks[layer]:
            chosen = range(heads) if entry.block.heads is None else entry.block.heads
            targets = torch.tensor(entry.block.targets, device=hidden.device)
            sources = torch.tensor(entry.block.sources, device=hidden.device)
            for head in chosen:
                allowed[entry.row, head, targets[:, None], sources[None, :]] = False
        return allowed
