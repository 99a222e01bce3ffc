"""How many multiplications a piece of work needs at least, one way and the other: the limit of any speed-up."""

from __future__ import annotations

from dataclasses import dataclass

from perf.shapes import Shape


@dataclass(frozen=True)
class Counter:
    """Multiplications in a model of a given shape; norms and element-wise steps are left out."""

    shape: Shape

    @property
    def length(self) -> int:
        """The positions of the prompt."""
        return 3 + self.shape.image_positions + self.shape.text_positions

    def linear(self, tokens: float) -> float:
        """The matrices of one layer: attention's four and the gated MLP's three."""
        return tokens * (4 * self.shape.width**2 + 3 * self.shape.width * self.shape.mlp)

    def attention(self, first: int) -> float:
        """Scores and weighted values of the positions from `first` on, each over the positions up to its own."""
        return sum(2 * (position + 1) * self.shape.width for position in range(first, self.length))

    def layer(self, first: int) -> float:
        """One layer, for the positions from `first` on."""
        return self.linear(self.length - first) + self.attention(first)

    def last_layer(self, first: int) -> float:
        """The last layer: keys and values of the positions from `first` on, the rest for the last position alone."""
        keys_values = 2 * (self.length - first) * self.shape.width**2
        return keys_values + self.linear(1) + 2 * self.length * self.shape.width

    def vision(self) -> float:
        """The vision tower."""
        patches, width = self.shape.image_positions + 1, self.shape.vision_width
        return self.shape.vision_layers * (patches * 12 * width**2 + 2 * patches**2 * width)

    def forward(self) -> float:
        """One full forward pass, image included, with causal attention."""
        return self.vision() + self.shape.layers * self.layer(0)

    def patch(self, layer: int, position: int) -> float:
        """A patch of one position after the attention of a layer: that position there, the positions from it on in later layers."""
        if layer == self.shape.layers - 1:
            return self.linear(1)
        return self.linear(1) + (self.shape.layers - layer - 2) * self.layer(position) + self.last_layer(position)

    def head(self, layer: int, first: int) -> float:
        """A head replaced at the positions from `first` on: there only what follows attention, later layers in full."""
        after = (self.length - first) * (self.shape.width**2 + 3 * self.shape.width * self.shape.mlp)
        if layer == self.shape.layers - 1:
            return self.linear(1)
        return after + (self.shape.layers - layer - 2) * self.layer(first) + self.last_layer(first)
