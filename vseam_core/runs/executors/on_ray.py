"""Workers as actors of a Ray cluster, each with a model in memory: on the nodes that Ray was started on, or on this machine alone.

An actor that is lost is replaced by a new one as soon as the cluster has room for it; what it was doing is done by whoever is free.
"""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from vseam_core.errors import UnsupportedError, VseamError
from vseam_core.runs.executors.base import Call, Done, Event, Failed, Lost, Said
from vseam_core.runs.executors.working import Message, Worker
from vseam_core.runs.workspace import Opening

_POLL_SECONDS = 0.5
_PASSED_ON = ("VSEAM_", "HF_", "TRANSFORMERS_", "OPENAI_")
"""Beginnings of the environment variables that a worker on another node gets from the process that starts the study."""
_WAITING_SECONDS = 30.0
_SAYING = "saying"
"""The threads of an actor that say how it gets on while it computes."""


class Actor:
    """A worker as an actor: it answers calls in one thread and says how it gets on in another."""

    def __init__(self, opening: Opening, threads: int, folder: str, environment: dict[str, str]):
        os.environ.update(environment)
        if not Path(folder).is_dir():
            raise VseamError(f"node {os.uname().nodename} has no folder {folder}: start the study in a folder that all nodes share")
        os.chdir(folder)
        self._said: list[tuple[str, str, int]] = []
        self._worker = Worker(opening, threads, lambda *said: self._said.append(said))

    def ready(self) -> bool:
        """Whether it has started."""
        return True

    def answer(self, call: Call) -> tuple[Message, list[tuple[str, str, int]]]:
        """Do what is asked; what became of it, and what was not said yet."""
        return self._worker.answer(call), self.said()

    def said(self) -> list[tuple[str, str, int]]:
        """What it has to say since it was asked the last time."""
        said, self._said = self._said, []
        return said


@dataclass
class _Worker:
    actor: Any
    starting: Any
    answer: Any = None
    saying: Any = None


