"""`explain`: the numbers of one question are those that a study gives for the same pair, and attention is that of eager."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.models import builders
from vseam_core.api.interventions import AnswerScore, Patch, Run, Site, SiteEdit
from vseam_core.api.types import Pair
from vseam_core.config.defaults import EXPLAINED_HEADS, EXPLAINED_TRACES
from vseam_core.config.study import HeadScan, Method, Sizes, Study
from vseam_core.engine.reference import ReferenceEngine
from vseam_core.errors import VseamError
from vseam_core.experiments.encoding import prepare_pair
from vseam_core.experiments.explain.options import ExplainOptions
from vseam_core.experiments.explain.running import explain
from vseam_core.experiments.study.run import run_study
from vseam_core.report.data.study import study_page_data
from vseam_core.results.explanation import Explanation
from vseam_core.results.stored_study import find_study
from vseam_core.runs.workspace import Workspace, open_workspace

SIZES = Sizes(pairs=1, score=1, hard=0, scan_sampled=1, scan_wrong=0)


@dataclass(frozen=True)
class Explained:
    workspace: Workspace
    pair: Pair
    found: Explanation


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explained]:
    """The first pair of the scenes' colours, its edited image given as somebody's own."""
    edits = tmp_path_factory.mktemp("edits")
    with open_workspace(":memory:", edits=edits) as workspace:
        sample = next(iter(workspace.benchmark("scenes/color").samples("score", "plain", 1, 0)))
        pair = workspace.editor("scenes").edit(sample, 0)
        options = ExplainOptions(pair.clean.image, pair.clean.question, edited=pair.corrupt.image)
        yield Explained(workspace, pair, explain(workspace, "llava-tiny", options))


def test_every_number_is_the_one_that_trace_and_heads_scan_give_for_the_same_pair(explained: Explained) -> None:
    workspace, found = explained.workspace, explained.found
    study = Study(
        models=["llava-tiny"],
        datasets=["scenes/color"],
        tracers=[Method(name=name, options=options) for name, options in EXPLAINED_TRACES],
        heads=[HeadScan(operation=name, direction=direction) for name, direction in EXPLAINED_HEADS],
        sizes=SIZES,
        stages=["trace", "scan"],
    )
    run_study(workspace, study)
    runs = workspace.store.runs(dataset="scenes/color")
    traced = {}
    for run in runs[runs["method"] == "trace"]["id"]:
        for record in workspace.store.trace_effects(int(run)):
            effect = record.effect
            traced[effect.tracer, effect.site_kind, effect.direction, effect.measure] = effect
    assert len(traced) == len(found.traces) > 20
    for effect in found.traces:
        expected = traced[effect.tracer, effect.site_kind, effect.direction, effect.measure]
        assert (effect.layers, effect.columns) == (expected.layers, expected.columns)
        np.testing.assert_allclose(effect.values, expected.values, atol=1e-5, err_msg=effect.site_kind)
        np.testing.assert_allclose([effect.clean, effect.corrupt], [expected.clean, expected.corrupt], atol=1e-5)
    compared = 0
    for run in runs[runs["method"] == "head_scan"]["id"]:
        for operation in ("patch", "patch_denoising", "zero"):
            stored = workspace.store.head_effects(int(run), operation=operation, measure="logit_diff")
            if len(stored):
                np.testing.assert_allclose(found.head_map(operation), stored.values[0], atol=1e-5, err_msg=operation)
                compared += 1
    assert compared == len(found.operations) == 3


def test_cells_and_heads_are_those_of_full_forward_passes(explained: Explained) -> None:
    found, loaded = explained.found, explained.workspace.model("llava-tiny")
    prepared = prepare_pair(loaded, explained.pair)
    clean, corrupt, answer = prepared.clean.prompt, prepared.corrupt.prompt, prepared.clean.answer
    engine = ReferenceEngine(loaded.model)

    def reading(base, donor, *edits: SiteEdit) -> float:  # type: ignore[no-untyped-def]
        return engine.run([Run(base, (AnswerScore(answer),), edits, donor if edits else None)])[0].answer.logit_diff

    assert found.gap == pytest.approx(reading(clean, None) - reading(corrupt, None), abs=1e-4)
    effect = found.trace("tokenwise", "residual_after")
    for layer, column in ((0, 3), (3, len(effect.columns) - 1)):
        patched = reading(corrupt, clean, SiteEdit(Site(layer, "residual_after"), Patch(), (int(effect.columns[column]),)))
        assert effect.values[layer, column] == pytest.approx(patched - reading(corrupt, None), abs=1e-4)
    (head, value), *_ = found.strongest_heads("patch")
    without = reading(clean, corrupt, SiteEdit(Site(head.layer, "head_output", head.head), Patch()))
    assert value == pytest.approx(reading(clean, None) - without, abs=1e-4)
    assert found.head_map("patch_denoising").shape == (loaded.engine.shape.layers, loaded.engine.shape.heads)


def test_what_a_person_reads_is_there_answers_words_and_that_one_sample_is_no_claim(explained: Explained) -> None:
    found, pair = explained.found, explained.pair
    assert (found.answer, found.against) == (pair.clean.answer, pair.corrupt.answer)
    assert (found.clean.text, found.edited.text) == (pair.clean.answer, pair.corrupt.answer)
    assert found.edit.mask is not None
    assert found.edit.mask.any()
    assert len(found.prompt.tokens) == len(found.prompt.classes)
    assert len(found.prompt.image_boxes or ()) == len(found.prompt.image_positions) == 36
    frame = found.frame
    cell = frame[(frame["method"] == "tokenwise") & (frame["site"] == "mlp_output") & (frame["direction"] == "noising")]
    assert sorted(cell["value"]) == pytest.approx(sorted(found.trace("tokenwise", "mlp_output", "noising").values.flatten()))
    assert "n = 1" in found.to_dict()["no_claim"]
    assert found.database == ""
    lens = found.trace("lens", "residual_after", "clean", "top_token")
    assert found.token_texts[int(lens.values[-1, -1])] == pair.clean.answer
    with pytest.raises(KeyError, match="tokenwise/mlp_output/denoising"):
        found.trace("tokenwise", "nothing")


def test_the_page_of_a_study_has_the_tokens_that_a_lens_puts_first(explained: Explained) -> None:
    workspace, pair = explained.workspace, explained.pair
    sizes: dict[str, Any] = {"models": ["llava-tiny"], "datasets": ["scenes/color"], "sizes": SIZES, "stages": ["trace"]}
    material = run_study(workspace, Study(name="lens", tracers=[Method(name="lens")], **sizes))
    page = study_page_data(workspace.store, find_study(workspace.store, ["lens"]), material, [])
    (trace,) = page.content["traces"]
    read = {(part["site"], part["direction"]): part for part in trace["samples"]}
    assert read["residual_after", "clean"]["cells"][0][-1] == pair.clean.answer
    assert read["residual_after", "corrupt"]["cells"][0][-1] == pair.corrupt.answer
    assert read["mlp_output", "clean"]["cells"] is None
    assert "top_token" not in set(material.traces["measure"])


def test_the_page_of_a_study_knows_where_traced_image_positions_look(explained: Explained) -> None:
    workspace, pair = explained.workspace, explained.pair
    lens = Method(name="lens", options={"positions": ["image"], "sites": ["residual_after"], "measures": ["logit_diff"]})
    about: dict[str, Any] = {"models": ["llava-tiny"], "datasets": ["scenes/color"], "sizes": SIZES, "stages": ["trace"]}
    for _ in range(2):  # a second run computes nothing, and knows it still
        material = run_study(workspace, Study(name="image", tracers=[lens], **about))
        page = study_page_data(workspace.store, find_study(workspace.store, ["image"]), material, [])
        (prompt,) = [one for one in page.content["prompts"] if page.content["samples"][one["sample"]]["id"] == pair.clean.identifier]
        boxes = np.frombuffer(base64.b64decode(page.arrays[prompt["boxes"]["array"]]), "<f4").reshape(-1, 4)
        np.testing.assert_allclose(boxes, np.array(explained.found.prompt.image_boxes), atol=1e-5)


def build(name: str, folder: Path) -> str:
    return name if name.endswith("-tiny") else str(getattr(builders, f"build_{name}")(folder / name))


@pytest.mark.parametrize("name", ["llava-tiny", "instructblip-tiny", "idefics", "instructblip_t5"])
def test_attention_is_that_of_the_librarys_eager_implementation(name: str, tmp_path: Path) -> None:
    model, image = build(name, tmp_path), builders.picture(3)
    question = "Is the cup red?" if name.endswith("-tiny") else "Is the dog red?"
    options = ExplainOptions(_Given(image), question, edited=_Given(builders.picture(4)), answer="Yes", against="No")
    with open_workspace(":memory:", edits=tmp_path / "edits") as workspace:
        found = explain(workspace, model, options, traces=EXPLAINED_TRACES[-1:], heads=())
        prompt = workspace.model(model).model.encode(image, question)
        eager = workspace.registry.load_model(model, device="cpu", attention="eager")
    with torch.no_grad():
        given = eager.module(**eager.collate([prompt]), use_cache=False, output_attentions=True)
    inner = getattr(given, "language_model_outputs", given)
    truth = inner.encoder_attentions if name.endswith("t5") else inner.attentions
    assert len(truth) == len(found.trace("attention_maps", "attention_from_last", "clean", "weight").layers)
    for head in range(truth[0].shape[1]):
        weights = found.trace("attention_maps", f"attention_from_last_head_{head}", "clean", "weight").values
        np.testing.assert_allclose(weights, np.stack([one[0, head, -1].numpy() for one in truth]), atol=1e-5)


@dataclass(frozen=True)
class _Given:
    image: object

    def load(self):  # type: ignore[no-untyped-def]
        return self.image


def test_two_images_that_do_not_differ_are_one_line(explained: Explained) -> None:
    image = explained.pair.clean.image
    with pytest.raises(VseamError, match="same as the image"):
        explain(explained.workspace, "llava-tiny", ExplainOptions(image, "Is the cup red?", edited=image))
