"""A rescaling saved as a checkpoint folder: the same answers as the rescaled run, loaded like any folder, never half written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from vseam_core.api.interfaces import HeadContext, VisionLanguageModel
from vseam_core.api.interventions import AnswerScore, Run
from vseam_core.api.types import HeadId
from vseam_core.errors import UnsupportedError, VseamError
from vseam_core.experiments.encoding import prepare
from vseam_core.experiments.rescaling.checkpoint import fitted_scales, require_free_folder, save_rescaled_model
from vseam_core.runs.workspace import Workspace, open_workspace

SCALES = {"L1H2": 1.5, "L3H0": 0.0, "L4H5": 0.4, "L5H7": -1.0}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with open_workspace(tmp_path_factory.mktemp("saving") / "results.db", device="cpu") as opened:
        yield opened


def answers(workspace: Workspace, model_name: str, scales: dict[str, float]) -> list[float]:
    """Both measures of eight hard samples, with heads rescaled by hooks."""
    loaded = workspace.model(model_name)
    intervention = workspace.plugins.head_intervention("scale", factors=scales)
    heads = [HeadId(int(name[1]), int(name[3])) for name in scales]
    values = []
    for sample in workspace.benchmark("scenes/action").samples("test", "hard", 8, 0):
        prepared = prepare(loaded, sample)
        context = HeadContext(prepared.prompt, loaded.engine.shape)
        edits = intervention.interventions(heads, context)[0].edits if heads else ()
        answer = loaded.engine.run([Run(prepared.prompt, (AnswerScore(prepared.answer),), edits)])[0].answer
        values += [answer.logit_diff, answer.logprob]
    return values


@pytest.mark.parametrize("name", ["llava-tiny", "instructblip-tiny"])
def test_the_saved_folder_answers_as_the_rescaled_model_does(workspace: Workspace, tmp_path: Path, name: str) -> None:
    plain, rescaled = answers(workspace, name, {}), answers(workspace, name, SCALES)
    folder = save_rescaled_model(workspace, name, SCALES, tmp_path / "new" / "folder", fitted_on="scenes/action")
    assert answers(workspace, str(folder), {}) == pytest.approx(rescaled, abs=1e-5)
    assert max(abs(one - other) for one, other in zip(plain, rescaled, strict=True)) > 0.1
    assert answers(workspace, name, {}) == pytest.approx(plain, abs=1e-6), "the loaded model is as it was"
    record = json.loads((folder / "rescaling.json").read_text())
    assert (record["model"], record["fitted_on"], record["scales"]) == (name, "scenes/action", SCALES)
    assert record["weights_hash"] == workspace.model(name).model.info.weights_hash
    assert workspace.model(str(folder)).model.info.weights_hash != record["weights_hash"]


def test_a_folder_with_anything_in_it_is_refused_and_left_alone(workspace: Workspace, tmp_path: Path) -> None:
    kept = tmp_path / "kept.txt"
    kept.write_text("mine")
    for folder in (tmp_path, kept):
        with pytest.raises(VseamError, match="name a new") as caught:
            save_rescaled_model(workspace, "llava-tiny", SCALES, folder)
        assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]
    empty = tmp_path / "empty"
    empty.mkdir()
    require_free_folder(empty)


def test_a_failure_on_the_way_leaves_no_half_a_checkpoint(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = workspace.model("llava-tiny").model

    def full_disk(folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model, "save", full_disk)
    before = answers(workspace, "llava-tiny", {})
    with pytest.raises(OSError, match="No space left"):
        save_rescaled_model(workspace, "llava-tiny", SCALES, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
    assert answers(workspace, "llava-tiny", {}) == before


def test_what_depends_on_the_input_or_cannot_be_written_is_refused_with_the_reason(workspace: Workspace, tmp_path: Path) -> None:
    model = workspace.model("llava-tiny").model
    with pytest.raises(UnsupportedError, match=r"resample: .* depends on the input"):
        workspace.plugins.head_intervention("resample").folded(model)
    with pytest.raises(UnsupportedError, match=r"llava-tiny.*cannot write checkpoint folders"):
        VisionLanguageModel.save(model, tmp_path)


def rows(*found: tuple[str, str, str, dict[str, float]]) -> pd.DataFrame:
    return pd.DataFrame(found, columns=["model", "dataset", "role", "scales"])


def test_the_fitted_scales_of_one_model_and_dataset_are_found() -> None:
    frame = rows(
        ("a", "x", "grid", {"L0H0": 9.0}),
        ("a", "x", "published", {"L0H0": 8.0}),
        ("a", "y", "fitted", {"L0H0": 7.0}),
        ("a", "x", "fitted", {"L0H1": 1.5}),
        ("a", "x", "fitted", {"L0H1": 1.5}),
        ("a", "z", "fitted", {}),
    )
    assert fitted_scales(frame, "a", "x") == {"L0H1": 1.5}
    with pytest.raises(VseamError, match="no rescaling was fitted"):
        fitted_scales(frame, "b", "x")
    with pytest.raises(VseamError, match="no rescaling was fitted"):
        fitted_scales(pd.DataFrame(), "a", "x")
    with pytest.raises(VseamError, match="beat leaving all heads alone"):
        fitted_scales(frame, "a", "z")