class RayExecutor:
    """`workers` actors; `auto`: as many as fit on the cluster's GPUs, or one per core where it has none.

    `address` is that of a running cluster (`auto` or HOST:PORT; empty: this machine alone, unless RAY_ADDRESS is set). Where models are
    small, `gpus_per_worker` may be a fraction, and several share a GPU. Raises `UnsupportedError` where Ray is not installed, and
    `VseamError` where there is no such cluster.
    """

    def __init__(self, workers: int | Literal["auto"] = "auto", address: str = "", gpus_per_worker: float | None = None):
        if importlib.util.find_spec("ray") is None:
            raise UnsupportedError('--executor ray needs Ray: pip install "vseam[ray]"')
        self._ray = _connected(address)
        resources = self._ray.cluster_resources()
        self._gpus = gpus_per_worker if gpus_per_worker is not None else float(bool(resources.get("GPU")))
        if self._gpus > resources.get("GPU", 0):
            raise VseamError(f"--gpus-per-worker {self._gpus:g}: the Ray cluster has {resources.get('GPU', 0):g} GPUs")
        most = resources["GPU"] / self._gpus if self._gpus else resources.get("CPU", 1)
        self._count = max(1, int(most)) if workers == "auto" else workers
        self._threads = max(1, int(resources.get("CPU", 1) // max(self._count, most)))
        self._workers: dict[int, _Worker] = {}
        self._opening: Opening | None = None
        self._waiting_since = time.monotonic()
        self._told = False

    def count(self) -> int:
        """How many workers there are going to be."""
        return self._count

    def open(self, opening: Opening) -> None:
        """Start the actors. Raises `VseamError` for a database file where there are several machines."""
        hosts = {node["NodeManagerHostname"] for node in self._ray.nodes() if node["Alive"]}
        refuse_file_for_many(opening.database, hosts)
        sharing = 1 / self._gpus if self._gpus else self._count / len(hosts)
        share = min(1.0, 1 / max(1.0, sharing))
        budget = opening.memory_budget and int(opening.memory_budget * share)
        self._opening = replace(opening, memory_budget=budget, memory_share=share)
        for number in range(self._count):
            self._start(number)

    def ready(self) -> Sequence[int]:
        """The workers that have started and have nothing to do."""
        return [number for number, one in sorted(self._workers.items()) if one.starting is None and one.answer is None]

    def submit(self, worker: int, call: Call) -> None:
        """Let a worker do something."""
        one = self._workers[worker]
        one.answer = one.actor.answer.remote(call)

    def wait(self) -> Sequence[Event]:
        """What has happened."""
        busy = {one.answer: number for number, one in self._workers.items() if one.answer is not None}
        starting = {one.starting: number for number, one in self._workers.items() if one.starting is not None}
        for number in busy.values():
            if self._workers[number].saying is None:
                self._workers[number].saying = self._workers[number].actor.said.options(concurrency_group=_SAYING).remote()
        saying = {one.saying: number for number, one in self._workers.items() if one.saying is not None}
        found, _ = self._ray.wait([*busy, *starting], num_returns=1, timeout=_POLL_SECONDS)
        said, _ = self._ray.wait(list(saying), num_returns=len(saying), timeout=0) if saying else ((), ())
        events = [event for reference in said for event in self._said(saying[reference])]
        for reference in found:
            events += self._started(starting[reference]) if reference in starting else self._answered(busy[reference])
        return events or self._patience(bool(busy))

    def close(self) -> None:
        """End all actors: what they have saved stays."""
        for one in self._workers.values():
            with suppress(Exception):
                self._ray.kill(one.actor)
        self._workers.clear()
        self._ray.shutdown()

    def _start(self, worker: int) -> None:
        environment = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
        kind = self._ray.remote(concurrency_groups={_SAYING: 1})(Actor)
        made = kind.options(num_cpus=self._threads, num_gpus=self._gpus, max_restarts=0)
        actor = made.remote(self._opening, self._threads, os.getcwd(), environment)
        self._workers[worker] = _Worker(actor, actor.ready.remote())

    def _started(self, worker: int) -> list[Event]:
        try:
            self._ray.get(self._workers[worker].starting)
        except self._ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, VseamError):
                raise cause from None
            self._start(worker)
            return []
        self._workers[worker].starting = None
        self._waiting_since = time.monotonic()
        return []

    def _said(self, worker: int) -> list[Event]:
        reference, self._workers[worker].saying = self._workers[worker].saying, None
        try:
            return [Said(worker, *said) for said in self._ray.get(reference)]
        except self._ray.exceptions.RayError:
            return []  # a worker that was lost; its answer says so

    def _answered(self, worker: int) -> list[Event]:
        one = self._workers[worker]
        try:
            (kind, what, value), said = self._ray.get(one.answer)
        except self._ray.exceptions.RayTaskError as error:
            return [Failed(worker, error)]
        except self._ray.exceptions.RayError as error:
            # A call in flight when an actor dies ends in ActorDiedError, or in ActorUnavailableError where it is not yet known to be dead.
            with suppress(Exception):
                self._ray.kill(one.actor)
            self._start(worker)
            return [Lost(worker, reason_of(error))]
        one.answer = None
        events: list[Event] = [Said(worker, *each) for each in said]
        if kind == "done":
            return [*events, Done(worker, what, value)]
        return [*events, Lost(worker, what) if kind == "exhausted" else Failed(worker, what)]

    def _patience(self, busy: bool) -> list[Event]:
        """Say once that nothing is done because the cluster has no room."""
        if busy or self._told or time.monotonic() - self._waiting_since < _WAITING_SECONDS:
            return []
        self._told = True
        needs = f"{self._threads} CPUs" + (f" and {self._gpus:g} GPUs" if self._gpus else "")
        return [Said(-1, "note", f"waiting for the Ray cluster to have {needs} free for a worker")]


def reason_of(error: Exception) -> str:
    """Why an actor was lost, in one line."""
    kinds = {
        "ActorDiedError": "a worker of the cluster died",
        "ActorUnavailableError": "a worker of the cluster cannot be reached",
        "OutOfMemoryError": "a worker of the cluster was ended because memory was short",
        "NodeDiedError": "a node left the cluster",
    }
    return kinds.get(type(error).__name__, f"a worker of the cluster was lost ({type(error).__name__})")


def refuse_file_for_many(database: str, hosts: Iterable[str]) -> None:
    """Raise `VseamError` for a database file where workers on several machines would write it."""
    from vseam_core.store.file_systems import network_file_system, sqlite_file

    names = sorted(hosts)
    path = sqlite_file(database)
    if path is None:
        return
    if str(path) == ":memory:":
        raise VseamError("a database in memory cannot be written by workers; name a file or a PostgreSQL server by --db")
    if len(names) > 1:
        kind = network_file_system(path)
        why = f"{path} is on a network file system ({kind}), where its locks do not hold between machines" if kind else f"{path} is a file"
        raise VseamError(
            f"{why}, and the workers are on {len(names)} machines ({', '.join(names[:3])}{', …' if len(names) > 3 else ''}): "
            "use a PostgreSQL server (--db postgresql://…), and `vseam db copy` to take results along"
        )


def _connected(address: str) -> Any:
    """Ray, connected to a cluster. Raises `VseamError` where there is none."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a study asks nothing of the network
    import ray

    if not ray.is_initialized():
        try:
            ray.init(address=address or None, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise VseamError(f"--address {address}: there is no Ray cluster to connect to ({str(error).splitlines()[0]})") from None
    return ray
