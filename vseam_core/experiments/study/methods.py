"""The stages of a study that are off unless it lists them: screened paths, directions, comparisons; and readings beside effects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from vseam_core.analysis.traces import PairTrace
from vseam_core.api.presentation import Presentation
from vseam_core.config.study import Stage, Study
from vseam_core.errors import SampleError, UnsupportedError, VseamError
from vseam_core.experiments.comparing.methods import MethodChoice, NamedMethod, method_choices
from vseam_core.experiments.comparing.run import compare_methods
from vseam_core.experiments.directions import fit_directions
from vseam_core.experiments.edges import run_edge_screening
from vseam_core.experiments.study.findings import Findings
from vseam_core.experiments.study.options import compare_options, direction_options, edge_options
from vseam_core.plugins.discovery import Plugins
from vseam_core.results.beside_effects import readings_beside_effects
from vseam_core.results.scoring import ScoredHeads
from vseam_core.runs.runner import Outcome
from vseam_core.runs.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

Read = tuple[Presentation, Sequence[PairTrace], Outcome]
"""What a tracer read of every head: how it is shown, by pair, and the run that holds it."""


def compared_methods(plugins: Plugins, study: Study) -> list[MethodChoice]:
    """The methods that a study compares, every name and option checked."""
    return method_choices(plugins, [NamedMethod(method.name, method.options) for method in study.compare.methods])


class MethodStages:
    """The stages of one model on one dataset; what they find is put into `found`."""

    def __init__(self, workspace: Workspace, study: Study, identity: int, found: Findings):
        self._workspace, self._study, self._identity, self._found = workspace, study, identity, found

    def run(self, stage: Stage, model: str, dataset: str) -> None:
        """One stage, where the study lists it. What a model or a dataset does not allow is a remark, and the study goes on."""
        stages: dict[Stage, Callable[[str, str], None]] = {
            "screen_paths": self._paths,
            "directions": self._directions,
            "compare": self._compare,
        }
        if stage not in self._study.stages:
            return
        try:
            stages[stage](model, dataset)
        except VseamError as error:
            if not isinstance(error, UnsupportedError | SampleError) and type(error) is not VseamError:
                raise
            self._found.notes.append(f"{model} on {dataset}: stage {stage} measured nothing: {error}")

    def _paths(self, model: str, dataset: str) -> None:
        found = run_edge_screening(self._workspace, model, dataset, edge_options(self._study), self._identity)
        self._found.outcomes.append(found.outcome)
        self._keep(("screened_paths", "path_screenings"), found.outcome.run)

    def _directions(self, model: str, dataset: str) -> None:
        found = fit_directions(self._workspace, model, dataset, direction_options(self._study), self._identity)
        self._found.outcomes.append(Outcome(found.run, skips=found.skips))
        self._keep(("direction_scores",), found.run)

    def _compare(self, model: str, dataset: str) -> None:
        methods = compared_methods(self._workspace.plugins, self._study)
        found = compare_methods(self._workspace, model, dataset, methods, compare_options(self._study), self._identity)
        assert found.run is not None, "a comparison that was measured is stored"
        self._keep(("comparisons",), found.run)

    def _keep(self, tables: Sequence[str], run: int) -> None:
        """Read back what is stored, so that a report is the same whether a study was just run or not."""
        for table in tables:
            self._found.frames[table].append(self._workspace.store.scores(table, run))

    def set_beside_effects(self, model: str, dataset: str, read: Sequence[Read], scanned: ScoredHeads) -> None:
        """What tracers read of each head beside the effects of the first scan; stored with the run of the readings."""
        benchmark = self._workspace.benchmark(dataset)
        labels = {"model": model, "dataset": dataset, "category": benchmark.category, "level": benchmark.level}
        for shown, traces, outcome in read:
            frame: pd.DataFrame = readings_beside_effects(shown.beside_effects, traces, scanned, self._study.seed)
            rows = frame.assign(**labels, run_id=outcome.run)
            self._workspace.store.replace_scores("reading_tests", None, rows, [*outcome.keys, *scanned.outcome.keys])
            self._keep(("reading_tests",), outcome.run)
