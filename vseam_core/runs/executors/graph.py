"""Does the tasks of a study by an executor, each once what it needs is there; what a lost worker was doing is done again.

Nothing is queued or remembered beside the tasks themselves: units that are finished are found by their keys.
"""

from __future__ import annotations

import contextlib
import heapq
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vseam_core.errors import VseamError
from vseam_core.runs.executors.base import Call, Done, Event, Executor, Failed, Lost, Said, Task
from vseam_core.runs.progress import Advance, Progress, Steps
from vseam_core.runs.workspace import Opening

MOST_ATTEMPTS = 3
"""How often one sample, or one task that has no portion, may take its worker with it."""
_MOST_LOSSES_IN_A_ROW = 16


@dataclass
class _Open:
    """A task that is not finished: its place among all tasks, and how often its worker was lost."""

    task: Task
    place: tuple[int, int]
    attempts: int = 0


class _Waiting:
    """The tasks that are not begun: those of which something else has to be done first, and by model those that could begin now."""

    def __init__(self, tasks: Sequence[Task]):
        self._unfinished = Counter(task.group for task in tasks)
        self._later: list[_Open] = []
        self._ready: dict[str, list[tuple[tuple[int, int], _Open]]] = defaultdict(list)
        for number, task in enumerate(tasks):
            self._put(_Open(task, (number, 0)))

    def _put(self, one: _Open) -> None:
        if any(group in self._unfinished for group in one.task.after):
            self._later.append(one)
        else:
            heapq.heappush(self._ready[one.task.model], (one.place, one))

    def take(self, held: str | None, others: Counter[str]) -> _Open | None:
        """What an idle worker does best: something of the model that it holds, else of the one that the fewest `others` hold.

        Of one model, tasks are taken in their order.
        """
        models = [model for model, ready in self._ready.items() if ready]
        if not models:
            return None
        best = min(models, key=lambda model: (model != held, others[model], self._ready[model][0][0]))
        return heapq.heappop(self._ready[best])[1]

    def again(self, lost: _Open, parts: Sequence[_Open]) -> None:
        """Wait with these parts in the place of a task that was begun."""
        self._unfinished[lost.task.group] += len(parts) - 1
        for part in parts:
            self._put(part)

    def finish(self, done: _Open) -> bool:
        """Note that a task is finished; whether that was the last one of its group."""
        group = done.task.group
        self._unfinished[group] -= 1
        if self._unfinished[group]:
            return False
        del self._unfinished[group]
        later, self._later = self._later, []
        for one in later:
            self._put(one)
        return True

    def __bool__(self) -> bool:
        return bool(self._unfinished)


@dataclass
class _Run:
    """The tasks of one call of `run_tasks`, by where they stand."""

    executor: Executor
    waiting: _Waiting
    running: dict[int, _Open] = field(default_factory=dict)
    results: dict[str, list[tuple[tuple[int, int], Any]]] = field(default_factory=lambda: defaultdict(list))
    given_up: dict[str, str] = field(default_factory=dict)
    holds: dict[int, str] = field(default_factory=dict)
    losses: int = 0

    def results_of(self, group: str) -> list[Any]:
        return [result for _, result in sorted(self.results[group], key=lambda one: one[0])]


def run_tasks(executor: Executor, opening: Opening, tasks: Sequence[Task], progress: Progress) -> dict[str, list[Any]]:
    """What the tasks of each group returned, in the order of the tasks; a portion that was divided has a result for each part.

    A task whose worker is lost is given to another; a portion is divided first, and a single sample that took its worker with it
    `MOST_ATTEMPTS` times becomes a skip with the reason. Raises what a task raised, after ending all others, and `VseamError` where workers
    are lost again and again.
    """
    run = _Run(executor, _Waiting(tasks))
    executor.open(opening)
    try:
        with contextlib.ExitStack() as stack:
            shown = _Shown(progress, stack, tasks)
            while run.waiting:
                _submit(run, shown)
                for event in executor.wait():
                    _take(run, event, shown)
    finally:
        executor.close()
    return {group: run.results_of(group) for group in run.results}


