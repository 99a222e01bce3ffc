"""The factors that a rescaling tries: the grid fitted to head scores, the published recipe, and shuffled controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from vseam_core.analysis.rescaling import Setting, published_scales, scaled_by_rank, shuffled_within_layers
from vseam_core.api.interfaces import ModelShape
from vseam_core.api.types import HeadId

FITTED = "fitted"
PUBLISHED = "published"


@dataclass(frozen=True, eq=False)
class RescalingScores:
    """What a rescaling starts from, all of it from the score pool.

    `scores` `[layers, heads]` are positive for positive heads and negative for negative ones, both listed best first. `published`
    `[layers, heads]` are the published signed scores, or None. `exploratory` says that heads were ranked without passing a claim.
    """

    scores: np.ndarray
    positive: tuple[HeadId, ...]
    negative: tuple[HeadId, ...]
    published: np.ndarray | None = None
    exploratory: bool = False


@dataclass(frozen=True)
class Candidate:
    """One way to scale heads: the recipe and setting it comes from, and the factor of each head that is not 1."""

    recipe: str
    setting: Setting
    factors: Mapping[HeadId, float] = field(default_factory=dict)

    @property
    def named(self) -> dict[str, float]:
        """The factors by head name, for the store."""
        return {str(head): float(factor) for head, factor in sorted(self.factors.items())}

    def identity(self) -> dict[str, object]:
        """What of a candidate is measured or stored: the factors, and where they come from."""
        return {"recipe": self.recipe, "setting": asdict(self.setting), "factors": self.named}


def candidates_of(scores: RescalingScores, settings: Sequence[Setting]) -> tuple[Candidate, ...]:
    """The grid as candidates, no rescaling first; settings that come to the same factors are tried once."""
    candidates = [Candidate(FITTED, Setting(0.0, 0))]
    for setting in settings:
        positive, negative = scores.positive[: setting.top_k], scores.negative[: setting.top_k]
        factors = _factors(scaled_by_rank(scores.scores, positive, negative, setting.strength, setting.clip))
        if all(factors != candidate.factors for candidate in candidates):
            candidates.append(Candidate(FITTED, setting, factors))
    return tuple(candidates)


def published_candidate(signed: np.ndarray) -> Candidate:
    """The published recipe at its published strength, over all heads `[layers, heads]`: nothing to choose."""
    there = np.isfinite(signed)
    return Candidate(PUBLISHED, Setting(1.0, int(there.sum()), 1.0), _factors(published_scales(np.where(there, signed, 0.0))))


def shuffles(candidate: Candidate, shape: ModelShape, count: int, seed: int) -> list[Candidate]:
    """The candidate's factors dealt to other heads of their layers: a control that keeps how much each layer is changed."""
    if not candidate.factors:
        return []
    scales = np.ones((shape.layers, shape.heads))
    exists = np.array([[head < shape.heads_in(layer) for head in range(shape.heads)] for layer in range(shape.layers)])
    for head, factor in candidate.factors.items():
        scales[head.layer, head.head] = factor
    return [replace(candidate, factors=_factors(drawn)) for drawn in shuffled_within_layers(scales, count, seed, exists)]


def _factors(scales: np.ndarray) -> dict[HeadId, float]:
    changed = zip(*np.nonzero(scales != 1.0), strict=True)
    return {HeadId(int(layer), int(head)): float(scales[layer, head]) for layer, head in changed}
