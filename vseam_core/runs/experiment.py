"""How every experiment opens its run, names its units and runs them: the one place where the identity of stored numbers is made.

    EXPERIMENT = Experiment("trace", version=1)

    opened = EXPERIMENT.open(workspace, "llava-tiny", "scenes/color", pool="score", split="plain", parts={"tracer": component_of(tracer)})
    units = [opened.unit(sample.identifier, lambda: (prepared, {"prompt": prepared.prompt.key})) for …]
    outcome = opened.run_units(units, compute, "llava-tiny traces scenes/color")

A unit's identity is nested, so that nothing collides, whatever a plugin calls its options:

    {experiment, version, seed, model: {weights, …}, parts: {"operation": {name, version, options}, "positions": "all", …},
     inputs: {what all units of a call share}, unit: {what this one is about}}
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vseam_core.api.interfaces import Benchmark
from vseam_core.errors import SampleError, StoreError, UnsupportedError
from vseam_core.runs.identity import Component, canonical_json, model_identity, unit_key
from vseam_core.runs.progress import Progress
from vseam_core.runs.runner import Compute, Outcome, Payload, Unit, run_units
from vseam_core.runs.spec import RunSpec
from vseam_core.runs.workspace import LoadedModel, Workspace

Prepare = Callable[[], tuple[Payload, Mapping[str, object]]]
"""Prepares what a unit is computed from, and says what of it changes the result."""


@dataclass(frozen=True)
class Experiment:
    """A kind of experiment. A higher `version` is for a change of its own code that changes numbers: every unit is then made again."""

    name: str
    version: int

    def open(
        self,
        workspace: Workspace,
        model: str,
        dataset: str,
        *,
        pool: str,
        split: str,
        parts: Mapping[str, Component | object],
        inputs: Mapping[str, object] | None = None,
        study: int | None = None,
    ) -> OpenRun:
        """The run of a model on a dataset, new or opened again.

        `parts` (components, and settings that are plain values) tell runs apart and are stored with them; `inputs` are what all units
        of this call share beside them (the samples of a reference set), which makes no other run. Raises `StoreError` for parts that
        have no spelling as JSON.
        """
        loaded, benchmark = workspace.model(model), workspace.benchmark(dataset)
        info = loaded.model.info
        spec = RunSpec(
            method=self.name,
            method_version=self.version,
            model=info,
            dataset=dataset,
            level=benchmark.level,
            category=benchmark.category,
            pool=pool,
            split=split,
            configuration=_spelled(parts),
            seed=workspace.seed,
        )
        run = workspace.store.ensure_run(spec, study=study, device=info.device, versions=workspace.versions(), trust=loaded.trust)
        identity = {"experiment": self.name, "version": self.version, "seed": workspace.seed, "model": model_identity(info)}
        return OpenRun(workspace, loaded, benchmark, run, {**identity, "parts": dict(parts), "inputs": dict(inputs or {})})


@dataclass(frozen=True, eq=False)
class OpenRun:
    """A run that units are added to. `identity` is what all of its units have in common."""

    workspace: Workspace
    loaded: LoadedModel
    benchmark: Benchmark
    run: int
    identity: Mapping[str, Any]

    def sharing(self, **inputs: object) -> OpenRun:
        """The same run, for units that share these inputs too."""
        return replace(self, identity={**self.identity, "inputs": {**self.identity["inputs"], **inputs}})

    def key(self, **about: object) -> str:
        """The key of the unit that is about this: everything that changes its result beside what the run's units share."""
        return unit_key(**self.identity, unit=about)

    def unit(self, identifier: str, prepare: Prepare[Payload], subject: str = "") -> Unit[Payload]:
        """The unit of one sample or pair; one that cannot be prepared is a skip with the reason.

        `subject` is what the unit is about, where that is not the identifier (a pair is about its clean sample).
        """
        try:
            payload, about = prepare()
        except (SampleError, UnsupportedError) as error:
            return Unit(self.key(sample=identifier, problem=str(error)), identifier, problem=str(error), subject=subject)
        return Unit(self.key(sample=identifier, of=dict(about)), identifier, payload, subject=subject)

    def run_units(
        self,
        units: Sequence[Unit[Payload]],
        compute: Compute[Payload],
        description: str,
        chunk: int = 1,
        finish: bool = True,
        progress: Progress | None = None,
    ) -> Outcome:
        """Compute and save the units that are not finished yet, as `runner.run_units` does; those that were given up are skips."""
        workspace = self.workspace
        return run_units(
            workspace.store,
            self.run,
            self._without_given_up(units),
            compute,
            progress=progress or workspace.progress,
            description=description,
            chunk=chunk,
            finish=finish and workspace.portion is None,  # of a portion more units follow
        )

    def _without_given_up(self, units: Sequence[Unit[Payload]]) -> Sequence[Unit[Payload]]:
        """Units that took worker after worker with them, as skips under another key: a later run tries them again."""
        workspace = self.workspace
        if workspace.portion is not None and workspace.portion.reason:
            finished = workspace.store.unit_statuses(self.run, [unit.key for unit in units])
            workspace.given_up |= {unit.key: workspace.portion.reason for unit in units if unit.key not in finished}
        refused = workspace.given_up
        return [self._given_up(unit, refused[unit.key]) if unit.key in refused and not unit.problem else unit for unit in units]

    def _given_up(self, unit: Unit[Payload], reason: str) -> Unit[Payload]:
        subject = unit.subject or unit.identifier
        return Unit(self.key(given_up=unit.key, reason=reason), unit.identifier, problem=reason, subject=subject)


def _spelled(parts: Mapping[str, object]) -> dict[str, Any]:
    """Parts as plain values, which is how a run's configuration is stored."""
    try:
        spelled: dict[str, Any] = json.loads(canonical_json(dict(parts)))
    except (TypeError, ValueError) as error:
        raise StoreError(f"the parts of an experiment cannot be stored: {error}") from None
    return spelled
