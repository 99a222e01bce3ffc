"""Causal traces: a tracer's runs on every pair of a dataset, stored pair by pair, aggregated into scores with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vseam_core.api.interfaces import Benchmark, Editor, TraceContext, Tracer
from vseam_core.api.interventions import TOP_TOKEN
from vseam_core.api.presentation import Presentation, presentation_of
from vseam_core.api.types import PoolChoice, Sample, TraceEffect
from vseam_core.config.defaults import EDITOR, TRACER
from vseam_core.config.editor_settings import EditorChoice
from vseam_core.engine.cross_attention import CROSS, GENERATOR
from vseam_core.errors import UnsupportedError
from vseam_core.experiments.answering import baselines_of, judge_again
from vseam_core.experiments.encoding import PreparedPair, prepare_pair, prompt_identity
from vseam_core.experiments.named_stacks import say_what_is_left_out, shape_of_named
from vseam_core.experiments.thumbnails import keep_thumbnails
from vseam_core.runs.experiment import Experiment, OpenRun
from vseam_core.runs.identity import component_of
from vseam_core.runs.runner import Outcome, Unit
from vseam_core.runs.spec import UnitResult
from vseam_core.runs.workspace import LoadedModel, Workspace

EXPERIMENT = Experiment("trace", version=1)
_MOST_SIZES = 50
"""Sizes of images whose positions' places are kept with a run."""


@dataclass(frozen=True)
class TraceOptions:
    """Which tracer, with which options, on how many pairs of which pool; `stack` "" is the language model."""

    tracer: str = TRACER
    editor: EditorChoice | str = EDITOR
    pool: PoolChoice = "score"
    split: str = "plain"
    limit: int | None = None
    tracer_options: Mapping[str, Any] = field(default_factory=dict)
    stack: str = ""

    @property
    def name(self) -> str:
        """What results call the tracer: its name, in front of it the stack where that is named."""
        return f"{self.stack}:{self.tracer}" if self.stack else self.tracer


def run_trace(workspace: Workspace, model: str, dataset: str, options: TraceOptions, study: int | None = None) -> Outcome:
    """Trace every pair and store the effects."""
    tracer = workspace.plugins.tracer(options.tracer, **options.tracer_options)
    check_stack(tracer, options.stack)
    parts = {
        "tracer": component_of(tracer, options.tracer_options, options.name),
        "editor": workspace.editor_component(options.editor),
    }
    opened = EXPERIMENT.open(workspace, model, dataset, pool=options.pool, split=options.split, parts=parts, study=study)
    editor = workspace.editor(options.editor)
    say_what_is_left_out(workspace, opened.loaded, options.stack)
    shown = _Shown(opened, tracer.presentation().of_stack(options.stack))
    samples = workspace.own_portion(opened.benchmark.samples(options.pool, options.split, options.limit, workspace.seed))
    units = [traced_unit(opened, sample, editor) for sample in samples]

    def compute(part: Sequence[Unit[PreparedPair]]) -> list[UnitResult]:
        results = [_trace_pair(opened, tracer, options, unit) for unit in part]
        for unit, result in zip(part, results, strict=True):
            shown.note_places(unit.payload, [effect for _, effect in result.trace_effects])
        return results

    outcome = opened.run_units(units, compute, f"{model} {options.name} traces of {dataset}")
    pairs = [unit.payload.pair for unit in units if unit.payload is not None]
    keep_thumbnails(workspace, pairs=pairs)
    if workspace.portion is None:
        shown.add_texts()
    if workspace.portion is None and outcome.reused:
        judge_again(
            workspace, opened.run, opened.benchmark, {sample.identifier: sample for pair in pairs for sample in (pair.clean, pair.corrupt)}
        )
    return outcome


