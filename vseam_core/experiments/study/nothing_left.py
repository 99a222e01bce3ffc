"""Why a study measured nothing, and what to do about it: an empty result is an error and no page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from vseam_core.analysis.frames import frame_records
from vseam_core.analysis.statistics import MINIMUM_CLUSTERS
from vseam_core.api.interfaces import Benchmark
from vseam_core.api.types import POOLS, PoolChoice
from vseam_core.config.study import Study
from vseam_core.errors import SampleError, VseamError
from vseam_core.experiments.heads.changes import make_intervention
from vseam_core.results.study_results import StudyMaterial
from vseam_core.runs.workspace import Workspace

REASONS_SHOWN = 2


def require_results(workspace: Workspace, study: Study, material: StudyMaterial) -> None:
    """Raise `VseamError` where a study found nothing at all: how many rows each dataset has in which pool, and what to do."""
    if not material.is_empty:
        return
    reasons = [_rows(workspace, dataset) for dataset in study.datasets if not workspace.benchmark(dataset).endless]
    if len(material.skips):
        first, *_ = frame_records(material.skips)
        count = material.skips["identifier"].nunique()
        why = first["reason"].removeprefix(f"{first['identifier']}: ")  # many reasons name their sample
        reasons.append(f"{count} sample{'' if count == 1 else 's'} skipped, the first being {first['identifier']}: {why}")
    reasons += material.notes[:REASONS_SHOWN]
    raise VseamError(f"nothing was left to measure: {'; '.join(reasons)}{_advice(workspace, study)}")


def _advice(workspace: Workspace, study: Study) -> str:
    """What to do about pools, where a dataset has any that can be too small."""
    if all(workspace.benchmark(dataset).endless for dataset in study.datasets):
        return ""
    return (
        f". Traces read pool {study.trace_pool}, head scans pool {study.scan_pool}, answers pool test: add images, or name another pool by "
        "--pool all|score|choose|test; `vseam datasets check NAME` shows what a dataset holds"
    )


def small_pools(workspace: Workspace, study: Study) -> list[str]:
    """A remark for each dataset that has few samples in a pool that the study reads: how many, in which pool, and what follows."""
    used = {pool for stage, pools in _POOLS.items() if stage in study.stages for pool in pools(study)}
    remarks = []
    for dataset in study.datasets:
        benchmark = workspace.benchmark(dataset)
        few = [] if benchmark.endless else sorted(pool for pool in used if _count(workspace, benchmark, pool) < MINIMUM_CLUSTERS)
        if few:
            pools = " and ".join(few)
            remarks.append(
                f"{_rows(workspace, dataset)}: fewer than {MINIMUM_CLUSTERS} in pool {pools}, too few for intervals and claims; "
                "add images, or read another pool by --pool all|score|choose|test (trace, heads scan, eval)"
            )
    return remarks


def require_donors(workspace: Workspace, study: Study) -> None:
    """Raise `VseamError` where a scan takes more donors than a dataset has, before a model is loaded: every sample would be skipped.

    Donors are questions about other images of the score pool. That they also need the same template is known only with the model.
    """
    for scan in study.heads if "scan" in study.stages else ():
        needed = make_intervention(workspace, scan.operation, scan.options, study.donors)[0].needs().donors
        for dataset in study.datasets if needed else ():
            benchmark = workspace.benchmark(dataset)
            if benchmark.endless:
                continue
            lending = benchmark.samples("score", benchmark.splits()[0], study.sizes.reference, workspace.seed)
            images = Counter(sample.image_id for sample in lending)
            found = images.total() - (min(images.values(), default=0) if study.scan_pool == "score" else 0)
            if found < needed:
                raise VseamError(
                    f"{_rows(workspace, dataset)}: {scan.operation} takes {needed} donors (questions about other images of pool score), "
                    f"there {'is' if found == 1 else 'are'} {found}, so that every sample would be skipped; add images, ask for fewer by "
                    "--operation-option donors=N, or take an operation that needs none (--operation zero)"
                )


# Which pools a stage reads.
_POOLS: Mapping[str, Callable[[Study], tuple[PoolChoice, ...]]] = {
    "evaluate": lambda study: ("test",),
    "trace": lambda study: (study.trace_pool,),
    "scan": lambda study: (study.scan_pool,),
    "ablate": lambda study: ("test",),
    "rescale": lambda study: ("choose", "test"),
    "screen_paths": lambda study: (study.trace_pool,),
    "directions": lambda study: ("choose", "test"),
    "compare": lambda study: ("choose", "test"),
}


def _count(workspace: Workspace, benchmark: Benchmark, pool: PoolChoice) -> int:
    """How many samples a pool has, counted as far as it matters."""
    try:
        return sum(1 for split in benchmark.splits() for _ in benchmark.samples(pool, split, MINIMUM_CLUSTERS, workspace.seed))
    except SampleError:
        return 0


def _rows(workspace: Workspace, dataset: str) -> str:
    benchmark = workspace.benchmark(dataset)
    try:
        counts = Counter(sample.pool for split in benchmark.splits() for sample in benchmark.samples("all", split, None, workspace.seed))
    except SampleError as error:
        return f"{dataset}: {error}"
    total = sum(counts.values())
    return f"{dataset} has {total} row{'' if total == 1 else 's'} ({', '.join(f'{pool} {counts[pool]}' for pool in POOLS)})"
