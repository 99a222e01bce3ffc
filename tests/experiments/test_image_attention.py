"""Where heads look in a scanned image: kept beside the scan, laid over the image, and the same as the library's eager attention."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from tests.experiments.conftest import SIZES, small_study
from vseam_core.experiments.encoding import encode_sample
from vseam_core.experiments.study.run import run_study
from vseam_core.report.data.looks import ATTENTION_BYTES
from vseam_core.report.data.study import study_page_data
from vseam_core.report.tables.closing import closing_tables
from vseam_core.results.image_attention import MOST_BYTES, NAME, attention_of, attention_over_image, grid_of, overlaps
from vseam_core.results.stored_study import find_study, read_material
from vseam_core.results.study_results import StudyMaterial
from vseam_core.runs.workspace import Workspace, open_workspace

STUDY = small_study(
    datasets=["scenes/color"],
    sizes=SIZES.model_copy(update={"pairs": 4, "score": 8, "hard": 0, "scan_sampled": 6, "scan_wrong": 0}),
    stages=["scan", "report"],
)
SQUARES = [(x / 4, y / 3, (x + 1) / 4, (y + 1) / 3) for y in range(3) for x in range(4)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, StudyMaterial]]:
    with open_workspace(tmp_path_factory.mktemp("looking") / "results.db", device="cpu") as workspace:
        yield workspace, run_study(workspace, STUDY)


def kept_beside(workspace: Workspace, operation: str) -> dict[str, dict]:
    """What the units of the scans by an operation keep, by sample."""
    runs = workspace.store.runs(method="head_scan")
    chosen = [int(row["id"]) for row in runs.to_dict("records") if row["configuration"]["operation"]["name"] == operation]
    with workspace.store.reading() as connection:
        query = f"SELECT identifier, details FROM units WHERE status = 'done' AND run_id IN ({', '.join(map(str, chosen))})"
        return {name: json.loads(details) for name, details in connection.exec_driver_sql(query)}


def test_positions_that_are_a_grid_are_its_cells():
    assert grid_of(SQUARES, 1000) == (3, 4)
    np.testing.assert_allclose(overlaps(SQUARES, 3, 4), np.eye(12), atol=1e-12)


def test_every_position_gives_each_cell_its_share_by_area_and_all_of_itself():
    boxes = [(0.0, 0.0, 0.5, 1.0), (0.4, 0.2, 0.9, 0.7), (0.0, 0.0, 0.0, 0.0)]
    found = overlaps(boxes, 5, 10).reshape(3, 5, 10)
    # Counted point by point.
    points = [((x + 0.5) / 1000, (y + 0.5) / 1000) for x, y in itertools.product(range(400, 900, 5), range(200, 700, 5))]
    counted = np.zeros((5, 10))
    for x, y in points:
        counted[int(y * 5), int(x * 10)] += 1 / len(points)
    np.testing.assert_allclose(found[1], counted, atol=1e-9)
    np.testing.assert_allclose(found.sum((1, 2)), [1, 1, 0], atol=1e-12)


def test_with_many_heads_the_grid_is_coarser_and_a_map_adds_up_to_the_same():
    boxes = [(x / 24, y / 24, (x + 1) / 24, (y + 1) / 24) for y in range(24) for x in range(24)]
    weights = np.random.default_rng(0).random((32, 32, 576))
    found = attention_over_image(weights, boxes)
    assert found.steps.nbytes <= MOST_BYTES
    assert found.steps.shape == (32, 32, 8, 8)
    np.testing.assert_allclose(found.values.sum((2, 3)), weights.sum(-1), rtol=2e-3)
    assert grid_of([*SQUARES, (0.1, 0.1, 0.2, 0.2)], 1000) == (12, 12), "tiles that overlap are no grid"


@pytest.mark.parametrize(
    "record", [None, {}, {"steps": "?", "largest": [], "shape": [1]}, {"steps": "AAAA", "largest": [[1.0]], "shape": [1, 1, 1]}]
)
def test_what_cannot_be_read_is_not_there(record):
    assert attention_of(record) is None


def test_a_head_that_does_not_look_at_the_image_has_an_empty_map():
    found = attention_of(json.loads(json.dumps(attention_over_image(np.zeros((1, 2, 12)), SQUARES).record())))
    assert found is not None
    assert not found.values.any()


def test_what_a_scan_keeps_is_eager_attention_from_the_last_position_and_the_question(finished):
    workspace, _ = finished
    kept, loaded = kept_beside(workspace, "resample"), workspace.model("llava-tiny")
    assert kept
    assert all(NAME in details for details in kept.values())
    sample = next(one for one in workspace.benchmark("scenes/color").samples("score", "plain", None, 0) if one.identifier in kept)
    prompt, module = encode_sample(loaded, sample).prompt, loaded.model.module
    used = module.config._attn_implementation
    module.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            read = module(**loaded.model.collate([prompt]), use_cache=False, output_attentions=True).attentions
    finally:
        module.set_attn_implementation(used)
    for looks_from in ("last", "question"):
        found = attention_of(kept[sample.identifier][NAME][looks_from])
        assert found is not None
        same_as_eager(found, prompt, read, list(prompt.positions(looks_from)))


def same_as_eager(found, prompt, read, asked):
    layers, heads, rows, columns = found.steps.shape
    truth = np.zeros((layers, heads, rows, columns))
    for position, (x0, y0, _, _) in zip(prompt.positions("image"), prompt.image_boxes, strict=True):
        for layer in range(layers):
            truth[layer, :, round(y0 * rows), round(x0 * columns)] += read[layer][0, :, asked, position].numpy().mean(-1)
    assert (layers, heads, rows * columns) == (6, 8, len(prompt.image_boxes))
    np.testing.assert_allclose(found.values, truth, atol=1.1 * truth.max() / 510 + 1e-6)
    np.testing.assert_allclose(found.largest, truth.max((2, 3)), rtol=1e-3, atol=1e-6)


def test_a_scan_for_parity_keeps_it_not_once_more(finished):
    assert not any(kept_beside(finished[0], "mean_of_others").values())


def test_the_page_holds_it_for_every_scanned_sample_and_the_heads_that_stand_out(finished, monkeypatch):
    workspace, _ = finished
    chosen = find_study(workspace.store, ["small"])
    material = read_material(workspace.store, chosen)
    page = study_page_data(workspace.store, chosen, material, closing_tables(material))
    scanned = {
        scan["dataset"]: scan["effects"]["sample"]["shape"][0]
        for scan in page.content["scans"]
        if scan["operation"] == "resample" and scan["effects"]
    }
    held = {entry["dataset"]: entry for entry in page.content["attention"] if entry["from"] == "question"}
    assert len(page.content["attention"]) == 2 * len(held)
    assert {name: entry["sample"]["shape"][0] for name, entry in held.items()} == scanned
    assert all(len(entry["heads"]) == entry["of"] == 48 for entry in held.values())
    assert sum(len(page.arrays[entry["steps"]["array"]]) for entry in held.values()) < ATTENTION_BYTES
    monkeypatch.setattr("vseam_core.report.data.looks.ATTENTION_BYTES", 1)
    page = study_page_data(workspace.store, chosen, material, closing_tables(material))
    kept = {(entry["dataset"], head) for entry in page.content["attention"] for head in entry["heads"]}
    assert len(kept) == 4 * len(held)
    for scan in material.heads:
        assert (scan.dataset, int(np.abs(scan.claims.frame["support"].to_numpy(dtype=float)).argmax())) in kept
