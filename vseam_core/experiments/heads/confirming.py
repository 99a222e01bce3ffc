"""Tries candidates for negative heads on test images: is the model right more often without them, replaced by their mean or by zero?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vseam_core.analysis.confirmation import TestAnswers, confirm_heads, verdicts_of
from vseam_core.analysis.heads import HeadScores, with_verdicts
from vseam_core.api.types import HeadId
from vseam_core.experiments.evaluation_sets import EvaluationSet, evaluate_conditions, evaluation_set
from vseam_core.experiments.heads.changes import REFERENCE_SIZE, Change, HeadChange, HeadOperation, head_operation
from vseam_core.runs.experiment import Experiment, OpenRun
from vseam_core.runs.runner import Outcome, Unit
from vseam_core.runs.spec import UnitResult
from vseam_core.runs.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

EXPERIMENT = Experiment("head_confirmation", version=1)
OPERATIONS: tuple[str, ...] = ("dataset_mean", "zero")
"""What candidates are replaced by: nothing that brings noise of its own. A head has to hold under both."""
MOST_CANDIDATES = 8
Named = tuple[str, tuple[HeadId, ...]]
"""A set of heads and what it is called."""

UNCHANGED = "none"


def most_passes(samples: int) -> int:
    """The forward passes of a confirmation on so many samples, at the most: every candidate and the unchanged model by each operation."""
    return len(OPERATIONS) * (1 + MOST_CANDIDATES) * samples


@dataclass(frozen=True)
class ConfirmationOptions:
    """On which test samples candidates are tried, and where heads are replaced."""

    split: str
    samples: int = 200
    positions: str = "all"
    reference_size: int = REFERENCE_SIZE


@dataclass(frozen=True, eq=False)
class Confirmation:
    """The head scores with the verdicts, the figures that these rest on (empty without candidates), and the runs."""

    scores: HeadScores
    figures: pd.DataFrame
    outcomes: tuple[Outcome, ...]


def confirm_candidates(
    workspace: Workspace, model: str, dataset: str, options: ConfirmationOptions, scores: HeadScores, study: int | None = None
) -> Confirmation:
    """Try the strongest candidates of a scan, at most `MOST_CANDIDATES`, on the test pool; figures are stored, scores are returned.

    Candidates beyond those keep the verdict `candidate`.
    """
    import pandas as pd

    heads = scores.with_verdict("candidate")[:MOST_CANDIDATES]
    if not heads or not options.samples:
        return Confirmation(scores, pd.DataFrame(), ())
    loaded, benchmark = workspace.model(model), workspace.benchmark(dataset)
    samples = evaluation_set(workspace, loaded, benchmark=benchmark, pool="test", split=options.split, limit=options.samples, editor=None)
    outcomes, found = [], {}
    base: TestAnswers | None = None
    for name in OPERATIONS:
        operation = head_operation(workspace, model, dataset, name, {}, positions=options.positions, reference_size=options.reference_size)
        parts = {"operation": operation.component, "positions": options.positions}
        opened = EXPERIMENT.open(
            workspace, model, dataset, pool="test", split=options.split, parts=parts, inputs=operation.inputs, study=study
        )
        outcome = _measure(opened, operation, samples, heads, f"{model} without candidates ({name}) on {dataset}")
        outcomes.append(outcome)
        answers = _answers(workspace.store.unit_details(outcome.run, outcome.keys))
        base = answers.pop(UNCHANGED, base)
        found.update({(head, name): answer for head, answer in answers.items()})
    tried = [str(head) for head in heads if all((str(head), name) in found for name in OPERATIONS)]
    if base is None or not tried:
        return Confirmation(scores, pd.DataFrame(), tuple(outcomes))
    without = {(head, name): found[head, name] for head in tried for name in OPERATIONS}
    figures = confirm_heads(base, without, _gold_yes(samples), samples.clusters, seed=workspace.seed)
    keys = [key for outcome in outcomes for key in outcome.keys]
    for name, outcome in zip(OPERATIONS, outcomes, strict=True):
        workspace.store.replace_scores("head_confirmations", outcome.run, figures[figures["operation"] == name], keys)
    return Confirmation(with_verdicts(scores, verdicts_of(figures)), figures, tuple(outcomes))


def _measure(opened: OpenRun, operation: HeadOperation, samples: EvaluationSet, heads: Sequence[HeadId], title: str) -> Outcome:
    """One unit for the unchanged model and one for each head: every sample's answer."""
    conditions: dict[str, tuple[HeadId, ...]] = {UNCHANGED: (), **{str(head): (head,) for head in heads}}
    units = [
        Unit(opened.key(head=name, samples=samples.identity), f"{samples.name} without {name}", (name, chosen), subject="candidates")
        for name, chosen in conditions.items()
    ]

    def compute(part: Sequence[Unit[Named]]) -> list[UnitResult]:
        named = [unit.payload for unit in part]
        changes: list[Change] = [HeadChange(operation, chosen) for _, chosen in named]
        answered = evaluate_conditions(opened.loaded.engine, changes, samples)
        return [
            UnitResult(
                unit.key,
                unit.identifier,
                details={"head": name, "correct": answers.correct.tolist(), "logit_diff": answers.logit_diff.tolist()},
            )
            for unit, (name, _), answers in zip(part, named, answered, strict=True)
        ]

    return opened.run_units(units, compute, title)


def _answers(details: Sequence[Mapping[str, Any]]) -> dict[str, TestAnswers]:
    return {part["head"]: TestAnswers(np.array(part["correct"]), np.array(part["logit_diff"])) for part in details}


def _gold_yes(samples: EvaluationSet) -> np.ndarray | None:
    """Whether each gold answer is yes; None where questions are open."""
    if any(prepared.sample.form != "yes_no" for prepared in samples.clean):
        return None
    return np.array([prepared.gold_yes for prepared in samples.clean])
