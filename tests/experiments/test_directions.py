"""Directions of the embedded model: held out by pool, nothing to find where nothing is, and answers that follow the direction."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from vseam_core.analysis.direction_files import write_directions
from vseam_core.api.interventions import Remove
from vseam_core.engine.layout import Layout
from vseam_core.engine.operations import EditOfRow, apply_edits
from vseam_core.errors import UnsupportedError, VseamError
from vseam_core.experiments.directions import DirectionOptions, FittedDirections, fit_directions, summary
from vseam_core.experiments.evaluation import evaluate
from vseam_core.runs.workspace import Workspace, open_workspace

MODEL, DATASET = "llava-tiny", "scenes/color"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with open_workspace(tmp_path_factory.mktemp("directions") / "results.db", device="cpu") as opened:
        yield opened


@pytest.fixture(scope="module")
def fitted(workspace: Workspace) -> FittedDirections:
    return fit_directions(workspace, MODEL, DATASET, DirectionOptions(limit=20))


def test_late_layers_tell_unseen_images_apart_and_the_first_where_nothing_has_arrived_yet_does_not(
    workspace: Workspace, fitted: FittedDirections
) -> None:
    lines = summary(fitted.rows)
    assert [line["layer"] for line in lines] == list(range(6))
    assert lines[-1]["difference"] >= 0.9
    assert lines[-1]["probe"] >= 0.9
    assert lines[-1]["n_held_out"] == 40
    for kind in ("difference", "probe", "random"):
        assert abs(lines[0][kind] - 0.5) < 0.25
    (details,) = workspace.store.unit_details(fitted.run, _keys(workspace, fitted))
    assert details["directions"] == fitted.rows


def _keys(workspace: Workspace, fitted: FittedDirections) -> list[str]:
    return list(workspace.store.unit_statuses(fitted.run))


def test_a_direction_leads_the_answers_and_a_random_one_as_long_does_not(
    workspace: Workspace, fitted: FittedDirections, tmp_path: Path
) -> None:
    file = tmp_path / "colour.safetensors"
    write_directions(file, fitted.vectors, fitted.about)

    def said_yes(**how: object) -> float:
        options = {"file": str(file), "layer": 3, **how}
        value = evaluate(workspace, MODEL, DATASET, pool="test", limit=12, method="steer", method_options=options).value("yes_ratio")
        assert value is not None
        return value

    plain = evaluate(workspace, MODEL, DATASET, pool="test", limit=12).value("yes_ratio")
    assert said_yes(strength=0.0) == plain
    assert plain is not None
    assert said_yes(strength=2.0) >= plain + 0.2
    assert said_yes(strength=-2.0) == 0.0
    assert said_yes(kind="random", strength=2.0) == plain


def test_directions_of_other_weights_are_refused(workspace: Workspace, fitted: FittedDirections, tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    write_directions(file, fitted.vectors, {**fitted.about, "weights_hash": "another"})
    with pytest.raises(VseamError, match="fitted to other weights"):
        evaluate(workspace, MODEL, DATASET, pool="test", limit=2, method="steer", method_options={"file": str(file), "layer": 5})


def test_open_questions_have_no_direction_between_yes_and_no(workspace: Workspace) -> None:
    with pytest.raises(UnsupportedError, match="its questions are open"):
        fit_directions(workspace, MODEL, "scenes-open/color", DirectionOptions(limit=2))


def test_what_is_removed_is_the_component_along_the_vector_and_nothing_else() -> None:
    generator = torch.Generator().manual_seed(0)
    values, vector = torch.randn(5, 8, generator=generator, dtype=torch.float64), np.arange(8, dtype=np.float32)
    edited = apply_edits(values, [EditOfRow(0, Remove(vector), (1, 3), None)], Layout([(0, range(5))]), None)
    unit = torch.tensor(vector, dtype=torch.float64)
    unit = unit / unit.norm()
    expected = values.clone()
    for row in (1, 3):
        expected[row] -= (expected[row] @ unit) * unit
    torch.testing.assert_close(edited, expected)
    assert float((edited[1] @ unit).abs()) < 1e-12
