"""The whole study: baseline, traces, head scans, ablations, rescaling and shared heads, in the order in which each needs the last.

Every step is resumable by itself, so running a study again completes it. What a study finds is gathered as `StudyMaterial`, from
which the report is drawn.
"""

from __future__ import annotations

from vseam_core.config.study import Study
from vseam_core.experiments.heads.scanning import check_direction
from vseam_core.experiments.named_stacks import check_operation
from vseam_core.experiments.study.findings import Findings, gather
from vseam_core.experiments.study.methods import compared_methods
from vseam_core.experiments.study.nothing_left import require_donors, small_pools
from vseam_core.experiments.study.parts import random_bands, random_seeds, study_dataset, trace_random_model, whole_of
from vseam_core.experiments.tracing import check_stack
from vseam_core.results.study_results import StudyMaterial
from vseam_core.runs.executors.base import Executor
from vseam_core.runs.executors.local import LocalExecutor
from vseam_core.runs.progress import Steps
from vseam_core.runs.workspace import Workspace


def run_study(workspace: Workspace, study: Study, executor: Executor | None = None) -> StudyMaterial:
    """Run every stage of a study on every model and dataset, and gather what came out.

    `executor` does its tasks where the workspace can be opened again; without one, `study.workers` processes of this machine do, and with
    one worker everything is done here. No number depends on it. Raises `VseamError` kinds for what no stage can use; single samples that
    cannot be used are in `skips`.
    """
    _check_methods(workspace, study)
    require_donors(workspace, study)
    for remark in small_pools(workspace, study):
        workspace.progress.note(remark)
    identity = workspace.store.ensure_study(study.name, study.stored())
    if executor is None and study.workers != 1:
        executor = LocalExecutor(study.workers)
    if executor is None or executor.count() == 1 or workspace.opening is None:
        found = [part for model in study.models for part in study_one_model(workspace, study, identity, model)]
        return gather(study, found, identity)
    from vseam_core.experiments.study.tasks import parts_by_tasks

    return gather(study, parts_by_tasks(workspace, study, identity, executor), identity)


def study_one_model(workspace: Workspace, study: Study, identity: int, model: str) -> list[Findings]:
    """Everything that a study does with one model, one after another in this process."""
    parts, steps = {}, Steps(workspace.progress, model, len(study.datasets))
    for dataset in study.datasets:
        steps.begin(dataset)
        parts[dataset] = study_dataset(workspace, study, identity, model, dataset)
    found = whole_of(workspace, study, identity, model, parts)
    workspace.release(model)
    traced, seeds = [], random_seeds(workspace, study)
    steps = Steps(workspace.progress, f"{model} with random weights", len(seeds))
    for seed in seeds:
        steps.begin(f"{model}@random-{seed}")
        traced.append(trace_random_model(workspace, study, identity, model, seed))
    return [found, random_bands(workspace, study, model, traced)]


def _check_methods(workspace: Workspace, study: Study) -> None:
    """Refuse a method that cannot be made before hours have gone into what comes ahead of it."""
    for method in study.tracers if "trace" in study.stages else ():
        check_stack(workspace.plugins.tracer(method.name, **method.options), method.stack)
    for scan in study.heads if "scan" in study.stages else ():
        intervention = workspace.plugins.head_intervention(scan.operation, **scan.options)
        check_direction(intervention, scan.direction)
        check_operation(intervention, scan.stack, scan.positions)
    for method in study.ablation.operations if "ablate" in study.stages else ():
        workspace.plugins.head_intervention(method.name, **method.options)
    if "compare" in study.stages:
        compared_methods(workspace.plugins, study)
