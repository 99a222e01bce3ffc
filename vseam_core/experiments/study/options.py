"""What a study file says, as the option records of the experiments: the one place where the two meet."""

from __future__ import annotations

from collections.abc import Sequence

from vseam_core.analysis.heads import Sign
from vseam_core.config.study import HeadScan, Method, Study
from vseam_core.experiments.ablation import AblationOptions
from vseam_core.experiments.comparing.run import CompareOptions
from vseam_core.experiments.directions import DirectionOptions
from vseam_core.experiments.edges import EdgeOptions
from vseam_core.experiments.heads.confirming import ConfirmationOptions
from vseam_core.experiments.heads.scanning import ScanOptions
from vseam_core.experiments.rescaling.fit import RescalingOptions
from vseam_core.experiments.tracing import TraceOptions


def trace_options(study: Study, method: Method, limit: int) -> TraceOptions:
    """One tracing method on `limit` pairs of the study's pool."""
    return TraceOptions(method.name, study.editor, study.trace_pool, limit=limit, tracer_options=method.options, stack=method.stack)


def scan_options(study: Study, scan: HeadScan) -> ScanOptions:
    """One head scan at the study's sizes."""
    return ScanOptions(
        operation=scan.operation,
        positions=scan.positions,
        sampled=study.sizes.scan_sampled,
        wrong=study.sizes.scan_wrong,
        reference_size=study.sizes.reference,
        direction=scan.direction,
        editor=study.editor,
        operation_options=scan.options,
        donors=study.donors,
        method=scan.method,
        screen_top=scan.screen_top,
        integrated_steps=scan.integrated_steps,
        stack=scan.stack,
    )


def confirmation_options(study: Study, split: str) -> ConfirmationOptions:
    """Candidates for negative heads, tried where the heads were scanned."""
    return ConfirmationOptions(split, study.sizes.confirm, study.heads[0].positions, study.sizes.reference)


def ablation_options(study: Study, method: Method, sign: Sign, split: str) -> AblationOptions:
    """Heads of a sign taken away by one operation, at the positions where they were scanned."""
    return AblationOptions(
        sign=sign,
        operation=method.name,
        operation_options=method.options,
        positions=study.heads[0].positions,
        split=split,
        samples=study.sizes.ablation,
        random_sets=study.sizes.random_sets,
        editor=study.editor,
        reference_size=study.sizes.reference,
    )


def rescaling_options(study: Study, splits: Sequence[str], transfer: Sequence[str]) -> RescalingOptions:
    """Scales fitted on one pool and reported on another, and carried over to the `transfer` datasets."""
    return RescalingOptions(study.sizes.choose, study.sizes.test, tuple(splits), transfer=tuple(transfer), editor=study.editor)


def compare_options(study: Study) -> CompareOptions:
    """Settings chosen and methods reported on as many samples as a rescaling is."""
    asked = study.compare
    return CompareOptions(
        split=asked.split,
        choose=study.sizes.choose,
        test=study.sizes.test,
        max_new_tokens=asked.max_new_tokens,
        timed=asked.timed,
    )


def direction_options(study: Study) -> DirectionOptions:
    """Directions from as many pairs as are traced."""
    return DirectionOptions(site=study.directions.site, editor=study.editor, limit=study.sizes.pairs)


def edge_options(study: Study) -> EdgeOptions:
    """A screening of paths on the pairs that are traced."""
    asked = study.screen_paths
    return EdgeOptions(
        editor=study.editor,
        pool=study.trace_pool,
        limit=study.sizes.pairs,
        positions=asked.positions,
        direction=asked.direction,
        top=asked.top,
        integrated_steps=asked.integrated_steps,
    )
