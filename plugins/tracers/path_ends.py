"""The ends of a path as they are written: L5H3, L5H3.q, L5.mlp, L*H*, embeddings, logits; several senders that change together by +."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vseam_core.api.interfaces import ModelShape
from vseam_core.api.interventions import Site, SiteKind
from vseam_core.errors import UnknownNameError, UnsupportedError
from vseam_plugins.tracers.grids import EMBEDDING, stack_of

EMBEDDINGS, LOGITS = "embeddings", "logits"
_ANY = "*"
_END = re.compile(r"L(?P<layer>\d+|\*)(?:H(?P<head>\d+|\*))?(?:\.(?P<part>q|k|v|mlp|attention))?")
_READS: dict[str, tuple[SiteKind, ...]] = {"": ("query", "key", "value"), "q": ("query",), "k": ("key",), "v": ("value",)}
_PART_WORDS = {"": "", "q": "query of ", "k": "key of ", "v": "value of ", "mlp": "MLP of ", "attention": "attention of "}


@dataclass(frozen=True)
class Place:
    """One component at the end of a path: its sites, and where it stands in a map (layer, column)."""

    sites: tuple[Site, ...]
    layer: int
    column: str


@dataclass(frozen=True)
class PathEnd:
    """One end as it is written. `layer` and `head` are None where every one is meant (`*`) or there is none (`part` says)."""

    text: str
    part: str
    layer: int | None = None
    head: int | None = None

    @property
    def is_set(self) -> bool:
        """Whether it stands for several components."""
        return _ANY in self.text

    def layers(self, shape: ModelShape) -> Sequence[int]:
        """The layers that are meant. Raises `UnsupportedError` for one that there is not."""
        if self.layer is None:
            return range(shape.layers)
        if self.layer >= shape.layers:
            raise UnsupportedError(f"{self.text}: layer {self.layer} does not exist: the model has layers 0 to {shape.layers - 1}")
        return (self.layer,)

    def sending(self, shape: ModelShape) -> list[Place]:
        """What it stands for as a sender, layer by layer."""
        if self.part == EMBEDDINGS:
            return [Place((Site(0, "residual_before", stack=stack_of(shape)),), EMBEDDING, EMBEDDINGS)]
        if self.part in ("mlp", "attention"):
            kind: SiteKind = "mlp_output" if self.part == "mlp" else "attention_output"
            return [Place((Site(layer, kind, stack=stack_of(shape)),), layer, self.part) for layer in self.layers(shape)]
        return self._heads(shape, ("head_output",), shape.heads)

    def receiving(self, shape: ModelShape) -> list[Place]:
        """What it stands for as a receiver, layer by layer.

        Raises `UnsupportedError` for a head's query, key and value together where heads share keys.
        """
        if self.part == LOGITS:
            last = shape.layers - 1
            return [Place((Site(last, "residual_after", stack=stack_of(shape)),), last, LOGITS)]
        if self.part == "mlp":
            return [Place((Site(layer, "mlp_output", stack=stack_of(shape)),), layer, self.part) for layer in self.layers(shape)]
        if not self.part and shape.key_value_heads:
            raise UnsupportedError(
                f"{self.text}: {shape.heads} heads of this model share {shape.key_value_heads} keys and values: "
                f"say {self.text}.q, or .k and .v, which are numbered by key"
            )
        return self._heads(shape, _READS[self.part], shape.heads if self.part in ("", "q") else shape.key_value_heads or shape.heads)

    def _heads(self, shape: ModelShape, kinds: Sequence[SiteKind], count: int) -> list[Place]:
        if shape.heads_by_layer:
            raise UnsupportedError(
                f"{self.text}: the layers of this model have different numbers of heads; paths are mapped where all have one"
            )
        if self.head is not None and self.head >= count:
            raise UnsupportedError(f"{self.text}: head {self.head} does not exist: there are heads 0 to {count - 1}")
        heads = range(count) if self.head is None else (self.head,)
        return [
            Place(tuple(Site(layer, kind, head, stack_of(shape)) for kind in kinds), layer, f"H{head}")
            for layer in self.layers(shape)
            for head in heads
        ]


def parse_sender(text: str) -> tuple[PathEnd, ...]:
    """The components that change together, joined by `+`. Raises `UnknownNameError`."""
    ends = tuple(_parse(part.strip(), "a sender is a head (L5H3), L5.mlp, L5.attention or embeddings") for part in text.split("+"))
    for end in ends:
        if end.part in (LOGITS, "q", "k", "v"):
            raise UnknownNameError(f"{end.text!r} is no sender: name a head (L5H3), L5.mlp, L5.attention or {EMBEDDINGS}")
        if len(ends) > 1 and end.is_set:
            raise UnknownNameError(f"{text!r}: senders that change together are named one by one, without *")
    return ends


def parse_receiver(text: str) -> PathEnd:
    """A receiver. Raises `UnknownNameError`."""
    end = _parse(text.strip(), "a receiver is a head (L5H3), its query, key or value (L5H3.q, .k, .v), L5.mlp or logits")
    if end.part in (EMBEDDINGS, "attention"):
        raise UnknownNameError(f"{text!r} is no receiver: name a head (L5H3), L5H3.q, .k or .v, L5.mlp or {LOGITS}")
    return end


def _parse(text: str, expected: str) -> PathEnd:
    if text in (EMBEDDINGS, LOGITS):
        return PathEnd(text, text)
    match = _END.fullmatch(text)
    if match is None or (match["head"] is None) != (match["part"] in ("mlp", "attention")):
        raise UnknownNameError(f"{text!r} is no end of a path: {expected}; * stands for every layer or head")
    layer, head = (None if value in (None, _ANY) else int(value) for value in (match["layer"], match["head"]))
    return PathEnd(text, match["part"] or "", layer, head)


def words_of(text: str) -> str:
    """An end as readers see it: "query of every head" for L*H*.q."""
    if text in (EMBEDDINGS, LOGITS):
        return text
    if "+" in text:
        return " + ".join(words_of(part.strip()) for part in text.split("+"))
    name, _, part = text.partition(".")
    if name == "L*H*":
        name = "every head"
    elif name == "L*":
        name = "every layer"
    return _PART_WORDS[part] + name
