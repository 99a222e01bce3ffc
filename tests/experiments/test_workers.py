"""A study by several workers leaves the tables of a study by one, whoever did which part, and whoever was killed in the middle."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.experiments.in_process import REASON, InProcess
from tests.robustness.kill_campaign import content
from vseam_core.config.study import Ablation, HeadScan, Method, Rescaling, Sizes, Study
from vseam_core.experiments.study import tasks as study_tasks
from vseam_core.experiments.study.run import run_study
from vseam_core.results.study_results import StudyMaterial
from vseam_core.runs.executors import local
from vseam_core.runs.executors.base import Call, Event, Executor, Lost
from vseam_core.runs.executors.graph import MOST_ATTEMPTS
from vseam_core.runs.executors.local import LocalExecutor
from vseam_core.runs.progress import Advance, Progress, SilentProgress
from vseam_core.runs.workspace import Portion, open_workspace

BUDGET = 2**31


def study(**changes: object) -> Study:
    fields = {
        "models": ["llava-tiny"],
        "datasets": ["scenes/color"],
        "tracers": [Method(name="groups")],
        "heads": [HeadScan(operation="zero")],
        "rescaling": Rescaling(strengths=[0.5], top_k=[1]),
        "ablation": Ablation(operations=[Method(name="zero")]),
        "sizes": Sizes(
            pairs=4, score=6, hard=6, scan_sampled=4, scan_wrong=2, choose=3, test=3, ablation=2, confirm=4, random_sets=3, reference=4
        ),
    }
    return Study(**{**fields, **changes})  # type: ignore[arg-type]


def run(database: Path, of: Study, executor: Executor | None = None, progress: Progress | None = None, share: int = 1) -> StudyMaterial:
    """Run a study into a database; each of `share` workers that share a machine gets the same memory."""
    with open_workspace(database, progress=progress, memory_budget=BUDGET * share) as workspace:
        return run_study(workspace, of, executor)


SMALL = study(stages=["trace", "scan"])


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one worker leaves of a whole study."""
    return left_by_one(tmp_path_factory, study())


@pytest.fixture(scope="module")
def small_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one worker leaves of a small one."""
    return left_by_one(tmp_path_factory, SMALL)


def left_by_one(folders: pytest.TempPathFactory, of: Study) -> Path:
    database = folders.mktemp("alone") / "results.db"
    run(database, of)
    return database


def is_trace(call: Call) -> bool:
    return call.work.__name__ == "trace_portion"


def test_two_workers_leave_the_tables_of_one_though_one_is_killed_in_the_middle(
    small_alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_tasks, "TASKS_PER_WORKER", 1)  # two portions of two pairs
    killed: list[Call] = []

    def once(call: Call, steps: int) -> bool:
        if is_trace(call) and steps == 1 and not killed:
            killed.append(call)
            return True
        return False

    workers = InProcess(2, once)
    run(tmp_path / "results.db", SMALL.with_overrides(workers=2), workers)
    assert [event.reason for event in workers.events if isinstance(event, Lost)] == [REASON]
    parts = [call.portion for _, call in workers.calls if is_trace(call)]
    assert len(parts) == 4  # the killed one's halves beside the two
    assert {Portion(0, 2), Portion(2, 4)} < set(parts)
    assert {worker for worker, call in workers.calls if is_trace(call)} == {0, 1}
    assert content(tmp_path / "results.db") == content(small_alone)


def test_a_sample_that_kills_every_worker_is_a_skip_with_the_reason_until_a_run_in_which_it_does_not(tmp_path: Path) -> None:
    traced = study(stages=["trace"])
    database = tmp_path / "results.db"

    def deadly(call: Call, steps: int) -> bool:
        portion = call.portion
        return is_trace(call) and portion is not None and not portion.reason and portion.start <= 1 < portion.stop

    workers = InProcess(2, deadly)
    skips = run(database, traced.with_overrides(workers=2), workers).skips
    assert skips["reason"].tolist() == [f"given up after {MOST_ATTEMPTS} attempts: {REASON}"]
    lost = sum(isinstance(event, Lost) for event in workers.events)
    assert lost >= MOST_ATTEMPTS
    with open_workspace(database) as workspace:
        store = workspace.store
        names = [sample.identifier for sample in workspace.benchmark("scenes/color").samples("score", "plain", 4)]
        assert skips["identifier"].tolist() == [names[1]]
        done = {record.identifier for record in store.trace_effects(int(store.runs(method="trace")["id"].iloc[0]))}
        assert done == {names[0], names[2], names[3]}
    again = run(database, traced)
    assert len(again.skips) == 0


class Watched(LocalExecutor):
    """Processes of this machine, with what happened to them."""

    def __init__(self, workers: int):
        super().__init__(workers)
        self.events: list[Event] = []

    def wait(self) -> Sequence[Event]:
        found = super().wait()
        self.events += found
        return found


class KillingAt(SilentProgress):
    """Does something once, as soon as so many steps of what is called like that are done."""

    def __init__(self, name: str, steps: int, kill: object):
        self._name, self._steps, self._kill, self.done = name, steps, kill, False

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Advance]:
        done = 0

        def advance(steps: int) -> None:
            nonlocal done
            done += steps
            if self._name in description and done >= self._steps and not self.done:
                self.done = True
                self._kill()  # type: ignore[operator]

        yield advance


@pytest.mark.slow  # two processes that import torch and transformers, and a third in the place of the killed one
def test_two_processes_leave_the_tables_of_one_though_one_is_killed_by_the_system(
    alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "cores", lambda: 2)  # one thread for each: another number of threads is another rounding
    workers = Watched(2)

    def kill() -> None:
        busy = next(one for one in workers._workers.values() if one.busy)
        os.kill(busy.process.pid, signal.SIGKILL)  # type: ignore[attr-defined]

    progress = KillingAt("groups traces", 1, kill)
    run(tmp_path / "results.db", study(workers=2), workers, progress, share=2)
    assert progress.done
    reasons = [event.reason for event in workers.events if isinstance(event, Lost)]
    assert reasons == ["a worker process was ended by SIGKILL, as the system does when memory is short"]
    assert content(tmp_path / "results.db") == content(alone)
