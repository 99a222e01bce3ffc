"""A decoder like Qwen3.5's, three of four layers a gated delta net: the smallest amount of work, and the rows of the table."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from perf.counting import Counter
from perf.engine import Bench, Row, head_scan, token_wise
from perf.shapes import RECURRENT, Shape


@dataclass(frozen=True)
class RecurrentCounter(Counter):
    """Multiplications of a decoder in which every fourth layer has attention and the others carry a state.

    A state of `head_dim × head_dim` is decayed, read, corrected and read again at each position, one multiplication per entry each: the
    recurrent form, which needs the fewest. The library computes in chunks of 64 positions, which needs more and suits processors better.
    """

    def linear_of(self, layer: int, tokens: float) -> float:
        """The matrices of one layer."""
        shape, inner = self.shape, self.shape.heads * self.shape.head_dim
        attention = 3 * inner + 2 * (shape.heads // 4) * shape.head_dim
        mixer = 5 * inner + 2 * shape.heads
        return tokens * (shape.width * (attention if shape.attends(layer) else mixer) + self.mlp(1))

    def mlp(self, tokens: float) -> float:
        """The gated MLP of one layer."""
        return tokens * 3 * self.shape.width * self.shape.mlp

    def mixing(self, layer: int, first: int) -> float:
        """What a layer's positions from `first` on take from earlier ones."""
        shape = self.shape
        if not shape.attends(layer):
            return (self.length - first) * shape.heads * 4 * shape.head_dim**2
        return sum(2 * (position + 1) * shape.heads * shape.head_dim for position in range(first, self.length))

    def layers_from(self, layer: int, first: int) -> float:
        """The layers from one on, for the positions from `first` on; of the last only what the last position needs."""
        shape, last = self.shape, self.shape.layers - 1
        whole = sum(self.linear_of(index, self.length - first) + self.mixing(index, first) for index in range(layer, last))
        keys_values = 2 * (self.length - first) * shape.width * (shape.heads // 4) * shape.head_dim
        return whole + keys_values + self.linear_of(last, 1) + self.mixing(last, self.length - 1)

    def forward(self) -> float:
        """One full forward pass, image included."""
        layers = range(self.shape.layers)
        return self.vision() + sum(self.linear_of(layer, self.length) + self.mixing(layer, 0) for layer in layers)

    def patch(self, layer: int, position: int) -> float:
        """A patch of one position after the mixer of a layer."""
        return self.mlp(1) + (self.layers_from(layer + 1, position) if layer < self.shape.layers - 1 else 0)

    def head(self, layer: int, first: int) -> float:
        """A head replaced at the positions from `first` on."""
        if layer == self.shape.layers - 1:
            return self.linear_of(layer, 1)
        projection = (self.length - first) * self.shape.width * self.shape.heads * self.shape.head_dim
        return projection + self.mlp(self.length - first) + self.layers_from(layer + 1, first)


class RecurrentBench(Bench):
    """The same work on a decoder whose layers carry a state."""

    def __init__(self, shape: Shape, device: str, dtype: torch.dtype, sampled: int):
        super().__init__(shape, device, dtype, sampled)
        self.count = RecurrentCounter(shape)


def recurrent(cells: int) -> list[Row]:
    """Token-wise patching and the head scan at text positions; other libraries have no such model."""
    bench = RecurrentBench(RECURRENT, "cpu", torch.float32, cells)
    return [*token_wise(bench, 10, others=False), *head_scan(bench, None, 10)]
