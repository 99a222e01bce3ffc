"""Ablation of a set of heads on the test pool, beside matched random sets: does what the score pool selected hold elsewhere?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vseam_core.analysis.head_sets import matched_random_sets
from vseam_core.analysis.statistics import accuracy_change
from vseam_core.api.stored_weights import stored_weight
from vseam_core.api.types import HeadId
from vseam_core.experiments.evaluation_sets import EvaluationSet, evaluate_conditions, evaluation_set
from vseam_core.experiments.heads.changes import Change, HeadChange, HeadOperation, OperationOptions, operation_of
from vseam_core.experiments.heads.donors_and_means import ReferenceSet, reference_set
from vseam_core.experiments.heads.scanning import all_heads
from vseam_core.runs.experiment import Experiment, OpenRun
from vseam_core.runs.runner import Outcome, Unit
from vseam_core.runs.spec import Ablation, UnitResult
from vseam_core.runs.workspace import Workspace

EXPERIMENT = Experiment("ablation", version=2)
SETS_PER_UNIT = 25
NORM_PROMPTS = 16
"""On how many prompts of the reference set head norms are measured, by which random sets are matched."""


@dataclass(frozen=True)
class AblationOptions(OperationOptions):
    """What to ablate with, on how many test samples, beside how many matched random sets (199 give p ≥ 0.005)."""

    donors: int | None = 1
    sign: Literal["positive", "negative"] = "positive"
    split: str = "plain"
    samples: int = 40
    random_sets: int = 199


@dataclass(frozen=True)
class Condition:
    """A set of heads under a name; `trial` numbers random sets, −1 is not random."""

    name: str
    trial: int
    heads: tuple[HeadId, ...]


Conditions = tuple[Condition, ...]


def run_ablation(
    workspace: Workspace,
    model: str,
    dataset: str,
    options: AblationOptions,
    selected: Sequence[HeadId],
    study: int | None = None,
) -> Outcome:
    """Ablate `selected` (best head first, chosen on the score pool) on the test pool, with everything it must be held against."""
    operation = operation_of(workspace, model, dataset, options)
    parts = {
        "operation": operation.component,
        "sign": options.sign,
        "positions": options.positions,
        "random_sets": options.random_sets,
        "editor": workspace.editor_component(options.editor),
    }
    opened = EXPERIMENT.open(workspace, model, dataset, pool="test", split=options.split, parts=parts, inputs=operation.inputs, study=study)
    editor = workspace.editor(options.editor)
    samples = evaluation_set(
        workspace, opened.loaded, benchmark=opened.benchmark, pool="test", split=options.split, limit=options.samples, editor=editor
    )
    norms_from = operation.references or reference_set(workspace, model, dataset, min(options.reference_size, NORM_PROMPTS))
    conditions = plan_conditions(norms_from, selected, options.random_sets, workspace.seed)
    units = _units(opened, conditions, samples)

    def compute(part: Sequence[Unit[Conditions]]) -> list[UnitResult]:
        return [_ablate(opened, operation, samples, unit, options.sign) for unit in part]

    return opened.run_units(units, compute, f"{model} ablates {options.sign} heads on {dataset}")


def plan_conditions(references: ReferenceSet, selected: Sequence[HeadId], random_sets: int, seed: int) -> list[Condition]:
    """The sets that follow from the selected one, and random sets matched to it."""
    heads = tuple(selected)
    norms = head_norms(references)
    there = ~np.isnan(norms)
    matched = matched_random_sets(heads, np.where(there, norms, 0.0), random_sets, seed, there)
    others = tuple(head for head in all_heads(references.engine.shape) if head not in heads)
    return _of_the_selected(heads, others) + [Condition("random", trial, drawn) for trial, drawn in enumerate(matched.sets)]


def _of_the_selected(heads: tuple[HeadId, ...], others: tuple[HeadId, ...]) -> list[Condition]:
    """The empty set (the unablated model, measured the same way), the selected one, everything but it, and its beginnings."""
    conditions = [Condition("base", -1, ()), Condition("selected", -1, heads), Condition("faithfulness", -1, others)]
    return conditions + [Condition("cumulative", -1, heads[:size]) for size in range(1, len(heads))]


def most_passes(selected: int, random_sets: int, variants: float) -> float:
    """The forward passes that one image takes, at the most, with so many variants of an operation that replaces `selected` heads.

    The empty set changes nothing, and has one variant; each unit runs the unchanged model once more.
    """
    conditions = len(_of_the_selected(tuple(HeadId(0, head) for head in range(selected)), ())) + random_sets
    return (conditions - 1) * variants + 1 + -(-conditions // SETS_PER_UNIT)


def head_norms(references: ReferenceSet) -> np.ndarray:
    """The mean over positions and the first reference prompts of ‖W_O z‖ for each head, float64 `[layers, heads]`, NaN where none is."""
    engine = references.engine
    shape = engine.shape
    total = np.full((shape.layers, shape.heads), np.nan)
    with_heads = [layer for layer in range(shape.layers) if shape.heads_in(layer)]
    for layer in with_heads:
        total[layer, : shape.heads_in(layer)] = 0.0
    members = references.members[:NORM_PROMPTS]
    for member in members:
        activations = engine.activations(member.prompt, [(layer, "head_output") for layer in with_heads])
        for layer in with_heads:
            held = activations[(layer, "head_output")]
            weight = stored_weight(engine.decoder.layers[layer].output_projection).detach().to(held.device)
            # Heads may be wider in some layers than in others (Gemma 4).
            size = engine.decoder.layers[layer].head_dim
            split = held.reshape(-1, shape.heads_in(layer), size)
            for head in range(shape.heads_in(layer)):
                columns = weight[:, head * size : (head + 1) * size]
                total[layer, head] += float((split[:, head] @ columns.T).norm(dim=-1).mean())
    return total / max(1, len(members))


def _units(opened: OpenRun, conditions: Sequence[Condition], samples: EvaluationSet) -> list[Unit[Conditions]]:
    units = []
    for start in range(0, len(conditions), SETS_PER_UNIT):
        part = tuple(conditions[start : start + SETS_PER_UNIT])
        named = [[condition.name, condition.trial, [str(head) for head in condition.heads]] for condition in part]
        key = opened.key(conditions=named, samples=samples.identity)
        name = f"{samples.name}: {part[0].name} {part[0].trial} to {part[-1].name} {part[-1].trial}"
        units.append(Unit(key, name, part, subject="conditions"))
    return units


def _ablate(opened: OpenRun, operation: HeadOperation, samples: EvaluationSet, unit: Unit[Conditions], sign: str) -> UnitResult:
    conditions = unit.payload
    changes = [Change(), *(HeadChange(operation, condition.heads) for condition in conditions)]
    base, *answered = evaluate_conditions(opened.loaded.engine, changes, samples)
    drops = [accuracy_change(answers.correct, base.correct, samples.clusters) for answers in answered]
    rows = tuple(
        Ablation(
            condition=condition.name,
            sign=sign,
            operation=operation.name,
            size=len(condition.heads),
            trial=condition.trial,
            heads=tuple(str(head) for head in condition.heads),
            n=len(samples.clean),
            accuracy=answers.accuracy,
            mean_probability=float(answers.probability.mean()),
            mean_logit_diff=float(answers.logit_diff.mean()),
            drop=base.accuracy - answers.accuracy,
            drop_error=drop.standard_error,
            drop_low=drop.low,
            drop_high=drop.high,
            pair_accuracy=answers.pair_accuracy,
        )
        for condition, answers, drop in zip(conditions, answered, drops, strict=True)
    )
    return UnitResult(unit.key, unit.identifier, ablations=rows)
