"""The Ray executor: what it refuses, and what becomes of calls whose actor is lost (real nodes: tests/experiments/test_ray_clusters.py)."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vseam_core.errors import UnsupportedError, VseamError
from vseam_core.runs.executors.base import Call, Done, Lost
from vseam_core.runs.executors.on_ray import RayExecutor, reason_of, refuse_file_for_many
from vseam_core.runs.workspace import Opening
from vseam_core.store.file_systems import network_file_system

RAY = importlib.util.find_spec("ray")

MOUNTS = """
/dev/vda / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
server:/big /home/local\\040disk lustre rw 0 0
tmpfs /home/me/fast tmpfs rw 0 0
"""


def test_a_file_is_on_the_file_system_of_the_longest_place_above_it(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS)
    expected = {
        "/home/me/results.db": "nfs4",
        "/home/local disk/results.db": "lustre",
        "/home/me/fast/results.db": "",
        "/homework/results.db": "",
        "/results.db": "",
    }
    assert {path: network_file_system(path, mounts) for path in expected} == expected
    assert network_file_system("/home/results.db", tmp_path / "none") == ""


def test_a_database_file_is_refused_for_workers_on_several_machines_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_file_for_many("results.db", ["one"])
    refuse_file_for_many("postgresql://server/results", ["one", "two"])
    with pytest.raises(VseamError, match=r"results.db is a file, and the workers are on 2 machines .one, two.: use a PostgreSQL server"):
        refuse_file_for_many("results.db", ["two", "one"])
    with pytest.raises(VseamError, match="in memory"):
        refuse_file_for_many(":memory:", ["one"])
    monkeypatch.setattr("vseam_core.store.file_systems.network_file_system", lambda path: "nfs4")
    with pytest.raises(VseamError, match=r"on a network file system .nfs4., where its locks do not hold between machines"):
        refuse_file_for_many("results.db", ["one", "two"])


def test_calls_that_are_lost_with_an_actor_are_lost_whether_it_is_known_to_be_dead_or_only_out_of_reach() -> None:
    died, unavailable = (type(name, (Exception,), {})() for name in ("ActorDiedError", "ActorUnavailableError"))
    assert reason_of(died) == "a worker of the cluster died"
    assert reason_of(unavailable) == "a worker of the cluster cannot be reached"


OPENING = Opening("results.db")


class Reference:
    """What a call of an actor is going to return."""

    def __init__(self, answer: Any):
        self.answer = answer


class FakeRay:
    """As much of Ray as an executor uses, in one thread: actors that answer at once, until they are `dead`."""

    class exceptions:
        class RayError(Exception):
            pass

        class RayTaskError(RayError):
            pass

    def __init__(self, kind: str):
        self._error = type(kind, (self.exceptions.RayError,), {})
        self.killed: list[str] = []
        self.dead, self._made = False, 0

    def remote(self, **settings: Any) -> Any:
        return lambda kind: self

    def options(self, **settings: Any) -> Any:
        return SimpleNamespace(remote=self._actor)

    def _actor(self, *arguments: Any) -> Any:
        self._made += 1
        name = f"actor {self._made}"

        def method(answer: Any) -> Any:
            told = SimpleNamespace(remote=lambda *_: Reference(answer))
            told.options = lambda **_: told
            return told

        return SimpleNamespace(name=name, ready=method(True), answer=method((("done", name, {}), [])), said=method([]))

    def wait(self, references: Sequence[Any], num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        return list(references)[:num_returns], []

    def get(self, reference: Any) -> Any:
        if self.dead:
            raise self._error("gone")
        return reference.answer

    def kill(self, actor: Any) -> None:
        self.killed.append(actor.name)


@pytest.mark.parametrize(("kind", "reason"), [("ActorDiedError", "a worker of the cluster died"), ("ActorUnavailableError", "reached")])
def test_a_call_in_flight_is_lost_with_its_actor_and_a_new_one_is_started_in_its_place(kind: str, reason: str) -> None:
    ray = FakeRay(kind)
    executor = RayExecutor.__new__(RayExecutor)
    executor._ray, executor._workers, executor._opening, executor._threads, executor._gpus = ray, {}, OPENING, 1, 0.0
    executor._waiting_since, executor._told = 0.0, False
    executor._start(0)
    assert executor.wait() == []  # it has started
    executor.submit(0, Call(print, ()))
    assert executor.ready() == []
    ray.dead = True
    (lost,) = executor.wait()
    assert isinstance(lost, Lost)
    assert reason in lost.reason
    assert ray.killed == ["actor 1"]
    ray.dead = False
    assert executor.wait() == []
    assert executor.ready() == [0]
    executor.submit(0, Call(print, ()))
    assert executor.wait() == [Done(0, "actor 2", {})]


@pytest.mark.skipif(RAY is not None, reason="Ray is installed")
def test_without_ray_one_line_says_what_to_install() -> None:
    with pytest.raises(UnsupportedError, match=r'--executor ray needs Ray: pip install "vseam\[ray\]"'):
        RayExecutor()