def _submit(run: _Run, shown: _Shown) -> None:
    """Give every idle worker something to do, where there is something ready."""
    for worker in run.executor.ready():
        others = Counter(run.holds[other] for other in run.running)
        chosen = run.waiting.take(run.holds.get(worker), others)
        if chosen is None:
            return
        task = chosen.task
        arguments = task.arguments
        if task.prepare is not None:
            arguments += task.prepare({group: run.results_of(group) for group in task.after})
        run.running[worker], run.holds[worker] = chosen, task.model
        shown.begin(task)
        run.executor.submit(worker, Call(task.work, arguments, task.model, task.portion, run.given_up))


def _take(run: _Run, event: Event, shown: _Shown) -> None:
    if isinstance(event, Said):
        shown.show(run.running[event.worker].task if event.worker in run.running else None, event)
        return
    done = run.running.pop(event.worker)
    shown.end_of(event.worker)
    if isinstance(event, Failed):
        raise event.error
    if isinstance(event, Done):
        if done.task.portion is None or not done.task.portion.reason:
            run.losses = 0
        run.results[done.task.group].append((done.place, event.result))
        run.given_up |= event.given_up
        if run.waiting.finish(done):
            shown.end_group(done.task.group)
        return
    run.holds.pop(event.worker, None)
    _try_again(run, done, event)


def _try_again(run: _Run, lost: _Open, event: Lost) -> None:
    """Put what a lost worker was doing back: divided, for a second time, or to be given up."""
    task, portion = lost.task, lost.task.portion
    run.losses += 1
    lost.attempts += 1
    if run.losses >= _MOST_LOSSES_IN_A_ROW or (lost.attempts >= MOST_ATTEMPTS and (portion is None or portion.reason)):
        raise VseamError(f"{task.group}: {event.reason}, again and again; everything finished is kept")
    if portion is None:
        again = [lost]
    elif portion.stop - portion.start > 1 and not portion.reason:
        middle = (portion.start + portion.stop) // 2
        halves = (replace(portion, stop=middle), replace(portion, start=middle))
        again = [_Open(replace(task, portion=half), (lost.place[0], half.start)) for half in halves]
    elif lost.attempts >= MOST_ATTEMPTS:
        reason = f"given up after {lost.attempts} attempts: {event.reason}"
        again = [_Open(replace(task, portion=replace(portion, reason=reason)), lost.place)]
    else:
        again = [lost]
    run.waiting.again(lost, again)


class _Shown:
    """What a person sees of the tasks: one bar for each group of portions, and what workers say of everything else."""

    def __init__(self, progress: Progress, stack: contextlib.ExitStack, tasks: Sequence[Task]):
        self._progress, self._notes = progress, set[str]()
        self._steps = Steps(progress, "study", sum(task.portion is None for task in tasks))
        self._totals: dict[str, int] = defaultdict(int)
        for task in tasks:
            if task.portion is not None:
                self._totals[task.group] += task.portion.stop - task.portion.start
        self._groups: dict[str, tuple[contextlib.ExitStack, Advance]] = {}
        self._own: dict[int, tuple[contextlib.ExitStack, dict[str, Advance]]] = {}
        stack.callback(self._close)

    def begin(self, task: Task) -> None:
        if task.portion is None:
            self._steps.begin(task.group)
        elif task.group not in self._groups:
            opened = contextlib.ExitStack()
            self._groups[task.group] = (opened, opened.enter_context(self._progress.task(task.group, self._totals[task.group])))

    def show(self, task: Task | None, said: Said) -> None:
        if said.kind == "note":
            if said.text not in self._notes:  # every worker that loads a model says what is to be said of it
                self._notes.add(said.text)
                self._progress.note(said.text)
        elif task is None:
            return
        elif task.portion is not None:
            self._groups[task.group][1](said.number)
        else:
            self._show_own(said)

    def _show_own(self, said: Said) -> None:
        opened, advances = self._own.setdefault(said.worker, (contextlib.ExitStack(), {}))
        if said.kind == "start":
            advances[said.text] = opened.enter_context(self._progress.task(said.text, said.number))
        elif said.kind == "advance":
            advances[said.text](said.number)
        else:
            self.end_of(said.worker)

    def end_of(self, worker: int) -> None:
        """A worker does one thing after another, so its end closes all that it shows."""
        opened, _ = self._own.pop(worker, (None, None))
        if opened is not None:
            opened.close()

    def end_group(self, group: str) -> None:
        """All portions of a group are done."""
        if group in self._groups:
            self._groups.pop(group)[0].close()

    def _close(self) -> None:
        for worker in list(self._own):
            self.end_of(worker)
        for group in list(self._groups):
            self.end_group(group)
