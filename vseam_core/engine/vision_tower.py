"""Sites inside the vision tower (`stack="vision"`): found by structure, and changed in full forward passes of one prompt.

What the tower changes reaches every image position of the first decoder layer, so there is no recorded prefix to start from: the whole
model runs, one prompt at a time, and what it does between its layers (deepstack features) is in it. Positions are the rows that the
tower's layers hold, those of several tiles or images one after another.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from vseam_core.api.interfaces import ModelShape
from vseam_core.api.interventions import AttentionBlock, Intervention, Patch, PathPatch, Run, SiteEdit
from vseam_core.engine import module_discovery as finder
from vseam_core.engine.decoder import Decoder, layer_of, unreadable_decoder
from vseam_core.engine.hooks import SiteHooks, SiteKey, heads_at
from vseam_core.engine.layout import Layout
from vseam_core.engine.operations import EditOfRow, apply_edits
from vseam_core.errors import UnsupportedError

STACK = "vision"
_NAMES = ("vision_tower", "visual", "vision_model", "vision_encoder")
_INNER_NAMES = ("vision_model", "encoder", "transformer", "model")
_PROJECTION_NAMES = (*finder.PROJECTION_NAMES, "proj", "projection", "projection_layer")
# A tower that says this in its forward pass holds its rows window by window, and puts them in reading order at its end only.
_WINDOWS = "window_index"

Held = Mapping[SiteKey, torch.Tensor]


def find_tower(module: Any) -> Decoder:
    """The vision tower as a stack that can be addressed; one that is `unreadable`, with the reason, where none is found."""
    for parent in (module, getattr(module, "model", None)):
        for name in _NAMES:
            tower = getattr(parent, name, None)
            current = tower
            while isinstance(current, nn.Module):
                if (layers := finder.layers_of(current)) is not None:
                    return _tower(tower, current, [layer_of(tower, layer, _PROJECTION_NAMES) for layer in layers])
                following = [getattr(current, inner, None) for inner in _INNER_NAMES]
                current = next((one for one in following if isinstance(one, nn.Module)), None)
    return unreadable_decoder(module, f"{type(module).__name__}: no vision tower with a list of layers found")


def _tower(tower: Any, stack: nn.Module, layers: list[Any]) -> Decoder:
    counts = tuple(layer.heads for layer in layers)
    shape = ModelShape(len(layers), max(counts), max(layer.head_dim for layer in layers), STACK, counts if len(set(counts)) > 1 else ())
    return Decoder(stack, tuple(layers), nn.Identity(), None, shape, None, key_value_heads=max(layer.key_value_heads for layer in layers))


def is_of_tower(change: Intervention) -> bool:
    """Whether an intervention lies in the vision tower."""
    if isinstance(change, PathPatch):
        return False
    return (change.site.stack if isinstance(change, SiteEdit) else change.stack) == STACK


def edits_tower(run: Run) -> bool:
    """Whether a run changes something in the vision tower."""
    return any(is_of_tower(change) for change in run.interventions)


class VisionTower:
    """Edits and reads the vision tower of a model; `forward(prompt)` makes one full forward pass and gives its last logits."""

    def __init__(self, module: Any, forward: Callable[[Any], torch.Tensor]):
        self.stack = find_tower(module)
        self._windows = not self.stack.unreadable and _WINDOWS in finder.source_of(type(self.stack.stack).forward)
        self._forward = forward
        self._reach: int | None = None

    def check(self, run: Run) -> None:
        """Refuses what the tower does not have, or would not do, with the reason."""
        for change in run.interventions:
            if not is_of_tower(change):
                continue
            if self.stack.unreadable:
                raise UnsupportedError(self.stack.unreadable)
            if isinstance(change, AttentionBlock):
                raise UnsupportedError("attention inside the vision tower cannot be cut")
            if self._windows and isinstance(change, SiteEdit) and change.positions is not None:
                raise UnsupportedError("this vision tower holds its patches window by window: edits of it go to all positions")

    def check_reach(self, run: Run) -> None:
        """Refuses edits of layers whose output goes nowhere: many models take their features before the last layer."""
        layers = [change.site.layer for change in run.interventions if isinstance(change, SiteEdit) and is_of_tower(change)]
        if max(layers, default=-1) >= self.reach(run.base):
            raise UnsupportedError(
                f"layer {max(layers)} of the vision tower has no effect by construction: image features are taken after layer "
                f"{self.reach(run.base) - 1}"
            )

    def reach(self, prompt: Any) -> int:
        """How many layers of the tower can reach the language model: behind them, not even zeros change a logit."""
        if self._reach is None:
            logits, self._reach = self._forward(prompt), 0
            for layer in reversed(range(self.stack.shape.layers)):
                with SiteHooks(self.stack, [(layer, "residual_after")], lambda _, value: torch.zeros_like(value), first=True):
                    if not torch.equal(self._forward(prompt), logits):
                        self._reach = layer + 1
                        break
        return self._reach

    def held(self, prompt: Any, sites: Iterable[SiteKey]) -> dict[SiteKey, torch.Tensor]:
        """What sites of the tower hold in a plain forward pass, each `[rows, width]`."""
        kept: dict[SiteKey, torch.Tensor] = {}
        with SiteHooks(self.stack, sites, lambda site, value: kept.__setitem__(site, _rows(value).clone()), first=True):
            self._forward(prompt)
        return kept

    def editing(self, run: Run, donor: Held) -> SiteHooks:
        """Hooks that carry a run's edits of the tower out in the next forward pass of its prompt alone."""
        edits: dict[SiteKey, list[EditOfRow]] = defaultdict(list)
        for change in run.interventions:
            if isinstance(change, SiteEdit) and is_of_tower(change):
                site: SiteKey = (change.site.layer, change.site.kind)
                given = donor[site] if isinstance(change.operation, Patch) else None
                edits[site].append(EditOfRow(0, change.operation, change.positions, change.site.head, given))
        seen: set[SiteKey] = set()

        def visit(site: SiteKey, value: torch.Tensor) -> torch.Tensor:
            if site in seen:
                raise UnsupportedError("this model runs its vision tower more than once for a prompt, so its positions are not clear")
            seen.add(site)
            rows = _rows(value)
            _check_rows(edits[site], rows)
            layout = Layout([(0, range(len(rows)))], rows.device)
            return apply_edits(rows, edits[site], layout, heads_at(self.stack, site)).reshape(value.shape)

        return SiteHooks(self.stack, edits, visit, first=True)


def sites_patched(runs: Sequence[Run]) -> dict[str, set[SiteKey]]:
    """For each donor (by its key) the sites of the tower that some run patches from it."""
    wanted: dict[str, set[SiteKey]] = defaultdict(set)
    for run in runs:
        for change in run.interventions:
            if isinstance(change, SiteEdit) and is_of_tower(change) and isinstance(change.operation, Patch) and run.donor is not None:
                wanted[run.donor.key].add((change.site.layer, change.site.kind))
    return dict(wanted)


def _rows(value: torch.Tensor) -> torch.Tensor:
    return value.reshape(-1, value.shape[-1])


def _check_rows(edits: Sequence[EditOfRow], rows: torch.Tensor) -> None:
    for edit in edits:
        outside = [position for position in edit.positions or () if not 0 <= position < len(rows)]
        if outside:
            raise UnsupportedError(f"position {outside[0]} lies outside the {len(rows)} rows of the vision tower")
        if edit.donor is not None and edit.donor.shape != rows.shape:
            raise UnsupportedError(
                f"the donor's image has {len(edit.donor)} rows in the vision tower, that of the base {len(rows)}: nothing to patch from"
            )
