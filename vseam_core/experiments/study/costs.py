"""What a study costs, before it is run: forward passes as its own planners count them, and seconds and memory by one sample of each step.

A pass is one prompt that is run or answered once, whatever is changed in it: what a plain implementation would compute in full. Replay
computes a part of most, and the recordings that it begins with (one for each prompt) are not counted; both is in the seconds. Prompts
differ in length, and so do their passes: they are counted on the first `LOOKED_AT` samples. What follows from results (confirmation,
ablation, rescaling) and what a worker may have answered before is counted at its most.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from vseam_core.analysis.screening import random_beside
from vseam_core.api.interventions import Run
from vseam_core.api.types import Sample
from vseam_core.config.study import HeadScan, Method, Study
from vseam_core.engine.generation import Question
from vseam_core.errors import SampleError, UnsupportedError
from vseam_core.experiments import ablation
from vseam_core.experiments.answering import MAX_NEW_TOKENS, BaselineOptions
from vseam_core.experiments.encoding import Prepared, prepare, prepare_pair
from vseam_core.experiments.heads import confirming
from vseam_core.experiments.heads.changes import HeadOperation, OperationOptions, operation_of
from vseam_core.experiments.heads.looking import keeps_attention, looking_run
from vseam_core.experiments.heads.scanning import ScanOptions, all_heads, screened_heads
from vseam_core.experiments.rescaling import fit
from vseam_core.experiments.study.options import ablation_options, rescaling_options, scan_options, trace_options
from vseam_core.experiments.study.parts import against_random_models, study_dataset
from vseam_core.experiments.study.plan import PlannedStep, Schedule, costed, scheduled, steps_of
from vseam_core.experiments.study.tasks import StudyTasks, answer_portion, scan_portion, trace_portion
from vseam_core.experiments.tracing import TraceOptions, trace_context
from vseam_core.runs.executors.base import Task
from vseam_core.runs.workspace import Workspace

LOOKED_AT = 8


@dataclass(frozen=True)
class ModelCosts:
    """What a worker needs for a model: bytes of its weights and of the recording of one prompt, and the most that recordings and batches
    may take together; seconds to load it, and of one full forward pass."""

    model: str
    weights: int
    recording: int
    most_beside: int
    loading_seconds: float
    pass_seconds: float


@dataclass(frozen=True)
class CostedPlan:
    """The steps of a study with their costs, what each model takes, and how the tasks fall out on the workers in seconds."""

    steps: list[PlannedStep]
    models: list[ModelCosts]
    schedule: Schedule


def costed_plan(workspace: Workspace, study: Study, workers: int) -> CostedPlan:
    """Count and measure a study: every model is loaded, one after the other, and some samples of each step are run and not kept.

    Raises `VseamError` kinds as the study does.
    """
    planned = StudyTasks(workspace, study, 0, workers)
    tasks = planned.every()
    passes: dict[str, float] = {}
    seconds: dict[str, float] = {}
    models = []
    for model in study.models:
        costs = StudyCosts(workspace, study, planned, model)
        models.append(costs.model())
        for task in {task.group: task for task in tasks if task.model == model or task.model.startswith(f"{model}@random-")}.values():
            passes[task.group] = costs.passes(task)
            seconds[task.group] = costs.seconds(task) * passes[task.group]
        workspace.release(model)
    loading = {each.model: each.loading_seconds for each in models}
    return CostedPlan(costed(steps_of(tasks), passes, seconds), models, scheduled(tasks, workers, seconds, loading))


class StudyCosts:
    """Counts the passes of a study's steps on one model, which is loaded for it, and times some."""

    def __init__(self, workspace: Workspace, study: Study, tasks: StudyTasks, model: str):
        self._workspace, self._study, self._tasks, self._model = workspace, study, tasks, model
        started = time.perf_counter()
        self._loaded = workspace.model(model)
        self._loading = time.perf_counter() - started
        self._paces: dict[Hashable, float] = {}

    def model(self) -> ModelCosts:
        """What the model takes."""
        first, *more = self._of_samples(self._study.datasets[0], BaselineOptions("score"), lambda sample: prepare(self._loaded, sample))
        engine, module = self._loaded.engine, self._loaded.model.module
        started = 0.0
        for prepared in (first, *more[:1]):  # the second one: without what is made once
            started = time.perf_counter()
            engine.answers([prepared.prompt], [prepared.answer])
        taken = time.perf_counter() - started
        held = [*module.parameters(), *module.buffers()]
        return ModelCosts(
            model=self._model,
            weights=sum(value.numel() * value.element_size() for value in held),
            recording=engine.recording_bytes(first.prompt),
            most_beside=int(self._loaded.trust.get("memory_budget") or 0),
            loading_seconds=self._loading,
            pass_seconds=taken,
        )

    def passes(self, task: Task) -> float:
        """The passes of one sample of a task, or of the whole of one without samples."""
        if task.work is answer_portion:
            return self._answered(*task.arguments[2:])
        if task.work is trace_portion:
            return self._traced(*task.arguments[2:])
        if task.work is scan_portion:
            return self._scanned(*task.arguments[2:])
        return self._closing(task.arguments[3]) if task.work is study_dataset else self._random()

    def seconds(self, task: Task) -> float:
        """The seconds of one pass of a task, measured on the first dataset."""
        dataset = self._study.datasets[0]
        if task.work is answer_portion:
            return self._pace("answers", lambda: self._time_answers(dataset))
        if task.work is trace_portion:
            return self._pace_of_traces(task.arguments[3])
        if task.work is scan_portion:
            return self._pace_of_scans(task.arguments[3])
        if task.work is study_dataset:  # heads are replaced in most of it
            return self._pace_of_scans(scan_options(self._study, self._study.heads[0])) if self._study.heads else 0.0
        return self._pace_of_traces(self._trace_options(against_random_models(self._workspace, self._study)[0]))

    def _of_samples(self, dataset: str, options: Any, of: Callable[[Sample], Any]) -> list[Any]:
        """What is made of each of the first samples that can be used."""
        found, limit = [], LOOKED_AT if options.limit is None else min(LOOKED_AT, options.limit)
        for sample in self._workspace.benchmark(dataset).samples(options.pool, options.split, limit, self._workspace.seed):
            try:
                found.append(of(sample))
            except (SampleError, UnsupportedError):
                continue
        return found

    def _answered(self, dataset: str, options: BaselineOptions) -> float:
        def of(sample: Sample) -> int:
            return sum(self._passes_of_answer(prepare(self._loaded, image)) for image in self._images(sample, options))

        return _mean(self._of_samples(dataset, options, of))

    def _images(self, sample: Sample, options: BaselineOptions) -> list[Sample]:
        """A sample with its edited twins; one that cannot be edited is answered as it is."""
        if options.editor is None:
            return [sample]
        editor, seed = self._workspace.editor(options.editor), self._workspace.seed
        try:
            pairs = [editor.edit(sample, seed), editor.control(sample, seed)]
        except SampleError:
            return [sample]
        return [sample, *(pair.corrupt for pair in pairs if pair is not None)]

    def _passes_of_answer(self, prepared: Prepared) -> int:
        """The question, the reading after what both answers share, and the whole answer where it has several tokens."""
        several = len(self._loaded.model.answer_tokens(prepared.free, prepared.sample.answer)) > 1
        return 1 + (prepared.prompt is not prepared.free) + several

    def _traced(self, dataset: str, options: TraceOptions) -> float:
        return _mean([len(runs) + answers for runs, answers in self._of_samples(dataset, options, self._trace_of(options))])

    def _trace_of(self, options: TraceOptions) -> Callable[[Sample], tuple[Sequence[Run], int]]:
        """The runs that a tracer makes of a sample's pair, and the passes of answering its two images."""
        tracer = self._workspace.plugins.tracer(options.tracer, **options.tracer_options)

        def of(sample: Sample) -> tuple[Sequence[Run], int]:
            pair = prepare_pair(self._loaded, self._workspace.editor(options.editor).edit(sample, self._workspace.seed))
            runs = list(tracer.plan(trace_context(self._loaded, pair, self._workspace.seed, options.stack)))
            return runs, self._passes_of_answer(pair.clean) + self._passes_of_answer(pair.corrupt)

        return of

    def _trace_options(self, method: Method) -> TraceOptions:
        return trace_options(self._study, method, self._study.sizes.pairs)

    def _scanned(self, dataset: str, options: ScanOptions) -> float:
        keeps = keeps_attention(self._workspace, self._operation(dataset, options).intervention, options.stack)
        runs_of = self._scan_of(dataset, options)

        def of(sample: Sample) -> float:
            runs, prepared = runs_of(sample)
            if options.method == "screen":  # forward and backward are as much as three passes, for each donor
                return 3.0 * max(1, options.integrated_steps) * len({run.donor.key if run.donor else "" for run in runs})
            looking = keeps and looking_run(self._loaded, prepared) is not None  # where heads look, for reports
            return 1 + len(runs) + looking + self._passes_of_answer(prepared)

        return _mean(self._of_samples(dataset, BaselineOptions(self._study.scan_pool, self._splits(dataset)[0]), of))

    def _scan_of(self, dataset: str, options: OperationOptions) -> Callable[[Sample], tuple[Sequence[Run], Prepared]]:
        """The runs of replacing every head on a sample."""
        operation = self._operation(dataset, options)
        heads = [[head] for head in all_heads(operation.shape)]

        def of(sample: Sample) -> tuple[Sequence[Run], Prepared]:
            prepared, other = prepare(self._loaded, sample), None
            if operation.intervention.needs().pair:
                pair = self._workspace.editor(options.editor).edit(sample, self._workspace.seed)
                other = prepare(self._loaded, pair.corrupt)
            return [run for group in operation.runs(prepared, heads, other) for run in group], prepared

        return of

    def _operation(self, dataset: str, options: OperationOptions) -> HeadOperation:
        stack = options.stack if isinstance(options, ScanOptions) else ""
        return operation_of(self._workspace, self._model, dataset, options, stack)

    def _splits(self, dataset: str) -> tuple[str, ...]:
        return self._workspace.benchmark(dataset).splits()

    def _closing(self, dataset: str) -> float:
        """Confirmation, ablation, rescaling, and the heads that a screening verifies, each at its most."""
        stages = set(self._study.stages)
        passes = sum(self._verified(dataset, scan) for scan in self._study.heads if scan.method == "screen")
        if "ablate" in stages:
            passes += self._confirmed(dataset) + sum(self._ablated(dataset, sign, method) for sign, method in self._ablations())
        return passes + (self._rescaled(dataset) if "rescale" in stages else 0)

    def _verified(self, dataset: str, scan: HeadScan) -> float:
        options, sizes = scan_options(self._study, scan), self._study.sizes
        runs, _ = next(iter(self._of_samples(dataset, BaselineOptions(), self._scan_of(dataset, options))), ([], None))
        shape = self._loaded.engine.shape_of(options.stack)
        every = len(all_heads(shape))
        top = min(every, screened_heads(options, shape))
        verified = top + random_beside(top, every - top)
        return (sizes.scan_sampled + sizes.scan_wrong) * (2 + verified * len(runs) / every)

    def _confirmed(self, dataset: str) -> int:
        if "negative" not in self._study.ablation.signs:
            return 0
        samples = self._tasks.number(dataset, "test", self._splits(dataset)[-1], self._study.sizes.confirm)
        return confirming.most_passes(samples)

    def _ablations(self) -> list[tuple[Any, Method]]:
        return [(sign, method) for sign in self._study.ablation.signs for method in self._study.ablation.operations]

    def _ablated(self, dataset: str, sign: Any, method: Method) -> float:
        splits = self._splits(dataset)
        options = ablation_options(self._study, method, sign, splits[0] if sign == "positive" else splits[-1])
        found = self._of_samples(dataset, BaselineOptions("score"), self._scan_of(dataset, options))
        variants = max((len(runs) for runs, _ in found), default=0) / len(all_heads(self._loaded.engine.shape))
        images = 2 * self._tasks.number(dataset, "test", options.split, options.samples)
        return images * ablation.most_passes(self._study.top_k, options.random_sets, variants)

    def _rescaled(self, dataset: str) -> int:
        sizes, splits = self._study.sizes, self._splits(dataset)
        options = rescaling_options(self._study, splits, [name for name in self._study.datasets if name != dataset])

        def number(of: str, pool: Any, limit: int) -> int:
            return sum(self._tasks.number(of, pool, split, limit) for split in splits)

        choose, test = number(dataset, "choose", sizes.choose), number(dataset, "test", sizes.test)
        transferred = sum(number(name, "test", sizes.test) for name in options.transfer)
        return fit.most_passes(options, len(self._study.rescaling.settings()), choose, test, transferred)

    def _random(self) -> float:
        """The traces of one random model, which are those of the model on fewer pairs."""
        pairs = min(self._study.sizes.random_model_pairs, self._study.sizes.pairs)
        methods = map(self._trace_options, against_random_models(self._workspace, self._study))
        each = [(dataset, options) for options in methods for dataset in self._study.datasets]
        return sum(
            self._traced(dataset, options) * self._tasks.number(dataset, options.pool, options.split, pairs) for dataset, options in each
        )

    def _pace(self, kind: Hashable, measure: Callable[[], float]) -> float:
        if kind not in self._paces:
            self._paces[kind] = measure()
        return self._paces[kind]

    def _pace_of_traces(self, options: TraceOptions) -> float:
        dataset = self._study.datasets[0]
        planned = self._trace_of(options)
        kind = ("traces", options.name, repr(options.tracer_options))
        return self._pace(kind, lambda: self._time_runs([runs for runs, _ in self._of_samples(dataset, options, planned)]))

    def _pace_of_scans(self, options: ScanOptions) -> float:
        dataset = self._study.datasets[0]
        kind = ("scans", options.operation, options.stack, options.direction, repr(options.operation_options))
        where = BaselineOptions(self._study.scan_pool, self._splits(dataset)[0])
        return self._pace(
            kind, lambda: self._time_runs([runs for runs, _ in self._of_samples(dataset, where, self._scan_of(dataset, options))])
        )

    def _time_runs(self, planned: Sequence[Sequence[Run]]) -> float:
        """Seconds of one run among those of a sample: the second sample's, without what is tried and made once."""
        taken = 0.0
        for runs in planned[:2]:
            started = time.perf_counter()
            self._loaded.engine.run(runs)
            taken = (time.perf_counter() - started) / max(1, len(runs))
        return taken

    def _time_answers(self, dataset: str) -> float:
        where = BaselineOptions(self._study.scan_pool, self._splits(dataset)[0])
        asked = self._of_samples(dataset, where, lambda sample: Question(prepare(self._loaded, sample).free, None))
        taken = 0.0
        for some in (asked[:1], asked[1:]):
            if some:
                started = time.perf_counter()
                self._loaded.engine.respond(some, MAX_NEW_TOKENS)
                taken = (time.perf_counter() - started) / len(some)
        return taken


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else 0.0
