"""Small images of what was measured are kept in the database, once each, and only where they are wanted."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tests.store.builders import run_spec, sample
from vseam_core.api.types import Pair
from vseam_core.errors import SampleError
from vseam_core.experiments.thumbnails import LONGEST, keep_thumbnails, thumbnail_of
from vseam_core.runs.spec import UnitResult
from vseam_core.runs.workspace import Workspace, open_workspace
from vseam_core.store.query import run_query


class Shown:
    """An image in memory that counts how often it is loaded; `None` cannot be read."""

    def __init__(self, image: Image.Image | None):
        self.image, self.loads = image, 0

    def load(self) -> Image.Image:
        self.loads += 1
        if self.image is None:
            raise SampleError("no image: /nowhere/1.png")
        return self.image


class Mask:
    def __init__(self, pixels: np.ndarray):
        self.pixels = pixels

    def load(self) -> np.ndarray:
        return self.pixels


def wide(red: int) -> Image.Image:
    return Image.fromarray(np.full((200, 400, 3), (red, 90, 30), dtype=np.uint8))


@pytest.fixture
def workspace(tmp_path):
    with open_workspace(tmp_path / "results.db") as opened:
        yield opened


def pair_of(clean: Shown, edited: Shown, mask: np.ndarray | None = None) -> Pair:
    first = sample(0, image=clean)
    second = sample(0, identifier=f"{first.identifier}/edit", answer="No", competitor="Yes", image=edited)
    return Pair(first, second, ((1, 2, 8, 9),), "scenes", "red", "blue", mask=None if mask is None else Mask(mask))


def stored(workspace: Workspace, pairs: list[Pair]) -> None:
    run = workspace.store.ensure_run(run_spec())
    workspace.store.save(run, [UnitResult(f"key-{number}", "unit", pairs=(pair,)) for number, pair in enumerate(pairs)])


def images_of(workspace: Workspace) -> dict[str, object]:
    columns, rows, _ = run_query(workspace.store.label, "SELECT * FROM edit_images")
    return dict(zip(columns, rows[0], strict=True))


def test_a_pair_keeps_its_clean_image_its_edited_image_and_its_mask(workspace):
    mask = np.zeros((200, 400), dtype=bool)
    mask[20:60, 100:200] = True
    pair = pair_of(Shown(wide(200)), Shown(wide(20)), mask)
    stored(workspace, [pair])
    keep_thumbnails(workspace, pairs=[pair])
    found = images_of(workspace)
    assert (found["image_width"], found["image_height"]) == (400, 200)
    shown = {name: Image.open(io.BytesIO(found[name])) for name in ("clean_image", "edited_image", "mask_image")}
    assert all(image.format == "WEBP" and image.size == (LONGEST, LONGEST // 2) for image in shown.values())
    assert abs(int(np.asarray(shown["clean_image"])[..., 0].mean()) - 200) < 4
    assert abs(int(np.asarray(shown["edited_image"])[..., 0].mean()) - 20) < 4
    white = np.asarray(shown["mask_image"])[..., 0] > 127
    assert white.mean() == pytest.approx(mask.mean(), rel=0.1)
    assert white[16, 60]


def test_equal_images_are_stored_once_and_no_image_is_loaded_twice(workspace):
    image = Shown(wide(80))
    pair = pair_of(image, image)
    stored(workspace, [pair])
    keep_thumbnails(workspace, pairs=[pair])
    assert workspace.store.info()["counts"]["thumbnails"] == 1
    loads = image.loads
    keep_thumbnails(workspace, pairs=[pair])
    assert image.loads == loads


def test_an_image_that_cannot_be_read_leaves_the_others(workspace):
    pair = pair_of(Shown(None), Shown(wide(20)))
    stored(workspace, [pair])
    keep_thumbnails(workspace, pairs=[pair])
    found = images_of(workspace)
    assert found["clean_image"] is None
    assert found["edited_image"] is not None


def test_nothing_is_kept_where_thumbnails_are_switched_off(tmp_path):
    with open_workspace(tmp_path / "results.db", thumbnails=False) as workspace:
        image = Shown(wide(80))
        pair = pair_of(image, image)
        stored(workspace, [pair])
        keep_thumbnails(workspace, pairs=[pair])
        assert image.loads == 0
        assert workspace.store.info()["counts"]["thumbnails"] == 0


def test_noise_takes_fewer_bytes_and_is_still_told_from_other_noise():
    random = np.random.default_rng(0)
    noisy = [Image.fromarray(random.integers(0, 256, (120, 120, 3), dtype=np.uint8)) for _ in range(2)]
    small = [thumbnail_of(image) for image in noisy]
    plain = io.BytesIO()
    noisy[0].save(plain, format="WEBP", quality=60)
    assert all(len(one.data) < 0.7 * len(plain.getvalue()) for one in small)
    shown = [np.asarray(Image.open(io.BytesIO(one.data)).convert("L"), dtype=float).ravel() for one in small]
    meant = [np.asarray(image.convert("L"), dtype=float).ravel() for image in noisy]
    alike = np.corrcoef([*shown, *meant])[:2, 2:]
    assert alike[0, 0] > 0.7 > 0.2 > abs(alike[0, 1])
    smooth = Image.fromarray(np.tile(np.arange(120, dtype=np.uint8)[:, None], (1, 120))).convert("RGB")
    assert np.abs(np.asarray(Image.open(io.BytesIO(thumbnail_of(smooth).data)), dtype=float) - np.asarray(smooth)).mean() < 2


def test_a_small_image_keeps_its_size():
    assert Image.open(io.BytesIO(thumbnail_of(Image.new("RGB", (30, 20))).data)).size == (30, 20)
