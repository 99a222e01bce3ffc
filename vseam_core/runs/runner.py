"""Runs units of work, saves each whole, and leaves out what an earlier run finished.

A unit is computed in memory and saved in one transaction. A run that is killed loses the units in flight and nothing else; the
same command again finds the finished ones by their keys.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Generic, TypeVar

from vseam_core.api.types import Skip
from vseam_core.errors import SampleError, UnsupportedError
from vseam_core.runs.progress import Progress
from vseam_core.runs.spec import UnitResult

if TYPE_CHECKING:
    from vseam_core.store.store import Store

Payload = TypeVar("Payload")
COMMIT_SECONDS = 1.0


@dataclass(frozen=True)
class Unit(Generic[Payload]):
    """One piece of work: its key, what people call it, and what its computation needs (the `payload`).

    `problem` marks a unit that cannot even be prepared (an image that is missing): it has no payload, is not computed, and is stored as a
    skip with that reason.

    `subject` is what the unit is about (default: the identifier): among the units of a run with one subject, those of the latest
    call are current and all others are superseded. Units that only have a meaning together (the conditions of one ablation) share
    a subject, so that a later call replaces the whole.
    """

    key: str
    identifier: str
    payload: Payload = None  # type: ignore[assignment]
    problem: str = ""
    subject: str = ""


@dataclass
class Outcome:
    """What became of the units of one run. `keys` are the finished ones, in order, whether made now or before."""

    run: int
    keys: list[str] = field(default_factory=list)
    made: int = 0
    reused: int = 0
    skips: list[Skip] = field(default_factory=list)


Compute = Callable[[Sequence[Unit[Payload]]], Sequence[UnitResult]]


def run_units(
    store: Store,
    run: int,
    units: Sequence[Unit[Payload]],
    compute: Compute[Payload],
    progress: Progress,
    description: str,
    chunk: int = 1,
    finish: bool = True,
) -> Outcome:
    """Compute and save all units that are not finished yet, `chunk` at a time; afterwards these are the run's current units.

    What an earlier call left about the same subjects (an image was replaced under its name) is kept and marked superseded; units
    that were superseded and are asked for again are current again, without being recomputed.

    A unit whose computation raises `SampleError` or `UnsupportedError` is stored as a skip with the reason, and the rest goes on.
    `finish` notes the run as finished; it is False where more units of the same run follow.
    """
    outcome = Outcome(run)
    subjects = {unit.key: unit.subject or unit.identifier for unit in units}
    statuses = store.make_current(run, subjects)
    waiting = [unit for unit in units if unit.key not in statuses]
    outcome.reused = len(units) - len(waiting)

    def save(results: Sequence[UnitResult]) -> None:
        store.save(run, [replace(result, subject=subjects.get(result.key, "")) for result in results])

    with progress.task(description, len(units)) as advance:
        advance(outcome.reused)
        _compute_and_save([waiting[start : start + chunk] for start in range(0, len(waiting), chunk)], compute, save, advance)
    outcome.made = len(waiting)
    if waiting:
        statuses = store.unit_statuses(run, subjects)
    outcome.keys = [unit.key for unit in units if statuses.get(unit.key) == "done"]
    outcome.skips = _skips(store, run, subjects)
    if finish:
        store.finish_run(run)
    return outcome


def _compute_and_save(
    parts: Sequence[Sequence[Unit[Payload]]],
    compute: Compute[Payload],
    save: Callable[[Sequence[UnitResult]], None],
    advance: Callable[[int], None],
) -> None:
    """Compute part after part, and save what has come together about once a second."""
    pending: list[UnitResult] = []
    saved = time.monotonic()
    try:
        for part in parts:
            pending.extend(_compute_or_skip(compute, part))
            if time.monotonic() - saved >= COMMIT_SECONDS:
                save(pending)
                pending.clear()
                saved = time.monotonic()
            advance(len(part))
    finally:
        # Also on Ctrl-C: what is computed is not lost.
        save(pending)


def _skips(store: Store, run: int, asked: Container[str]) -> list[Skip]:
    return [Skip(str(row.identifier), str(row.reason)) for row in store.skips(run).itertuples() if row.key in asked]


def _compute_or_skip(compute: Compute[Payload], units: Sequence[Unit[Payload]]) -> list[UnitResult]:
    results = [UnitResult(unit.key, unit.identifier, "skipped", unit.problem) for unit in units if unit.problem]
    sound = [unit for unit in units if not unit.problem]
    if not sound:
        return results
    try:
        return results + list(compute(sound))
    except (SampleError, UnsupportedError) as error:
        if len(sound) == 1:
            return [*results, UnitResult(sound[0].key, sound[0].identifier, "skipped", str(error))]
        # One bad sample must not take its neighbours with it.
        return results + [result for unit in sound for result in _compute_or_skip(compute, [unit])]
