"""Tasks by executors: order, portions, and what becomes of work whose worker is lost; with workers that need no model."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.framework.dying import DYING
from vseam_core.errors import VseamError
from vseam_core.runs.executors import local
from vseam_core.runs.executors.base import Call, Done, Event, Failed, Lost, Task
from vseam_core.runs.executors.graph import MOST_ATTEMPTS, run_tasks
from vseam_core.runs.executors.local import LocalExecutor
from vseam_core.runs.executors.working import SaidProgress
from vseam_core.runs.progress import SilentProgress
from vseam_core.runs.workspace import Opening, Portion

OPENING = Opening(":memory:")


class Workers:
    """Workers in this process: `deadly` samples take their worker with them, and `broken` tasks raise an error."""

    def __init__(self, count: int = 2, deadly: Iterable[int] = (), broken: Iterable[str] = ()):
        self._count, self._deadly, self._broken = count, set(deadly), set(broken)
        self.calls: list[tuple[int, Call]] = []
        self._asked: list[tuple[int, Call]] = []
        self.closed = False

    def count(self) -> int:
        return self._count

    def open(self, opening: Opening) -> None:
        assert opening is OPENING

    def ready(self) -> Sequence[int]:
        return [number for number in range(self._count) if number not in {worker for worker, _ in self._asked}]

    def submit(self, worker: int, call: Call) -> None:
        self._asked.append((worker, call))
        self.calls.append((worker, call))

    def wait(self) -> Sequence[Event]:
        worker, call = self._asked.pop()  # the one that started last ends first
        name, portion = call.arguments[0], call.portion
        if name in self._broken:
            return [Failed(worker, VseamError(f"{name} cannot be"))]
        asked = [] if portion is None else range(portion.start, portion.stop)
        lost = self._deadly & set(asked)
        if portion is not None and portion.reason:
            return [Done(worker, [], {str(sample): portion.reason for sample in lost})]
        if lost:
            return [Lost(worker, "a power cut")]
        return [Done(worker, (name, *asked), {})]

    def close(self) -> None:
        self.closed = True


def work(workspace: Any, name: str) -> None:
    """What workers of this process do not really do."""


def portions(name: str, ends: Sequence[int], **fields: Any) -> list[Task]:
    starts = [0, *ends[:-1]]
    return [Task(name, work, (name,), portion=Portion(start, end), **fields) for start, end in zip(starts, ends, strict=True)]


def test_results_come_in_the_order_of_the_tasks_whoever_ends_first() -> None:
    done = run_tasks(Workers(), OPENING, [*portions("traces", [2, 4, 5]), Task("report", work, ("report",))], SilentProgress())
    assert done == {"traces": [("traces", 0, 1), ("traces", 2, 3), ("traces", 4)], "report": [("report",)]}


def test_a_task_waits_for_every_portion_of_what_it_needs_and_is_given_their_results() -> None:
    seen: list[Any] = []
    last = Task("scan", work, ("scan",), after=("answers",), prepare=lambda results: seen.append(dict(results)) or ())  # type: ignore[func-returns-value]
    workers = Workers(3)
    run_tasks(workers, OPENING, [last, *portions("answers", [1, 2, 3])], SilentProgress())
    assert [call.arguments[0] for _, call in workers.calls] == ["answers", "answers", "answers", "scan"]
    assert seen == [{"answers": [("answers", 0), ("answers", 1), ("answers", 2)]}]


def test_a_worker_goes_on_with_the_model_that_it_holds_and_helps_with_another_at_the_end() -> None:
    workers = Workers()
    tasks = [Task(f"{model} {number}", work, (f"{model} {number}",), model) for number in range(4) for model in "ab"]
    run_tasks(workers, OPENING, tasks, SilentProgress())
    first, second = ("".join(call.model for by, call in workers.calls if by == worker) for worker in (0, 1))
    assert first == "a" * len(first)
    assert second == "bbbb" + "a" * (4 - len(first))


def test_only_the_sample_that_takes_its_workers_with_it_is_given_up_with_the_reason() -> None:
    workers = Workers(deadly=[5])
    done = run_tasks(workers, OPENING, [*portions("traces", [4, 8]), Task("all", work, ("all",), after=("traces",))], SilentProgress())
    assert sorted(sample for result in done["traces"] for sample in result[1:]) == [0, 1, 2, 3, 4, 6, 7]
    alone = [call for _, call in workers.calls if call.portion == Portion(5, 6)]
    assert len(alone) == MOST_ATTEMPTS
    reason = f"given up after {MOST_ATTEMPTS} attempts: a power cut"
    assert [call.portion for _, call in workers.calls if call.portion and call.portion.reason] == [Portion(5, 6, reason)]
    assert workers.calls[-1][1].given_up == {"5": reason}  # who does the rest leaves it out too


def test_workers_that_are_lost_again_and_again_end_the_run_in_one_line() -> None:
    workers = Workers(deadly=range(100))
    with pytest.raises(VseamError, match="traces: a power cut, again and again; everything finished is kept"):
        run_tasks(workers, OPENING, portions("traces", [100]), SilentProgress())
    assert workers.closed


def test_what_a_task_raises_ends_the_others() -> None:
    workers = Workers(broken=["b"])
    with pytest.raises(VseamError, match="b cannot be"):
        run_tasks(workers, OPENING, [Task(name, work, (name,)) for name in "abc"], SilentProgress())
    assert workers.closed


def test_one_bar_is_shown_for_all_portions_and_none_for_what_has_nothing_to_do() -> None:
    shown: list[tuple[str, int]] = []

    class Bars(SilentProgress):
        @contextmanager
        def task(self, description: str, total: int) -> Any:
            shown.append((description, total))
            yield lambda steps: None

    run_tasks(Workers(), OPENING, portions("traces", [2, 4, 5]), Bars())
    assert shown == [("traces", 5)]
    said: list[tuple[str, str, int]] = []
    with SaidProgress(lambda *one: said.append(one)).task("answers", 3) as advance:
        advance(3)
    with SaidProgress(lambda *one: said.append(one)).task("scan", 3) as advance:
        advance(0)
        advance(3)
    assert [(kind, text) for kind, text, _ in said] == [("start", "scan"), ("advance", "scan"), ("advance", "scan"), ("end", "scan")]


def test_what_a_killed_process_was_doing_is_done_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A small library in the place of torch, of which workers without a model need no more.
    (tmp_path / "torch.py").write_text("class cuda:\n    device_count = staticmethod(lambda: 0)\n\ndef set_num_threads(count): pass\n")
    (tmp_path / "dying.py").write_text(DYING)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(local, "gpus", lambda: 0)  # this process keeps to the library itself
    import dying  # type: ignore[import-not-found]

    done = run_tasks(
        LocalExecutor(1), Opening(str(tmp_path / "results.db")), [Task("task", dying.work, (str(tmp_path),))], SilentProgress()
    )
    assert (tmp_path / "died").exists()
    assert done["task"][0] != os.getpid()


def test_a_killed_process_is_named_with_the_signal() -> None:
    assert local._reason_of(-signal.SIGKILL) == "a worker process was ended by SIGKILL, as the system does when memory is short"
    assert local._reason_of(1) == "a worker process ended with code 1"


def test_memory_is_shared_by_the_workers_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for found, sharing in ((0, 4), (2, 2), (8, 1)):
        monkeypatch.setattr(local, "gpus", lambda found=found: found)
        executor = LocalExecutor(4)
        executor.open(Opening("results.db", memory_budget=8))
        opened = executor._opening
        assert opened is not None
        assert (opened.memory_budget, opened.memory_share) == (8 // sharing, 1 / sharing)
