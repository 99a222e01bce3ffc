"""Causal traces: a tracer's runs on every pair of a dataset, stored pair by pair, aggregated into scores with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vseam_core.api.interfaces import Benchmark, TraceContext, Tracer
from vseam_core.api.types import Pool
from vseam_core.config.editor_settings import EditorChoice, editor_choice
from vseam_core.experiments.answering import baselines_of, judge_again
from vseam_core.experiments.encoding import PreparedPair, make_pairs, pair_unit
from vseam_core.runs.runner import Outcome, Unit, run_units
from vseam_core.runs.spec import RunSpec, UnitResult
from vseam_core.runs.workspace import LoadedModel, Workspace

VERSION = 1


@dataclass(frozen=True)
class TraceOptions:
    """Which tracer, with which options, on how many pairs of which pool."""

    tracer: str = "tokenwise"
    editor: EditorChoice | str = "scenes"
    pool: Pool = "score"
    split: str = "plain"
    limit: int | None = None
    tracer_options: Mapping[str, Any] = field(default_factory=dict)


def run_trace(workspace: Workspace, model_name: str, dataset: str, options: TraceOptions, study: int | None = None) -> Outcome:
    """Trace every pair and store the effects."""
    loaded, benchmark = workspace.model(model_name), workspace.benchmark(dataset)
    tracer = workspace.plugins.tracer(options.tracer, **options.tracer_options)
    editor = workspace.editor(options.editor)
    configuration = {"tracer": tracer.name, "tracer_version": tracer.version, "editor": editor_choice(options.editor).identity()}
    configuration |= tracer.options()
    spec = RunSpec(
        "trace",
        VERSION,
        loaded.model.info,
        dataset,
        benchmark.level,
        benchmark.category,
        options.pool,
        options.split,
        configuration,
        workspace.seed,
    )
    run = workspace.store.ensure_run(spec, study=study, device=loaded.model.info.device, versions=workspace.versions(), trust=loaded.trust)
    method = {"method": "trace", "version": VERSION, "seed": workspace.seed, **configuration}
    samples = benchmark.samples(options.pool, options.split, options.limit, workspace.seed)
    units = [pair_unit(loaded, pair, method) for pair in make_pairs(editor, samples, workspace.seed)]

    def compute(part: Sequence[Unit]) -> list[UnitResult]:
        return [_trace_pair(loaded, benchmark, tracer, unit, workspace.seed) for unit in part]

    what = f"{model_name} {options.tracer} traces of {dataset}"
    outcome = run_units(workspace.store, run, units, compute, workspace.progress, what)
    pairs = [unit.payload.pair for unit in units if unit.payload is not None]
    judge_again(workspace, run, benchmark, {sample.identifier: sample for pair in pairs for sample in (pair.clean, pair.corrupt)})
    return outcome


def trace_context(loaded: LoadedModel, prepared: PreparedPair, seed: int) -> TraceContext:
    """What a tracer is told about a pair: the clean answer against the corrupt one, on both prompts."""
    return TraceContext(
        pair=prepared.pair,
        clean=prepared.clean.prompt,
        corrupt=prepared.corrupt.prompt,
        answer=prepared.clean.answer,
        shape=loaded.engine.shape,
        image_size=prepared.clean.size,
        seed=seed,
    )


def _trace_pair(loaded: LoadedModel, benchmark: Benchmark, tracer: Tracer, unit: Unit, seed: int) -> UnitResult:
    prepared: PreparedPair = unit.payload
    context = trace_context(loaded, prepared, seed)
    effects = tracer.effects(context, loaded.engine.run(tracer.plan(context)))
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
