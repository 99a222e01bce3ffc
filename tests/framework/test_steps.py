"""A study says which of its steps begins, and how long the rest will take."""

from __future__ import annotations

from types import SimpleNamespace

from vseam_core.config.study import Study
from vseam_core.experiments.study.run import study_one_model
from vseam_core.runs.progress import SilentProgress, Steps


class Said(SilentProgress):
    """Keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """One more."""
        self.notes.append(text)


def test_the_time_left_is_what_the_steps_before_took_times_those_to_come() -> None:
    said, times = Said(), iter([0.0, 0.0, 30.0, 400.0])
    steps = Steps(said, "tiny", 3, clock=lambda: next(times))
    for name in ("animal", "color", "action"):
        steps.begin(name)
    assert said.notes == [
        "tiny: step 1 of 3, animal",
        "tiny: step 2 of 3, color, about 60 s left",
        "tiny: step 3 of 3, action, about 3 min left",
    ]


def test_one_step_alone_is_not_counted() -> None:
    said = Said()
    Steps(said, "tiny", 1).begin("color")
    assert said.notes == []


def test_a_study_counts_the_datasets_of_each_model() -> None:
    said = Said()
    study = Study(models=["tiny"], datasets=["one", "two"], stages=["report"])
    workspace = SimpleNamespace(progress=said, release=lambda model: None)
    study_one_model(workspace, study, 0, "tiny")  # type: ignore[arg-type]
    assert said.notes[0] == "tiny: step 1 of 2, one"
    assert said.notes[1].startswith("tiny: step 2 of 2, two, about ")
