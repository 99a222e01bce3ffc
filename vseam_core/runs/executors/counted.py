"""Workers that do nothing but take their time, on a clock of their own: how long a plan takes on so many, without doing any of it."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Any

from vseam_core.runs.executors.base import Call, Done, Event
from vseam_core.runs.workspace import Opening


class CountedExecutor:
    """`seconds(call, held)` is how long a worker that holds the model `held` takes for a call.

    `now` is the time that has passed since it was opened, `busy` what all workers together were at work, both in those seconds.
    """

    def __init__(self, workers: int, seconds: Callable[[Call, str], float]):
        self._count, self._seconds = workers, seconds
        self._held = [""] * workers
        self._ends: list[tuple[float, int, Any]] = []
        self._idle = set(range(workers))
        self.now, self.busy = 0.0, 0.0

    def count(self) -> int:
        """How many workers there are."""
        return self._count

    def open(self, opening: Opening) -> None:
        """Nothing is opened."""

    def ready(self) -> Sequence[int]:
        """The workers that have nothing to do."""
        return sorted(self._idle)

    def submit(self, worker: int, call: Call) -> None:
        """Let a worker be busy with a call."""
        taken = self._seconds(call, self._held[worker])
        self._held[worker] = call.model
        self._idle.remove(worker)
        self.busy += taken
        heapq.heappush(self._ends, (self.now + taken, worker, None))

    def wait(self) -> Sequence[Event]:
        """Let time pass until the next worker is done."""
        self.now, worker, result = heapq.heappop(self._ends)
        self._idle.add(worker)
        return [Done(worker, result, {})]

    def close(self) -> None:
        """Nothing is closed."""
