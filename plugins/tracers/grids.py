"""What patching tracers share: a grid of single patches, planned in a fixed order and read back in the same order.

Sign convention of every tracer that changes a run: `values` = the changed run's measure minus the base run's measure. Denoising
patches clean activations into the corrupt run (values = patched − corrupt), noising corrupt ones into the clean run
(values = patched − clean). So in both directions Σ values / Σ (donor − base) is the restored or destroyed share of the gap.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar, cast

import numpy as np

from vseam_core.api.interfaces import ModelShape, TraceContext, Tracer
from vseam_core.api.interventions import MEASURES, AnswerScore, AnswerValues, Patch, Run, RunResult, Site, SiteEdit, Stack
from vseam_core.api.prompts import comparable
from vseam_core.api.types import Direction, TraceEffect
from vseam_core.errors import SampleError, UnknownNameError, did_you_mean

if TYPE_CHECKING:
    from vseam_core.api.prompts import EncodedPrompt

PATCH_DIRECTIONS: tuple[Direction, ...] = ("denoising", "noising")
PATCH_MEASURES: tuple[str, ...] = ("logit_diff", "prob_sum", "logit")
EMBEDDING = -1
"""The row of the residual before the first layer, where rows are residuals after each layer."""

Name = TypeVar("Name", bound=str)
BASELINES = 2
"""Every plan opens with the clean and the corrupt prompt as they are."""


@dataclass(frozen=True)
class PatchGrid:
    """Single patches in one array: each row is a site, each column a set of positions patched together.

    `layers` labels the rows (`EMBEDDING` for the residual before the first layer), `columns` and `roles` the columns. Positions None are
    all that the site has.
    """

    site_kind: str
    layers: tuple[int, ...]
    sites: tuple[Site, ...]
    columns: tuple[str, ...]
    roles: tuple[str, ...]
    positions: tuple[tuple[int, ...] | None, ...]
    column_kind: Literal["position", "group"]

    def cells(self) -> Iterator[tuple[Site, tuple[int, ...] | None]]:
        """Site and positions of every patch, row by row."""
        return ((site, positions) for site in self.sites for positions in self.positions)


class PatchingTracer(Tracer):
    """A tracer that patches single cells of grids from one prompt of a pair into the other.

    Subclasses say which cells (`grids`); this class plans the runs, in both directions by default, and reads the effects:
    patched minus base (see the module). `logit_diff` is left out where the sample has no competing answer.
    """

    def __init__(self, directions: Sequence[str] = PATCH_DIRECTIONS, measures: Sequence[str] = PATCH_MEASURES) -> None:
        self.directions = chosen_names("direction", directions, PATCH_DIRECTIONS)
        self.measures = chosen_names("measure", measures, MEASURES)

    @abstractmethod
    def grids(self, context: TraceContext) -> Sequence[PatchGrid]:
        """The cells to patch on this pair; the same list whenever it is asked for the same context."""

    def plan(self, context: TraceContext) -> Sequence[Run]:
        """Clean, corrupt, then one run per direction and cell. Raises `SampleError` where the prompts do not match."""
        usable_measures(self.measures, context)
        runs = baseline_runs(context)
        readouts = (AnswerScore(context.answer),)
        grids = self.grids(context)
        for direction in self.directions:
            base, donor = base_and_donor(context, direction)
            for grid in grids:
                for site, positions in grid.cells():
                    runs.append(Run(base, readouts, (SiteEdit(site, Patch(), positions),), donor))
        return runs

    def effects(self, context: TraceContext, results: Sequence[RunResult]) -> list[TraceEffect]:
        """One effect per direction, site kind and measure: patched minus base, float32 `[layers, columns]`."""
        clean, corrupt = baseline_answers(results)
        answers = iter([result.answer for result in results[BASELINES:]])
        grids = self.grids(context)
        expect_results(results, BASELINES + len(self.directions) * sum(len(list(grid.cells())) for grid in grids))
        effects = []
        for direction in self.directions:
            base = corrupt if direction == "denoising" else clean
            for grid in grids:
                patched = [next(answers) for _ in grid.cells()]
                for measure in usable_measures(self.measures, context):
                    values = differences(patched, base, measure, (len(grid.sites), len(grid.positions)))
                    effects.append(
                        self._effect(context, grid, direction=direction, measure=measure, values=values, clean=clean, corrupt=corrupt)
                    )
        return effects

    def options(self) -> Mapping[str, object]:
        """Directions and measures; subclasses add theirs."""
        return {"directions": list(self.directions), "measures": list(self.measures)}

    def _effect(
        self,
        context: TraceContext,
        grid: PatchGrid,
        direction: Direction,
        measure: str,
        values: np.ndarray,
        clean: AnswerValues,
        corrupt: AnswerValues,
    ) -> TraceEffect:
        return TraceEffect(
            tracer=self.name,
            stack=context.shape.stack,
            site_kind=grid.site_kind,
            direction=direction,
            measure=measure,
            layers=grid.layers,
            columns=grid.columns,
            column_kind=grid.column_kind,
            roles=grid.roles,
            values=values,
            clean=getattr(clean, measure),
            corrupt=getattr(corrupt, measure),
        )


def chosen_names(what: str, wanted: Sequence[str], known: Sequence[Name]) -> tuple[Name, ...]:
    """An option's names, in the order of `known` and without repeats; a single name may stand alone.

    Raises `UnknownNameError` for a name that is not in `known`, or where nothing is chosen.
    """
    names = (wanted,) if isinstance(wanted, str) else tuple(wanted)
    for name in names:
        if name not in known:
            raise UnknownNameError(f"unknown {what} {name!r}: {did_you_mean(str(name), known)}")
    if not names:
        raise UnknownNameError(f"no {what} chosen; choose from: {', '.join(known)}")
    return tuple(name for name in known if name in names)


def usable_measures(measures: Sequence[str], context: TraceContext) -> tuple[str, ...]:
    """The measures that this sample's answer has: `logit_diff` needs a competing answer.

    Raises `SampleError` where none is left.
    """
    usable = tuple(measure for measure in measures if measure != "logit_diff" or context.answer.competitor)
    if not usable:
        raise SampleError(f"{context.pair.identifier}: logit_diff needs the corrupt answer, and this pair has none")
    return usable


def baseline_runs(context: TraceContext) -> list[Run]:
    """The clean and the corrupt prompt without any intervention.

    Raises `SampleError` where the two prompts differ in a token or in the size of the image grid: no position would then mean
    the same in both.
    """
    if not comparable(context.clean, context.corrupt):
        raise SampleError(f"{context.pair.identifier}: clean and corrupt prompt differ in their tokens or image grid")
    readouts = (AnswerScore(context.answer),)
    return [Run(context.clean, readouts), Run(context.corrupt, readouts)]


def baseline_answers(results: Sequence[RunResult]) -> tuple[AnswerValues, AnswerValues]:
    """The clean and the corrupt answer, from the first two results of a plan."""
    clean, corrupt = results[:BASELINES]
    return clean.answer, corrupt.answer


def base_and_donor(context: TraceContext, direction: Direction) -> tuple[EncodedPrompt, EncodedPrompt]:
    """The prompt that is run and the one whose activations are copied into it."""
    return (context.corrupt, context.clean) if direction == "denoising" else (context.clean, context.corrupt)


def expect_results(results: Sequence[RunResult], planned: int) -> None:
    """Raises `ValueError` where an engine returned another number of results than runs were planned."""
    if len(results) != planned:
        raise ValueError(f"{planned} runs were planned, {len(results)} results came back")


def differences(changed: Sequence[AnswerValues], base: AnswerValues, measure: str, shape: tuple[int, int]) -> np.ndarray:
    """Changed minus base for one measure, subtracted in float64 and stored as float32 of `shape`, filled row by row."""
    values = np.array([getattr(answer, measure) for answer in changed], dtype=np.float64)
    return (values - getattr(base, measure)).astype(np.float32).reshape(shape)


def stack_of(shape: ModelShape) -> Stack:
    """The stack that a model's shape describes, as sites name it."""
    return cast(Stack, shape.stack)


def residual_rows(shape: ModelShape) -> tuple[tuple[int, ...], tuple[Site, ...]]:
    """Layer labels and sites of the residual stream: before the first layer (`EMBEDDING`), then after each layer."""
    stack = stack_of(shape)
    embedding = Site(0, "residual_before", stack=stack)
    after = [Site(layer, "residual_after", stack=stack) for layer in range(shape.layers)]
    return (EMBEDDING, *range(shape.layers)), (embedding, *after)
