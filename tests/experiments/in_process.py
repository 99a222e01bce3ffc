"""An executor whose workers live in this process, each with a workspace of its own: portions and losses without the start of a process."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vseam_core.runs.executors.base import Call, Done, Event, Failed, Lost, Said
from vseam_core.runs.executors.working import Worker
from vseam_core.runs.workspace import Opening

REASON = "a worker was killed by a test"


class _Killed(BaseException):
    """Ends a worker in the middle, as a signal would: nobody down there can catch it as an error."""


class InProcess:
    """`killed(call, steps)` says, before a call (no steps) and after each step of it, whether its worker is gone now."""

    def __init__(self, count: int, killed: Callable[[Call, int], bool] = lambda call, steps: False):
        self._count, self._killed = count, killed
        self._workers: dict[int, Worker] = {}
        self._asked: list[tuple[int, Call]] = []
        self._steps = 0
        self._opening: Opening | None = None
        self.events: list[Event] = []
        self.calls: list[tuple[int, Call]] = []

    def count(self) -> int:
        return self._count

    def open(self, opening: Opening) -> None:
        self._opening = opening

    def ready(self) -> Sequence[int]:
        return sorted(set(range(self._count)) - {worker for worker, _ in self._asked})

    def submit(self, worker: int, call: Call) -> None:
        self._asked.append((worker, call))
        self.calls.append((worker, call))

    def wait(self) -> Sequence[Event]:
        number, call = self._asked.pop(0)
        found = self._answer(number, call)
        self.events += found
        return found

    def _answer(self, number: int, call: Call) -> list[Event]:
        assert self._opening is not None
        said: list[Event] = []
        self._steps = 0

        def say(kind: str, text: str, steps: int) -> None:
            said.append(Said(number, kind, text, steps))
            self._steps += steps if kind == "advance" else 0
            if kind == "advance" and self._killed(call, self._steps):
                raise _Killed

        try:
            if self._killed(call, 0):
                raise _Killed
            if number not in self._workers:
                self._workers[number] = Worker(self._opening, 1, say)
            worker = self._workers[number]
            worker._say = say
            kind, what, value = worker.answer(call)
        except _Killed:
            self._workers.pop(number, None)
            return [*said, Lost(number, REASON)]
        if kind == "done":
            return [*said, Done(number, what, value)]
        return [*said, Lost(number, what) if kind == "exhausted" else Failed(number, what)]

    def close(self) -> None:
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()
