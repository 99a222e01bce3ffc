"""What the models' parts of a study found, gathered as the material that its report is drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vseam_core.analysis.shared import LevelTest
from vseam_core.api.presentation import Presentation
from vseam_core.config.study import Study
from vseam_core.results.study_results import HeadMap, StudyMaterial
from vseam_core.runs.runner import Outcome

if TYPE_CHECKING:
    import pandas as pd

_FRAMES = (
    "accuracy",
    "traces",
    "bands",
    "strongest",
    "shared",
    "ablations",
    "modulations",
    "screenings",
    "confirmations",
    "reading_tests",
    "comparisons",
    "direction_scores",
    "path_screenings",
    "screened_paths",
)


@dataclass
class Findings:
    """What one model's part of a study found: tables by name, head maps, level tests, and what was skipped."""

    outcomes: list[Outcome] = field(default_factory=list)
    frames: dict[str, list[pd.DataFrame]] = field(default_factory=lambda: {name: [] for name in _FRAMES})
    maps: list[HeadMap] = field(default_factory=list)
    level_tests: list[tuple[str, str, LevelTest]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    presentations: dict[str, Presentation] = field(default_factory=dict)
    refusals: dict[tuple[str, str, str], list[str]] = field(default_factory=dict)
    """Datasets by (model, tracing method, reason): where a method has no meaning for a family."""

    def add(self, other: Findings) -> None:
        """What another part found, after what is here."""
        for kind in ("outcomes", "maps", "level_tests", "notes"):
            getattr(self, kind).extend(getattr(other, kind))
        for name, frames in other.frames.items():
            self.frames[name] += frames
        self.presentations |= {name: shown for name, shown in other.presentations.items() if name not in self.presentations}
        for refusal, datasets in other.refusals.items():
            self.refusals.setdefault(refusal, []).extend(datasets)


def gather(study: Study, found: Sequence[Findings], identity: int | None = None) -> StudyMaterial:
    """One study's material from the findings of its models."""
    import pandas as pd

    def joined(name: str) -> pd.DataFrame:
        frames = [frame for part in found for frame in part.frames[name] if len(frame)]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    skips = [
        {"run": outcome.run, "identifier": skip.identifier, "reason": skip.reason}
        for part in found
        for outcome in part.outcomes
        for skip in outcome.skips
    ]
    return StudyMaterial(
        name=study.name,
        models=tuple(study.models),
        datasets=tuple(study.datasets),
        accuracy=joined("accuracy"),
        traces=joined("traces"),
        bands=joined("bands"),
        strongest=joined("strongest"),
        heads=[head_map for part in found for head_map in part.maps],
        ablations=joined("ablations"),
        modulations=joined("modulations"),
        shared=joined("shared"),
        level_tests=[test for part in found for test in part.level_tests],
        skips=pd.DataFrame(skips, columns=["run", "identifier", "reason"]),
        notes=[note for part in found for note in (*part.notes, *_refusal_notes(part))],
        screenings=joined("screenings"),
        presentations={name: presentation for part in reversed(found) for name, presentation in part.presentations.items()},
        confirmations=joined("confirmations"),
        study=identity,
        reading_tests=joined("reading_tests"),
        comparisons=joined("comparisons"),
        direction_scores=joined("direction_scores"),
        path_screenings=joined("path_screenings"),
        screened_paths=joined("screened_paths"),
    )


def _refusal_notes(found: Findings) -> list[str]:
    """One remark for each method that a model's family does not allow, whatever the number of datasets."""
    return [
        f"{model}, {', '.join(datasets)}: {method} tracing is not possible: {reason}"
        for (model, method, reason), datasets in found.refusals.items()
    ]
