"""Several residual streams between the layers (hyper-connections, AltUp): how a position's lanes are one activation, and what reads them
behind the last layer.

Layers hand on `[batch, positions, lanes × width]`, `[batch, positions, lanes, width]` or, with AltUp (Gemma 3n), `[lanes, batch, positions,
width]`. Here a residual is always `[…, lanes × width]`, lane by lane.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

# What makes one hidden state of all lanes, and whether it takes them on an axis of their own.
_READERS = {"hc_head": True, "hyper_connection_mixer": False}
# How many axes a residual has without lanes: batch, positions, width.
WITHOUT_LANES = 3
_LEAST_SQUARE = 1e-5


def lanes_stand_first(layer: nn.Module) -> bool:
    """Whether a layer hands on its lanes on the first axis."""
    return isinstance(getattr(layer, "altup", None), nn.Module)


def side_by_side(value: torch.Tensor, first: bool) -> torch.Tensor:
    """All lanes of a position as one activation, `[batch, positions, lanes × width]`; `first`: they stand on the first axis."""
    return (value.permute(1, 2, 0, 3) if first else value).flatten(WITHOUT_LANES - 1)


def as_handed_on(flat: torch.Tensor, like: torch.Tensor, first: bool) -> torch.Tensor:
    """The inverse of `side_by_side`: lanes in the form of `like`."""
    return flat.unflatten(-1, (like.shape[0], -1)).permute(2, 0, 1, 3) if first else flat.reshape(like.shape)


class ReadLanes(nn.Module):
    """What stands between the lanes and the unembedding: a reader, and the final norm where there is one behind it."""

    def __init__(self, reader: nn.Module, norm: nn.Module | None, lanes: int | None):
        """`lanes` is how many of them `reader` takes on an axis of their own, None where it takes them side by side."""
        super().__init__()
        self.reader, self.norm, self.lanes = reader, norm, lanes

    def forward(self, residual: torch.Tensor) -> torch.Tensor:
        """`[…, lanes × width]` to `[…, width]`."""
        flat = residual.reshape(1, -1, residual.shape[-1])
        read = self.reader(flat if self.lanes is None else flat.unflatten(-1, (self.lanes, -1)))
        hidden = read if self.norm is None else self.norm(read)
        return cast(torch.Tensor, hidden.reshape(*residual.shape[:-1], -1))


class _AltUp(nn.Module):
    """The mean of AltUp's lanes `[…, lanes, width]`, those behind the first projected and brought to its magnitude (Gemma 3n)."""

    def __init__(self, projections: nn.ModuleList):
        super().__init__()
        self.projections = projections

    def forward(self, lanes: torch.Tensor) -> torch.Tensor:
        first, *others = lanes.unbind(-2)
        magnitude = first.pow(2).mean(-1, keepdim=True).sqrt()
        read = [first]
        for projection, lane in zip(self.projections, others, strict=True):
            projected = projection(lane)
            read.append(projected * magnitude / projected.pow(2).mean(-1, keepdim=True).clamp(min=_LEAST_SQUARE).sqrt())
        return torch.stack(read).mean(0)


def with_lanes(stack: Any, norm: nn.Module | None) -> nn.Module | None:
    """The final norm of a stack, with what reads its lanes before it, where it has lanes."""
    if isinstance(projections := getattr(stack, "altup_unembed_projections", None), nn.ModuleList):
        return ReadLanes(_AltUp(projections), norm, len(projections) + 1)
    for name, has_axis in _READERS.items():
        if isinstance(reader := getattr(stack, name, None), nn.Module):
            return ReadLanes(reader, norm, int(stack.config.hc_mult) if has_axis else None)
    return norm
