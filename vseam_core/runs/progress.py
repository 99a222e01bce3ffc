"""How long work reports that it advances; the command line draws it, Python callers are not disturbed by default."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]


class Progress(Protocol):
    """Something that can show a task's advance."""

    def task(self, description: str, total: int) -> AbstractContextManager[Advance]:
        """Show a task of `total` steps while the context is open; the value is called with the number of steps made."""
        ...

    def note(self, text: str) -> None:
        """One line that the person should see now."""
        ...


class Steps:
    """Says which step of a study begins, and how long the whole will take by what the steps before it took.

    One step alone is not counted out. Steps that an earlier run had finished take no time, and the rest is then underestimated for a while.
    """

    def __init__(self, progress: Progress, what: str, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._progress, self._what, self._total, self._clock = progress, what, total, clock
        self._begun, self._started = 0, clock()

    def begin(self, name: str) -> None:
        """The next step begins."""
        passed = self._clock() - self._started
        left = f", about {_words(passed / self._begun * (self._total - self._begun))} left" if self._begun else ""
        self._begun += 1
        if self._total > 1:
            self._progress.note(f"{self._what}: step {self._begun} of {self._total}, {name}{left}")


def _words(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


class SilentProgress:
    """Shows nothing."""

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Advance]:
        yield lambda steps: None

    def note(self, text: str) -> None:
        return None
