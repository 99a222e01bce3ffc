"""Logit lens and direct logit attribution: what each layer already says about the answer, without changing anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from vseam_core.api.interfaces import TraceContext, Tracer
from vseam_core.api.interventions import MEASURES, TOP_TOKEN, AnswerScore, AnswerValues, LensScore, Run, RunResult, Site, SiteKind
from vseam_core.api.presentation import Presentation
from vseam_core.api.prompts import POSITION_CLASSES, role_of_positions
from vseam_core.api.types import Direction, TraceEffect
from vseam_core.errors import SampleError, UnsupportedError
from vseam_plugins.tracers.grids import (
    PATCH_MEASURES,
    baseline_answers,
    baseline_runs,
    chosen_names,
    expect_results,
    residual_rows,
    stack_of,
    usable_measures,
)

SITES: tuple[SiteKind, ...] = ("residual_after", "attention_output", "mlp_output")
LINEAR_MEASURES: tuple[str, ...] = ("logit_diff", "logit")
IMAGES: tuple[Direction, ...] = ("clean", "corrupt")


@dataclass(frozen=True)
class LensRows:
    """The rows of one lens array: layer labels, sites, and the measures that have a meaning there."""

    site_kind: SiteKind
    layers: tuple[int, ...]
    sites: tuple[Site, ...]
    measures: tuple[str, ...]


class LogitLens(Tracer):
    """Reads the answer at inner sites of the clean and of the corrupt run.

    The residual by the logit lens (final norm and unembedding), attention and MLP outputs by direct logit attribution (their
    contribution at the recorded scale of the final norm; probabilities have no additive share, so only linear measures are given).
    The measure `top_token` is the id of the token that the residual's reading puts first: for single samples, its mean means nothing.
    Effects are `[layers, positions]`; the residual has one more row, layer −1, for the embeddings. `values` are the readouts
    themselves, not differences, and `direction` names the run that was read: `clean` or `corrupt`. In the stack `decoder` of a model whose
    image and words stand in an encoder it reads the residual of the decoder at the last token that it starts with. Sources: nostalgebraist
    2020 (logit lens); Elhage et al. 2021 (direct logit attribution).
    """

    name: ClassVar[str] = "lens"
    version: ClassVar[int] = 2
    stacks: ClassVar[tuple[str, ...]] = ("decoder", "encoder", "cross")

    def __init__(
        self,
        sites: Sequence[str] = SITES,
        positions: Sequence[str] = ("last",),
        measures: Sequence[str] = (*PATCH_MEASURES, TOP_TOKEN),
    ) -> None:
        self.sites = chosen_names("site", sites, SITES)
        self.positions = chosen_names("position class", positions, POSITION_CLASSES)
        self.measures = chosen_names("measure", measures, (*MEASURES, TOP_TOKEN))

    def plan(self, context: TraceContext) -> Sequence[Run]:
        """One run per image, with all readouts.

        Raises `SampleError` where the prompts do not match or have no such position, `UnsupportedError` for cross-attention alone.
        """
        if context.stack == "cross":
            raise UnsupportedError("lens: cross-attention has no residual of its own: name the stack decoder")
        positions = self._positions(context)
        readouts = [AnswerScore(context.answer)]
        lenses = [LensScore(site, context.answer, positions) for rows in self._rows(context) for site in rows.sites]
        return [Run(run.base, (*readouts, *lenses)) for run in baseline_runs(context)]

    def effects(self, context: TraceContext, results: Sequence[RunResult]) -> list[TraceEffect]:
        """One effect per run, site kind and measure: the readouts, float32 `[layers, positions]`."""
        expect_results(results, len(IMAGES))
        effects = []
        for direction, result in zip(IMAGES, results, strict=True):
            readouts = iter(result.readouts[1:])
            for rows in self._rows(context):
                answers = [next(readouts) for _ in rows.sites]
                for measure in rows.measures:
                    values = [[_value(answer, measure) for answer in row] for row in answers]
                    array = np.array(values, dtype=np.float64).astype(np.float32)
                    effects.append(self._effect(context, rows, direction=direction, measure=measure, values=array, results=results))
        return effects

    def presentation(self) -> Presentation:
        """The readings of the clean and of the corrupt run beside each other, for each site."""
        return Presentation(
            view="readout",
            title="what each layer already says about the answer",
            caption="Nothing is changed: the residual stream is read by the final norm and the unembedding (logit lens), attention and MLP "
            "outputs by what they add to the logits at the recorded scale of the final norm (direct logit attribution). Above 0: for the "
            "clean image's answer. A reading says what could be read off there, and not that the model uses it.",
            sites={"attention_output": "added by attention", "mlp_output": "added by the MLP"},
        )

    def options(self) -> Mapping[str, object]:
        """Sites, position classes and measures."""
        return {"sites": list(self.sites), "positions": list(self.positions), "measures": list(self.measures)}

    def _positions(self, context: TraceContext) -> tuple[int, ...]:
        if context.stack:
            return (-1,)
        positions = context.clean.positions(*self.positions)
        if not positions:
            raise SampleError(f"{context.pair.identifier}: the prompt has no position of class {', '.join(self.positions)}")
        return positions

    def _rows(self, context: TraceContext) -> list[LensRows]:
        measures = usable_measures(self.measures, context)
        linear = tuple(measure for measure in measures if measure in LINEAR_MEASURES)
        layers = tuple(range(context.shape.layers))
        rows = []
        for kind in self.sites if not context.stack else SITES[:1]:
            if kind == "residual_after":
                labels, sites = residual_rows(context.shape)
                rows.append(LensRows(kind, labels, sites, measures))
            elif linear:
                sites = tuple(Site(layer, kind, stack=stack_of(context.shape)) for layer in layers)
                rows.append(LensRows(kind, layers, sites, linear))
        return rows

    def _effect(
        self,
        context: TraceContext,
        rows: LensRows,
        direction: Direction,
        measure: str,
        values: np.ndarray,
        results: Sequence[RunResult],
    ) -> TraceEffect:
        clean, corrupt = baseline_answers(results)
        positions = self._positions(context)
        return TraceEffect(
            tracer=self.name,
            stack=context.shape.stack,
            site_kind=rows.site_kind,
            direction=direction,
            measure=measure,
            layers=rows.layers,
            **_axis(context, positions),
            values=values,
            clean=_value(clean, measure),
            corrupt=_value(corrupt, measure),
        )


def _axis(context: TraceContext, positions: Sequence[int]) -> dict[str, Any]:
    """The columns of an effect. The token that a decoder starts with is no position of the prompt."""
    if context.stack:
        return {"columns": ("last",), "column_kind": "group", "roles": ("last",)}
    names = tuple(str(position) for position in positions)
    return {"columns": names, "column_kind": "position", "roles": role_of_positions(context.clean, positions)}


def _value(answer: AnswerValues, measure: str) -> float:
    return float(getattr(answer, "top" if measure == TOP_TOKEN else measure))
