"""The Ray executor: what it refuses, and on two nodes of a cluster on this machine, one of which is taken away in the middle."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from vseam_core.errors import UnsupportedError, VseamError
from vseam_core.runs.executors.on_ray import RayExecutor, reason_of, refuse_file_for_many
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


@pytest.mark.skipif(RAY is not None, reason="Ray is installed")
def test_without_ray_one_line_says_what_to_install() -> None:
    with pytest.raises(UnsupportedError, match=r'--executor ray needs Ray: pip install "vseam\[ray\]"'):
        RayExecutor()
