"""The plan of a study: every sample of a step is in exactly one task, and a dataset's own task waits for all of its steps."""

from __future__ import annotations

import pytest

from tests.experiments.conftest import SIZES, small_study
from vseam_core.experiments.answering import TOGETHER
from vseam_core.experiments.study.plan import mermaid, planned_steps
from vseam_core.experiments.study.tasks import StudyTasks
from vseam_core.runs.workspace import open_workspace


@pytest.mark.parametrize("workers", [1, 2, 7, 64])
def test_every_sample_is_in_one_task_whatever_the_number_of_workers(workers: int) -> None:
    with open_workspace(":memory:") as workspace:
        tasks = StudyTasks(workspace, small_study(sizes=SIZES.model_copy(update={"score": 150, "pairs": 21})), 0, workers).every()
    groups: dict[str, list[int]] = {}
    for task in tasks:
        if task.portion is not None:
            groups.setdefault(task.group, []).extend(range(task.portion.start, task.portion.stop))
            if " answers " in task.group:  # who shares a batch must not depend on the number of workers
                assert task.portion.start % TOGETHER == 0
    assert all(samples == list(range(len(samples))) for samples in groups.values())
    assert len(groups["llava-tiny groups traces of scenes/color"]) == 21
    assert len(groups["llava-tiny answers scenes/color (score, plain)"]) == 150


def test_a_dataset_waits_for_all_of_its_steps_and_a_scan_for_the_answers_that_it_is_chosen_by() -> None:
    with open_workspace(":memory:") as workspace:
        steps = {step.name: step for step in planned_steps(workspace, small_study(), 4)}
    own = {name for name in steps if "scenes/color" in name} - {"llava-tiny on scenes/color"}
    assert set(steps["llava-tiny on scenes/color"].after) == own
    answers = {"llava-tiny answers scenes/color (score, plain)", "llava-tiny answers scenes/color (score, hard)"}
    assert set(steps["llava-tiny heads by resample on scenes/color"].after) == answers
    drawn = mermaid(list(steps.values())).splitlines()
    assert drawn[0] == "flowchart LR"
    assert sum("-->" in line for line in drawn) == sum(len(step.after) for step in steps.values())
