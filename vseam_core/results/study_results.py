"""What a study leaves for its report: every table, read back from the store or computed from it, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vseam_core.analysis.heads import HeadScores
from vseam_core.analysis.shared import LevelTest
from vseam_core.api.presentation import Presentation, Replacement

if TYPE_CHECKING:
    import pandas as pd

EDGES = "edge_screening"
"""What the effects of screened paths are called among those of tracers; they have tables of their own in reports."""


@dataclass(frozen=True, eq=False)
class HeadMap:
    """The head scores of one scan: which model, dataset and operation, by the claims (`logit_diff`) and the published measure.

    `replacement` says in words what stood in place of a head, and whether findings may rest on it.
    """

    model: str
    dataset: str
    category: str
    level: str
    operation: str
    claims: HeadScores
    published: HeadScores | None
    replacement: Replacement = field(default_factory=Replacement)

    @property
    def replaced_by(self) -> str:
        """What stood in place of a head, in words."""
        return self.replacement.words or self.operation


@dataclass(eq=False)
class StudyMaterial:
    """Everything that a study's report shows. Frames are empty where a stage was not asked for.

    `accuracy` has the columns of `evaluation.summary.summarise`; `traces` those of `analysis.traces.TRACE_COLUMNS`,
    `bands` those of `random_model_band`, `strongest` those of `strongest_cells`, `shared` those of
    `analysis.shared.SHARED_COLUMNS`, each with `model`, `dataset`, `category` and `level` in front where it is about one dataset.
    `ablations` and `modulations` are the store's. `level_tests` hold (model, sign, test). `screenings` has the columns of
    `analysis.screening.SCREENING_COLUMNS` and the operation, or is None; `confirmations` those of
    `analysis.confirmation.CONFIRMATION_COLUMNS`. `presentations` say by tracer how its effects are shown;
    a tracer without one is shown by its columns. `reading_tests`, `comparisons`, `direction_scores`, `path_screenings` and `screened_paths`
    are the store's tables of these names, `evaluations` that of evaluated runs (None for a study). `study` is its number in the store,
    None where it is not a study of one.
    """

    name: str
    models: tuple[str, ...]
    datasets: tuple[str, ...]
    accuracy: pd.DataFrame
    traces: pd.DataFrame
    bands: pd.DataFrame
    strongest: pd.DataFrame
    heads: list[HeadMap]
    ablations: pd.DataFrame
    modulations: pd.DataFrame
    shared: pd.DataFrame
    level_tests: list[tuple[str, str, LevelTest]]
    skips: pd.DataFrame
    notes: list[str] = field(default_factory=list)
    screenings: pd.DataFrame | None = None
    presentations: dict[str, Presentation] = field(default_factory=dict)
    confirmations: pd.DataFrame | None = None
    study: int | None = None
    reading_tests: pd.DataFrame | None = None
    comparisons: pd.DataFrame | None = None
    direction_scores: pd.DataFrame | None = None
    path_screenings: pd.DataFrame | None = None
    screened_paths: pd.DataFrame | None = None
    evaluations: pd.DataFrame | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all was measured: there is nothing to draw."""
        frames = (
            *(self.accuracy, self.traces, self.ablations, self.modulations, self.shared, self.screenings),
            *(self.comparisons, self.direction_scores, self.screened_paths, self.evaluations),
        )
        return not (self.heads or self.level_tests or any(frame is not None and len(frame) for frame in frames))
