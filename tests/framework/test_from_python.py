"""`vseam.explain`, `trace`, `scan` and `evaluate`: models and datasets by name or as objects, results that show themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import vseam
from vseam_core.api.types import Sample
from vseam_core.errors import UnknownNameError, VseamError
from vseam_core.experiments.evaluation import evaluate as evaluate_in
from vseam_plugins.benchmarks.scenes.benchmark import SceneBenchmark


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[vseam.Workspace]:
    with vseam.open_workspace(":memory:", edits=tmp_path_factory.mktemp("edits"), device="cpu") as opened:
        yield opened


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return list(SceneBenchmark("color").samples("score", "plain", 6))


@pytest.fixture(scope="module")
def rows(samples: list[Sample], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """The samples as somebody's table would have them, with the images in files."""
    folder = tmp_path_factory.mktemp("images")
    found = []
    for number, sample in enumerate(samples):
        sample.image.load().save(folder / f"{number}.png")
        found.append({"file": str(folder / f"{number}.png"), "prompt": sample.question, "label": sample.answer})
    return found


def test_a_table_a_list_of_records_and_samples_are_answered_alike(
    workspace: vseam.Workspace, samples: list[Sample], rows: list[dict[str, str]], tmp_path: Path
) -> None:
    def answers(given: object) -> list[str]:
        found: list[str] = vseam.evaluate("llava-tiny", given, workspace=workspace).answers["predicted"].tolist()
        return found

    texts = [answers(given) for given in (samples, rows, pd.DataFrame(rows))]
    images = [{"question": one.question, "answer": one.answer, "image": one.image.load()} for one in samples]
    pixels = [{**row, "image": np.asarray(row["image"])} for row in images]
    texts += [answers(given) for given in (images, pixels)]
    file = tmp_path / "mine.csv"
    pd.DataFrame(rows).to_csv(file, index=False)
    texts.append(answers(file))
    assert len(texts[0]) == 6
    assert all(found == texts[0] for found in texts)


def test_the_columns_that_are_guessed_are_said(
    rows: list[dict[str, str]], workspace: vseam.Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    vseam.evaluate("llava-tiny", rows, workspace=workspace, limit=1)
    assert "the column 'prompt' is taken for the question" in caplog.text
    assert "the column 'label' is taken for the answer" in caplog.text
    with pytest.raises(VseamError, match="no column 'question'; expected one of a, b"):
        vseam.evaluate("llava-tiny", [{"a": 1, "b": 2}], workspace=workspace)


def test_a_model_object_gives_the_numbers_of_its_name(workspace: vseam.Workspace) -> None:
    by_name = vseam.evaluate("llava-tiny", "scenes/color", limit=4, workspace=workspace)
    model = workspace.registry.load_model("llava-tiny", device="cpu")
    by_object = vseam.evaluate(model, "scenes/color", limit=4, progress=False)
    assert by_object.answers["logit_diff"].tolist() == pytest.approx(by_name.answers["logit_diff"].tolist(), abs=1e-5)
    assert by_name.metrics.equals(evaluate_in(workspace, "llava-tiny", "scenes/color", limit=4).metrics)


def test_an_evaluation_shows_itself(workspace: vseam.Workspace) -> None:
    found = vseam.evaluate("llava-tiny", "scenes/color", limit=4, workspace=workspace)
    assert found.frame is found.metrics
    assert found.value("accuracy") == pytest.approx(found.answers["correct"].mean())
    assert "accuracy" in found._repr_html_()
    assert isinstance(found.plot(), Figure)
    assert "4 answers" in repr(found)


def test_traces_and_scans_show_themselves(workspace: vseam.Workspace) -> None:
    traces = vseam.trace("llava-tiny", "scenes/color", tracers={"groups": {"groups": ["image", "last"]}}, limit=2, workspace=workspace)
    assert set(traces.frame["column_label"]) == {"image", "last"}
    assert traces.frame["n"].max() == 2
    assert traces.figures == ["groups_llava-tiny"]
    assert isinstance(traces.plot("groups_llava-tiny"), Figure)
    with pytest.raises(UnknownNameError, match="did you mean 'groups_llava-tiny'"):
        traces.plot("group_llava-tiny")
    assert "<table>" in traces._repr_html_()
    heads = vseam.scan("llava-tiny", "scenes/color", direction="denoising", limit=2, workspace=workspace)
    assert (heads.heads.operation, len(heads.frame)) == ("patch_denoising", 48)
    assert isinstance(heads.plot(), Figure)
    assert "ScanResult: llava-tiny on scenes/color" in repr(heads)


def test_ones_own_rows_are_all_traced_whatever_their_pool(workspace: vseam.Workspace, samples: list[Sample]) -> None:
    found = vseam.trace("llava-tiny", samples[:3], tracers="groups", editor="scenes", workspace=workspace)
    assert found.frame["n"].max() == 3


def test_nothing_to_measure_and_what_is_no_dataset_are_errors_of_one_line(workspace: vseam.Workspace, rows: list[dict[str, str]]) -> None:
    with pytest.raises(VseamError, match="nothing was left to measure: records has 1 row"):
        vseam.trace("llava-tiny", rows[:1], tracers="groups", editor="noise", workspace=workspace)
    for given, said in (
        ([], "has no rows"),
        (7, "expected a dataset"),
        ([1, 2], "expected a dataset"),
        (Path("nowhere.csv"), "no such file"),
    ):
        with pytest.raises(VseamError, match=said):
            vseam.evaluate("llava-tiny", given, workspace=workspace)


def test_an_explanation_shows_itself_and_escapes_what_others_wrote(workspace: vseam.Workspace, samples: list[Sample]) -> None:
    image = samples[0].image.load()
    found = vseam.explain("llava-tiny", image, f"{samples[0].question} <img onerror=x>", noise=True, workspace=workspace)
    assert "&lt;img" in found._repr_html_()
    assert "<img" not in found._repr_html_()
    assert isinstance(found.plot(), Figure)
    assert found.sentences[-1].startswith("This is one question about one image (n = 1)")
    assert any("L" in sentence and "nats" in sentence for sentence in found.sentences)
    assert len(found.frame) > 1000
    assert "n = 1" in repr(found)
    boxed = vseam.explain("llava-tiny", image, samples[0].question, noise=True, box=(10, 10, 60, 60), workspace=workspace)
    assert boxed.edit.boxes != found.edit.boxes


def test_a_tracer_that_a_family_refuses_is_an_error_with_the_reason_and_no_advice_about_pools(workspace: vseam.Workspace) -> None:
    with pytest.raises(VseamError, match=r"nothing was left to measure: .*regions tracing is not possible: .*query tokens$"):
        vseam.trace("instructblip-tiny", "scenes/color", tracers="regions", limit=1, workspace=workspace)