class _Shown:
    """How the effects of a run are shown, with what a report needs and the effects don't say: the places of image positions, and the
    texts of token ids. Several workers may do parts of the run, so each adds what it finds to what is stored."""

    def __init__(self, opened: OpenRun, presentation: Presentation):
        self._opened, self._presentation = opened, presentation
        self._add()
        self._sizes = set(presentation_of(opened.workspace.store.presentation(opened.run)).places)

    def _add(self, **found: Any) -> None:
        record = replace(self._presentation, **found).record()
        self._opened.workspace.store.present_run(self._opened.run, record, gathered=("places", "tokens"))

    def note_places(self, prepared: PreparedPair, effects: Sequence[TraceEffect]) -> None:
        """Keep where image positions look, once for each size of image, where effects are of such positions."""
        prompt, (width, height) = prepared.clean.prompt, prepared.clean.size
        size, boxes = f"{width}x{height}", prompt.image_boxes
        if not boxes or size in self._sizes or len(self._sizes) >= _MOST_SIZES:
            return
        traced = {column for effect in effects if effect.column_kind == "position" for column in effect.columns}
        if traced & set(map(str, prompt.positions("image"))):
            self._sizes.add(size)
            # At once: of a worker that is lost later, the finished units are kept, and nobody makes them again.
            self._add(places={size: [[round(side, 5) for side in box] for box in boxes]})

    def add_texts(self) -> None:
        """Keep the texts of the token ids among the effects, once all of them are there."""
        records = self._opened.workspace.store.trace_effects(self._opened.run, measure=TOP_TOKEN)
        ids = sorted({int(value) for record in records for value in record.effect.values.flat})
        if ids:
            self._add(tokens=dict(zip(map(str, ids), self._opened.loaded.model.token_texts(ids), strict=True)))


def check_stack(tracer: Tracer, stack: str) -> None:
    """Raise `UnsupportedError` for a tracer that does not know a stack that is named."""
    # A decoder that is named generates from an encoder: its rows are no positions of the prompt either.
    if stack and (CROSS if stack == GENERATOR else stack) not in tracer.stacks:
        raise UnsupportedError(f"tracer {tracer.name!r} does not trace the stack {stack}: it goes by positions of the prompt")


def traced_unit(opened: OpenRun, sample: Sample, editor: Editor) -> Unit[PreparedPair]:
    """The unit of a sample's pair."""

    def prepared() -> tuple[PreparedPair, Mapping[str, object]]:
        pair = editor.edit(sample, opened.workspace.seed)
        ready = prepare_pair(opened.loaded, pair)
        edited = {"pair": pair.identifier, "boxes": pair.boxes}
        return ready, {**edited, "clean": prompt_identity(ready.clean), "corrupt": prompt_identity(ready.corrupt)}

    return opened.unit(sample.identifier, prepared)


def trace_context(loaded: LoadedModel, prepared: PreparedPair, seed: int, stack: str = "") -> TraceContext:
    """What a tracer is told about a pair: the clean answer against the corrupt one, on both prompts."""
    return TraceContext(
        pair=prepared.pair,
        clean=prepared.clean.prompt,
        corrupt=prepared.corrupt.prompt,
        answer=prepared.clean.answer,
        shape=shape_of_named(loaded, stack),
        image_size=prepared.clean.size,
        seed=seed,
        stack=stack,
    )


def _trace_pair(opened: OpenRun, tracer: Tracer, options: TraceOptions, unit: Unit[PreparedPair]) -> UnitResult:
    loaded = opened.loaded
    context = trace_context(loaded, unit.payload, opened.workspace.seed, options.stack)
    effects = tracer.effects(context, loaded.engine.run(tracer.plan(context)))
    if options.stack:
        effects = [replace(effect, tracer=options.name) for effect in effects]
    return traced_pair(loaded, opened.benchmark, unit, effects)


def traced_pair(loaded: LoadedModel, benchmark: Benchmark, unit: Unit[PreparedPair], effects: Sequence[TraceEffect]) -> UnitResult:
    """What a pair with these effects leaves behind: its samples, prompt and answers too."""
    prepared = unit.payload
    clean, corrupt = baselines_of(loaded, benchmark, [prepared.clean, prepared.corrupt])
    return UnitResult(
        unit.key,
        unit.identifier,
        samples=(prepared.pair.clean, prepared.pair.corrupt),
        prompts=((prepared.pair.clean, prepared.clean.prompt),),
        pairs=(prepared.pair,),
        baselines=(replace(clean, pair_role="clean"), replace(corrupt, pair_role="corrupt")),
        trace_effects=tuple((prepared.pair, effect) for effect in effects),
    )
