"""The head scan: every attention head replaced in turn, or estimated and partly replaced, on right and on wrong answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vseam_core.experiments.heads.samples import Chosen, chosen_of
from vseam_core.experiments.heads.scanning import ScanOptions, Target, all_heads, open_scan, scan_sample
from vseam_core.runs.runner import Outcome, Unit
from vseam_core.runs.spec import UnitResult
from vseam_core.runs.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd


def run_scan(
    workspace: Workspace, model: str, dataset: str, options: ScanOptions, baselines: pd.DataFrame, study: int | None = None
) -> Outcome:
    """Scan all heads on samples chosen by `baselines` (a pool's answers, see `choose_samples`) and store the effects, sample by sample.

    With `method="screen"` all heads are estimated, some are run exactly, and the outcome's keys are the units of both.
    """
    chosen = chosen_of(baselines, workspace.benchmark(dataset).splits()[0], options.sampled, options.wrong)
    return scan_chosen(workspace, model, dataset=dataset, options=options, chosen=chosen, study=study)


def scan_chosen(workspace: Workspace, model: str, dataset: str, options: ScanOptions, chosen: Chosen, study: int | None = None) -> Outcome:
    """Scan all heads on samples that were chosen already."""
    scan = open_scan(workspace, model, dataset=dataset, options=options, chosen=chosen, study=study)
    if options.method == "screen":
        # Its statistics take a second to import, and exact scans need none of them.
        from vseam_core.experiments.heads.screening import run_screening

        return run_screening(scan)
    heads = all_heads(scan.shape)

    def compute(part: Sequence[Unit[Target]]) -> list[UnitResult]:
        return [scan_sample(scan, unit, heads) for unit in part]

    outcome = scan.opened.run_units(scan.units, compute, scan.title)
    scan.close(outcome.reused)
    return outcome
