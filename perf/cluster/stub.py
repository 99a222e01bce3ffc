"""A worker without its model: what it stores of a task, for real, and the seconds that a model would have taken, modelled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import numpy as np

from perf.cluster.figures import Figures
from vseam_core.api.presentation import Presentation
from vseam_core.api.types import HeadEffect, ModelInfo, Pair, Sample, TraceEffect
from vseam_core.experiments.answering import TOGETHER, BaselineOptions
from vseam_core.experiments.study.tasks import answer_portion, scan_portion, trace_portion
from vseam_core.results.scoring import ScoredHeads, aggregate_head_run, aggregate_trace_run, read_traces
from vseam_core.runs import runner
from vseam_core.runs.executors.base import Call
from vseam_core.runs.progress import SilentProgress
from vseam_core.runs.runner import Outcome, Unit, run_units
from vseam_core.runs.spec import Baseline, RunSpec, UnitResult
from vseam_core.runs.workspace import Workspace

PASS_SECONDS = 0.05
"""A forward pass of 7 billion parameters over 620 positions in bfloat16 on a GPU of 2024, about."""
REPLAY = {"tokenwise": 45.0, "groups": 2.0, "heads": 31.0}
"""By how much replay is faster than full passes, as docs/engine.md has it; of groups about half a pass is left."""
DONORS = 5
CLOSING_PASSES = 40_000
MEASURES = ("logit_diff", "prob_sum", "logit")


@dataclass(frozen=True)
class Shape:
    """A model's layers and heads, and the text positions of a question."""

    layers: int = 32
    heads: int = 32
    text: int = 40


SEVEN_BILLION = Shape()


