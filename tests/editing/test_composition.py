"""A painter becomes an editor: every pixel outside the mask stays, edits are found again, bad input is a skip with its reason."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vseam_core.api.interfaces import Painter
from vseam_core.api.types import SceneObject
from vseam_core.config.editor_settings import EditorChoice
from vseam_core.editing.building import ChosenPairs, build_editor
from vseam_core.editing.composed import ComposedEditor
from vseam_core.editing.folder import EditFolder
from vseam_core.editing.masks import blending_weights, composited, dilated, mask_boxes, resized_mask
from vseam_core.errors import PluginError, SampleError, UnknownNameError
from vseam_core.plugins.discovery import build_plugins

from .fakes import BOX, SIZE, DrawnImage, FakeMask, FakePainter, FakePlanner, FakePlugin, composed, sample


@pytest.fixture
def folder(tmp_path: Path) -> EditFolder:
    return EditFolder(tmp_path / "edits")


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB")).astype(int)


def slow_dilation(mask: np.ndarray, distance: int) -> np.ndarray:
    """Every pixel, by its distance to every pixel of the mask."""
    inside = np.argwhere(mask)
    found = np.zeros_like(mask)
    for y, x in np.ndindex(mask.shape):
        found[y, x] = min(math.dist((y, x), point) for point in inside) <= distance
    return found


def box_mask() -> np.ndarray:
    mask = np.zeros((SIZE[1], SIZE[0]), dtype=bool)
    mask[8:22, 10:26] = True
    return mask


def test_outside_the_grown_mask_every_pixel_is_the_original_and_inside_the_concept_every_pixel_is_painted(folder: EditFolder) -> None:
    painter = FakePainter()
    pair = composed(folder, painter).edit(sample())
    clean, corrupt = pixels(pair.clean.image.load()), pixels(pair.corrupt.image.load())
    grown = slow_dilation(box_mask(), 3)
    assert pair.mask is not None
    np.testing.assert_array_equal(pair.mask.load(), grown)
    np.testing.assert_array_equal(corrupt[~grown], clean[~grown])
    painted = np.random.default_rng(painter.calls[0][2]).integers(140, 150, 3)
    assert (corrupt[box_mask()] == painted).all()
    rim = grown & ~box_mask()
    low, high = np.minimum(clean[rim], painted), np.maximum(clean[rim], painted)
    assert ((corrupt[rim] >= low) & (corrupt[rim] <= high)).all()
    assert pair.checks["changed_outside"] == 0


def test_the_rim_is_blended_by_its_distance_to_the_outside() -> None:
    core, grown = box_mask(), dilated(box_mask(), 6)
    weights = blending_weights(grown, core, 3)
    outside = np.argwhere(~grown)
    for y, x in [(7, 12), (5, 12), (3, 20), (2, 20), (22, 15), (27, 15)]:
        distance = min(math.dist((y, x), point) for point in outside)
        expected = 0.0 if not grown[y, x] else min(1.0, distance / 4)
        assert weights[y, x] == pytest.approx(expected)
    assert (weights[core] == 1).all()
    assert (weights[~grown] == 0).all()
    assert (blending_weights(grown, core, 0) == grown).all()


def test_compositing_is_exact_where_weights_are_zero_or_one() -> None:
    clean, raw = DrawnImage(1).load(), DrawnImage(2).load()
    weights = np.random.default_rng(0).choice([0.0, 0.25, 1.0], size=(SIZE[1], SIZE[0]))
    result = pixels(composited(clean, raw, weights))
    for y, x in np.ndindex(weights.shape):
        mixed = [weights[y, x] * b + (1 - weights[y, x]) * a for a, b in zip(pixels(clean)[y, x], pixels(raw)[y, x], strict=True)]
        assert [round(value) for value in mixed] == list(result[y, x])


def test_a_image_is_painted_at_the_working_size_and_comes_back_at_its_own(folder: EditFolder) -> None:
    painter = FakePainter(working=(32, 32))
    pair = composed(folder, painter).edit(sample())
    assert painter.calls[0][0] == (32, 32)
    assert pair.corrupt.image.load().size == SIZE
    clean, corrupt = pixels(pair.clean.image.load()), pixels(pair.corrupt.image.load())
    grown = slow_dilation(box_mask(), 3)
    np.testing.assert_array_equal(corrupt[~grown], clean[~grown])
    assert (corrupt[12:18, 14:22] > 130).all()


def test_a_mask_at_a_smaller_size_covers_all_that_it_covered() -> None:
    mask = np.zeros((36, 48), dtype=bool)
    mask[17, 31] = True
    small = resized_mask(mask, (12, 9))
    assert np.argwhere(small).tolist() == [[4, 7]]


def test_a_painter_that_returns_another_size_is_named(folder: EditFolder) -> None:
    class Cropping(FakePainter):
        def paint(self, image, mask, plan, seed):  # type: ignore[no-untyped-def]
            return super().paint(image, mask, plan, seed).crop((0, 0, 5, 5))

    with pytest.raises(PluginError, match=r"painter 'fake' returned an image of 5×5 pixels for one of 48×36"):
        composed(folder, Cropping()).edit(sample())


def test_the_pair_says_what_it_is(folder: EditFolder) -> None:
    pair = composed(folder).edit(sample(metadata={"a": 1}))
    assert (pair.clean.answer, pair.corrupt.answer, pair.clean.competitor, pair.corrupt.competitor) == ("Yes", "No", "No", "Yes")
    assert (pair.source_term, pair.target_term, pair.kind, pair.editor) == ("red", "green", "edit", "fake")
    assert pair.boxes == mask_boxes(slow_dilation(box_mask(), 3)) == ((7.0, 5.0, 29.0, 25.0),)
    record = pair.record
    assert record is not None
    assert (record.planner, record.mask_provider, record.confidence, record.verdict) == ("fake", "fake", 0.75, "passed")
    assert record.prompt == "a green car on a road"
    assert pair.identifier.endswith(f"#fake-edit-{record.key[:12]}")
    assert pair.corrupt.metadata == {"a": 1}


def test_an_edit_is_made_once_and_found_again_by_another_process(folder: EditFolder) -> None:
    first = composed(folder).edit(sample())
    painter, masks = FakePainter(), FakeMask()
    second = composed(EditFolder(folder.path), painter, masks=masks).edit(sample())
    assert (painter.calls, masks.calls) == ([], 0)
    assert second.identifier == first.identifier
    assert second.checks == first.checks
    assert second.record == first.record
    np.testing.assert_array_equal(pixels(second.corrupt.image.load()), pixels(first.corrupt.image.load()))


@pytest.mark.parametrize(
    "change",
    [
        {"painter": FakePainter(strength=2)},
        {"planner": FakePlanner(((11.0, 8.0, 26.0, 22.0),))},
        {"dilation": 4},
        {"feather": 1},
    ],
    ids=["painter", "box", "dilation", "feather"],
)
def test_whatever_changes_the_image_makes_another_edit(folder: EditFolder, change: dict) -> None:
    usual = composed(folder).edit(sample())
    other = composed(folder, **change).edit(sample())
    assert usual.record is not None
    assert other.record is not None
    assert usual.record.key != other.record.key
    assert usual.record.image_path != other.record.image_path


def test_an_option_makes_another_edit_unless_the_painter_says_what_does(folder: EditFolder) -> None:
    class Silent(FakePainter):
        identity = Painter.identity

    def key(painter: Painter, **options: object) -> str:
        record = composed(folder, painter, options=options).edit(sample()).record
        assert record is not None
        return record.key

    assert key(Silent(), device="cpu") != key(Silent(), device="cuda")
    assert key(FakePainter(), device="cpu") == key(FakePainter(), device="cuda")


def test_another_seed_or_image_or_painter_version_makes_another_edit(folder: EditFolder) -> None:
    class Newer(FakePainter):
        version = 2

    pairs = [
        composed(folder).edit(sample()),
        composed(folder).edit(sample(), seed=1),
        composed(folder).edit(sample(image=DrawnImage(9))),
        composed(folder, Newer()).edit(sample()),
    ]
    assert len({pair.record.key for pair in pairs if pair.record}) == 4


def test_images_of_one_study_are_painted_with_seeds_of_their_own_that_repeat(folder: EditFolder, tmp_path: Path) -> None:
    painter, again = FakePainter(), FakePainter()
    for number in range(3):
        composed(folder, painter).edit(sample(number))
        composed(EditFolder(tmp_path / "other"), again).edit(sample(number))
    seeds = [seed for _, _, seed in painter.calls]
    assert len(set(seeds)) == 3
    assert seeds == [seed for _, _, seed in again.calls]


@pytest.mark.parametrize("part", ["image_path", "mask_path", "clean_path"])
@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_damaged_image_is_never_used_but_made_again(folder: EditFolder, part: str, damage: str, caplog) -> None:  # type: ignore[no-untyped-def]
    first = composed(folder).edit(sample())
    path = Path(getattr(first.record, part))
    before = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(before[: len(before) // 2])
    painter = FakePainter()
    second = composed(folder, painter).edit(sample())
    assert len(painter.calls) == 1
    assert "is damaged and is made again" in caplog.text
    assert second.identifier == first.identifier
    assert path.read_bytes() == before


def test_a_damaged_mask_in_the_folder_is_made_again(folder: EditFolder) -> None:
    composed(folder).edit(sample())
    (mask,) = (folder.path / "masks").glob("*.png")
    Image.fromarray(np.full((36, 48), 255, dtype=np.uint8)).save(mask)
    masks = FakeMask()
    composed(folder, masks=masks).edit(sample())
    assert masks.calls == 1


def test_a_damaged_entry_is_made_again(folder: EditFolder) -> None:
    composed(folder).edit(sample())
    (entry,) = folder.path.glob("fake/*.json")
    entry.write_text(entry.read_text()[:100])
    painter = FakePainter()
    composed(folder, painter).edit(sample())
    assert len(painter.calls) == 1


def test_a_full_disk_leaves_nothing_half_written(folder: EditFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    written, original = [], Image.Image.save

    def full(self, file, format):  # type: ignore[no-untyped-def]
        written.append(1)
        if len(written) < 3:
            return original(self, file, format=format)
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space left"):
        composed(folder).edit(sample())
    monkeypatch.setattr(Image.Image, "save", original)
    assert not list(folder.path.rglob("*.part"))
    assert not list(folder.path.rglob("*.json"))
    composed(folder).edit(sample())
    assert len(list(folder.path.rglob("*.json"))) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"masks": FakeMask(empty=True)}, "mask provider fake: the mask is empty"),
        ({"masks": FakeMask(trim=2)}, "the mask is 48×34 pixels large, the image 48×36"),
        ({"planner": FakePlanner(((50.0, 0.0, 60.0, 9.0),))}, r"the box \(50, 0, 60, 9\) lies outside the image of 48×36 pixels"),
        ({"planner": FakePlanner(((9.0, 0.0, 3.0, 9.0),))}, r"\(9, 0, 3, 9\) is no box"),
        ({"planner": FakePlanner(((math.nan, 0.0, 3.0, 9.0),))}, "is no box"),
        ({"planner": FakePlanner(answer="yes")}, "the edit would leave the answer 'Yes' as it is"),
    ],
)
def test_what_cannot_be_edited_is_a_skip_with_its_reason(folder: EditFolder, change: dict, reason: str) -> None:
    with pytest.raises(SampleError, match=reason):
        composed(folder, **change).edit(sample())


def test_questions_images_and_plans_that_cannot_be_used_are_skips(folder: EditFolder, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    from vseam_core.datasets.images import FileImage
    from vseam_core.editing import composed as module

    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    for bad, reason in [
        (sample(question="Why?"), "no rule reads"),
        (sample(image=FileImage(broken)), "cannot be read"),
        (sample(image=FileImage(tmp_path / "gone.png")), "gone.png: no such image; it was moved or deleted"),
        (sample(question="Is the car unpaintable?"), "cannot be painted"),
    ]:
        with pytest.raises(SampleError, match=reason):
            composed(folder).edit(bad)
    with pytest.raises(SampleError, match="does not say what the answer"):
        composed(folder, planner=FakePlanner(answer=None)).edit(sample(answer="red", competitor=None))
    monkeypatch.setattr(module, "MOST_PIXELS", 100)
    with pytest.raises(SampleError, match="48×36 pixels, more than 100"):
        composed(folder).edit(sample())


def test_an_identifier_never_becomes_a_path(folder: EditFolder) -> None:
    for identifier in ("../../etc/passwd", "a/b\\c", "..", "x" * 500, "\x00nul"):
        pair = composed(folder).edit(sample(identifier=identifier))
        assert pair.record is not None
        path = Path(pair.record.image_path)
        assert path.parent == folder.path / "fake"
        assert ".." not in path.name
        assert len(path.name) < 150


def test_a_plugin_may_supply_a_painter_and_is_asked_for_by_name(folder: EditFolder, caplog: pytest.LogCaptureFixture) -> None:
    plugins = build_plugins(local={"fakes": FakePlugin()})
    editor = build_editor(plugins, EditorChoice(name="fake", planner="fake", mask="fake", options={"outside": 0}), folder)
    assert isinstance(editor, ComposedEditor)
    assert editor.edit(sample()).checks["raw_psnr_outside"] == 100.0
    assert build_editor(plugins, EditorChoice(), folder).name == "scenes"
    assert not caplog.messages
    assert build_editor(plugins, EditorChoice(planner="fake"), folder).name == "scenes"
    assert caplog.messages == ["editor 'scenes' plans and masks by itself: planner 'fake' is for painters, and not used"]
    with pytest.raises(UnknownNameError, match="unknown edit planner 'fak'; did you mean 'fake'"):
        build_editor(plugins, EditorChoice(name="fake", planner="fak", mask="fake"), folder)


def test_controls_repaint_the_concept_or_edit_as_much_elsewhere(folder: EditFolder) -> None:
    painter = FakePainter()
    editor = composed(folder, painter)
    edit, repaint, elsewhere = editor.edit(sample()), *editor.controls(sample())
    assert (repaint.kind, repaint.record.control, elsewhere.record.control) == ("control", "repaint", "elsewhere")  # type: ignore[union-attr]
    assert repaint.corrupt.answer == elsewhere.corrupt.answer == "Yes"
    assert painter.calls[1][1].region_prompt == "a red car"
    assert painter.calls[2][1].region_prompt == "green surface"
    masks = [pair.mask.load() for pair in (edit, repaint, elsewhere)]  # type: ignore[union-attr]
    np.testing.assert_array_equal(masks[0], masks[1])
    assert masks[2].sum() == masks[0].sum()
    assert not (masks[2] & masks[0]).any()
    assert len({pair.identifier for pair in (edit, repaint, elsewhere)}) == 3
    assert editor.control(sample()) == elsewhere


def test_a_control_edits_another_object_of_similar_size_where_one_is_annotated(folder: EditFolder) -> None:
    dog = SceneObject("dog", (32.0, 10.0, 46.0, 34.0))
    flea = SceneObject("flea", (1.0, 1.0, 3.0, 3.0))
    overlapping = SceneObject("wheel", (20.0, 10.0, 40.0, 24.0))
    painter = FakePainter()
    editor = composed(folder, painter, dilation=0, feather=0)
    pair = editor.control(sample(others=(flea, overlapping, dog)))
    assert pair is not None
    assert (pair.source_term, pair.target_term) == ("dog", "green")
    assert pair.boxes == (dog.box,)
    assert "does not ask about (dog)" in pair.record.plan["reason"]  # type: ignore[union-attr]


def test_controls_are_made_by_cheap_painters_unless_told_otherwise(folder: EditFolder) -> None:
    class Dear(FakePainter):
        is_cheap = False

    assert composed(folder, Dear()).control(sample()) is None
    assert composed(folder, Dear(), controls=True).control(sample()) is not None
    assert composed(folder, controls=False).controls(sample()) == []
    everything = composed(folder, planner=FakePlanner(((0.0, 0.0, 48.0, 36.0),)))
    assert [pair.record.control for pair in everything.controls(sample()) if pair.record] == ["repaint"]


def test_only_passing_or_accepted_pairs_can_be_used(folder: EditFolder) -> None:
    good, bad = composed(folder), composed(folder, FakePainter(outside=90))
    assert ChosenPairs(good, False, lambda pair: False).edit(sample()).record.verdict == "passed"  # type: ignore[union-attr]
    with pytest.raises(SampleError, match="failed its checks: the painter changed the rest of the image too"):
        ChosenPairs(bad, False, lambda pair: True).edit(sample())
    with pytest.raises(SampleError, match="nobody accepted this edit"):
        ChosenPairs(good, True, lambda pair: False).edit(sample())
    assert ChosenPairs(bad, True, lambda pair: True).edit(sample()).editor == "fake"


def test_the_box_of_a_plan_is_in_the_image_when_part_of_it_is(folder: EditFolder) -> None:
    pair = composed(folder, planner=FakePlanner(((40.0, 30.0, 60.0, 50.0),))).edit(sample())
    assert pair.boxes[0][2:] == (48.0, 36.0)
    assert BOX[0] < pair.boxes[0][0]
