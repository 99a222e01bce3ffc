"""What a worker does, wherever it is: it keeps a workspace with the model of its latest call, and says how it gets on."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from vseam_core.errors import VseamError
from vseam_core.runs.executors.base import Call
from vseam_core.runs.progress import Advance
from vseam_core.runs.workspace import Opening, Workspace

Say = Callable[[str, str, int], None]
Message = tuple[str, Any, Any]
"""`done` with a result and what was given up, `failed` with an error, or `exhausted` with the reason."""


class SaidProgress:
    """Progress that is said to whoever shows it. A task that has nothing left to do is not mentioned."""

    def __init__(self, say: Say):
        self._say = say

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Advance]:
        """Say when the task starts, how it advances and when it ends."""
        started = False

        def advance(steps: int) -> None:
            nonlocal started
            if not started:
                if steps >= total:
                    return
                self._say("start", description, total)
                started = True
            self._say("advance", description, steps)

        try:
            yield advance
        finally:
            if started:
                self._say("end", description, 0)

    def note(self, text: str) -> None:
        """One line that the person should see now."""
        self._say("note", text, 0)


class SaidPortion(SaidProgress):
    """Progress of a portion, which is shown as a part of something else: its steps are said, whatever they belong to."""

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Advance]:
        """Say how much is done."""
        yield lambda steps: self._say("advance", "", steps)


class Worker:
    """A workspace that stays open from call to call."""

    def __init__(self, opening: Opening, threads: int, say: Say):
        self._opening, self._threads, self._say = opening, threads, say
        self._workspace: Workspace | None = None
        self._model = ""

    def answer(self, call: Call) -> Message:
        """Do what is asked, and say in one message what became of it; nothing but an interruption is raised."""
        import torch

        torch.set_num_threads(self._threads)  # of the thread that computes, which need not be the one that made this worker
        try:
            return ("done", *self._done(call))
        except Exception as error:
            return _message_of(error)

    def _done(self, call: Call) -> tuple[Any, dict[str, str]]:
        workspace = self._workspace = self._workspace or self._opening.open()
        workspace.progress = SaidPortion(self._say) if call.portion else SaidProgress(self._say)
        if self._model and call.model != self._model:
            workspace.release(self._model)
        self._model = call.model
        workspace.portion, workspace.given_up = call.portion, dict(call.given_up)
        result = call.work(workspace, *call.arguments)
        return result, {key: reason for key, reason in workspace.given_up.items() if key not in call.given_up}

    def close(self) -> None:
        """Close the workspace."""
        if self._workspace is not None:
            self._workspace.store.close()


def _message_of(error: Exception) -> Message:
    """An error as a message: memory may be free elsewhere, and an error that is a mistake of ours is sent with its traceback."""
    from vseam_core.engine.memory import MemoryBudgetError, is_out_of_memory

    if isinstance(error, MemoryBudgetError) or is_out_of_memory(error):
        return ("exhausted", str(error).splitlines()[0] if str(error) else type(error).__name__, None)
    if isinstance(error, VseamError):
        return ("failed", error, None)
    return ("failed", RuntimeError("".join(traceback.format_exception(error))), None)
