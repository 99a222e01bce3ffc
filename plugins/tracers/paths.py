"""Path patching: what one component writes for another one alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

from vseam_core.api.interfaces import ModelShape, TraceContext, Tracer
from vseam_core.api.interventions import MEASURES, AnswerScore, Patch, PathPatch, Run, RunResult, SiteEdit
from vseam_core.api.presentation import Presentation
from vseam_core.api.types import TraceEffect
from vseam_core.errors import SampleError, UnknownNameError, UnsupportedError, did_you_mean
from vseam_plugins.tracers.grids import (
    BASELINES,
    PATCH_DIRECTIONS,
    base_and_donor,
    baseline_answers,
    baseline_runs,
    chosen_names,
    differences,
    expect_results,
    usable_measures,
)
from vseam_plugins.tracers.path_ends import PathEnd, Place, parse_receiver, parse_sender, words_of

POSITIONS = ("all", "image", "question", "last")
ARROW = "->"


@dataclass(frozen=True)
class PathMap:
    """The paths of one array: each cell is a sender's sites and a receiver's sites, row by row."""

    name: str
    layers: tuple[int, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[Place, Place], ...]


class PathPatching(Tracer):
    """Carries what `senders` write in the other image's run to `receivers` alone, along the residual: everything else is held.

    One of both ends may stand for many (`L*H*`): the effects are `[layers, heads]` of that end, patched minus base, as in every patching
    tracer; the site kind names both ends, such as `L2H1->L*H*.q`. Senders joined by `+` change together. `through_mlps` leaves the MLPs
    between free (Wang et al. 2022, arXiv 2211.00593); else they are held too (Goldowsky-Dill et al. 2023, arXiv 2304.05969). `positions`
    are those at which senders change.
    """

    name: ClassVar[str] = "paths"

    def __init__(
        self,
        senders: Sequence[str] = ("L*H*",),
        receivers: Sequence[str] = ("logits",),
        positions: str = "all",
        through_mlps: bool = False,
        directions: Sequence[str] = PATCH_DIRECTIONS,
        measures: Sequence[str] = ("logit_diff",),
    ) -> None:
        given = [[one] if isinstance(one, str) else list(one) for one in (senders, receivers)]
        self._ends = list(dict.fromkeys((parse_sender(sender), parse_receiver(receiver)) for sender in given[0] for receiver in given[1]))
        if not self._ends:
            raise UnknownNameError("paths: name a sender and a receiver, such as L2H1 and logits")
        for sender, receiver in self._ends:
            if sender[0].is_set and receiver.is_set:
                raise UnknownNameError(f"{sender[0].text} and {receiver.text} both stand for many: name one of them")
        if positions not in POSITIONS:
            raise UnknownNameError(f"unknown positions {positions!r}: {did_you_mean(positions, POSITIONS)}")
        self.positions, self.through_mlps = positions, bool(through_mlps)
        self.directions = chosen_names("direction", directions, PATCH_DIRECTIONS)
        self.measures = chosen_names("measure", measures, MEASURES)

    def plan(self, context: TraceContext) -> Sequence[Run]:
        """Clean, corrupt, then one run per direction and path. Raises `UnsupportedError` for ends that this model does not have."""
        usable_measures(self.measures, context)
        runs = baseline_runs(context)
        readouts, positions = (AnswerScore(context.answer),), self._positions(context)
        maps = self._maps(context.shape)
        for direction in self.directions:
            base, donor = base_and_donor(context, direction)
            for sender, receiver in (cell for each in maps for cell in each.cells):
                runs.append(Run(base, readouts, (_path(sender, receiver, positions, self.through_mlps),), donor))
        return runs

    def effects(self, context: TraceContext, results: Sequence[RunResult]) -> list[TraceEffect]:
        """One effect per direction, pair of ends and measure: patched minus base, float32 `[layers, columns]`."""
        clean, corrupt = baseline_answers(results)
        answers = iter([result.answer for result in results[BASELINES:]])
        maps = self._maps(context.shape)
        expect_results(results, BASELINES + len(self.directions) * sum(len(each.cells) for each in maps))
        effects = []
        for direction in self.directions:
            base = corrupt if direction == "denoising" else clean
            for each in maps:
                patched = [next(answers) for _ in each.cells]
                for measure in usable_measures(self.measures, context):
                    effects.append(
                        TraceEffect(
                            tracer=self.name,
                            stack=context.shape.stack,
                            site_kind=each.name,
                            direction=direction,
                            measure=measure,
                            layers=each.layers,
                            columns=each.columns,
                            column_kind="group",
                            roles=each.columns,
                            values=differences(patched, base, measure, (len(each.layers), len(each.columns))),
                            clean=getattr(clean, measure),
                            corrupt=getattr(corrupt, measure),
                        )
                    )
        return effects

    def presentation(self) -> Presentation:
        """A map of layers and heads for each pair of ends."""
        between = "the MLPs between them are computed from what reaches them" if self.through_mlps else "attention and MLPs alike"
        where = "" if self.positions == "all" else f" Senders change at the {self.positions} positions only."
        return Presentation(
            view="map",
            title="share of the answer that a path carries",
            caption="Path patching: what the sender writes in the other image's run is put into what the receiver reads, and nothing else "
            f"sees it: every component between is held at the base run ({between}); behind the receiver the run is free. Share = "
            "Σ (patched − base) / Σ (donor − base) of the logit difference. Layers and heads are those of the end that stands for many."
            + where,
            sites={_name(*ends): f"{words_of(_text(ends[0]))} → {words_of(ends[1].text)}" for ends in self._ends},
            change="What one path carries",
            strongest=5,
        )

    def options(self) -> Mapping[str, object]:
        """Both ends, positions, what is held, directions and measures."""
        return {
            "senders": list(dict.fromkeys(_text(sender) for sender, _ in self._ends)),
            "receivers": list(dict.fromkeys(receiver.text for _, receiver in self._ends)),
            "positions": self.positions,
            "through_mlps": self.through_mlps,
            "directions": list(self.directions),
            "measures": list(self.measures),
        }

    def _positions(self, context: TraceContext) -> tuple[int, ...] | None:
        if self.positions == "all":
            return None
        found = context.clean.positions(cast(Literal["image", "question", "last"], self.positions))
        if not found:
            raise SampleError(f"paths: the prompt has no {self.positions} positions")
        return found

    def _maps(self, shape: ModelShape) -> list[PathMap]:
        return [_map(sender, receiver, shape) for sender, receiver in self._ends]


def _text(senders: tuple[PathEnd, ...]) -> str:
    return "+".join(end.text for end in senders)


def _name(senders: tuple[PathEnd, ...], receiver: PathEnd) -> str:
    return f"{_text(senders)}{ARROW}{receiver.text}"


def _map(senders: tuple[PathEnd, ...], receiver: PathEnd, shape: ModelShape) -> PathMap:
    """The paths between both ends that there are. Raises `UnsupportedError` where there is none."""
    sending = [end.sending(shape) for end in senders]
    text = _text(senders)
    if len(sending) > 1:
        together = [place for places in sending for place in places]
        sites = tuple(site for place in together for site in place.sites)
        sending = [[Place(sites, max(place.layer for place in together), text)]]
    swept = receiver.is_set
    cells = [(one, other) for one in sending[0] for other in receiver.receiving(shape) if _path(one, other).leads]
    if not cells:
        raise UnsupportedError(f"no path leads from {text} to {receiver.text}: a receiver reads what was written before it")
    shown = [cell[1 if swept else 0] for cell in cells]
    return PathMap(
        name=_name(senders, receiver),
        layers=tuple(dict.fromkeys(place.layer for place in shown)),
        columns=tuple(dict.fromkeys(place.column for place in shown)),
        cells=tuple(cells),
    )


def _path(sender: Place, receiver: Place, positions: tuple[int, ...] | None = None, through_mlps: bool = False) -> PathPatch:
    return PathPatch(tuple(SiteEdit(site, Patch(), positions) for site in sender.sites), receiver.sites, through_mlps)
