"""Every direct path of a model estimated from gradients, the strongest and some random ones run exactly, both compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from vseam_core.analysis.screening import HeadChoice, agreement, choose_heads, default_top
from vseam_core.analysis.statistics import generator
from vseam_core.api.interfaces import ModelShape, TraceContext
from vseam_core.api.interventions import AnswerScore, Patch, PathPatch, Run, Site, SiteEdit, SiteKind
from vseam_core.api.presentation import Presentation
from vseam_core.api.prompts import PositionClass
from vseam_core.api.types import Direction, PoolChoice, TraceEffect
from vseam_core.config.defaults import EDITOR
from vseam_core.config.editor_settings import EditorChoice
from vseam_core.engine.attribution import edge_estimates
from vseam_core.engine.hooks import SiteKey
from vseam_core.errors import SampleError, UnsupportedError
from vseam_core.experiments.encoding import PreparedPair
from vseam_core.experiments.tracing import trace_context, traced_pair, traced_unit
from vseam_core.results.scoring import ESTIMATE, aggregate_trace_run, read_traces
from vseam_core.results.study_results import EDGES
from vseam_core.runs.experiment import Experiment, OpenRun
from vseam_core.runs.runner import Outcome, Unit
from vseam_core.runs.spec import UnitResult
from vseam_core.runs.workspace import Workspace

EXPERIMENT = Experiment("edge_screening", version=1)
SITE, NO_LAYER = "edge", -1
EXACT = "logit_diff"
_READS: dict[str, SiteKind] = {"q": "query", "k": "key", "v": "value"}


@dataclass(frozen=True)
class EdgeOptions:
    """Which pairs, where senders change, in which direction, and how many edges are run exactly (None: one in 40, at least 8).

    `integrated_steps` averages the gradients over so many points between the two images (0: the base's own gradient).
    """

    editor: EditorChoice | str = EDITOR
    pool: PoolChoice = "score"
    split: str = "plain"
    limit: int | None = None
    positions: Literal["all", "image", "question", "last"] = "all"
    direction: Literal["denoising", "noising"] = "noising"
    top: int | None = None
    integrated_steps: int = 5


@dataclass(frozen=True)
class EdgeScreening:
    """What was found: a row for each edge that was run exactly, how the estimates agreed with them, and the units of both parts."""

    edges: pd.DataFrame
    agreement: Mapping[str, Any]
    outcome: Outcome


@dataclass(frozen=True)
class Edges:
    """All edges of a model: senders are heads, MLPs and the embeddings, receivers each head's query, key and value, MLPs and the logits."""

    shape: ModelShape

    @cached_property
    def senders(self) -> dict[str, Site]:
        """Senders by name, from the bottom up."""
        stack: Any = self.shape.stack
        found = {"embeddings": Site(0, "residual_before", None, stack)}
        for layer in range(self.shape.layers):
            found |= {f"L{layer}H{head}": Site(layer, "head_output", head, stack) for head in range(self.shape.heads)}
            found[f"L{layer}.mlp"] = Site(layer, "mlp_output", None, stack)
        return found

    @cached_property
    def receiving_sites(self) -> list[SiteKey]:
        """The sites that receivers are parts of."""
        every: list[SiteKey] = [(layer, kind) for layer in range(self.shape.layers) for kind in (*_READS.values(), "mlp_output")]
        return [*every, (self.shape.layers - 1, "residual_after")]

    @cached_property
    def receivers(self) -> dict[str, Site]:
        """Receivers by name."""
        stack: Any = self.shape.stack
        found: dict[str, Site] = {}
        for layer in range(self.shape.layers):
            for part, kind in _READS.items():
                heads = self.shape.heads if part == "q" else self.shape.key_value_heads or self.shape.heads
                found |= {f"L{layer}H{head}.{part}": Site(layer, kind, head, stack) for head in range(heads)}
            found[f"L{layer}.mlp"] = Site(layer, "mlp_output", None, stack)
        return found | {"logits": Site(self.shape.layers - 1, "residual_after", None, stack)}

    @cached_property
    def names(self) -> list[str]:
        """The edges that there are, `SENDER->RECEIVER`."""
        return [
            f"{sender}->{receiver}"
            for sender, sends in self.senders.items()
            for receiver, reads in self.receivers.items()
            if PathPatch((SiteEdit(sends, Patch()),), (reads,)).leads
        ]

    def path(self, name: str, positions: tuple[int, ...] | None) -> PathPatch:
        """The path patch of an edge."""
        sender, receiver = name.split("->")
        return PathPatch((SiteEdit(self.senders[sender], Patch(), positions),), (self.receivers[receiver],))


def run_edge_screening(workspace: Workspace, model: str, dataset: str, options: EdgeOptions, study: int | None = None) -> EdgeScreening:
    """Estimate all edges on every pair, choose by the mean estimates on one half of the images, run the chosen ones on the other half.

    Effects are stored with the estimates' as those of a trace: columns are edges. Raises `UnsupportedError` for a model whose layers have
    different numbers of heads, and as path patching does.
    """
    screening = _opened(workspace, model, dataset, options, study)
    opened = screening.opened
    first = [
        replace(unit, key=opened.key(part="estimates", of=unit.key), subject=f"{unit.identifier}: estimates") for unit in screening.units
    ]

    def estimate(part: Sequence[Unit[PreparedPair]]) -> list[UnitResult]:
        return [screening.unit_result(unit, screening.estimates(unit.payload)) for unit in part]

    title = f"{model} edges on {dataset}"
    estimated = opened.run_units(first, estimate, f"{title}, estimated", finish=False)
    records = workspace.store.trace_effects(opened.run, estimated.keys, measure=ESTIMATE)
    images = sorted({record.image_id for record in records})
    order = generator(workspace.seed, "edges").permutation(len(images))
    chosen_on = {images[index] for index in order[: len(images) // 2]} or set(images)
    guesses = {name: [record.effect.values[0] for record in records if (record.image_id in chosen_on) == (name == "chosen")]
               for name in ("chosen", "tried")}  # fmt: skip
    if not guesses["chosen"] or not guesses["tried"]:
        raise SampleError(f"{model}, {dataset}: edges are chosen on one half of the images and tried on the other; there are {len(images)}")
    names = screening.edges.names
    choice = choose_heads({"all": np.mean(guesses["chosen"], axis=0)[None]}, options.top or default_top(len(names)), workspace.seed)
    chosen = [name for name, run in zip(names, choice.verified[0], strict=True) if run]

    def exact(part: Sequence[Unit[PreparedPair]]) -> list[UnitResult]:
        return [screening.unit_result(unit, screening.exact(unit.payload, chosen)) for unit in part]

    tried = {record.key for record in records if record.image_id not in chosen_on}
    second = [
        replace(unit, key=opened.key(part="exact", of=unit.key, edges=chosen), subject="exact") for unit in first if unit.key in tried
    ]
    verified = opened.run_units(second, exact, f"{title}, {len(chosen)} run exactly")
    outcome = _both(estimated, verified)
    floor = float(opened.loaded.trust["noise_floor"] or 0.0)
    scores = aggregate_trace_run(workspace, outcome, read_traces(workspace, outcome, floor))
    found = EdgeScreening(*_compared(scores, names, choice, np.mean(guesses["tried"], axis=0), options), outcome)
    frames = {"screened_paths": path_rows(found.edges), "path_screenings": _agreement_row(found, options)}
    for table, frame in frames.items():
        workspace.store.replace_scores(table, outcome.run, frame, outcome.keys)
    return found


@dataclass(frozen=True, eq=False)
class _Screening:
    """A screening that is set up."""

    opened: OpenRun
    edges: Edges
    options: EdgeOptions
    units: Sequence[Unit[PreparedPair]]

    def estimates(self, prepared: PreparedPair) -> TraceEffect:
        context, run, positions = self._run(prepared)
        base, found = edge_estimates(
            self.opened.loaded.engine,
            run,
            context.answer,
            senders=list(self.edges.senders.values()),
            receivers=self.edges.receiving_sites,
            positions=positions,
            integrated_steps=self.options.integrated_steps,
        )
        by_sender = dict(zip(self.edges.senders, found, strict=True))
        values = []
        for name in self.edges.names:
            sender, receiver = name.split("->")
            site = self.edges.receivers[receiver]
            values.append(by_sender[sender][site.layer, site.kind][site.head or 0])
        return self._effect(context, ESTIMATE, self.edges.names, values, (base, base))

    def exact(self, prepared: PreparedPair, chosen: Sequence[str]) -> TraceEffect:
        context, run, positions = self._run(prepared)
        readouts = (AnswerScore(context.answer),)
        plain = [Run(prompt, readouts) for prompt in (context.clean, context.corrupt)]
        runs = [replace(run, readouts=readouts, interventions=(self.edges.path(name, positions),)) for name in chosen]
        clean, corrupt, *changed = (result.answer.logit_diff for result in self.opened.loaded.engine.run([*plain, *runs]))
        base = corrupt if self.options.direction == "denoising" else clean
        return self._effect(context, EXACT, chosen, [one - base for one in changed], (clean, corrupt))

    def unit_result(self, unit: Unit[PreparedPair], effect: TraceEffect) -> UnitResult:
        """The unit with its one effect, beside what every traced pair leaves behind."""
        return traced_pair(self.opened.loaded, self.opened.benchmark, unit, [effect])

    def _run(self, prepared: PreparedPair) -> tuple[TraceContext, Run, tuple[int, ...] | None]:
        context = trace_context(self.opened.loaded, prepared, self.opened.workspace.seed)
        if not context.answer.competitor:
            raise SampleError(f"{context.pair.identifier}: logit_diff needs the corrupt answer, and this pair has none")
        base, donor = (context.corrupt, context.clean) if self.options.direction == "denoising" else (context.clean, context.corrupt)
        wanted: PositionClass | None = None if self.options.positions == "all" else self.options.positions
        return context, Run(base, (), (), donor), None if wanted is None else base.positions(wanted)

    def _effect(
        self, context: TraceContext, measure: str, edges: Sequence[str], values: Sequence[float], ends: tuple[float, float]
    ) -> TraceEffect:
        direction: Direction = self.options.direction
        return TraceEffect(
            tracer=EDGES,
            stack=context.shape.stack,
            site_kind=SITE,
            direction=direction,
            measure=measure,
            layers=(NO_LAYER,),
            columns=tuple(edges),
            column_kind="group",
            roles=tuple(edges),
            values=np.array([values], dtype=np.float32),
            clean=ends[0],
            corrupt=ends[1],
        )


def _opened(workspace: Workspace, model: str, dataset: str, options: EdgeOptions, study: int | None) -> _Screening:
    parts = {
        "editor": workspace.editor_component(options.editor),
        "positions": options.positions,
        "direction": options.direction,
        "top": options.top,
        "integrated_steps": options.integrated_steps,
    }
    opened = EXPERIMENT.open(workspace, model, dataset, pool=options.pool, split=options.split, parts=parts, study=study)
    shape = opened.loaded.engine.shape
    if shape.heads_by_layer:
        raise UnsupportedError(f"{model}: its layers have different numbers of heads, and edges are named where all have one")
    workspace.store.present_run(opened.run, Presentation(view="map", title="what a path does to the answer").record())
    editor = workspace.editor(options.editor)
    samples = opened.benchmark.samples(options.pool, options.split, options.limit, workspace.seed)
    return _Screening(opened, Edges(shape), options, [traced_unit(opened, sample, editor) for sample in samples])


def _both(first: Outcome, second: Outcome) -> Outcome:
    return Outcome(
        first.run, [*first.keys, *second.keys], first.made + second.made, first.reused + second.reused, [*first.skips, *second.skips]
    )


def _compared(
    scores: pd.DataFrame, names: Sequence[str], choice: HeadChoice, guess: np.ndarray, options: EdgeOptions
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The edges that were run, strongest first, with their estimates on the same pairs, and how both agree."""
    exact = scores[(scores["measure"] == EXACT) & (scores["subset"] == "all")].set_index("column_label")
    truth = np.array([float(exact["mean"].get(name, np.nan)) for name in names])
    found = agreement(guess[None], truth[None], choice)
    estimate = dict(zip(names, guess.tolist(), strict=True))
    part = dict(zip(names, np.where(choice.top[0], "top", "random"), strict=True))
    frame = exact.reset_index().rename(columns={"column_label": "edge"})
    frame = frame.assign(estimate=frame["edge"].map(estimate), part=frame["edge"].map(part))
    order = frame["mean"].abs().sort_values(ascending=False, kind="stable").index
    # Heads are what the other screenings name as vanished; these are edges.
    kept = {name: value for name, value in found.items() if name not in ("vanished", "reason")}
    return frame.loc[order].reset_index(drop=True), {**kept, "integrated_steps": options.integrated_steps}


def path_rows(edges: pd.DataFrame) -> pd.DataFrame:
    """The paths that were run exactly as the table `screened_paths` holds them, strongest first."""
    ends = [str(name).split("->") for name in edges["edge"]]
    shares = {"share": "normalised", "share_low": "normalised_low", "share_high": "normalised_high", "images": "clusters"}
    kept = {name: name for name in ("part", "estimate", "mean", "low", "high", "n")} | shares
    columns = {name: edges[column] for name, column in kept.items()}
    return pd.DataFrame({"sender": [end[0] for end in ends], "receiver": [end[1] for end in ends], **columns})


def _agreement_row(found: EdgeScreening, options: EdgeOptions) -> pd.DataFrame:
    """How estimates and exact effects agreed, as the table `path_screenings` holds it."""
    row = {name: value for name, value in found.agreement.items() if name != "heads"}
    about = {"direction": options.direction, "positions": options.positions, "estimated": found.agreement["heads"]}
    return pd.DataFrame([{**row, **about, "n": int(found.edges["n"].max())}])