class Clock:
    """Time as the workers' models have it."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """What `time.monotonic` is in `run_units` here."""
        return self.now


def seconds_of(name: str, shape: Shape) -> float:
    """Modelled seconds of one unit: a pair that a tracer traces, or a sample whose heads an operation replaces."""
    if name == "tokenwise":
        return PASS_SECONDS * shape.text * shape.layers * 3 * 2 / REPLAY["tokenwise"]
    if name == "groups":
        return PASS_SECONDS * 6 * (shape.layers + 1) * 2 / REPLAY["groups"]
    return PASS_SECONDS * shape.layers * shape.heads * (DONORS if name == "resample" else 1) / REPLAY["heads"]


class Stub:
    """A worker's part of a task: everything but the model."""

    def __init__(self, workspace: Workspace, study: int, shape: Shape, figures: Figures, spent: Callable[[], float]):
        self._workspace, self._study, self._shape, self._figures = workspace, study, shape, figures
        self._clock, self._spent = Clock(), spent
        self._random = np.random.default_rng(0)
        self._kept: dict[Any, Any] = {}
        self._keys: dict[tuple[str, str, str], tuple[int, list[str]]] = {}

    def do(self, call: Call) -> tuple[Any, float, int]:
        """The result, the seconds that the worker is busy, and how often it says that it gets on."""
        before, started = self._clock.now, self._spent()
        with patch.object(runner, "time", self._clock):
            result, units = self._work(call)
        stored = self._spent() - started
        modelled = self._clock.now - before
        self._figures.storing += stored
        self._figures.modelled += modelled
        self._figures.units += units
        self._figures.tasks += 1
        return result, modelled + stored, units

    def _work(self, call: Call) -> tuple[Any, int]:
        if call.portion is None:
            return self._closing(*call.arguments[2:]), 0
        _, model, dataset, options, *more = call.arguments
        start, stop = call.portion.start, call.portion.stop
        if call.work is answer_portion:
            return self._answers(model, dataset, options, start, stop), stop - start
        if call.work is trace_portion:
            samples = self._samples(dataset, options.pool, options.split, options.limit)[start:stop]
            return self._units(model, dataset, options.tracer, samples, self._trace), len(samples)
        assert call.work is scan_portion
        by_name = {sample.identifier: sample for sample in self._samples(dataset, "score", "plain", None)}
        samples = [by_name[name] for name in more[0].identifiers[start:stop]]
        return self._units(model, dataset, options.operation, samples, self._scan), len(samples)

    def _samples(self, dataset: str, pool: Any, split: str, limit: int | None) -> list[Sample]:
        """A pool's samples; the largest list of it that was asked for."""
        kept = self._kept.get((dataset, pool, split), [])
        if limit is not None and len(kept) < limit:
            seed = self._workspace.seed
            kept = self._kept[dataset, pool, split] = list(self._workspace.benchmark(dataset).samples(pool, split, limit, seed))
        return kept if limit is None else kept[:limit]

    def _run(self, model: str, dataset: str, name: str, pool: str, split: str = "plain") -> int:
        shape, benchmark = self._shape, self._workspace.benchmark(dataset)
        info = ModelInfo(model, "llava", "nowhere", "w" * 64, "bfloat16", "sdpa", "cuda", shape.layers, shape.heads, 128)
        spec = RunSpec(name, 1, info, dataset, benchmark.level, benchmark.category, pool, split, {"part": name})
        store = self._workspace.store
        run = store.ensure_run(spec, study=self._study, device="cuda", versions=self._workspace.versions(), trust={})
        if name not in ("baseline", "answers"):
            store.present_run(run, Presentation().record(), gathered=("places", "tokens"))
        return run

    def _answers(self, model: str, dataset: str, options: BaselineOptions, start: int, stop: int) -> Outcome:
        samples = self._samples(dataset, options.pool, options.split, options.limit)[start:stop]
        run = self._run(model, dataset, "answers" if options.editor else "baseline", options.pool, options.split)

        def compute(part: Sequence[Unit[Sample]]) -> list[UnitResult]:
            self._clock.now += 2 * PASS_SECONDS * len(part) * (3 if options.editor else 1)
            return [self._answered(unit, bool(options.editor)) for unit in part]

        return self._stored(run, [Unit(f"{run}-{sample.identifier}", sample.identifier, sample) for sample in samples], compute, TOGETHER)

    def _answered(self, unit: Unit[Sample], edited: bool) -> UnitResult:
        pairs = (_pair(unit.payload),) if edited else ()
        rows = [self._baseline(unit.payload, "clean" if edited else "")]
        rows += [self._baseline(pair.corrupt, "corrupt") for pair in pairs]
        return UnitResult(unit.key, unit.identifier, samples=(unit.payload,), pairs=pairs, baselines=tuple(rows))

    def _baseline(self, sample: Sample, role: Any) -> Baseline:
        right = bool(self._random.random() < 0.8)
        said = sample.answer if right else str(sample.competitor)
        return Baseline(sample, said, 0.7, 0.8, 3.0, 1.0, -0.3, right, right, float(right), role)

    def _units(self, model: str, dataset: str, name: str, samples: Sequence[Sample], make: Callable[..., UnitResult]) -> None:
        run = self._run(model, dataset, name, "score")

        def compute(part: Sequence[Unit[Sample]]) -> list[UnitResult]:
            self._clock.now += seconds_of(name, self._shape) * len(part)
            return [make(unit, name) for unit in part]

        done = self._stored(run, [Unit(f"{run}-{sample.identifier}", sample.identifier, sample) for sample in samples], compute, 1)
        self._keys.setdefault((model, dataset, name), (run, []))[1].extend(done.keys)

    def _stored(self, run: int, units: Sequence[Unit[Sample]], compute: Any, chunk: int) -> Outcome:
        return run_units(self._workspace.store, run, units, compute, SilentProgress(), "", chunk, finish=False)

    def _trace(self, unit: Unit[Sample], name: str) -> UnitResult:
        pair, shape = _pair(unit.payload), self._shape
        positions = name == "tokenwise"
        columns = tuple(str(580 + place) for place in range(shape.text)) if positions else ("image", "question", "last", "a", "b", "all")
        roles = tuple(("object", "attribute", "", "last")[place % 4] for place in range(len(columns))) if positions else columns
        sites = ("attention_output", "mlp_output", "residual_after") if positions else ("residual_after",)
        layers = tuple(range(shape.layers))
        effects = tuple(
            (
                pair,
                TraceEffect(
                    name, "decoder", site, direction, measure, layers, columns, "position" if positions else "group", roles,
                    self._random.standard_normal((len(layers), len(columns))).astype(np.float32), 4.0, -3.0,
                ),
            )
            for site in sites
            for direction in ("denoising", "noising")
            for measure in MEASURES
        )  # fmt: skip
        both = (self._baseline(pair.clean, "clean"), self._baseline(pair.corrupt, "corrupt"))
        return UnitResult(
            unit.key, unit.identifier, samples=(pair.clean, pair.corrupt), pairs=(pair,), baselines=both, trace_effects=effects
        )

    def _scan(self, unit: Unit[Sample], name: str) -> UnitResult:
        values = self._random.standard_normal((self._shape.layers, self._shape.heads)).astype(np.float32)
        effects = [HeadEffect(name, "all", measure, "decoder", values, 1.0) for measure in ("logit_diff", "published_prob")]
        answered = (self._baseline(unit.payload, ""),)
        shown = tuple((unit.payload, effect) for effect in effects)
        return UnitResult(unit.key, unit.identifier, samples=(unit.payload,), baselines=answered, head_effects=shown)

    def _closing(self, model: str, dataset: str) -> ScoredHeads | None:
        """What a dataset's own task does: scores of heads and traces for real, the rest as time."""
        self._clock.now += PASS_SECONDS * CLOSING_PASSES / REPLAY["heads"]
        started = self._spent()
        first = None
        for (of_model, of_dataset, name), (run, keys) in self._keys.items():
            if (of_model, of_dataset) != (model, dataset):
                continue
            outcome = Outcome(run, keys)
            if name in ("tokenwise", "groups"):
                aggregate_trace_run(self._workspace, outcome, read_traces(self._workspace, outcome, 0.001))
            else:
                scored = aggregate_head_run(self._workspace, outcome, 0.001)["logit_diff"]
                first = first or scored
            self._workspace.store.finish_run(run)
        self._figures.closing.append(self._spent() - started)
        return first


def _pair(sample: Sample) -> Pair:
    corrupt = replace(sample, identifier=f"{sample.identifier}/edit", answer=str(sample.competitor), competitor=sample.answer)
    return Pair(sample, corrupt, ((1, 2, 8, 9),), "scenes", "red", "blue")
