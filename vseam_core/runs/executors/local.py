"""Workers as processes of this machine: small models use its cores far better that way, and each worker may have a GPU of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Literal, Protocol

from vseam_core.runs.executors.base import Call, Done, Event, Failed, Lost, Said
from vseam_core.runs.workspace import Opening

_STOP_SECONDS = 10.0


class Process(Protocol):
    """What is needed of a started process."""

    def terminate(self) -> None:
        """Ask it to end."""
        ...

    def kill(self) -> None:
        """End it."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, negative for the signal that ended it."""
        ...


def start_process(connection: Connection, environment: dict[str, str]) -> Process:
    """Start a worker process that talks through `connection`, its end of a pipe."""
    # Not the working directory, which must not bring code into a process: only what this process itself could import.
    paths = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-P", "-m", "vseam_core.runs.executors.process", str(connection.fileno())]
    return subprocess.Popen(command, pass_fds=(connection.fileno(),), env={**os.environ, **environment, "PYTHONPATH": paths})


@dataclass
class _Worker:
    process: Process
    connection: Connection
    busy: bool = False


class LocalExecutor:
    """`workers` processes; `auto`: one per core, or one per GPU where models go to GPUs. They share memory and GPUs evenly."""

    def __init__(self, workers: int | Literal["auto"] = "auto"):
        self._wanted = workers
        self._workers: dict[int, _Worker] = {}
        self._opening: Opening | None = None

    def count(self) -> int:
        """How many workers there are going to be."""
        return (gpus() or cores()) if self._wanted == "auto" else self._wanted

    def open(self, opening: Opening) -> None:
        """Be ready: processes start with their first call."""
        sharing = self.count()
        if opening.device in ("auto", "cuda") and gpus():
            sharing = -(-sharing // gpus())
        if opening.memory_budget is not None:
            opening = replace(opening, memory_budget=opening.memory_budget // sharing)
        self._opening = replace(opening, memory_share=opening.memory_share / sharing)

    def ready(self) -> Sequence[int]:
        """The workers that have nothing to do; one that was lost starts again."""
        return [number for number in range(self.count()) if number not in self._workers or not self._workers[number].busy]

    def submit(self, worker: int, call: Call) -> None:
        """Let a worker do something."""
        if worker not in self._workers:
            self._workers[worker] = self._started(worker)
        one = self._workers[worker]
        one.busy = True
        with contextlib.suppress(OSError):  # it has ended already; `wait` says so
            one.connection.send(call)

    def wait(self) -> Sequence[Event]:
        """What has happened."""
        by_connection = {one.connection: number for number, one in self._workers.items() if one.busy}
        return [self._event(by_connection[connection]) for connection in wait(list(by_connection))]  # type: ignore[index]

    def close(self) -> None:
        """End all processes: what they have saved stays."""
        for one in self._workers.values():
            one.process.terminate()
        for one in self._workers.values():
            try:
                one.process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                one.process.kill()
                one.process.wait()
            one.connection.close()
        self._workers.clear()

    def _started(self, worker: int) -> _Worker:
        assert self._opening is not None, "an executor is opened first"
        here, there = Pipe()
        environment = {}
        if self._opening.device in ("auto", "cuda") and gpus() > 1:
            environment = {"CUDA_VISIBLE_DEVICES": visible_gpus()[worker % gpus()]}
        process = start_process(there, environment)
        there.close()
        here.send((self._opening, max(1, cores() // self.count())))
        return _Worker(process, here)

    def _event(self, worker: int) -> Event:
        one = self._workers[worker]
        try:
            kind, what, value = one.connection.recv()
        except (EOFError, OSError):
            one.connection.close()
            code = one.process.wait()
            del self._workers[worker]
            return Lost(worker, _reason_of(code))
        if kind == "said":
            return Said(worker, *what)
        one.busy = False
        if kind == "done":
            return Done(worker, what, value)
        return Lost(worker, what) if kind == "exhausted" else Failed(worker, what)


def _reason_of(code: int) -> str:
    """Why a process ended, in words."""
    if code < 0:
        name = signal.Signals(-code).name if -code in {int(one) for one in signal.Signals} else str(-code)
        hint = ", as the system does when memory is short" if name == "SIGKILL" else ""
        return f"a worker process was ended by {name}{hint}"
    return f"a worker process ended with code {code}"


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> int:
    """How many GPUs of CUDA this process may use."""
    import torch

    return torch.cuda.device_count()


def visible_gpus() -> list[str]:
    """The names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES takes them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return [name.strip() for name in given.split(",")] if given else [str(number) for number in range(gpus())]
