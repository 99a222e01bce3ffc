"""Which positions of which runs a packed activation holds.

Replay keeps the positions of all runs of a batch one after another, `[tokens, width]`, without padding: a run that starts late
costs only its own positions. A plain batch `[batch, positions, width]` is the same thing with every run complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

# Spans up to this length count as equally long; longer ones share a rectangle up to this ratio.
_SHORT = 8
_LENGTH_RATIO = 1.5


@dataclass(frozen=True, eq=False)
class Span:
    """The positions that one run holds in a packed activation, ascending; `offset` is where its first token lies."""

    row: int
    positions: tuple[int, ...] | range
    offset: int = 0


@dataclass(frozen=True, eq=False)
class Selection:
    """Part of a packed activation: `tokens` to index it with, the `positions` they stand for, and which of the positions asked
    for these were (`chosen`, indices into what was asked for)."""

    tokens: slice | Int[Tensor, " chosen"]
    positions: slice | Int[Tensor, " chosen"]
    chosen: slice | Int[Tensor, " chosen"]


class Layout:
    """The spans of a packed activation, one after another; runs without positions have none."""

    def __init__(self, spans: Sequence[tuple[int, tuple[int, ...] | range]], device: torch.device | str = "cpu"):
        self.spans: list[Span] = []
        offset = 0
        for row, positions in spans:
            if not len(positions):
                continue
            self.spans.append(Span(row, positions, offset))
            offset += len(positions)
        self.tokens = offset
        self.device = device
        self._of_row = {span.row: span for span in self.spans}

    @classmethod
    def of_batch(cls, lengths: Sequence[int], width: int, device: torch.device | str = "cpu", side: str = "left") -> Layout:
        """A plain batch whose rows hold `lengths` positions, padded to `width` on one side; the pads belong to no run."""
        layout = cls([(row, range(length)) for row, length in enumerate(lengths)], device)
        pads = [width - length if side == "left" else 0 for length in lengths]
        layout.spans = [Span(span.row, span.positions, span.row * width + pad) for span, pad in zip(layout.spans, pads, strict=True)]
        layout.tokens = len(lengths) * width
        layout._of_row = {span.row: span for span in layout.spans}
        return layout

    def positions(self) -> Int[Tensor, " tokens"]:
        """The position of every token (of spans that lie close together)."""
        parts = [torch.as_tensor(span.positions, dtype=torch.long) if not isinstance(span.positions, range) else
                 torch.arange(span.positions.start, span.positions.stop) for span in self.spans]  # fmt: skip
        return torch.cat(parts).to(self.device) if parts else torch.zeros(0, dtype=torch.long, device=self.device)

    def span(self, row: int) -> Span | None:
        """Where a run's positions are, or None where it has none here."""
        return self._of_row.get(row)

    def select(self, row: int, positions: Sequence[int] | None) -> Selection | None:
        """The tokens of a run at some positions (`None`: all of its prompt); None where the run holds none of them here."""
        span = self._of_row.get(row)
        if span is None:
            return None
        held = span.positions
        if positions is None:
            where = slice(held.start, held.stop) if isinstance(held, range) else self._index(held)
            return Selection(slice(span.offset, span.offset + len(held)), where, where)
        if isinstance(held, range):
            chosen = [index for index, position in enumerate(positions) if position in held]
            tokens = [span.offset + positions[index] - held.start for index in chosen]
        else:
            place = {position: index for index, position in enumerate(held)}
            chosen = [index for index, position in enumerate(positions) if position in place]
            tokens = [span.offset + place[positions[index]] for index in chosen]
        if not chosen:
            return None
        every = len(chosen) == len(positions)
        wanted = [positions[index] for index in chosen]
        return Selection(self._index(tokens), self._index(wanted), slice(None) if every else self._index(chosen))

    def _index(self, values: Sequence[int]) -> Int[Tensor, " values"]:
        return torch.as_tensor(tuple(values), dtype=torch.long, device=self.device)


@dataclass(frozen=True, eq=False)
class Padded:
    """Spans as a rectangle; where not `real`, tokens and positions repeat the first one.

    `together` is where the tokens lie when they are neighbours, in order, and none is padding.
    """

    tokens: Int[Tensor, "runs longest"]
    positions: Int[Tensor, "runs longest"]
    real: Bool[Tensor, "runs longest"]
    full: bool
    together: slice | None

    def of(self, value: Shaped[Tensor, "tokens *rest"]) -> Shaped[Tensor, "runs longest *rest"]:  # noqa: F821, UP037 (a shape)
        """These spans of a packed value as a rectangle; a view where they lie together and need no padding."""
        if self.together is None:
            return value[self.tokens]
        return value[self.together].view(*self.tokens.shape, *value.shape[1:])


def of_like_length(spans: Sequence[Span], size: Callable[[Span], int] = lambda span: len(span.positions)) -> Iterator[list[Span]]:
    """Spans in groups of about one `size`: padding them to the longest of a group then wastes little."""
    alike: list[Span] = []
    for span in sorted(spans, key=lambda span: (size(span), len(span.positions))):
        if alike and size(span) > max(_SHORT, _LENGTH_RATIO * size(alike[0])):
            yield alike
            alike = []
        alike.append(span)
    if alike:
        yield alike


def padded(spans: Sequence[Span], device: torch.device) -> Padded:
    """Spans as a rectangle as wide as the longest of them."""
    longest = max(len(span.positions) for span in spans)
    count = torch.tensor([len(span.positions) for span in spans])[:, None]
    offset = torch.tensor([span.offset for span in spans])[:, None]
    step = torch.arange(longest)
    real = step < count
    tokens = torch.where(real, offset + step, offset)
    if all(isinstance(span.positions, range) for span in spans):
        first = torch.tensor([span.positions[0] for span in spans])[:, None]
        positions = torch.where(real, first + step, first)
    else:
        positions = torch.tensor([[*span.positions, *[span.positions[0]] * (longest - len(span.positions))] for span in spans])
    full = bool(real.all())
    first_token = spans[0].offset
    neighbours = full and bool((offset[:, 0] == first_token + longest * torch.arange(len(spans))).all())
    together = slice(first_token, first_token + longest * len(spans)) if neighbours else None
    return Padded(tokens.to(device), positions.to(device), real.to(device), full, together)
