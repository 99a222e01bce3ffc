"""What a study does with one model on one dataset, stage by stage, and what is made of the parts together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from vseam_core.analysis.ablation_tests import ablation_test_frame
from vseam_core.analysis.head_sets import selected_heads
from vseam_core.analysis.heads import Sign
from vseam_core.analysis.rescaling import rescaling_scores
from vseam_core.analysis.traces import aggregate_random_model, random_model_band, strongest_cells
from vseam_core.api.presentation import presentation_of, replacement_of
from vseam_core.api.types import HeadId
from vseam_core.config.study import Method, Study
from vseam_core.experiments.ablation import run_ablation
from vseam_core.experiments.answering import BaselineOptions, run_baseline
from vseam_core.experiments.heads.confirming import confirm_candidates
from vseam_core.experiments.heads.samples import choose_samples
from vseam_core.experiments.heads.scan import run_scan
from vseam_core.experiments.heads.scanning import effect_name
from vseam_core.experiments.heads.screening import aggregate_screening
from vseam_core.experiments.named_stacks import reason_against
from vseam_core.experiments.rescaling.candidates import RescalingScores
from vseam_core.experiments.rescaling.fit import run_rescaling
from vseam_core.experiments.shared_heads import share_heads
from vseam_core.experiments.study.findings import Findings
from vseam_core.experiments.study.methods import MethodStages, Read
from vseam_core.experiments.study.options import ablation_options, confirmation_options, rescaling_options, scan_options, trace_options
from vseam_core.experiments.tracing import run_trace
from vseam_core.results.scoring import ScoredHeads, aggregate_head_run, aggregate_trace_run, read_traces, store_accuracy, store_verdicts
from vseam_core.results.study_results import HeadMap
from vseam_core.runs.runner import Outcome
from vseam_core.runs.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

SCANNING = {"scan", "ablate", "rescale", "shared"}
"""The stages for which heads are scanned."""

RANKED_CELLS = 100
"""Per tracer and site: as many as a table may have to pass over, which leaves out columns that are only a check."""


@dataclass
class DatasetPart:
    """What one model's part of a study found on one dataset, and the scored heads that are compared between datasets."""

    found: Findings
    scored: ScoredHeads | None = None


def study_dataset(workspace: Workspace, study: Study, identity: int, model: str, dataset: str) -> DatasetPart:
    """Every stage of a study on one model and one dataset."""
    return StudyRun(workspace, study, identity).run(model, dataset)


def whole_of(workspace: Workspace, study: Study, identity: int, model: str, parts: Mapping[str, DatasetPart]) -> Findings:
    """What a model's part of a study found on all datasets, with the heads that these share."""
    whole = StudyRun(workspace, study, identity)
    scored = {dataset: part.scored for dataset, part in parts.items() if part.scored is not None}
    for part in parts.values():
        whole.found.add(part.found)
    if "shared" in study.stages:
        whole.share(model, scored)
    return whole.found


