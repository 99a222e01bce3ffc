"""A head scan by screening: every head estimated from gradients, the best and some random ones run exactly, both compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from vseam_core.analysis.frames import nullable_frame
from vseam_core.analysis.heads import MINIMUM_ANSWERS
from vseam_core.analysis.screening import SCREENING_COLUMNS, HeadChoice, agreement, choose_heads
from vseam_core.api.interfaces import ModelShape
from vseam_core.api.types import HeadEffect, HeadId
from vseam_core.engine.attribution import estimate
from vseam_core.errors import UnsupportedError
from vseam_core.experiments.heads.scanning import Scan, ScanOptions, Target, all_heads, in_turn, scan_sample, screened_heads
from vseam_core.results.scoring import ESTIMATE, correct_flags, one_pool
from vseam_core.runs.runner import Outcome, Unit
from vseam_core.runs.spec import UnitResult
from vseam_core.runs.workspace import Workspace
from vseam_core.store.records import HeadEffectSet

if TYPE_CHECKING:
    import pandas as pd


def run_screening(scan: Scan) -> Outcome:
    """Estimate all heads on every sample, choose heads by the means of the estimates, and run those exactly on every sample.

    Units of the first part hold the estimates, those of the second the exact effects; a larger limit may choose other heads, whose
    units are then made again. Raises `UnsupportedError` for integrated steps with an operation that has no donors.
    """
    needs = scan.operation.intervention.needs()
    if scan.options.integrated_steps and not needs.donors and not needs.pair:
        raise UnsupportedError(
            f"integrated steps lead from a sample to the donor of its replacement, and {scan.operation.name} has none: "
            "use 0 steps, or an operation that takes from another image"
        )
    opened, shape = scan.opened, scan.shape

    def estimates(part: Sequence[Unit[Target]]) -> list[UnitResult]:
        return [_estimate_sample(scan, unit) for unit in part]

    first = [replace(unit, key=opened.key(part="estimates", of=unit.key), subject=f"{unit.identifier}: estimates") for unit in scan.units]
    estimated = opened.run_units(first, estimates, f"{scan.title}, estimated", finish=False)
    if opened.workspace.portion is not None:  # which heads are run exactly is decided by the estimates of all portions
        return estimated
    found = opened.workspace.store.head_effects(opened.run, measure=ESTIMATE, keys=estimated.keys)
    choice = _choice(found, scan.options, shape, opened.workspace.seed)
    if choice is None:
        opened.workspace.store.finish_run(opened.run)
        return estimated
    heads = [HeadId(int(layer), int(head), shape.stack) for layer, head in np.argwhere(choice.verified)]
    names = [str(head) for head in heads]

    def exact(part: Sequence[Unit[Target]]) -> list[UnitResult]:
        return [scan_sample(scan, unit, heads) for unit in part]

    done = set(estimated.keys)
    # The heads were chosen by all samples together, so another choice replaces the whole.
    second = [
        replace(unit, key=opened.key(part="verified", of=unit.key, heads=names), subject="verified") for unit in first if unit.key in done
    ]
    verified = opened.run_units(second, exact, f"{scan.title}, {len(heads)} verified")
    scan.close(estimated.reused + verified.reused)
    return Outcome(
        opened.run,
        [*estimated.keys, *verified.keys],
        estimated.made + verified.made,
        estimated.reused + verified.reused,
        [*estimated.skips, *verified.skips],
    )


def _estimate_sample(scan: Scan, unit: Unit[Target]) -> UnitResult:
    target, shape = unit.payload, scan.shape
    clean = target.clean
    heads = all_heads(shape)
    groups = scan.operation.runs(target.prepared, [[head] for head in heads], target.other)
    found = estimate(scan.opened.loaded.engine, [run for group in groups for run in group], scan.options.integrated_steps)
    # An effect is base minus replaced, a change the reverse.
    values = -scan.sign * np.array([np.mean([one.change for one in group]) for group in in_turn(groups, found)])
    matrix = np.full((shape.layers, shape.heads), np.nan, dtype=np.float32)
    matrix[tuple(np.array([(head.layer, head.head) for head in heads]).T)] = values
    effect = HeadEffect(
        operation=scan.effect,
        positions=scan.options.positions,
        measure=ESTIMATE,
        stack=shape.stack,
        values=matrix,
        base=found[0].base,
        measured=~np.isnan(matrix) if shape.heads_by_layer else None,
    )
    prompts = ((clean.sample, clean.prompt),)
    return UnitResult(unit.key, unit.identifier, samples=(clean.sample,), prompts=prompts, head_effects=((clean.sample, effect),))


def _choice(estimates: HeadEffectSet, options: ScanOptions, shape: ModelShape, seed: int) -> HeadChoice | None:
    """The heads to verify, from the stored estimates: by correct and by wrong answers, each where there are enough for a ranking."""
    if not len(estimates):
        return None
    sides = _sides(estimates)
    enough = {name: mask for name, mask in sides.items() if mask.sum() >= MINIMUM_ANSWERS} or sides
    means = {name: estimates.values[mask].mean(axis=0) for name, mask in enough.items()}
    return choose_heads(means, screened_heads(options, shape), seed)


def _sides(effects: HeadEffectSet) -> dict[str, np.ndarray]:
    """Which samples were answered rightly and which wrongly, where there are any."""
    correct = correct_flags(effects)
    return {name: mask for name, mask in (("correct", correct), ("wrong", ~correct)) if mask.any()}


def aggregate_screening(
    workspace: Workspace, model: str, outcome: Outcome, options: ScanOptions, noise_floor: float, exact: HeadEffectSet | None = None
) -> pd.DataFrame:
    """How the estimates of a screening agreed with its exact runs, for correct and for wrong answers; stored as `screenings`.

    `exact` are the run's effects by `logit_diff`, where they were read already.
    """
    store = workspace.store
    if exact is None:
        exact = store.head_effects(outcome.run, measure="logit_diff", keys=outcome.keys)
    estimates = store.head_effects(outcome.run, measure=ESTIMATE, keys=outcome.keys)
    choice = _choice(estimates, options, workspace.model(model).engine.shape, workspace.seed)
    rows = []
    # Both are ordered by sample; one that failed in the exact part counts in neither.
    shared = estimates.samples["identifier"].isin(exact.samples["identifier"]).to_numpy(dtype=bool)
    for subset, mask in _sides(exact).items():
        assert choice is not None, "an exact effect comes from a choice"
        guess, truth = estimates.values[shared][mask].mean(axis=0), exact.values[mask].mean(axis=0)
        rows.append({"subset": subset, "n": int(mask.sum()), **agreement(guess, truth, choice, noise_floor=noise_floor)})
    frame = nullable_frame(rows, SCREENING_COLUMNS)
    if rows:
        kind = {name: str(exact.samples[name].iloc[0]) for name in ("operation", "positions", "stack")}
        kind["pool"] = one_pool(exact.samples["pool"])
        stored = frame.assign(**kind, measure="logit_diff", integrated_steps=options.integrated_steps)
        store.replace_scores("screenings", outcome.run, stored, outcome.keys)
    return frame.assign(operation=options.operation, integrated_steps=options.integrated_steps)
