"""Images that were edited elsewhere: found by a pattern that no sample can lead astray, masked by what differs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from vseam_core.config.editor_settings import EditorChoice
from vseam_core.datasets.images import FileImage
from vseam_core.editing.building import build_editor
from vseam_core.editing.differences import difference_mask
from vseam_core.editing.folder import EditFolder
from vseam_core.errors import SampleError, VseamError
from vseam_core.plugins.discovery import build_plugins
from vseam_plugins.editors.precomputed import PrecomputedImages

from .fakes import sample

SIZE = (240, 180)


def photograph(seed: int = 0) -> Image.Image:
    """Smooth texture, as a photograph has."""
    noise = np.random.default_rng(seed).integers(0, 256, (SIZE[1], SIZE[0], 3)).astype(np.uint8)
    return Image.fromarray(noise).filter(ImageFilter.GaussianBlur(3))


def repainted(clean: Image.Image, box: tuple[int, int, int, int], seed: int = 1) -> Image.Image:
    """What a generator returns: another thing in the box, and small changes of every other pixel."""
    pixels = np.asarray(clean).astype(int) + np.random.default_rng(seed).normal(0, 4, (SIZE[1], SIZE[0], 3)).round().astype(int)
    picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    ImageDraw.Draw(picture).ellipse(box, fill=(200, 40, 30))
    return picture


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "published"
    (folder / "corrupt" / "17").mkdir(parents=True)
    photograph().save(folder / "clean.png")
    repainted(photograph(), (60, 50, 130, 120)).save(folder / "corrupt" / "17" / "17.png")
    return folder


def pattern() -> str:
    return "corrupt/{question_id}/{question_id}.png"


def asked(pictures: Path, **changes: object):  # type: ignore[no-untyped-def]
    return sample(**{"question_id": "17", "image": FileImage(pictures / "clean.png"), "objects": (), **changes})


def edited(pictures: Path, tmp_path: Path, question=None, **options: object):  # type: ignore[no-untyped-def]
    choice = EditorChoice(name="precomputed", options={"folder": str(pictures), "images": pattern(), **options})
    editor = build_editor(build_plugins(select=["editors"]), choice, EditFolder(tmp_path / "edits"))
    return editor.edit(question or asked(pictures))


def test_a_published_image_becomes_a_pair_whose_outside_is_the_original(pictures: Path, tmp_path: Path) -> None:
    pair = edited(pictures, tmp_path, asked(pictures, metadata={"source_term": "ball", "target_term": "sun"}))
    clean, corrupt = (np.asarray(side.image.load()) for side in (pair.clean, pair.corrupt))
    mask = pair.mask.load()
    assert (pair.corrupt.answer, pair.source_term, pair.target_term) == ("No", "ball", "sun")
    np.testing.assert_array_equal(corrupt[~mask], clean[~mask])
    raw = np.asarray(Image.open(pictures / "corrupt" / "17" / "17.png"))
    assert (corrupt[80:90, 90:100] == raw[80:90, 90:100]).all()
    assert pair.record.verdict == "passed"
    assert 30 < pair.checks["raw_psnr_outside"] < 40


def test_the_region_is_found_within_a_few_pixels() -> None:
    box = (60, 50, 130, 120)
    truth = Image.new("L", SIZE)
    ImageDraw.Draw(truth).ellipse(box, fill=255)
    inside = np.asarray(truth) > 0
    found = difference_mask(photograph(), repainted(photograph(), box))
    assert found[inside].mean() > 0.99
    near = Image.fromarray(inside.astype(np.uint8) * 255).filter(ImageFilter.MaxFilter(19))
    assert not (found & (np.asarray(near) == 0)).any()


def test_a_image_that_is_the_same_again_is_a_skip() -> None:
    with pytest.raises(SampleError, match="does not differ visibly"):
        difference_mask(photograph(), photograph())
    with pytest.raises(SampleError, match="does not differ visibly"):
        difference_mask(photograph(), photograph(), threshold=5.0)


def test_a_threshold_of_ones_own_decides_by_tone_alone() -> None:
    changed = photograph()
    changed.paste(Image.eval(photograph().crop((60, 50, 130, 120)), lambda value: min(255, value + 30)), (60, 50))
    assert difference_mask(photograph(), changed, threshold=10.0)[60:110, 70:120].all()
    with pytest.raises(SampleError):
        difference_mask(photograph(), changed, threshold=40.0)


def test_a_image_of_another_size_is_brought_to_that_of_the_original(pictures: Path, tmp_path: Path) -> None:
    path = pictures / "corrupt" / "17" / "17.png"
    Image.open(path).resize((512, 384)).save(path)
    pair = edited(pictures, tmp_path)
    assert pair.corrupt.image.load().size == SIZE
    assert pair.checks["changed_outside"] == 0


def test_without_compositing_the_image_stays_as_it_is_and_the_check_says_so(pictures: Path, tmp_path: Path) -> None:
    pair = edited(pictures, tmp_path, composites=False)
    raw = np.asarray(Image.open(pictures / "corrupt" / "17" / "17.png"))
    np.testing.assert_array_equal(np.asarray(pair.corrupt.image.load()), raw)
    assert pair.record.verdict == "failed"
    assert "pixels outside the mask changed" in pair.record.reason


def test_a_mask_of_ones_own_is_used(pictures: Path, tmp_path: Path) -> None:
    mask = Image.new("L", SIZE)
    ImageDraw.Draw(mask).rectangle((10, 10, 49, 29), fill=255)
    mask.save(pictures / "17-mask.png")
    choice = {"folder": str(pictures), "images": pattern(), "masks": "{question_id}-mask.png"}
    editor = build_editor(
        build_plugins(select=["editors"]), EditorChoice(name="precomputed", options=choice, dilation=0), EditFolder(tmp_path / "edits")
    )
    assert editor.edit(asked(pictures)).boxes == ((10.0, 10.0, 50.0, 30.0),)


def test_a_changed_image_makes_another_edit(pictures: Path, tmp_path: Path) -> None:
    first = edited(pictures, tmp_path)
    repainted(photograph(), (20, 50, 90, 120)).save(pictures / "corrupt" / "17" / "17.png")
    assert edited(pictures, tmp_path).identifier != first.identifier


@pytest.mark.parametrize("identifier", ["../../secret", "..", ".", "", "a/b", "a\\b", "a\x00b", ".hidden"])
def test_an_identifier_that_is_no_name_never_becomes_a_path(pictures: Path, tmp_path: Path, identifier: str) -> None:
    with pytest.raises(SampleError, match=r"question_id .* cannot be part of a path"):
        edited(pictures, tmp_path, asked(pictures, question_id=identifier))


def test_what_is_missing_is_a_skip_with_its_reason(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(SampleError, match=r"no edited image at .*published/corrupt/18/18\.png"):
        edited(pictures, tmp_path, asked(pictures, question_id="18"))
    with pytest.raises(SampleError, match="has no 'questio_id' for the path of its image; did you mean 'question_id'"):
        edited(pictures, tmp_path, **{"masks": "{questio_id}.png"})
    with pytest.raises(SampleError, match="does not say what the answer"):
        edited(pictures, tmp_path, asked(pictures, answer="red", competitor=None))
    assert edited(pictures, tmp_path, asked(pictures, answer="red", competitor=None, metadata={"corrupt_answer": "blue"}))


BAD_PATTERNS = (
    *("all.png", "{question_id.__class__}.png", "{question_id!r}.png", "{question_id:>9}"),
    *("/etc/{question_id}", "../{question_id}", "{"),
)


@pytest.mark.parametrize("bad", BAD_PATTERNS)
def test_a_pattern_that_cannot_be_used_is_refused_before_any_work(pictures: Path, bad: str) -> None:
    with pytest.raises(VseamError, match="precomputed: the pattern"):
        PrecomputedImages(bad, str(pictures))


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VseamError, match="there is no folder"):
        PrecomputedImages("{question_id}.png", str(tmp_path / "nowhere"))