class StudyRun:
    """One model's part of a study in progress: what is finished is in the store, what the report needs is collected here."""

    def __init__(self, workspace: Workspace, study: Study, identity: int):
        self._workspace, self._study, self._id = workspace, study, identity
        self.found = self._found = Findings()
        self._scanned: dict[tuple[str, str], ScoredHeads] = {}
        self._read: dict[tuple[str, str], list[Read]] = {}

    def run(self, model: str, dataset: str) -> DatasetPart:
        """Stage by stage on one dataset."""
        stages, methods = set(self._study.stages), MethodStages(self._workspace, self._study, self._id, self._found)
        if "evaluate" in stages:
            self._evaluate(model, dataset)
        if "trace" in stages:
            self._trace(model, dataset)
        if stages & SCANNING:
            self._scan(model, dataset)
            if (model, dataset) in self._scanned:
                methods.set_beside_effects(model, dataset, self._read.get((model, dataset), ()), self._scanned[model, dataset])
        methods.run("screen_paths", model, dataset)
        methods.run("directions", model, dataset)
        if "ablate" in stages:
            self._ablate(model, dataset)
        if "rescale" in stages:
            self._rescale(model, dataset)
        methods.run("compare", model, dataset)
        return DatasetPart(self._found, self._scanned.get((model, dataset)))

    def _label(self, frame: pd.DataFrame, model: str, dataset: str) -> pd.DataFrame:
        benchmark = self._workspace.benchmark(dataset)
        labels = {"model": model, "dataset": dataset, "category": benchmark.category, "level": benchmark.level}
        return frame.assign(**labels)[[*labels, *frame.columns.difference(list(labels), sort=False)]]

    def _noise_floor(self, model: str) -> float:
        return float(self._workspace.model(model).trust["noise_floor"] or 0.0)

    def _splits(self, dataset: str) -> tuple[str, ...]:
        return self._workspace.benchmark(dataset).splits()

    def _evaluate(self, model: str, dataset: str) -> None:
        for split in self._splits(dataset):
            options = BaselineOptions("test", split, self._study.sizes.test, self._study.editor)
            baselines = with_clean_identifiers(self._baseline(model, dataset, options), self._workspace.store.edits())
            self._found.frames["accuracy"].append(store_accuracy(self._workspace, baselines))

    def _score_baselines(self, model: str, dataset: str) -> pd.DataFrame:
        """The answers on the pool that is scanned, from which right and wrong ones are taken for the head scan."""
        import pandas as pd

        sizes, easiest = self._study.sizes, self._splits(dataset)[0]
        limits = {split: sizes.score if split == easiest else sizes.hard for split in self._splits(dataset)}
        return pd.concat(
            [self._baseline(model, dataset, BaselineOptions(self._study.scan_pool, split, limit)) for split, limit in limits.items()]
        )

    def _baseline(self, model: str, dataset: str, options: BaselineOptions) -> pd.DataFrame:
        outcome = run_baseline(self._workspace, model, dataset, options, self._id)
        self._found.outcomes.append(outcome)
        return finished(self._workspace.store.baselines(outcome.run), outcome)

    def _trace(self, model: str, dataset: str) -> None:
        for method in self._study.tracers:
            outcome = self._run_trace(model, dataset, method, self._study.sizes.pairs)
            traces = read_traces(self._workspace, outcome, self._noise_floor(model))
            frame = aggregate_trace_run(self._workspace, outcome, traces, self._random_pairs(dataset, method))
            shown = presentation_of(self._workspace.store.presentation(outcome.run))
            self._found.presentations |= dict.fromkeys(frame["tracer"].unique(), shown)
            self._found.frames["traces"].append(self._label(frame, model, dataset))
            if shown.beside_effects:
                self._read.setdefault((model, dataset), []).append((shown, traces, outcome))
            if traces:
                strongest = strongest_cells(traces, seed=self._study.seed, count=RANKED_CELLS)
                self._workspace.store.replace_scores("strongest_cells", outcome.run, strongest, outcome.keys)
                self._found.frames["strongest"].append(self._label(strongest, model, dataset))

    def _run_trace(self, model: str, dataset: str, method: Method, limit: int) -> Outcome:
        outcome = run_trace(self._workspace, model, dataset, trace_options(self._study, method, limit), self._id)
        refusals = {skip.reason for skip in outcome.skips}
        if not outcome.keys and len(refusals) == 1:
            # The method has no meaning for this family: that is one remark, not a list of broken samples.
            self._found.refusals.setdefault((model, method.name, refusals.pop()), []).append(dataset)
        else:
            self._found.outcomes.append(outcome)
        return outcome

    def trace_random(self, name: str) -> tuple[dict[tuple[str, str], pd.DataFrame], dict[tuple[str, str], list[str]]]:
        """The traces of a randomly initialised model by (dataset, tracer), with the keys of their units."""
        tables, keys = {}, {}
        for dataset in self._study.datasets:
            for method in against_random_models(self._workspace, self._study):
                outcome = self._run_trace(name, dataset, method, self._random_limit)
                traces = read_traces(self._workspace, outcome, self._noise_floor(name))
                tables[dataset, method.name] = aggregate_random_model(traces)
                keys[dataset, method.name] = outcome.keys
        self._workspace.release(name)
        return tables, keys

    def join_random(self, model: str, traced: Sequence[RandomPart]) -> None:
        """The band that group curves must leave before they mean anything: the same shape with random weights."""
        self._found.notes.append(_range_of(model, self._study))
        for place in traced[0].tables:
            band = self._label(random_model_band([part.tables[place] for part in traced]), model, place[0])
            self._workspace.store.replace_scores("random_bands", None, band, [key for part in traced for key in part.keys[place]])
            self._found.frames["bands"].append(band)

    @property
    def _random_limit(self) -> int:
        """How many of a dataset's pairs the random models are traced on."""
        return min(self._study.sizes.random_model_pairs, self._study.sizes.pairs)

    def _random_pairs(self, dataset: str, method: Method) -> frozenset[str]:
        """The samples of the pairs that random models are traced on by a method; none where they are not."""
        if not self._study.random_models or method not in against_random_models(self._workspace, self._study):
            return frozenset()
        options = trace_options(self._study, method, self._random_limit)
        samples = self._workspace.benchmark(dataset).samples(options.pool, options.split, options.limit, self._workspace.seed)
        return frozenset(sample.identifier for sample in samples)

    def _scan(self, model: str, dataset: str) -> None:
        sizes = self._study.sizes
        baselines = self._score_baselines(model, dataset)
        sampled = choose_samples(baselines, self._splits(dataset)[0], sizes.scan_sampled, sizes.scan_wrong).sampled
        for scan in self._study.heads:
            if scan.stack and (reason := reason_against(self._workspace.model(model), scan.stack)):
                self._found.notes.append(f"{model} on {dataset}: no scan of the stack {scan.stack}: {reason}")
                continue
            options = scan_options(self._study, scan)
            outcome = run_scan(self._workspace, model, dataset=dataset, options=options, baselines=baselines, study=self._id)
            self._found.outcomes.append(outcome)
            scored = aggregate_head_run(self._workspace, outcome, self._noise_floor(model), sampled)
            claims, published = scored.get("logit_diff"), scored.get("published_prob")
            if scan.method == "screen":
                exact = claims.effects if claims else None
                agreement = aggregate_screening(
                    self._workspace, model, outcome=outcome, options=options, noise_floor=self._noise_floor(model), exact=exact
                )
                self._found.frames["screenings"].append(self._label(agreement, model, dataset))
            if claims is None:
                continue
            benchmark = self._workspace.benchmark(dataset)
            self._found.maps.append(
                HeadMap(
                    model=model,
                    dataset=dataset,
                    category=benchmark.category,
                    level=benchmark.level,
                    operation=effect_name(scan.operation, scan.direction),
                    claims=claims.scores,
                    published=published.scores if published else None,
                    replacement=replacement_of(self._workspace.store.presentation(outcome.run)),
                )
            )
            if scan is self._study.heads[0]:
                self._scanned[model, dataset] = claims

    def _selected(self, model: str, dataset: str, sign: Sign) -> tuple[HeadId, ...]:
        """The heads that pass the claim; where none do, the highest ranked, which is exploration and said to be."""
        scores = self._scanned[model, dataset].scores
        return selected_heads(scores, sign, self._study.top_k, self._study.seed)[0]

    def _confirm(self, model: str, dataset: str) -> None:
        """Tries candidates for negative heads on test images; from here on only confirmed ones are negative."""
        task = self._scanned[model, dataset]
        options = confirmation_options(self._study, self._splits(dataset)[-1])
        found = confirm_candidates(self._workspace, model, dataset=dataset, options=options, scores=task.scores, study=self._id)
        self._found.outcomes += found.outcomes
        if found.scores is task.scores:
            return
        judged = replace(task, scores=found.scores)
        store_verdicts(self._workspace, judged)
        self._scanned[model, dataset] = judged
        self._found.maps = [replace(scan, claims=found.scores) if scan.claims is task.scores else scan for scan in self._found.maps]
        self._found.frames["confirmations"].append(self._label(found.figures, model, dataset))

    def _ablate(self, model: str, dataset: str) -> None:
        if (model, dataset) not in self._scanned:
            return
        if "negative" in self._study.ablation.signs:
            self._confirm(model, dataset)
        for sign, split in (("positive", self._splits(dataset)[0]), ("negative", self._splits(dataset)[-1])):
            if sign not in self._study.ablation.signs:
                continue
            heads = self._selected(model, dataset, sign)
            for operation in self._study.ablation.operations if heads else ():
                options = ablation_options(self._study, operation, sign, split)
                outcome = run_ablation(self._workspace, model, dataset=dataset, options=options, selected=heads, study=self._id)
                self._found.outcomes.append(outcome)
                rows = finished(self._workspace.store.ablations(outcome.run), outcome)
                self._workspace.store.replace_scores("ablation_tests", outcome.run, ablation_test_frame(rows), outcome.keys)
                self._found.frames["ablations"].append(rows)

    def _rescale(self, model: str, dataset: str) -> None:
        if (model, dataset) not in self._scanned:
            return
        scores = self._rescaling_scores(model, dataset)
        if not scores.positive and not scores.negative:
            return
        options = rescaling_options(self._study, self._splits(dataset), self._transfer(dataset))
        outcome = run_rescaling(
            self._workspace,
            model,
            dataset=dataset,
            options=options,
            settings=self._study.rescaling.settings(),
            scores=scores,
            study=self._id,
        )
        self._found.outcomes.append(outcome)
        self._found.frames["modulations"].append(finished(self._workspace.store.modulations(outcome.run), outcome))

    def _transfer(self, dataset: str) -> tuple[str, ...]:
        return tuple(name for name in self._study.datasets if name != dataset)

    def _rescaling_scores(self, model: str, dataset: str) -> RescalingScores:
        scores = self._scanned[model, dataset].scores
        positive, first = selected_heads(scores, "positive", self._study.top_k, self._study.seed)
        negative, second = selected_heads(scores, "negative", self._study.top_k, self._study.seed)
        negative = tuple(head for head in negative if head not in positive)
        published = next((m.published for m in self._found.maps if (m.model, m.dataset) == (model, dataset) and m.published), None)
        return RescalingScores(
            rescaling_scores(scores, positive, negative),
            positive,
            negative,
            published.map("signed") if published and not published.frame["signed"].isna().any() else None,
            exploratory=first or second,
        )

    def share(self, model: str, tasks: Mapping[str, ScoredHeads]) -> None:
        """The heads that datasets have in common, where they were all run."""
        if any(np.isnan(task.effects.values[:, task.scores.exists]).any() for task in tasks.values()):
            self._found.notes.append(f"{model}: shared heads are not compared, since its heads were screened: scan them with method exact")
            return
        if len(tasks) < 2:
            return
        levels = {dataset: self._workspace.benchmark(dataset).level for dataset in tasks}
        categories = {dataset: self._workspace.benchmark(dataset).category for dataset in tasks}
        for sign in ("positive", "negative"):
            frame, test = share_heads(
                self._workspace,
                model,
                tasks=tasks,
                levels=levels,
                categories=categories,
                sign=sign,
                k=self._study.shared_k,
                seed=self._study.seed,
            )
            self._found.frames["shared"].append(frame)
            self._found.level_tests.append((model, sign, test))


