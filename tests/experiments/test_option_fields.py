"""Every field of every options record is part of what identifies stored numbers, or stands here among those that change no number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.experiments.upgrades import DATASET, MODEL, Planner, Plugin
from vseam_core.analysis.rescaling import Setting
from vseam_core.api.types import HeadId
from vseam_core.config.editor_settings import EditorChoice
from vseam_core.experiments.ablation import AblationOptions, run_ablation
from vseam_core.experiments.answering import BaselineOptions, run_baseline
from vseam_core.experiments.evaluation import EvaluationOptions, run_evaluation
from vseam_core.experiments.heads.changed_model import ChangeOptions
from vseam_core.experiments.heads.changes import HeadOperation, head_operation, make_intervention
from vseam_core.experiments.heads.scan import run_scan
from vseam_core.experiments.heads.scanning import ScanOptions
from vseam_core.experiments.rescaling import fit
from vseam_core.experiments.rescaling.candidates import RescalingScores
from vseam_core.experiments.rescaling.fit import RescalingOptions, run_rescaling
from vseam_core.experiments.selection import Selection
from vseam_core.experiments.tracing import TraceOptions, run_trace
from vseam_core.plugins.discovery import build_plugins
from vseam_core.runs.experiment import OpenRun
from vseam_core.runs.runner import Outcome, Unit
from vseam_core.runs.workspace import Workspace, open_workspace
from vseam_core.store.records import NamedRescaling
from vseam_plugins.editors.recolor import RecolorPainter
from vseam_plugins.masks.box import BoxMask

Identities = set[tuple[int, str]]
HEADS = (HeadId(1, 2), HeadId(4, 5))


class _Planned(Exception):
    """Everything that would be computed is known."""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("fields")
    with open_workspace(folder / "results.db", plugins=build_plugins(local={"acme": Plugin(2)}), device="cpu", edits=folder) as opened:
        for name, factor in (("half", 0.5), ("double", 2.0)):
            weights = opened.model(MODEL).model.info.weights_hash
            opened.store.name_rescaling(name, NamedRescaling(MODEL, weights, DATASET, {"L1H2": factor}, 0))
        yield opened


@pytest.fixture(scope="module")
def baselines(workspace: Workspace) -> pd.DataFrame:
    outcome = run_baseline(workspace, MODEL, DATASET, BaselineOptions("score", "plain", 6))
    return workspace.store.baselines(outcome.run)


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], Identities]:
    """The identities of what a call would compute, without computing it: its runs, and its units in each."""

    def of(call: Callable[[], Any]) -> Identities:
        found: Identities = set()

        def note(opened: OpenRun, units: list[Unit], compute: Any, description: str, *_: Any, **__: Any) -> Outcome:
            assert all(unit.payload is not None for unit in units), "a unit cannot be prepared: this test shows nothing"
            found.update((opened.run, unit.key) for unit in units)
            if "grid" in description:
                return Outcome(opened.run)
            raise _Planned

        monkeypatch.setattr(OpenRun, "run_units", note)
        monkeypatch.setattr(fit, "_chosen", lambda *given: given[-1][-1])
        with pytest.raises(_Planned):
            call()
        return found

    return of


def scan(workspace: Workspace, baselines: pd.DataFrame, **given: Any) -> Any:
    options = {"operation": "resample", "sampled": 2, "wrong": 0, "reference_size": 8, "donors": 1}
    return run_scan(workspace, MODEL, DATASET, ScanOptions(**{**options, **given}), baselines)


def ablate(workspace: Workspace, _: Any, **given: Any) -> Any:
    options = {"samples": 2, "random_sets": 2, "reference_size": 8}
    return run_ablation(workspace, MODEL, DATASET, AblationOptions(**{**options, **given}), HEADS)


def rescale(workspace: Workspace, _: Any, **given: Any) -> Any:
    shape = workspace.model(MODEL).engine.shape
    scores = np.zeros((shape.layers, shape.heads))
    scores[1, 2], scores[1, 3] = 1.0, 0.5
    options = {"choose": 2, "test": 2, "splits": ("plain",), "shuffles": 1}
    found = RescalingScores(scores, (HeadId(1, 2), HeadId(1, 3)), ())
    return run_rescaling(workspace, MODEL, DATASET, RescalingOptions(**{**options, **given}), [Setting(0.5, 2)], found)


def trace(workspace: Workspace, _: Any, **given: Any) -> Any:
    return run_trace(workspace, MODEL, DATASET, TraceOptions(**{"tracer": "groups", "limit": 2, **given}))


def answer(workspace: Workspace, _: Any, **given: Any) -> Any:
    return run_baseline(workspace, MODEL, DATASET, BaselineOptions(**{"limit": 2, **given}))


def ask(workspace: Workspace, _: Any, **given: Any) -> Any:
    return run_evaluation(workspace, MODEL, DATASET, EvaluationOptions(**{"selection": Selection(limit=2), **given}))


def ask_changed(workspace: Workspace, _: Any, **given: Any) -> Any:
    return ask(workspace, _, change=ChangeOptions(**given))


def ask_selected(workspace: Workspace, _: Any, **given: Any) -> Any:
    return ask(workspace, _, selection=Selection(**{"limit": 2, **given}))


def trace_edited(workspace: Workspace, _: Any, **given: Any) -> Any:
    return trace(workspace, _, limit=1, editor=EditorChoice(**{"name": "recolor", "planner": "acme-planner", **given}))


VERBS: dict[type, Callable[..., Any]] = {
    ScanOptions: scan,
    AblationOptions: ablate,
    RescalingOptions: rescale,
    TraceOptions: trace,
    BaselineOptions: answer,
    EvaluationOptions: ask,
    ChangeOptions: ask_changed,
    Selection: ask_selected,
    EditorChoice: trace_edited,
}
SCREEN = {"method": "screen", "screen_top": 3}
CHANGES: dict[type, dict[str, tuple[Any, dict[str, Any]]]] = {
    ScanOptions: {
        "operation": ("zero", {}),
        "positions": ("last", {}),
        "reference_size": (9, {}),
        "direction": ("denoising", {"operation": "patch"}),
        "editor": ("acme-editor", {"operation": "patch"}),
        "operation_options": ({"donors": 2}, {}),
        "method": ("screen", {}),
        "screen_top": (4, SCREEN),
        "integrated_steps": (1, SCREEN),
        "donors": (2, {}),
        "stack": ("vision", {}),
    },
    AblationOptions: {
        "sign": ("negative", {}),
        "operation": ("zero", {}),
        "positions": ("last", {}),
        "split": ("hard", {}),
        "samples": (3, {}),
        "random_sets": (3, {}),
        "donors": (2, {}),
        "editor": ("acme-editor", {}),
        "reference_size": (9, {}),
        "operation_options": ({"donors": 2}, {}),
    },
    RescalingOptions: {
        "splits": (("plain", "hard"), {}),
        "shuffles": (2, {}),
        "editor": ("acme-editor", {}),
        "operation": ("dim", {}),
        "operation_options": ({"power": 2.0}, {"operation": "dim"}),
    },
    TraceOptions: {
        "tracer": ("tokenwise", {}),
        "editor": ("acme-editor", {}),
        "pool": ("test", {}),
        "split": ("hard", {}),
        "tracer_options": ({"groups": ["image"]}, {}),
        "stack": ("vision", {}),
    },
    BaselineOptions: {"pool": ("score", {}), "split": ("hard", {}), "editor": ("scenes", {})},
    EvaluationOptions: {
        "selection": (Selection("score", limit=2), {}),
        "max_new_tokens": (3, {}),
        "editor": ("scenes", {}),
        "change": (ChangeOptions(ablate=("L1H2",)), {}),
    },
    ChangeOptions: {
        "rescale": ("double", {"rescale": "half"}),
        "ablate": (("L1H3",), {"ablate": ("L1H2",)}),
        "operation": ("mean_of_others", {"ablate": ("L1H2",)}),
        "operation_options": ({"power": 2.0}, {"ablate": ("L1H2",), "operation": "dim"}),
        "method": ("pai", {"method": "vcd"}),
        "method_options": ({"alpha": 2.0}, {"method": "vcd"}),
    },
    Selection: {"pool": ("score", {}), "split": ("hard", {})},
    EditorChoice: {
        "name": ("noise", {}),
        "options": ({"strength": 0.5}, {}),
        "planner": ("acme-planner-too", {}),
        "planner_options": ({"power": 2}, {}),
        "mask": ("ellipse", {}),
        "mask_options": ({"padding": 0.2}, {}),
        "dilation": (3, {}),
        "feather": (1, {}),
    },
}
# Fields that change some of the units: what is fitted on other samples is recomputed, and only that.
SOME: dict[type, dict[str, Any]] = {RescalingOptions: {"choose": 3, "test": 3}}
# Fields that say how many or which samples: those that are measured anyway have the same identity and the same numbers.
MORE_OF_THE_SAME: dict[type, dict[str, Any]] = {
    ScanOptions: {"sampled": 3, "wrong": 1},
    RescalingOptions: {"transfer": ("scenes/action",)},
    TraceOptions: {"limit": 3},
    BaselineOptions: {"limit": 3},
    Selection: {"limit": 3, "offset": 1},
    # How answers are batched, what they are compared with; checks and controls are made beside the edits.
    EvaluationOptions: {"batch_size": 1, "compare": None},
    EditorChoice: {"clip": "folder/of/clip", "controls": False, "pairs": "passing"},
}


def names_of(record: type) -> set[str]:
    return {field.name for field in fields(record)} if is_dataclass(record) else set(record.model_fields)  # type: ignore[attr-defined]


@pytest.mark.parametrize("record", VERBS, ids=lambda record: record.__name__)
def test_every_field_is_accounted_for(record: type) -> None:
    assert names_of(record) == {name for table in (CHANGES, SOME, MORE_OF_THE_SAME) for name in table.get(record, {})}


@pytest.mark.parametrize(("record", "name"), [(record, name) for record, changes in CHANGES.items() for name in changes])
def test_a_field_that_changes_numbers_changes_every_key(
    record: type, name: str, workspace: Workspace, baselines: pd.DataFrame, planned: Callable[[Callable[[], Any]], Identities]
) -> None:
    value, base = CHANGES[record][name]
    before = planned(lambda: VERBS[record](workspace, baselines, **base))
    after = planned(lambda: VERBS[record](workspace, baselines, **{**base, name: value}))
    assert before
    assert after
    assert not before & after


@pytest.mark.parametrize("name", SOME[RescalingOptions])
def test_a_rescaling_on_other_samples_is_measured_on_those(
    name: str, workspace: Workspace, baselines: pd.DataFrame, planned: Callable[[Callable[[], Any]], Identities]
) -> None:
    before = planned(lambda: rescale(workspace, baselines))
    after = planned(lambda: rescale(workspace, baselines, **{name: SOME[RescalingOptions][name]}))
    assert before != after


@pytest.mark.parametrize(
    ("record", "name"),
    [(record, name) for record, changes in MORE_OF_THE_SAME.items() for name in changes if name not in ("compare", "clip")],
)
def test_a_field_that_changes_no_number_leaves_the_keys_of_the_same_work_as_they_are(
    record: type, name: str, workspace: Workspace, baselines: pd.DataFrame, planned: Callable[[Callable[[], Any]], Identities]
) -> None:
    before = planned(lambda: VERBS[record](workspace, baselines))
    after = planned(lambda: VERBS[record](workspace, baselines, **{name: MORE_OF_THE_SAME[record][name]}))
    assert before & after


def test_a_check_of_edits_changes_no_edit(workspace: Workspace) -> None:
    plain, checked = (EditorChoice(name="recolor", clip=clip) for clip in (None, "folder/of/clip"))
    assert workspace.editor_component(plain) == workspace.editor_component(checked)


@pytest.mark.parametrize("kind", [RecolorPainter, BoxMask, Planner])
def test_a_new_version_of_whatever_makes_an_edit_is_another_editor(
    kind: type, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = EditorChoice(name="recolor", planner="acme-planner")
    before = workspace.editor_component(choice).identity()
    monkeypatch.setattr(kind, "version", 2)
    assert workspace.editor_component(choice).identity() != before


def test_a_reference_set_is_made_where_an_operation_needs_one_and_shared_by_those_that_do(workspace: Workspace) -> None:
    def operation(name: str, **options: Any) -> HeadOperation:
        return head_operation(workspace, MODEL, DATASET, name, options, reference_size=5)

    assert operation("zero").references is None
    assert operation("zero").inputs == {}
    first = operation("resample", donors=2).references
    assert first is not None
    assert len(first.members) == 5
    assert operation("dataset_mean").references is first
    assert operation("resample").references is first


def test_donors_are_set_where_an_operation_takes_them_and_nobody_said_how_many(workspace: Workspace) -> None:
    made = {name: make_intervention(workspace, name, {}, donors=3)[1].options for name in ("resample", "zero", "dim")}
    assert made == {"resample": {"donors": 3}, "zero": {}, "dim": {}}
    assert make_intervention(workspace, "resample", {"donors": 2}, donors=3)[1].options == {"donors": 2}
