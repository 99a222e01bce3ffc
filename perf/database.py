"""A results database of 200,000 units, made without a model: how long the store takes to look at it and to go on with it, and its size.

    python -m perf.database --units 50000 --units 200000
    python -m perf.database --units 200000 --beside ../an-older-checkout

Every size is measured in a process of its own, of this checkout and of the other one in turn; the last table says how times grow with the
size. `heads shared` is everything that verb does with four finished scans but loading the model (so its memory is measured without torch):
finding what is there, reading all effects back, scoring the heads by both measures, and comparing the tasks.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

LAYERS, HEADS = 6, 8
LEVELS = {"color": "attribute", "material": "attribute", "animal": "object", "vehicle": "object"}
TASKS = tuple(LEVELS)
MARKS = {"db info": 1.0, "resume": 10.0, "heads shared": 5.0, "peak memory, MB": 300.0}
"""Seconds and megabytes that must not be exceeded at 200,000 units."""
MOST_MEGABYTES = 300
_AT_ONCE = 2000
_PACKAGES = {"vseam_core": "vseam_core", "vseam_plugins": "plugins", "vseam_cli": "cli"}


def _module(*names: str) -> Any:
    """The first of these modules that this checkout has: an older one keeps some things elsewhere."""
    core = Path(importlib.import_module("vseam_core").__path__[0])
    there = [name for name in names if core.joinpath(*name.split(".")[1:]).with_suffix(".py").exists()]
    return importlib.import_module((there or list(names))[0])


types = _module("vseam_core.api.types", "vseam_core.types")
rows = _module("vseam_core.runs.spec", "vseam_core.rows")
runner = _module("vseam_core.runs.runner", "vseam_core.runner")
progress = _module("vseam_core.runs.progress", "vseam_core.progress")
store_room = _module("vseam_core.store")


class _Nowhere:
    """An image that nobody loads."""

    def load(self) -> Any:
        raise AssertionError("no image is needed here")


def _spec(task: str) -> Any:
    info = types.ModelInfo("generated", "llava", "nowhere", "w" * 64, "float32", "eager", "cpu", LAYERS, HEADS, 4)
    configuration = {"operation": "resample"}
    return rows.RunSpec("head_scan", 1, info, f"scenes/{task}", LEVELS[task], task, "score", "all", configuration)


def _key(task: str, number: int) -> str:
    return f"{task}-{number:064}"


def _identifier(task: str, number: int) -> str:
    return f"scenes/{task}/score/plain/{number}"


def _result(task: str, number: int, values: np.ndarray) -> Any:
    name, image = _identifier(task, number), f"scene-{number}"
    answer, competitor = ("Yes", "No") if number % 2 else ("No", "Yes")
    asked = ("Is the dog red?", answer, competitor, LEVELS[task], task, "score")
    sample = types.Sample(name, f"scenes/{task}", str(number), image, _Nowhere(), *asked)
    right = bool(number % 5)
    judged = {"correct_published": right, "correct_strict": right, "score": float(right)}
    said = {name: value for name, value in judged.items() if name in rows.Baseline.__dataclass_fields__}
    answered = rows.Baseline(sample, answer if right else competitor, 0.7, 0.8, 3.0, 1.0, -0.3, **said)
    measures = ("logit_diff", "published_prob")
    effects = tuple((sample, types.HeadEffect("resample", "all", measure, "decoder", values, 1.0)) for measure in measures)
    return rows.UnitResult(_key(task, number), name, samples=(sample,), baselines=(answered,), head_effects=effects)


def generate(store: Any, units: int) -> None:
    """Fill a store with as many units as asked for, over four scans."""
    random = np.random.default_rng(0)
    for task in TASKS:
        run, each = store.ensure_run(_spec(task)), units // len(TASKS)
        for start in range(0, each, _AT_ONCE):
            count = min(_AT_ONCE, each - start)
            values = random.standard_normal((count, LAYERS, HEADS)).astype(np.float32)
            store.save(run, [_result(task, start + index, values[index]) for index in range(count)])
        store.finish_run(run)


def resume(store: Any, task: str, units: int) -> Any:
    """Go on with a scan of which everything is there."""
    asked = [runner.Unit(_key(task, number), _identifier(task, number)) for number in range(units // len(TASKS))]

    def compute(part: Sequence[Any]) -> list[Any]:
        raise AssertionError("everything is there already")

    run = store.ensure_run(_spec(task))
    return runner.run_units(store, run, asked, compute, progress.SilentProgress(), "resume")


def scoring_rooms() -> tuple[Any, Any]:
    """The modules that score heads and compare tasks."""
    scoring = _module("vseam_core.results.scoring", "vseam_core.experiments.aggregation")
    return scoring, _module("vseam_core.experiments.shared_heads", "vseam_core.experiments.sharing")


def share(store: Any, units: int) -> None:
    """What `vseam heads shared` does with four finished scans."""
    scoring, sharing = scoring_rooms()
    workspace = SimpleNamespace(store=store, seed=0)
    tasks = {}
    for task in TASKS:
        outcome = resume(store, task, units)
        found = scoring.aggregate_head_run(workspace, outcome, 0.001)["logit_diff"]
        if hasattr(sharing, "ScannedTask"):  # an older checkout reads the effects once more
            found = sharing.ScannedTask(found, store.head_effects(outcome.run, measure="logit_diff", keys=outcome.keys))
        tasks[f"scenes/{task}"] = found
    for sign in ("positive", "negative"):
        levels = {f"scenes/{task}": level for task, level in LEVELS.items()}
        known = "categories" in inspect.signature(sharing.share_heads).parameters  # an older checkout does not ask for them
        given = {"categories": {name: name for name in levels}} if known else {}
        sharing.share_heads(workspace, "generated", tasks=tasks, levels=levels, sign=sign, k=4, seed=0, **given)


def measured(part: str, path: Path, units: int) -> dict[str, float]:
    """Seconds of processor time of every step of a part, the size of the file in megabytes, the most memory that sharing took."""
    found: dict[str, float] = {}
    for name in ("pandas", "scipy.stats"):
        importlib.import_module(name)  # what a command imports in any case counts for none of its steps
    scoring_rooms()

    def timed(name: str, work: Callable[[Any], object]) -> None:
        started = time.process_time()
        with store_room.open_store(path) as store:
            work(store)
        found[name] = time.process_time() - started

    if part == "share":
        found["before sharing, MB"] = most_memory()
        timed("heads shared", lambda store: share(store, units))
        found["peak memory, MB"] = most_memory()
        return found
    timed("generate", lambda store: generate(store, units))
    found["megabytes"] = path.stat().st_size / 1e6
    timed("db info", lambda store: store.info())
    timed("runs", lambda store: store.runs())
    timed("resume", lambda store: [resume(store, task, units) for task in TASKS])
    timed("answers of a scan", lambda store: store.baselines(1))
    return found


def most_memory() -> float:
    """The most memory that this process took so far, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def of_checkout(checkout: Path, units: int) -> dict[str, float]:
    """`measured` with the code of a checkout: every part in a process of its own."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for package, place in _PACKAGES.items():
            (Path(folder) / package).symlink_to((checkout / place).resolve())
        environment = {**os.environ, "PYTHONPATH": folder}
        for part in ("store", "share"):
            command = [sys.executable, str(Path(__file__).resolve()), "--units", str(units), "--part", part, "generated.db"]
            done = subprocess.run(command, env=environment, cwd=folder, check=True, capture_output=True, text=True)
            found |= json.loads(done.stdout.splitlines()[-1])
    return found


def table(columns: dict[str, dict[str, float]]) -> Iterator[str]:
    """Lines of a table: a step on each, a checkout and a size in each column."""
    yield f"{'':22}" + "".join(f"{name:>22}" for name in columns)
    for step in next(iter(columns.values())):
        yield f"{step:22}" + "".join(f"{found[step]:22.2f}" for found in columns.values())


def growth(sizes: Sequence[int], columns: Sequence[dict[str, float]]) -> Iterator[str]:
    """By which power of the size each time grew from the smallest to the largest: 1 is linear."""
    factor = np.log(sizes[-1] / sizes[0])
    for step in ("generate", "megabytes", "resume", "answers of a scan", "heads shared"):
        yield f"{step:22} grows with size to the power of {np.log(columns[-1][step] / columns[0][step]) / factor:.2f}"


def main() -> None:
    """Measure and print; the exit code says whether a mark is missed at 200,000 units."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, action="append", help="may be given again (default: 50000 and 200000)")
    parser.add_argument("--beside", type=Path, metavar="CHECKOUT", help="measure this older checkout too")
    parser.add_argument("--part", nargs=2, metavar=("PART", "DATABASE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    sizes = sorted(given.units or [50_000, 200_000])
    if given.part:
        part, database = given.part
        print(json.dumps(measured(part, Path(database), sizes[0])))
        return
    here = Path(__file__).resolve().parent.parent
    ours = [of_checkout(here, units) for units in sizes]
    columns = {f"{units:,} units": found for units, found in zip(sizes, ours, strict=True)}
    if given.beside:
        columns[f"{sizes[-1]:,}, older"] = of_checkout(given.beside, sizes[-1])
    print("\n".join(table(columns)))
    if len(sizes) > 1:
        print("\n".join(growth(sizes, ours)))
    missed = [f"{step}: {ours[-1][step]:.1f}, expected at most {most:g}" for step, most in MARKS.items() if ours[-1][step] > most]
    if ours[-1]["megabytes"] > MOST_MEGABYTES:
        missed.append(f"the file takes {ours[-1]['megabytes']:.0f} MB, expected {MOST_MEGABYTES}")
    if sizes[-1] == 200_000 and missed:
        sys.exit("; ".join(missed))


if __name__ == "__main__":
    main()
