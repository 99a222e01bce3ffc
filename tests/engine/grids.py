"""The runs that engines are tested with on every family: sites × operations × layers × positions, attention blocks, several at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.engine import configs
from tests.engine.families import HEADS, LAYERS, TinyVLM
from tests.engine.independent import MLLAMA_CROSS_LAYERS
from vseam_core.api.interventions import (
    Add,
    AnswerIds,
    AnswerScore,
    AttentionBlock,
    MeanOfOthers,
    Operation,
    Patch,
    Replace,
    Run,
    Scale,
    Site,
    SiteEdit,
    Zero,
)
from vseam_core.api.prompts import EncodedPrompt

KINDS = ("residual_before", "residual_after", "attention_output", "mlp_output", "head_output", "query", "key", "value")
OPERATIONS = ("patch", "zero", "scale", "add", "replace")
PLACES = ("last", "image", "mixed", "all")
# The logits of these tokens are what is compared.
TOKENS = (0, 20, 45, 70, 99, 127)
READOUTS = tuple(AnswerScore(AnswerIds((token,), (3,), (token,))) for token in TOKENS)
# The same lengths with other words and another image: two bases of different length, each with a donor.
TEXTS = {"short": ((11, 12, 13, 14, 15), (31, 12, 33, 34, 35)), "long": ((*range(21, 32),), (*range(41, 52),))}


def prompts(model: TinyVLM) -> dict[str, tuple[EncodedPrompt, EncodedPrompt]]:
    """Base and donor by name."""
    return {name: (model.prompt(1, base), model.prompt(2, donor)) for name, (base, donor) in TEXTS.items()}


def positions_of(prompt: EncodedPrompt, place: str) -> tuple[int, ...] | None:
    """The positions of a named place, out of order where there are several."""
    image = prompt.positions("image") or (1,)
    middle = image[len(image) // 2]
    places: dict[str, tuple[int, ...] | None] = {
        "last": (prompt.last,),
        "image": (middle,),
        "mixed": (prompt.last, middle, prompt.last - 1, 0),
        "all": None,
    }
    return places[place]


class Grid:
    """Makes runs on one model for one base and its donor."""

    def __init__(self, model: TinyVLM, base: EncodedPrompt, donor: EncodedPrompt, seed: int = 0):
        self.model, self.base, self.donor = model, base, donor
        self._generator = np.random.default_rng(seed)
        self._stack = model.family.stack

    def run(self, *interventions: SiteEdit | AttentionBlock) -> Run:
        return Run(self.base, READOUTS, interventions, self.donor)

    def edit(self, layer: int, kind: str, operation: str, place: str, head: int | None = None) -> SiteEdit:
        positions = positions_of(self.base, place)
        width = self._width(kind) if head is None else self.model.info.head_dim
        rows = len(self.base) if positions is None else len(positions)
        made: Operation
        match operation:
            case "patch":
                made = Patch()
            case "zero":
                made = Zero()
            case "scale":
                made = Scale(-1.5)
            case "add":
                made = Add(self._values(width))
            case "replace":
                made = Replace(self._values(rows, width))
            case _:
                made = MeanOfOthers()
        site: Any = Site(layer, kind, head, self._stack)  # type: ignore[arg-type]
        return SiteEdit(site, made, positions)

    def block(self, layers: tuple[int, ...], targets: str, sources: str, heads: tuple[int, ...] | None = None) -> AttentionBlock:
        everything = tuple(range(len(self.base)))
        queries, keys = positions_of(self.base, targets) or everything, positions_of(self.base, sources) or everything
        return AttentionBlock(layers, queries, keys, heads, self._stack)

    def pairwise(self) -> Iterator[Run]:
        """Runs in which every site meets every operation, layer and place, and every operation every layer and place."""
        for row, kind in enumerate(KINDS):
            layers = self.layers_with(kind)
            for column, operation in enumerate(OPERATIONS if layers else ()):
                layer = layers[(row + column) % len(layers)]
                yield self.run(self.edit(layer, kind, operation, self._reaching(layer, PLACES[(2 * row + column + row // 2) % 4])))
        for column, operation in enumerate((*OPERATIONS, "mean_of_others")):
            layer, place = column % LAYERS, PLACES[(column + column // 4) % 4]
            yield self.run(self.edit(layer, "head_output", operation, self._reaching(layer, place), column % HEADS))
        yield from self.together()

    def together(self) -> Iterator[Run]:
        """Attention blocks, and several interventions in one run."""
        first, last = self.layers_with("block")[0], self.layers_with("block")[-1]
        yield self.run(self.block((first, last), "last", "image"))
        yield self.run(self.block((last,), "mixed", "mixed", (0, 2)))
        yield self.run(self.block((first,), "last", "all"))
        yield self.run(self.edit(0, "mlp_output", "patch", "mixed"), self.edit(2, "attention_output", "zero", "last"))
        mean = [self.edit(1, "head_output", "mean_of_others", "all", head) for head in (0, 3)]
        yield self.run(*mean, self.edit(1, "head_output", "scale", "all", 1), self.edit(2, "residual_before", "add", "mixed"))
        yield self.run(self.block((first,), "mixed", "image", (1,)), self.edit(first, "head_output", "patch", "last", 1))

    def full(self) -> Iterator[Run]:
        """Every site with every operation at every layer and place."""
        for kind in KINDS:
            for layer in self.layers_with(kind):
                for place in PLACES:
                    for operation in OPERATIONS:
                        yield self.run(self.edit(layer, kind, operation, place))
        for layer in range(LAYERS):
            for place in PLACES:
                for operation in (*OPERATIONS, "mean_of_others"):
                    yield self.run(self.edit(layer, "head_output", operation, place, layer % HEADS))
        for layer in self.layers_with("block"):
            for targets in PLACES:
                for sources in PLACES:
                    yield self.run(self.block((layer,), targets, sources, None if targets == "all" else (0, 3)))
        yield from self.together()

    def layers_with(self, kind: str) -> tuple[int, ...]:
        """The layers where a site exists: a cross-attention layer has no keys at prompt positions, a mixer with a state none at all.

        What Qwen3.5's query projection gives holds its gate too.
        """
        if self.model.info.family == "qwen3_5":
            attention = () if kind == "query" else (configs.STATE_ATTENTION,)
            return attention if kind in ("query", "key", "value", "block") else tuple(range(LAYERS))
        if self.model.info.family == "mllama" and kind in ("key", "value", "block"):
            return tuple(layer for layer in range(LAYERS) if layer not in MLLAMA_CROSS_LAYERS)
        return tuple(range(LAYERS))

    def _reaching(self, layer: int, place: str) -> str:
        # From the last layer that mixes positions on, what changes at an image position reaches no logit of a causal model.
        return "mixed" if place == "image" and layer >= self.layers_with("block")[-1] else place

    def _width(self, kind: str) -> int:
        if kind in ("query", "head_output"):
            return HEADS * self.model.info.head_dim
        if kind in ("key", "value"):
            return (HEADS if self.model.family.image_first else 2) * self.model.info.head_dim
        return configs.WIDTH

    def _values(self, *shape: int) -> np.ndarray:
        return self._generator.normal(size=shape).astype(np.float32)
