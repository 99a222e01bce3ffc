"""A results database of 200,000 units, made without a model, and how long the store takes to look at it and to go on with it.

python -m perf.database --units 200000
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vseam_core.api.types import HeadEffect, ModelInfo, Sample
from vseam_core.runs.progress import SilentProgress
from vseam_core.runs.runner import Unit, run_units
from vseam_core.runs.spec import Baseline, RunSpec, UnitResult
from vseam_core.store import Store, open_store

LAYERS, HEADS = 6, 8
TASKS = ("color", "material", "animal", "vehicle")
_AT_ONCE = 2000


class _Nowhere:
    """An image that nobody loads."""

    def load(self) -> Any:
        raise AssertionError("no image is needed here")


def _spec(task: str) -> RunSpec:
    info = ModelInfo(
        name="generated",
        family="llava",
        source="nowhere",
        weights_hash="w" * 64,
        dtype="float32",
        attention="eager",
        device="cpu",
        layers=LAYERS,
        heads=HEADS,
        head_dim=4,
    )
    return RunSpec(
        method="head_scan",
        method_version=1,
        model=info,
        dataset=f"scenes/{task}",
        level="attribute",
        category=task,
        pool="score",
        split="all",
        configuration={"operation": "resample"},
    )


def _result(task: str, number: int, values: np.ndarray) -> UnitResult:
    identifier = f"scenes/{task}/score/plain/{number}"
    sample = Sample(
        identifier=identifier,
        dataset=f"scenes/{task}",
        question_id=str(number),
        image_id=f"scene-{number}",
        image=_Nowhere(),
        question="Is the dog red?",
        answer="Yes",
        competitor="No",
        level="attribute",
        category=task,
        pool="score",
    )
    right = bool(number % 5)
    answered = Baseline(
        sample=sample,
        predicted="Yes" if right else "No",
        answer_prob=0.7,
        prob_sum=0.8,
        logit=3.0,
        logit_diff=1.0,
        sequence_logprob=-0.3,
        correct_published=right,
        correct_strict=right,
        score=float(right),
    )
    effects = tuple(
        (sample, HeadEffect(operation="resample", positions="all", measure=measure, stack="decoder", values=values, base=1.0))
        for measure in ("logit_diff", "published_prob")
    )
    return UnitResult(f"{task}-{number:064}", identifier, samples=(sample,), baselines=(answered,), head_effects=effects)


def generate(store: Store, units: int) -> dict[str, int]:
    """Fill a store with as many units as asked for, over four scans; returns task → run."""
    random = np.random.default_rng(0)
    runs = {}
    for task in TASKS:
        run = runs[task] = store.ensure_run(_spec(task))
        for start in range(0, units // len(TASKS), _AT_ONCE):
            count = min(_AT_ONCE, units // len(TASKS) - start)
            values = random.standard_normal((count, LAYERS, HEADS)).astype(np.float32)
            store.save(run, [_result(task, start + index, values[index]) for index in range(count)])
        store.finish_run(run)
    return runs


def resume(store: Store, run: int, units: int) -> None:
    """Go on with a scan of which everything is there."""
    identifiers = [f"scenes/{TASKS[0]}/score/plain/{number}" for number in range(units // len(TASKS))]
    asked = [Unit(f"{TASKS[0]}-{number:064}", identifier) for number, identifier in enumerate(identifiers)]

    def compute(part: Sequence[Unit]) -> list[UnitResult]:
        raise AssertionError("everything is there already")

    run_units(store, run, asked, compute, SilentProgress(), "resume")


def steps(path: Path, runs: dict[str, int], units: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """What is measured, each with a store that is opened for it."""

    def opened(work: Callable[[Store], object]) -> Callable[[], object]:
        def run() -> object:
            with open_store(path, create=False) as store:
                return work(store)

        return run

    yield "db info", opened(lambda store: store.info())
    yield "runs", opened(lambda store: store.runs())
    yield "resume one of four scans", opened(lambda store: resume(store, runs[TASKS[0]], units))
    yield "read two scans", opened(lambda store: [len(store.head_effects(runs[task], measure="logit_diff")) for task in TASKS[:2]])
    yield "answers of one scan", opened(lambda store: len(store.baselines(runs[TASKS[0]])))


def main() -> None:
    """Generate (unless --db names a database that is there), measure, print seconds and the process's peak memory after each step."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--units", type=int, default=200_000)
    parser.add_argument("--db", type=Path, default=None)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = given.db or Path(folder) / "generated.db"
        if path.exists():
            runs = {task: number for number, task in enumerate(TASKS, start=1)}
        else:
            started = time.monotonic()
            with open_store(path) as store:
                runs = generate(store, given.units)
            print(f"{'generate':28} {time.monotonic() - started:8.2f} s")
        for name, work in steps(path, runs, given.units):
            started = time.monotonic()
            work()
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"{name:28} {time.monotonic() - started:8.2f} s   peak {peak:6.0f} MB", flush=True)


if __name__ == "__main__":
    sys.exit(main())
