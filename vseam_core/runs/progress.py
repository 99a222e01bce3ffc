"""How long work reports that it advances; the command line draws it, Python callers are not disturbed by default."""

from __future__ import annotations

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


class SilentProgress:
    """Shows nothing."""

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Advance]:
        yield lambda steps: None

    def note(self, text: str) -> None:
        return None
