"""What an edit does to an activation: the arithmetic of every operation, in one place, on plain tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vseam_core.api.interventions import Add, MeanOfOthers, Operation, Patch, Remove, Replace, Scale, Zero
from vseam_core.engine.layout import Layout, Selection
from vseam_core.errors import UnsupportedError


@dataclass(frozen=True, eq=False)
class EditOfRow:
    """One edit of one run (row) of a batch.

    `donor` is what the same site held in the run's donor, `[positions, width]` over all positions (for `Patch` only).
    """

    row: int
    operation: Operation
    positions: tuple[int, ...] | None
    head: int | None
    donor: torch.Tensor | None = None


def apply_edits(value: torch.Tensor, edits: Sequence[EditOfRow], layout: Layout, heads: int | None) -> torch.Tensor:
    """The edited copy of a packed activation `[tokens, width]`; tokens not named stay bit for bit.

    Edits of runs or positions that the layout does not hold are passed over: they have no token here. `heads` is the number of heads
    where the site is split into heads (width = heads × head_dim), else None.
    """
    edited = value.clone()
    together: dict[int, set[int]] = {}
    for edit in edits:
        if isinstance(edit.operation, MeanOfOthers):
            if heads is None or edit.head is None:
                raise UnsupportedError("mean_of_others replaces single heads: it needs a head_output site and a head")
            together.setdefault(edit.row, set()).add(edit.head)
    for edit in edits:
        selection = layout.select(edit.row, edit.positions)
        if selection is None:
            continue
        width = slice(None) if edit.head is None else _head_slice(edit.head, value.shape[-1], heads)
        # Means and scales use the live value: what the site holds before any edit of this run.
        if isinstance(edit.operation, MeanOfOthers):
            assert heads is not None
            edited[selection.tokens, width] = _mean_of_others(value[selection.tokens], heads, together[edit.row])
        else:
            edited[selection.tokens, width] = _operate(edit, value[selection.tokens, width], selection, width)
    return edited


def check_rows(edits: Sequence[EditOfRow], rows: int, words: str) -> None:
    """Refuses edits of a stack, `words`, that do not fit the `rows` that it holds: these are counted where it runs, not in the prompt."""
    for edit in edits:
        outside = [position for position in edit.positions or () if not 0 <= position < rows]
        if outside:
            raise UnsupportedError(f"position {outside[0]} lies outside the {rows} rows of the {words}")
        if edit.donor is not None and len(edit.donor) != rows:
            raise UnsupportedError(f"the donor has {len(edit.donor)} rows in the {words}, the base {rows}: nothing to patch from")


def _head_slice(head: int, width: int, heads: int | None) -> slice:
    if heads is None:
        raise UnsupportedError("a head index needs a head_output, query, key or value site")
    size = width // heads
    return slice(head * size, (head + 1) * size)


def _operate(edit: EditOfRow, live: torch.Tensor, selection: Selection, width: slice) -> torch.Tensor:
    operation = edit.operation
    match operation:
        case Patch():
            assert edit.donor is not None
            return edit.donor[selection.positions, width].to(live)
        case Zero():
            return torch.zeros_like(live)
        case Scale(factor=factor):
            return live * factor
        case Replace(values=values):
            given = torch.as_tensor(values, device=live.device, dtype=live.dtype)
            return given.reshape(-1, live.shape[-1])[selection.chosen]
        case Add(vector=vector):
            return live + torch.as_tensor(vector, device=live.device, dtype=live.dtype)
        case Remove(vector=vector):
            along = torch.as_tensor(vector, device=live.device, dtype=torch.promote_types(live.dtype, torch.float32))
            along = along / along.norm()
            return live - ((live.to(along) @ along)[..., None] * along).to(live)
        case MeanOfOthers():
            raise AssertionError("computed over all heads, not on one slice")


def _mean_of_others(value: torch.Tensor, heads: int, replaced: set[int]) -> torch.Tensor:
    """The mean over the heads outside `replaced`, `[tokens, head_dim]`."""
    kept = [head for head in range(heads) if head not in replaced]
    if not kept:
        raise UnsupportedError(f"mean_of_others has no other head left: all {heads} heads of a layer are replaced")
    split = value.reshape(value.shape[0], heads, -1)
    return split[:, kept].mean(1)