@dataclass
class RandomPart:
    """The traces of one randomly initialised model by (dataset, tracer), with the keys of their units."""

    found: Findings
    tables: dict[tuple[str, str], pd.DataFrame]
    keys: dict[tuple[str, str], list[str]]


def against_random_models(workspace: Workspace, study: Study) -> list[Method]:
    """The tracers that say that their effects mean little without those of random models beside them."""
    if "trace" not in study.stages:
        return []
    made = [(method, workspace.plugins.tracer(method.name, **method.options)) for method in study.tracers if not method.stack]
    return [method for method, tracer in made if tracer.presentation().against_random_models]


def random_seeds(workspace: Workspace, study: Study) -> range:
    """The seeds of the randomly initialised models that are traced, if any are."""
    return range(1, study.random_models + 1) if against_random_models(workspace, study) else range(0)


def trace_random_model(workspace: Workspace, study: Study, identity: int, model: str, seed: int) -> RandomPart:
    """The traces of a model of the same shape with random weights."""
    part = StudyRun(workspace, study, identity)
    return RandomPart(part.found, *part.trace_random(f"{model}@random-{seed}"))


def random_bands(workspace: Workspace, study: Study, model: str, traced: Sequence[RandomPart]) -> Findings:
    """The range of the random models, from the traces of each."""
    whole = StudyRun(workspace, study, 0)
    for part in traced:
        whole.found.add(part.found)
    if traced:
        whole.join_random(model, traced)
    return whole.found


