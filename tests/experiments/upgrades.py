"""A third-party plugin in two versions whose numbers differ: what tests of stale numbers install."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vseam_core.api import interventions as operations
from vseam_core.api.interfaces import EditPlan, EditPlanner, HeadContext, HeadIntervention, Variant
from vseam_core.api.interventions import Run, Site, SiteEdit
from vseam_core.api.types import HeadId, Pair, Sample, TraceEffect
from vseam_core.plugins.discovery import build_plugins
from vseam_core.plugins.hookspecs import hookimpl
from vseam_core.plugins.records import EditorRecord, EditPlannerRecord, HeadInterventionRecord, TracerRecord
from vseam_core.runs.workspace import Workspace, open_workspace
from vseam_plugins.editors.scenes import SceneEditor
from vseam_plugins.tracers.groups import GroupPatching

MODEL, DATASET = "llava-tiny", "scenes/color"
HARMLESS = ("positions", "weights", "sample", "dtype", "seed", "method", "version", "heads")
"""Names that the core uses for things of its own."""


class Dim(HeadIntervention):
    """Multiplies heads by a number: by its version, by an option, or by the factors of a rescaling, to a power of the version."""

    name = "dim"

    def __init__(self, factors: Mapping[Any, float] | None = None, **options: Any) -> None:
        self.given = options
        self.factors = {str(head): factor for head, factor in (factors or {}).items()}

    def interventions(self, heads: Sequence[HeadId], context: HeadContext) -> Sequence[Variant]:
        own = {str(head): sum(self.given.values()) or 0.5 for head in heads}
        factors = {head: factor**self.version for head, factor in {**own, **self.factors}.items()}
        edits = [(Site(head.layer, "head_output", head.head), operations.Scale(factors[str(head)])) for head in heads]
        return [Variant(tuple(SiteEdit(site, operation, context.positions) for site, operation in edits))]

    def options(self) -> Mapping[str, object]:
        return {**self.given, **({"factors": self.factors} if self.factors else {})}


class Groups(GroupPatching):
    """Group patching whose effects are multiplied by its version, or by an option."""

    name = "acme-groups"

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.given = options

    def effects(self, context: Any, results: Any) -> list[TraceEffect]:
        factor = (sum(self.given.values()) or 1) * self.version
        return [replace(one, values=one.values * factor) for one in super().effects(context, results)]

    def plan(self, context: Any) -> Sequence[Run]:
        return super().plan(context)

    def options(self) -> Mapping[str, object]:
        return {**super().options(), **self.given}


class Repainting(SceneEditor):
    """The exact editor, which draws other edits in another version."""

    name = "acme-editor"

    def edit(self, sample: Sample, seed: int = 0) -> Pair:
        return replace(super().edit(sample, seed + self.version - 1), editor=self.name)


class Planner(EditPlanner):
    """Plans what the questions of the scenes world ask about to be green."""

    name = "acme-planner"

    def __init__(self, power: int = 1) -> None:
        self.power = power

    def plan(self, sample: Sample) -> EditPlan:
        box = (8.0, 8.0, 24.0, 24.0)
        return EditPlan("thing", "green thing", "a green thing", None, level="attribute", boxes=(box,), region_prompt="a green thing")


class Plugin:
    """What is installed: all of the above in one version."""

    def __init__(self, version: int) -> None:
        self.made = {kind: type(kind.__name__, (kind,), {"version": version}) for kind in (Dim, Groups, Repainting)}

    @hookimpl
    def vseam_head_interventions(self) -> Iterator[HeadInterventionRecord]:
        yield HeadInterventionRecord(name="dim", summary="dims heads", factory=self.made[Dim])

    @hookimpl
    def vseam_tracers(self) -> Iterator[TracerRecord]:
        yield TracerRecord(name="acme-groups", summary="group patching", factory=self.made[Groups])

    @hookimpl
    def vseam_edit_planners(self) -> Iterator[EditPlannerRecord]:
        for name in ("acme-planner", "acme-planner-too"):
            yield EditPlannerRecord(name=name, summary="plans green things", factory=Planner)

    @hookimpl
    def vseam_editors(self) -> Iterator[EditorRecord]:
        yield EditorRecord(name="acme-editor", summary="edits scenes", factory=self.made[Repainting])


def measured(database: Path, version: int, verb: Callable[[Workspace], Any]) -> Any:
    """What a verb gives with the plugin in that version."""
    with open_workspace(database, plugins=build_plugins(local={"acme": Plugin(version)}), device="cpu") as workspace:
        return verb(workspace)
