"""Gaze: how much of its attention each head gives to what was edited, against the region's area and against another region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from vseam_core.api.interfaces import TraceContext, Tracer
from vseam_core.api.interventions import AttentionWeights, Run, RunResult
from vseam_core.api.presentation import Presentation
from vseam_core.api.prompts import POSITION_CLASSES, EncodedPrompt
from vseam_core.api.types import Direction, TraceEffect
from vseam_core.errors import SampleError, UnsupportedError, VseamError
from vseam_plugins.tracers.attention_maps import effect_of_weights
from vseam_plugins.tracers.grids import baseline_runs, chosen_names, expect_results, stack_of
from vseam_plugins.tracers.regions import COVERAGE, region_positions

IMAGES: tuple[Direction, ...] = ("clean", "corrupt")
SITES = {
    "gaze_region": "attention to the edited region",
    "gaze_over_area": "attention to the edited region, above its share of the image",
    "gaze_over_random": "attention to the edited region, above that to a random region of its size",
    "gaze_random_over_area": "control: attention to the random region, above its share of the image",
}


class Gaze(Tracer):
    """Reads every head's attention weights from the queries at `target` (averaged over its positions), on both images; nothing is changed.

    Effects are `[layers, heads]`: the weight on the image positions of the edited region (as `regions` finds it, by `coverage`); that
    weight minus what the head would give it if it spread its weight on the image evenly; minus the weight on a random region of as many
    positions; and, as a control, the random region's weight minus its even share. The random region depends on the seed and the pair.
    """

    name: ClassVar[str] = "gaze"

    def __init__(self, target: str = "last", coverage: float = COVERAGE) -> None:
        (self.target,) = chosen_names("position class", (target,), POSITION_CLASSES)
        if not 0 < coverage <= 1:
            raise VseamError(f"gaze: coverage is {coverage}, expected a share above 0 and at most 1")
        self.coverage = coverage

    def plan(self, context: TraceContext) -> Sequence[Run]:
        """Both images as they are, with the weights of all layers. Raises as `region_positions` does."""
        if context.shape.heads_by_layer:
            raise UnsupportedError("gaze: the layers of this model have different numbers of heads; maps need one number")
        region_positions(context, self.coverage)
        targets = context.clean.positions(self.target)
        if not targets:
            raise SampleError(f"gaze: the prompt has no position of class {self.target}")
        wanted = tuple(AttentionWeights(layer, targets, stack_of(context.shape)) for layer in range(context.shape.layers))
        return [replace(run, attention=wanted) for run in baseline_runs(context)]

    def effects(self, context: TraceContext, results: Sequence[RunResult]) -> list[TraceEffect]:
        """One effect per image and reading."""
        expect_results(results, len(IMAGES))
        region, _, random = region_positions(context, self.coverage)
        image = _with_a_place(context.clean)
        effects = []
        for direction, result in zip(IMAGES, results, strict=True):
            weights = np.stack([one.astype(np.float64).mean(1) for one in result.attention])
            on_region, on_random = (weights[..., list(positions)].sum(-1) for positions in (region, random))
            even = weights[..., image].sum(-1) * len(region) / len(image)
            values = (on_region, on_region - even, on_region - on_random, on_random - even)
            effects += [self._effect(context, direction, site, one) for site, one in zip(SITES, values, strict=True)]
        return effects

    def presentation(self) -> Presentation:
        """A map of layers and heads for each reading; the table sets the differences beside what replacing each head does."""
        return Presentation(
            view="map",
            title="where each head looks",
            caption=f"Attention weights of single heads from {self.target.replace('_', ' ')} positions: how much goes to the image "
            "positions of the edited region, above what an even look over the image would give it, and above a random region of the same "
            "size. Nothing is changed. That a head looks at something does not say that it uses it.",
            sites=SITES,
            strongest=2,
            beside_effects={
                "gaze_over_area": "looks at the edited region, above its area",
                "gaze_over_random": "looks at the edited region, above a random one",
                "gaze_random_over_area": "control: looks at a random region, above its area",
            },
        )

    def options(self) -> Mapping[str, object]:
        """Target and coverage."""
        return {"target": self.target, "coverage": self.coverage}

    def _effect(self, context: TraceContext, direction: Direction, site: str, values: np.ndarray) -> TraceEffect:
        columns = tuple(f"H{head}" for head in range(context.shape.heads))
        axes = {"layers": tuple(range(context.shape.layers)), "columns": columns, "column_kind": "group", "roles": columns}
        return effect_of_weights(self.name, context, direction, site, values, axes)


def _with_a_place(prompt: EncodedPrompt) -> list[int]:
    """The image positions that look at some part of the image; ends of rows and padding look at none."""
    boxes = prompt.image_boxes or ()
    return [position for position, box in zip(prompt.positions("image"), boxes, strict=True) if box[0] < box[2] and box[1] < box[3]]
