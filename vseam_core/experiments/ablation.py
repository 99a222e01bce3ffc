"""Ablation of a set of heads on the test pool, beside matched random sets: does what the score pool selected hold elsewhere?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vseam_core.api.interventions import Run
from vseam_core.api.types import HeadId
from vseam_core.config.editor_settings import EditorChoice, editor_choice
from vseam_core.experiments.encoding import Prepared, model_identity
from vseam_core.experiments.evaluation_sets import EvaluationSet, RunsOfCondition, evaluate_conditions, evaluation_set
from vseam_core.experiments.heads.donors_and_means import ReferenceSet
from vseam_core.experiments.heads.scan import HeadScanner, ScanOptions, all_heads, score_reference_set
from vseam_core.runs.identity import unit_key
from vseam_core.runs.runner import Outcome, Unit, run_units
from vseam_core.runs.spec import Ablation, RunSpec, UnitResult
from vseam_core.runs.workspace import LoadedModel, Workspace

if TYPE_CHECKING:
    from vseam_core.engine.base import Engine

VERSION = 1
SETS_PER_UNIT = 25


@dataclass(frozen=True)
class AblationOptions:
    """What to ablate with, on how many test samples, beside how many matched random sets (199 give p ≥ 0.005)."""

    sign: Literal["positive", "negative"] = "positive"
    operation: str = "resample"
    positions: str = "all"
    split: str = "plain"
    samples: int = 40
    random_sets: int = 199
    donors: int = 1
    editor: EditorChoice | str = "scenes"
    reference_size: int = 64


@dataclass(frozen=True)
class Condition:
    """A set of heads under a name; `trial` numbers random sets, −1 is not random."""

    name: str
    trial: int
    heads: tuple[HeadId, ...]


def run_ablation(
    workspace: Workspace,
    model_name: str,
    dataset: str,
    options: AblationOptions,
    selected: Sequence[HeadId],
    study: int | None = None,
) -> Outcome:
    """Ablate `selected` (best head first, chosen on the score pool) on the test pool, with everything it must be held against."""
    loaded, benchmark = workspace.model(model_name), workspace.benchmark(dataset)
    operation_options = {"donors": options.donors} if options.operation == "resample" else {}
    intervention = workspace.plugins.head_intervention(options.operation, **operation_options)
    references = score_reference_set(workspace, loaded, benchmark, ScanOptions(reference_size=options.reference_size))
    scanner = HeadScanner(loaded, intervention, options.positions, references, workspace.seed)
    configuration: dict[str, Any] = {
        "operation": intervention.name,
        "sign": options.sign,
        "positions": options.positions,
        "random_sets": options.random_sets,
        "editor": editor_choice(options.editor).identity(),
        **intervention.options(),
    }
    info = loaded.model.info
    spec = RunSpec(
        "ablation",
        VERSION,
        info,
        dataset,
        benchmark.level,
        benchmark.category,
        "test",
        options.split,
        configuration,
        workspace.seed,
    )
    run = workspace.store.ensure_run(spec, study=study, device=info.device, versions=workspace.versions(), trust=loaded.trust)
    editor = workspace.editor(options.editor)
    samples = evaluation_set(workspace, loaded, benchmark, "test", options.split, options.samples, editor)
    conditions = plan_conditions(loaded.engine, references, selected, options.random_sets, workspace.seed)
    method = {"method": "ablation", "version": VERSION, "seed": workspace.seed, **configuration, **scanner.identity()}
    units = _units(loaded, conditions, samples, method)

    def compute(part: Sequence[Unit]) -> list[UnitResult]:
        return [_ablate(scanner, samples, unit, options.sign) for unit in part]

    what = f"{model_name} ablates {options.sign} heads on {dataset}"
    return run_units(workspace.store, run, units, compute, workspace.progress, what)


def plan_conditions(engine: Engine, references: ReferenceSet, selected: Sequence[HeadId], random_sets: int, seed: int) -> list[Condition]:
    """The selected set, its cumulative beginnings, everything but it (faithfulness), each head left out, and random sets.

    The first condition is the empty set: the unablated model, measured the same way.
    """
    from vseam_core.analysis.head_sets import matched_random_sets

    heads = tuple(selected)
    others = tuple(head for head in all_heads(engine.shape) if head not in heads)
    conditions = [Condition("base", -1, ()), Condition("selected", -1, heads), Condition("faithfulness", -1, others)]
    conditions += [Condition("cumulative", -1, heads[:size]) for size in range(1, len(heads))]
    matched = matched_random_sets(heads, head_norms(engine, references), random_sets, seed)
    return conditions + [Condition("random", trial, tuple(drawn)) for trial, drawn in enumerate(matched)]


def head_norms(engine: Engine, references: ReferenceSet, limit: int = 16) -> np.ndarray:
    """The mean over positions and reference prompts of ‖W_O z‖ for each head, float64 `[layers, heads]`."""
    shape = engine.shape
    total = np.zeros((shape.layers, shape.heads))
    members = references.members[:limit]
    for member in members:
        activations = engine.activations(member.prompt, [(layer, "head_output") for layer in range(shape.layers)])
        for layer in range(shape.layers):
            weight = engine.decoder.layers[layer].output_projection.weight.detach()
            split = activations[(layer, "head_output")].reshape(-1, shape.heads, shape.head_dim)
            for head in range(shape.heads):
                columns = weight[:, head * shape.head_dim : (head + 1) * shape.head_dim]
                total[layer, head] += float((split[:, head] @ columns.T).norm(dim=-1).mean())
    return total / max(1, len(members))


def _units(loaded: LoadedModel, conditions: Sequence[Condition], samples: EvaluationSet, method: Mapping[str, Any]) -> list[Unit]:
    units = []
    for start in range(0, len(conditions), SETS_PER_UNIT):
        part = tuple(conditions[start : start + SETS_PER_UNIT])
        named = [[condition.name, condition.trial, [str(head) for head in condition.heads]] for condition in part]
        key = unit_key(**method, **model_identity(loaded.model), conditions=named, samples=samples.identity)
        units.append(
            Unit(key, f"{samples.name}: {part[0].name} {part[0].trial} to {part[-1].name} {part[-1].trial}", part, subject="conditions")
        )
    return units


class _Ablated(RunsOfCondition):
    def __init__(self, scanner: HeadScanner, heads: Sequence[HeadId]):
        self._scanner, self._heads = scanner, heads

    def runs(self, prepared: Prepared) -> list[Run]:
        if not self._heads:
            return super().runs(prepared)
        return self._scanner.runs(prepared, [self._heads])[0]


def _ablate(scanner: HeadScanner, samples: EvaluationSet, unit: Unit, sign: str) -> UnitResult:
    conditions: tuple[Condition, ...] = unit.payload
    wanted: list[RunsOfCondition] = [RunsOfCondition(), *(_Ablated(scanner, condition.heads) for condition in conditions)]
    base, *answered = evaluate_conditions(scanner.loaded.engine, wanted, samples)
    rows = tuple(
        Ablation(
            condition=condition.name,
            sign=sign,
            operation=scanner.intervention.name,
            size=len(condition.heads),
            trial=condition.trial,
            heads=tuple(str(head) for head in condition.heads),
            n=len(samples.clean),
            accuracy=answers.accuracy,
            mean_probability=float(answers.probability.mean()),
            mean_logit_diff=float(answers.logit_diff.mean()),
            drop=base.accuracy - answers.accuracy,
            pair_accuracy=answers.pair_accuracy,
        )
        for condition, answers in zip(conditions, answered, strict=True)
    )
    return UnitResult(unit.key, unit.identifier, ablations=rows)
