"""A study as tasks: portions of the samples of each step, which any worker can do, and what is made of all of them, dataset by dataset.

    answers ──► head scans ──┐
    answers on test images ──┼──► a dataset: confirmation, ablation, rescaling, scores ──► shared heads
    traces ──────────────────┘
    each randomly initialised model ──► the range of all

The task of a dataset is the study itself on that dataset: it finds the units that were made and makes those that are missing. So what comes
out is what one process alone would have made.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from vseam_core.api.types import PoolChoice
from vseam_core.config.study import HeadScan, Study
from vseam_core.experiments.answering import TOGETHER, BaselineOptions, run_baseline
from vseam_core.experiments.heads.samples import Chosen, chosen_of
from vseam_core.experiments.heads.scan import scan_chosen
from vseam_core.experiments.heads.scanning import ScanOptions, effect_name
from vseam_core.experiments.named_stacks import reason_against
from vseam_core.experiments.study.findings import Findings
from vseam_core.experiments.study.options import scan_options, trace_options
from vseam_core.experiments.study.parts import (
    SCANNING,
    finished,
    random_bands,
    random_seeds,
    study_dataset,
    trace_random_model,
    whole_of,
)
from vseam_core.experiments.tracing import TraceOptions, run_trace
from vseam_core.runs.executors.base import Executor, Results, Task
from vseam_core.runs.executors.graph import run_tasks
from vseam_core.runs.runner import Outcome
from vseam_core.runs.workspace import Portion, Workspace

TASKS_PER_WORKER = 8
"""Portions of one kind of step: enough that no worker waits long for the last one, few enough that opening a run costs little."""


def answer_portion(workspace: Workspace, study: int, model: str, dataset: str, options: BaselineOptions) -> Outcome:
    """Answer some of the samples."""
    return run_baseline(workspace, model, dataset, options, study)


def trace_portion(workspace: Workspace, study: int, model: str, dataset: str, options: TraceOptions) -> None:
    """Trace some of the pairs."""
    run_trace(workspace, model, dataset, options, study)


def scan_portion(workspace: Workspace, study: int, model: str, dataset: str, options: ScanOptions, chosen: Chosen) -> None:
    """Scan the heads on some of the chosen samples; none of a stack that the model does not have."""
    if options.stack and reason_against(workspace.model(model), options.stack):
        return
    scan_chosen(workspace, model, dataset=dataset, options=options, chosen=chosen, study=study)


def parts_by_tasks(workspace: Workspace, study: Study, identity: int, executor: Executor) -> list[Findings]:
    """What every model's part of a study found, and its random models', done by the workers of an executor."""
    assert workspace.opening is not None, "another process opens the same workspace"
    planned = StudyTasks(workspace, study, identity, executor.count())
    # Two operations of one name have one title; the tasks of both are one group then.
    done = run_tasks(executor, workspace.opening, planned.every(), workspace.progress)
    found = []
    for model in study.models:
        parts = {dataset: done[dataset_title(model, dataset)][0] for dataset in study.datasets}
        found.append(whole_of(workspace, study, identity, model, parts))
        traced = [done[random_title(model, seed)][0] for seed in random_seeds(workspace, study)]
        found.append(random_bands(workspace, study, model, traced))
    return found


def dataset_title(model: str, dataset: str) -> str:
    """What the task of a dataset is called."""
    return f"{model} on {dataset}"


def random_title(model: str, seed: int) -> str:
    """What the task of a randomly initialised model is called."""
    return f"{model}@random-{seed} traces"


@dataclass(frozen=True)
class StudyTasks:
    """The tasks of a study for so many workers."""

    workspace: Workspace
    study: Study
    identity: int
    workers: int

    def every(self) -> list[Task]:
        """All tasks, those that others wait for first."""
        tasks: list[Task] = []
        for model in self.study.models:
            for dataset in self.study.datasets:
                steps = list(self._steps(model, dataset))
                tasks += [*steps, self._dataset(model, dataset, steps)]
        # Random models come last: they fill the time of the worker that has less to do.
        return tasks + [self._random(model, seed) for model in self.study.models for seed in random_seeds(self.workspace, self.study)]

    def _steps(self, model: str, dataset: str) -> Iterator[Task]:
        stages = set(self.study.stages)
        if stages & SCANNING:
            yield from self._scans(model, dataset)
        if "trace" in stages:
            yield from self._traces(model, dataset)
        if "evaluate" in stages:
            for split in self.workspace.benchmark(dataset).splits():
                options = BaselineOptions("test", split, self.study.sizes.test, self.study.editor)
                yield from self._answers(model, dataset, options, f"{model} answers {dataset} and edited images (test, {split})")

    def _answers(self, model: str, dataset: str, options: BaselineOptions, title: str) -> Iterator[Task]:
        number = self.number(dataset, options.pool, options.split, options.limit or 0)
        for portion in self._portions(number, step=TOGETHER):
            arguments = (self.identity, model, dataset, options)
            yield Task(title, answer_portion, arguments, model, portion=portion)

    def _traces(self, model: str, dataset: str) -> Iterator[Task]:
        for method in self.study.tracers:
            options = trace_options(self.study, method, self.study.sizes.pairs)
            number = self.number(dataset, options.pool, options.split, self.study.sizes.pairs)
            for portion in self._portions(number):
                arguments = (self.identity, model, dataset, options)
                yield Task(f"{model} {options.name} traces of {dataset}", trace_portion, arguments, model, portion=portion)

    def _scans(self, model: str, dataset: str) -> Iterator[Task]:
        """The answers that samples are chosen by, and the scans of those."""
        sizes, splits, pool = self.study.sizes, self.workspace.benchmark(dataset).splits(), self.study.scan_pool
        answers = {split: BaselineOptions(pool, split, sizes.score if split == splits[0] else sizes.hard) for split in splits}
        titles = {split: f"{model} answers {dataset} ({pool}, {split})" for split in splits}
        asked = [(split, list(self._answers(model, dataset, options, titles[split]))) for split, options in answers.items()]
        for _, tasks in asked:
            yield from tasks
        after = tuple(titles[split] for split, tasks in asked if tasks)
        if not after:
            return
        most = min(sizes.scan_sampled + sizes.scan_wrong, sum(self.number(dataset, pool, s, o.limit or 0) for s, o in answers.items()))
        for scan in self.study.heads:
            whose = f"{model} {scan.stack} heads" if scan.stack else f"{model} heads"
            title = f"{whose} by {effect_name(scan.operation, scan.direction)} on {dataset}"
            for portion in self._portions(most):
                yield self._scan(model, dataset, scan, title, after, portion)

    def _scan(self, model: str, dataset: str, scan: HeadScan, title: str, after: tuple[str, ...], portion: Portion) -> Task:
        arguments = (self.identity, model, dataset, scan_options(self.study, scan))
        return Task(title, scan_portion, arguments, model, after, portion, partial(self._chosen, dataset))

    def _chosen(self, dataset: str, answered: Results) -> tuple[Chosen]:
        """Which samples are scanned, by the stored answers."""
        import pandas as pd

        def read() -> Chosen:
            frames = []
            for outcomes in answered.values():
                whole = Outcome(outcomes[0].run, [key for outcome in outcomes for key in outcome.keys])
                frames.append(finished(self.workspace.store.baselines(whole.run), whole))
            first = self.workspace.benchmark(dataset).splits()[0]
            return chosen_of(pd.concat(frames), first, self.study.sizes.scan_sampled, self.study.sizes.scan_wrong)

        return (self.workspace.kept(("chosen for a scan", *answered), read),)

    def _dataset(self, model: str, dataset: str, steps: Sequence[Task]) -> Task:
        after = tuple(dict.fromkeys(task.group for task in steps))
        arguments = (self.study, self.identity, model, dataset)
        return Task(dataset_title(model, dataset), study_dataset, arguments, model, after)

    def _random(self, model: str, seed: int) -> Task:
        return Task(random_title(model, seed), trace_random_model, (self.study, self.identity, model, seed), f"{model}@random-{seed}")

    def number(self, dataset: str, pool: PoolChoice, split: str, limit: int) -> int:
        """How many samples there are, at most `limit`."""
        seed = self.workspace.seed

        def count() -> int:
            return sum(1 for _ in self.workspace.benchmark(dataset).samples(pool, split, limit, seed)) if limit else 0

        return self.workspace.kept(("number of samples", dataset, pool, split, limit), count)

    def _portions(self, samples: int, step: int = 1) -> Iterator[Portion]:
        """So many samples in portions of one size, a multiple of `step`: small ones where there are few datasets for many workers."""
        together = len(self.study.models) * len(self.study.datasets)
        size = step * max(1, math.ceil(samples * together / (TASKS_PER_WORKER * self.workers * step)))
        # Evenly: 21 samples are three portions of 7, not two of 10 and one of 1.
        size = step * math.ceil(samples / (max(1, math.ceil(samples / size)) * step)) if samples else size
        for start in range(0, samples, size):
            yield Portion(start, min(samples, start + size))
