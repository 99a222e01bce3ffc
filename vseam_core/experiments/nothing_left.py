"""Why a study measured nothing, and what to do about it: an empty result is an error and no page."""

from __future__ import annotations

from collections import Counter

from vseam_core.analysis.frames import frame_records
from vseam_core.api.types import POOLS
from vseam_core.config.study import Study
from vseam_core.errors import SampleError, VseamError
from vseam_core.results.study_results import StudyMaterial
from vseam_core.runs.workspace import Workspace

REASONS_SHOWN = 2


def require_results(workspace: Workspace, study: Study, material: StudyMaterial) -> None:
    """Raise `VseamError` where a study found nothing at all: how many rows each dataset has in which pool, and what to do."""
    frames = (material.accuracy, material.traces, material.ablations, material.modulations, material.shared, material.screenings)
    if material.heads or material.level_tests or any(frame is not None and len(frame) for frame in frames):
        return
    reasons = [_rows(workspace, dataset) for dataset in study.datasets]
    if len(material.skips):
        first, *_ = frame_records(material.skips)
        count = material.skips["identifier"].nunique()
        reasons.append(f"{count} sample{'' if count == 1 else 's'} skipped, the first being {first['identifier']}: {first['reason']}")
    reasons += material.notes[:REASONS_SHOWN]
    raise VseamError(
        f"nothing was left to measure: {'; '.join(reasons)}. Traces and head scans read pool {study.trace_pool} (heads: score), "
        "answers pool test: add images, or trace with --pool all; `vseam datasets check NAME` shows what a dataset holds"
    )


def _rows(workspace: Workspace, dataset: str) -> str:
    benchmark = workspace.benchmark(dataset)
    if benchmark.endless:
        return f"{dataset} is made as it is asked for"
    try:
        counts = Counter(sample.pool for split in benchmark.splits() for sample in benchmark.samples("all", split, None, workspace.seed))
    except SampleError as error:
        return f"{dataset}: {error}"
    total = sum(counts.values())
    return f"{dataset} has {total} row{'' if total == 1 else 's'} ({', '.join(f'{pool} {counts[pool]}' for pool in POOLS)})"
