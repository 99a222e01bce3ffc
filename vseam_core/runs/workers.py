"""Runs the models of a study side by side, each in a process of its own: small models use two cores far better that way.

A worker opens a workspace of its own and sends its progress and findings back through a pipe. All numbers go to the store as they
are made, so a worker that dies loses the unit in flight and nothing else.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import Any, cast

from vseam_core.errors import VseamError
from vseam_core.runs.progress import Advance, Progress
from vseam_core.runs.workspace import Opening

Work = Callable[..., Any]
_STOP_SECONDS = 10.0


class PipeProgress:
    """Sends what a worker would show to the process that shows it."""

    def __init__(self, connection: Connection):
        self._connection = connection

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Advance]:
        self._connection.send(("start", description, total))
        try:
            yield lambda steps: self._connection.send(("advance", description, steps))
        finally:
            # The reader may be gone already; the work itself is saved.
            with contextlib.suppress(OSError):
                self._connection.send(("end", description, 0))

    def note(self, text: str) -> None:
        self._connection.send(("note", text, 0))


def run_side_by_side(work: Work, opening: Opening, tasks: Sequence[tuple[Any, ...]], workers: int, progress: Progress) -> list[Any]:
    """The results of `work(workspace, *task)` for every task, in order, at most `workers` at a time.

    `work` is a module-level function. Raises what a worker raised, after stopping the others, and `VseamError` where one
    died without a word.
    """
    if opening.memory_budget is not None:
        opening = replace(opening, memory_budget=opening.memory_budget // workers)
    context = multiprocessing.get_context("spawn")
    waiting = list(enumerate(tasks))[::-1]
    results: dict[int, Any] = {}
    running: dict[Any, tuple[int, Any, contextlib.ExitStack, dict[str, Advance]]] = {}
    threads = max(1, (os.cpu_count() or 1) // workers)
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                index, task = waiting.pop()
                reader, writer = context.Pipe(duplex=False)
                process = context.Process(target=_work, args=(writer, work, opening, task, threads))
                with _without_main_module():
                    process.start()
                writer.close()
                running[reader] = (index, process, contextlib.ExitStack(), {})
            for ready in wait(list(running)):
                index, process, shown, advances = running[ready]
                try:
                    kind, what, value = cast(Connection, ready).recv()
                except EOFError:
                    raise VseamError("a worker process ended unexpectedly; run the same command again to resume") from None
                if kind == "done":
                    results[index] = what
                    process.join()
                    del running[ready]
                elif kind == "failed":
                    raise what
                else:
                    _show(progress, kind, what=what, value=value, shown=shown, advances=advances)
    finally:
        for _, process, shown, _ in running.values():
            process.terminate()
            process.join(_STOP_SECONDS)
            shown.close()
    return [results[index] for index in range(len(tasks))]


def _show(progress: Progress, kind: str, what: str, value: int, shown: contextlib.ExitStack, advances: dict[str, Advance]) -> None:
    """A worker runs one task after another, so the end of a task closes what it shows."""
    if kind == "note":
        progress.note(what)
    elif kind == "start":
        advances[what] = shown.enter_context(progress.task(what, value))
    elif kind == "advance":
        advances[what](value)
    else:
        shown.close()


@contextmanager
def _without_main_module() -> Iterator[None]:
    """Hide where `__main__` lies while a process starts, so that the new one doesn't import it.

    `multiprocessing` imports the starter's main module in every new process, in case the work is defined there. Ours never is, and a
    user's plain script without `if __name__ == "__main__"` would run its study once more in every worker.
    """
    main = sys.modules["__main__"]
    kept = {name: value for name, value in vars(main).items() if name in ("__file__", "__spec__")}
    for name in kept:
        setattr(main, name, None)
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(main, name, value)


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, however that ended: finished units are in the store."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait_for_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait_for_parent, daemon=True).start()


def _work(connection: Connection, work: Work, opening: Opening, task: tuple[Any, ...], threads: int) -> None:
    import torch

    _end_with_parent()
    torch.set_num_threads(threads)
    try:
        with opening.open(PipeProgress(connection)) as workspace:
            connection.send(("done", work(workspace, *task), 0))
    except VseamError as error:
        connection.send(("failed", error, 0))
    except BrokenPipeError:
        # The process that started this one is gone; everything finished is in the store.
        return
    except KeyboardInterrupt:
        connection.close()
