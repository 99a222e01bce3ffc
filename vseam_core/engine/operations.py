"""What an edit does to an activation: the arithmetic of every operation, in one place, on plain tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vseam_core.errors import UnsupportedError
from vseam_core.interventions import Add, MeanOfOthers, Operation, Patch, Replace, Scale, Zero


@dataclass(frozen=True, eq=False)
class EditOfRow:
    """One edit of one row of a batch.

    `donor` is what the same site held in the run's donor, `[positions, width]` over all positions (for `Patch` only).
    """

    row: int
    operation: Operation
    positions: tuple[int, ...] | None
    head: int | None
    donor: torch.Tensor | None = None


def apply_edits(value: torch.Tensor, edits: Sequence[EditOfRow], heads: int | None) -> torch.Tensor:
    """The edited copy of an activation `[batch, positions, width]`; rows and positions not named stay bit for bit.

    `heads` is the number of heads where the site is a head output (width = heads × head_dim), else None.
    """
    edited = value.clone()
    # Means and scales use the live value: what the site holds before any edit of this run.
    others = _means_of_others(value, edits, heads)
    for edit in edits:
        width = slice(None) if edit.head is None else _head_slice(edit.head, value.shape[-1], heads)
        positions = slice(None) if edit.positions is None else list(edit.positions)
        live = value[edit.row, positions, width]
        edited[edit.row, positions, width] = _operate(edit, live, positions, width, others)
    return edited


def _head_slice(head: int, width: int, heads: int | None) -> slice:
    if heads is None:
        raise UnsupportedError("a head index needs a head_output site")
    size = width // heads
    return slice(head * size, (head + 1) * size)


def _operate(
    edit: EditOfRow, live: torch.Tensor, positions: slice | list[int], width: slice, others: dict[int, torch.Tensor]
) -> torch.Tensor:
    operation = edit.operation
    match operation:
        case Patch():
            assert edit.donor is not None
            return edit.donor[positions, width].to(live)
        case Zero():
            return torch.zeros_like(live)
        case Scale(factor=factor):
            return live * factor
        case Replace(values=values):
            return torch.as_tensor(values, device=live.device, dtype=live.dtype).reshape(live.shape)
        case Add(vector=vector):
            return live + torch.as_tensor(vector, device=live.device, dtype=live.dtype)
        case MeanOfOthers():
            return others[edit.row][positions]


def _means_of_others(value: torch.Tensor, edits: Sequence[EditOfRow], heads: int | None) -> dict[int, torch.Tensor]:
    """For each row with a `MeanOfOthers` edit, the mean over the heads outside the edited set, `[positions, head_dim]`."""
    rows: dict[int, set[int]] = {}
    for edit in edits:
        if isinstance(edit.operation, MeanOfOthers):
            if heads is None or edit.head is None:
                raise UnsupportedError("mean_of_others replaces single heads: it needs a head_output site and a head")
            rows.setdefault(edit.row, set()).add(edit.head)
    means = {}
    for row, replaced in rows.items():
        assert heads is not None
        kept = [head for head in range(heads) if head not in replaced]
        if not kept:
            raise UnsupportedError(f"mean_of_others has no other head left: all {heads} heads of a layer are replaced")
        means[row] = value[row].reshape(value.shape[1], heads, -1)[:, kept].mean(1)
    return means