def _range_of(model: str, study: Study) -> str:
    """How far the range of a few random models can be trusted: one more value of its kind is outside with 2 / (models + 1)."""
    models, pairs, own = study.random_models, study.sizes.random_model_pairs, study.sizes.pairs
    first = f"the first {pairs} of its {own} pairs, and the model is held against it on these alone" if pairs < own else "all its pairs"
    return (
        f"{model}: the range of random models is that of {models} on {first}; one more would leave it in {2 / (models + 1):.0%} of all "
        "cells, so that it is no test, and what stays within it says nothing about training"
    )


def finished(frame: pd.DataFrame, outcome: Outcome) -> pd.DataFrame:
    """The rows of one outcome's units: a run in the store may hold more, from a larger study."""
    return frame[frame["key"].isin(outcome.keys)]


def with_clean_identifiers(baselines: pd.DataFrame, edits: pd.DataFrame) -> pd.DataFrame:
    """Stored answers as `summarise` reads them: each answer on a corrupt image knows its clean sample."""
    clean_of = dict(zip(edits["corrupt"], edits["clean"], strict=True))
    corrupt = baselines["pair_role"] == "corrupt"
    return baselines.assign(
        clean_identifier=baselines["identifier"].map(clean_of).where(corrupt), correct=baselines["correct_strict"].astype(bool)
    )
