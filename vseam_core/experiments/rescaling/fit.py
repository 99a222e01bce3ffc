"""Head rescaling: fitted on the choose pool, reported on the test pool with its error and its controls, whatever its sign."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vseam_core.analysis.rescaling import Setting, SettingResult, choose, fit_yes_no_bias
from vseam_core.analysis.statistics import accuracy_change, cluster_sign_flip
from vseam_core.api.types import Pool
from vseam_core.config.defaults import EDITOR, RESCALING
from vseam_core.config.editor_settings import EditorChoice
from vseam_core.errors import SampleError
from vseam_core.experiments.evaluation_sets import Answers, EvaluationSet, evaluate_conditions, evaluation_set
from vseam_core.experiments.heads.changes import Change, HeadChange, HeadOperation, make_intervention
from vseam_core.experiments.rescaling.candidates import PUBLISHED, Candidate, RescalingScores, candidates_of, published_candidate, shuffles
from vseam_core.runs.experiment import Experiment, OpenRun
from vseam_core.runs.runner import Outcome, Unit
from vseam_core.runs.spec import FittedRescaling, UnitResult
from vseam_core.runs.workspace import Workspace

EXPERIMENT = Experiment("rescaling", version=1)


@dataclass(frozen=True)
class RescalingOptions:
    """How many samples choose the scales and test them, and the controls beside.

    `splits` are those chosen on (together) and tested on (apart); `shuffles` the number of shuffled controls;
    `transfer` the datasets that the fitted scales are tried on, untouched. `operation` is the head intervention that multiplies by its
    option `factors`.
    """

    choose: int = 60
    test: int = 60
    splits: tuple[str, ...] = ("plain", "hard")
    shuffles: int = 5
    transfer: tuple[str, ...] = ()
    editor: EditorChoice | str = EDITOR
    operation: str = RESCALING
    operation_options: Mapping[str, Any] = field(default_factory=dict)


def run_rescaling(
    workspace: Workspace,
    model: str,
    dataset: str,
    options: RescalingOptions,
    settings: Sequence[Setting],
    scores: RescalingScores,
    study: int | None = None,
) -> Outcome:
    """Choose the best of `settings` on the choose pool, then measure it and its controls on the test pool."""
    parts = {
        "operation": make_intervention(workspace, options.operation, options.operation_options)[1],
        "splits": list(options.splits),
        "shuffles": options.shuffles,
        "editor": workspace.editor_component(options.editor),
    }
    opened = EXPERIMENT.open(workspace, model, dataset, pool="test", split="all", parts=parts, study=study)
    fitting = Fitting(opened, dataset, options)
    candidates = candidates_of(scores, settings)
    grid = Measurement("grid", candidates)
    compute = _computer(fitting)
    outcome = opened.run_units([fitting.unit(grid)], compute, f"{model} rescaling grid on {dataset}")
    chosen = _chosen(workspace, opened.run, outcome.keys, candidates)
    tests = [Measurement("fitted", (chosen,)), Measurement("bias", ())]
    if scores.published is not None:
        tests.append(Measurement("published", (published_candidate(scores.published),)))
    drawn = shuffles(chosen, opened.loaded.engine.shape, options.shuffles, workspace.seed)
    tests += [Measurement(f"shuffled {index}", (other,)) for index, other in enumerate(drawn)]
    tests += [Measurement(f"transfer {name}", (chosen,), name) for name in options.transfer if name != dataset]
    tested = opened.run_units([fitting.unit(test) for test in tests], compute, f"{model} rescaling tests on {dataset}")
    made, reused = outcome.made + tested.made, outcome.reused + tested.reused
    return Outcome(opened.run, outcome.keys + tested.keys, made, reused, outcome.skips + tested.skips)


def most_passes(options: RescalingOptions, settings: int, choose: int, test: int, transferred: int) -> int:
    """The forward passes of a rescaling, at the most: `settings` are tried on `choose` samples and the best one is tested on `test`.

    `transferred` samples are those of the datasets that it is tried on untouched.
    """
    grid = (2 + settings) * choose  # the unchanged model, and a candidate that changes nothing
    tests = (2 + options.shuffles) * test + transferred  # fitted, published and shuffled
    bias = choose + test
    return grid + 4 * tests + bias  # each test beside the unchanged model, on the edited image too


def _computer(fitting: Fitting) -> Callable[[Sequence[Unit[Measurement]]], list[UnitResult]]:
    return lambda part: [fitting.measure(unit) for unit in part]


def _chosen(workspace: Workspace, run: int, keys: Sequence[str], candidates: Sequence[Candidate]) -> Candidate:
    """The candidate with the best accuracy on the choose pool, by the stored grid."""
    frame = workspace.store.modulations(run)
    frame = frame[frame["key"].isin(keys)]
    results = []
    for candidate, (_, row) in zip(candidates, frame[frame["role"] == "grid"].iterrows(), strict=True):
        change = float(np.linalg.norm([factor - 1 for factor in candidate.factors.values()]))
        results.append(SettingResult(candidate.setting, float(row["accuracy"]), change))
    choice = choose(results)
    return next(candidate for candidate in candidates if candidate.setting == choice.setting)


@dataclass(frozen=True)
class Measurement:
    """What one unit measures: a role, the candidates it tries, and another dataset where it is a transfer.

    The role `bias` has no candidate: it shifts the yes/no threshold instead, the control that any rescaling has to beat.
    """

    role: str
    candidates: tuple[Candidate, ...]
    dataset: str = ""


class Fitting:
    """The samples of one rescaling, and how each measurement is made on them."""

    def __init__(self, opened: OpenRun, dataset: str, options: RescalingOptions):
        self._opened, self._dataset, self._options = opened, dataset, options

    def _set(self, dataset: str, pool: Pool, split: str) -> EvaluationSet:
        workspace = self._opened.workspace
        editor = workspace.editor(self._options.editor) if pool == "test" else None
        limit = self._options.test if pool == "test" else self._options.choose
        return evaluation_set(
            workspace, self._opened.loaded, benchmark=workspace.benchmark(dataset), pool=pool, split=split, limit=limit, editor=editor
        )

    def _sets_of(self, measurement: Measurement) -> list[EvaluationSet]:
        pool: Pool = "choose" if measurement.role == "grid" else "test"
        return [self._set(measurement.dataset or self._dataset, pool, split) for split in self._options.splits]

    def unit(self, measurement: Measurement) -> Unit[Measurement]:
        """The unit of a measurement; its key holds the factors and every prompt they are measured on."""
        sets = [samples.identity for samples in self._sets_of(measurement)]
        fitted_on = [self._set(self._dataset, "choose", split).identity for split in self._options.splits]
        key = self._opened.key(
            role=measurement.role,
            candidates=[candidate.identity() for candidate in measurement.candidates],
            samples=sets,
            fitted_on=fitted_on if measurement.role == "bias" else [],
        )
        subject = "grid" if measurement.role == "grid" else "tests"
        return Unit(key, f"{self._dataset}: {measurement.role}", measurement, subject=subject)

    def measure(self, unit: Unit[Measurement]) -> UnitResult:
        """The rows of one unit: the grid on the choose pool together, everything else on each split of the test pool."""
        measurement = unit.payload
        if measurement.role == "grid":
            rows = self._measure_grid(measurement)
        elif measurement.role == "bias":
            rows = self._measure_bias()
        else:
            rows = [self._measure_test(measurement, samples) for samples in self._sets_of(measurement)]
        return UnitResult(unit.key, unit.identifier, modulations=tuple(rows))

    def _answers(self, candidates: Sequence[Candidate], samples: EvaluationSet) -> list[Answers]:
        return evaluate_conditions(self._opened.loaded.engine, [Change(), *map(self._change, candidates)], samples)

    def _change(self, candidate: Candidate) -> Change:
        """Every head of a candidate multiplied by its factor, at all positions."""
        opened, options = self._opened, {**self._options.operation_options, "factors": candidate.named}
        intervention, component = make_intervention(opened.workspace, self._options.operation, options)
        return HeadChange(HeadOperation(opened.loaded.engine.shape, intervention, component), list(candidate.factors))

    def _measure_grid(self, measurement: Measurement) -> list[FittedRescaling]:
        answered = [self._answers(measurement.candidates, samples) for samples in self._sets_of(measurement)]
        base = np.concatenate([answers[0].correct for answers in answered])
        rows = []
        for index, candidate in enumerate(measurement.candidates):
            correct = np.concatenate([answers[index + 1].correct for answers in answered])
            rows.append(
                _row(candidate, "grid", chosen_on="choose", evaluated_on="choose", correct=correct, base=base, clusters=None, answers=None)
            )
        return rows

    def _measure_test(self, measurement: Measurement, samples: EvaluationSet) -> FittedRescaling:
        candidate = measurement.candidates[0]
        base, changed = self._answers([candidate], samples)
        chosen_on = "" if candidate.recipe == PUBLISHED else "choose"
        return _row(
            candidate,
            measurement.role,
            chosen_on=chosen_on,
            evaluated_on=samples.name,
            correct=changed.correct,
            base=base.correct,
            clusters=samples.clusters,
            answers=changed,
        )

    def _measure_bias(self) -> list[FittedRescaling]:
        """The yes/no threshold fitted on the choose pool, tried on each split of the test pool."""
        fits = [self._yes_no_scores(self._set(self._dataset, "choose", split)) for split in self._options.splits]
        bias = fit_yes_no_bias(np.concatenate([scores for scores, _ in fits]), np.concatenate([gold for _, gold in fits]))
        rows = []
        for split in self._options.splits:
            samples = self._set(self._dataset, "test", split)
            scores, gold = self._yes_no_scores(samples)
            correct, base = ((scores > threshold) == gold for threshold in (bias.threshold, 0.0))
            candidate = Candidate("yes/no bias", Setting(bias.threshold, 0))
            rows.append(
                _row(
                    candidate,
                    "bias",
                    chosen_on="choose",
                    evaluated_on=samples.name,
                    correct=correct * 1.0,
                    base=base * 1.0,
                    clusters=samples.clusters,
                    answers=None,
                )
            )
        return rows

    def _yes_no_scores(self, samples: EvaluationSet) -> tuple[np.ndarray, np.ndarray]:
        """logit(yes) − logit(no) and whether the gold answer is yes. Raises `SampleError` for open questions."""
        if any(prepared.sample.form != "yes_no" for prepared in samples.clean):
            raise SampleError(f"{samples.name}: a yes/no bias has no meaning for open questions")
        answers = self._opened.loaded.engine.answers([p.prompt for p in samples.clean], [p.answer for p in samples.clean])
        gold = np.array([prepared.gold_yes for prepared in samples.clean])
        return np.array([value.logit_diff for value in answers]) * np.where(gold, 1.0, -1.0), gold


def _row(
    candidate: Candidate,
    role: str,
    chosen_on: str,
    evaluated_on: str,
    correct: np.ndarray,
    base: np.ndarray,
    clusters: Sequence[str] | None,
    answers: Answers | None,
) -> FittedRescaling:
    difference = correct - base
    gain, p_value = None, None
    # Where nothing was changed, a gain of 0 is no estimate: it has no interval.
    changes = bool(candidate.named or (role == "bias" and candidate.setting.strength))
    if clusters is not None and changes:
        gain = accuracy_change(base, correct, clusters)
        p_value = cluster_sign_flip(difference, clusters, seed=0).p_value
    return FittedRescaling(
        recipe=candidate.recipe,
        role=role,
        scales=candidate.named,
        strength=candidate.setting.strength,
        top_k=candidate.setting.top_k,
        clip=candidate.setting.clip,
        chosen_on=chosen_on,
        evaluated_on=evaluated_on,
        n=len(correct),
        accuracy=float(correct.mean()),
        base_accuracy=float(base.mean()),
        gain=float(difference.mean()),
        gain_error=gain.standard_error if gain else None,
        gain_low=gain.low if gain else None,
        gain_high=gain.high if gain else None,
        p_value=p_value,
        pair_accuracy=answers.pair_accuracy if answers else None,
    )
