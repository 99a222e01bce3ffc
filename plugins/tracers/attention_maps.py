"""Attention maps: where each layer, or each head, looks from some positions, on both images; nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, cast

import numpy as np

from vseam_core.api.interfaces import TraceContext, Tracer
from vseam_core.api.interventions import AttentionWeights, Run, RunResult, Stack
from vseam_core.api.presentation import Presentation
from vseam_core.api.prompts import POSITION_CLASSES, EncodedPrompt, PositionClass, role_of_positions
from vseam_core.api.types import Direction, TraceEffect
from vseam_core.errors import SampleError, UnknownNameError, UnsupportedError, did_you_mean
from vseam_plugins.tracers.grids import baseline_runs, chosen_names, expect_results, stack_of

Detail = Literal["groups", "positions", "heads"]
DETAILS: tuple[Detail, ...] = ("groups", "positions", "heads")
IMAGES: tuple[Direction, ...] = ("clean", "corrupt")
_OF_DECODER = (
    "Attention weights from the last token that the decoder starts with to the prompt, averaged over heads unless heads are named: of each "
    "class of positions the sum, of single positions the mean. Nothing is changed. That a position is looked at does not say that what is "
    "read there is used."
)
_SHOWN = {"image": "to the image", "question": "to the question", "template": "to the template"}


class AttentionMaps(Tracer):
    """Reads attention weights from the queries at `targets` (position classes; averaged over the positions of a class).

    `detail` says how fine: `groups` adds the weights up over each class of positions and averages heads, float32 `[layers, classes]`;
    `positions` keeps every position, averaged over heads; `heads` keeps every head apart, each `[layers, positions]`, its site kind ending
    in `_head_N`. Layers without attention between positions (a mixer with a state, cross-attention) have no row. `direction` names the
    image that was read. That a position is looked at does not say that it is used: set it beside what patching and ablation do.

    In the stack `cross`, and in a `decoder` that reads its own tokens and an encoder in one attention (T5Gemma 2), it reads where the
    decoder looks in the prompt from the last token that it starts with: whence the answer comes.
    """

    name: ClassVar[str] = "attention_maps"
    stacks: ClassVar[tuple[str, ...]] = ("decoder", "encoder", "cross")

    def __init__(self, targets: Sequence[str] = ("last",), detail: str = "groups") -> None:
        self.targets = chosen_names("position class", targets, POSITION_CLASSES)
        if detail not in DETAILS:
            raise UnknownNameError(f"unknown detail {detail!r}: {did_you_mean(detail, DETAILS)}")
        self.detail = cast(Detail, detail)

    def plan(self, context: TraceContext) -> Sequence[Run]:
        """Both images as they are, with the weights of all layers that attend.

        Raises `SampleError` where no position is of a wanted class, `UnsupportedError` where no layer attends.
        """
        layers = _layers(context)
        if not layers:
            raise UnsupportedError("attention maps need attention between positions; no layer of this model has any")
        if context.stack:
            return self._plan_of_decoder(context, layers)
        runs = []
        for run in baseline_runs(context):
            # The position classes are the same in both prompts.
            wanted = [
                AttentionWeights(layer, self._targets(run.base, name), stack_of(context.shape)) for name in self.targets for layer in layers
            ]
            runs.append(replace(run, attention=tuple(wanted)))
        return runs

    def _plan_of_decoder(self, context: TraceContext, layers: Sequence[int]) -> Sequence[Run]:
        if self.targets != ("last",):
            raise UnsupportedError(f"attention_maps: in the stack {context.stack} a decoder looks from its last token: leave targets out")
        if not context.clean.positions("image"):
            raise UnsupportedError(f"attention_maps: what the stack {context.stack} looks at has no positions in this model's prompt")
        wanted = tuple(AttentionWeights(layer, (-1,), cast(Stack, context.stack)) for layer in layers)
        return [replace(run, attention=wanted) for run in baseline_runs(context)]

    def effects(self, context: TraceContext, results: Sequence[RunResult]) -> list[TraceEffect]:
        """One effect per image and class of targets, with `heads` one per head too."""
        expect_results(results, len(IMAGES))
        effects = []
        for direction, result in zip(IMAGES, results, strict=True):
            layers, heads = len(_layers(context)), max(map(context.shape.heads_in, _layers(context)))
            for index, target in enumerate(self.targets):
                read = result.attention[index * layers : (index + 1) * layers]
                weights = np.stack([_as_wide(one.mean(1), heads) for one in read], axis=1)
                effects += self._of_target(context, direction, f"attention_from_{target}", weights)
        return effects

    def presentation(self) -> Presentation:
        """Where the weight goes, layer by layer, for both images beside each other; or maps of positions."""
        return Presentation(
            view="readout" if self.detail == "groups" else "map",
            title="where attention goes",
            caption="Attention weights from the last position (or others that were asked for), averaged over heads unless heads are "
            "named: of each class of positions the sum, of single positions the mean. Nothing is changed. That a position is looked at "
            "does not say that what is read there is used.",
            columns=_SHOWN if self.detail == "groups" else {},
            sites={f"attention_from_{name}": f"attention from {name.replace('_', ' ')}" for name in self.targets},
            captions=dict.fromkeys(("cross", "decoder"), _OF_DECODER),
        )

    def options(self) -> Mapping[str, object]:
        """Targets and detail."""
        return {"targets": list(self.targets), "detail": self.detail}

    def _targets(self, prompt: EncodedPrompt, name: PositionClass) -> tuple[int, ...]:
        positions = prompt.positions(name)
        if not positions:
            raise SampleError(f"attention_maps: the prompt has no position of class {name}")
        return positions

    def _of_target(self, context: TraceContext, direction: Direction, site: str, weights: np.ndarray) -> list[TraceEffect]:
        """The effects of one class of targets from its weights `[heads, layers, positions]`."""
        prompt, mean = context.clean, np.nanmean(weights, axis=0)
        every = tuple(range(len(prompt)))
        named = {"columns": tuple(map(str, every)), "column_kind": "position", "roles": role_of_positions(prompt, every)}
        if self.detail == "groups":
            classes = [name for name in POSITION_CLASSES if prompt.positions(name)]
            sums = np.stack([mean[:, list(prompt.positions(name))].sum(-1) for name in classes], axis=1)
            grouped = {"columns": tuple(classes), "column_kind": "group", "roles": tuple(classes)}
            return [self._effect(context, direction, site, sums, grouped)]
        found = [self._effect(context, direction, site, mean, named)]
        if self.detail == "heads":
            found += [
                self._effect(context, direction, f"{site}_head_{head}", np.nan_to_num(one), named) for head, one in enumerate(weights)
            ]
        return found

    def _effect(
        self,
        context: TraceContext,
        direction: Direction,
        site: str,
        values: np.ndarray,
        axes: Mapping[str, object],
    ) -> TraceEffect:
        return effect_of_weights(self.name, context, direction, site, values, {"layers": _layers(context), **axes})


def _layers(context: TraceContext) -> tuple[int, ...]:
    """The layers whose weights are read: those in which positions look at each other, or a decoder at an encoder."""
    shape = context.shape
    return tuple(layer for layer in range(shape.layers) if shape.heads_in(layer)) if context.stack else shape.attention_layers


def effect_of_weights(
    tracer: str, context: TraceContext, direction: Direction, site: str, values: np.ndarray, axes: Mapping[str, Any]
) -> TraceEffect:
    """Attention weights as an effect; `axes` are its layers and columns. All of a query's weight is 1: no patch has a share in it."""
    return TraceEffect(
        tracer=tracer,
        stack=context.shape.stack,
        site_kind=site,
        direction=direction,
        measure="weight",
        values=values.astype(np.float32),
        clean=1.0,
        corrupt=1.0,
        **axes,
    )


def _as_wide(weights: np.ndarray, heads: int) -> np.ndarray:
    """A layer's weights `[heads, positions]` with rows of NaN for heads that only wider layers have."""
    missing = heads - len(weights)
    return weights if not missing else np.concatenate([weights, np.full((missing, weights.shape[1]), np.nan, weights.dtype)])
