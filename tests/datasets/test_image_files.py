"""Image files are read as they are meant: scale, orientation, transparency, frames, masks; what is none is refused with the reason."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vseam_core.datasets import image_files
from vseam_core.datasets.checking import check_dataset
from vseam_core.datasets.image_files import read_image, read_mask
from vseam_core.datasets.images import FileImage, MissingImage, image_folders
from vseam_core.errors import SampleError
from vseam_plugins.benchmarks.table import TableBenchmark

GREY = np.array([[0, 64], [128, 255]], dtype=np.uint8)


def pixels(path: Path) -> np.ndarray:
    image = read_image(path, path.name)
    assert image.mode == "RGB"
    return np.asarray(image)


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("16bit.png", GREY.astype(np.uint16) * 257),
        ("16bit.tif", GREY.astype(np.uint16) * 257),
        ("float.tif", GREY.astype(np.float32) / 255),
        ("8bit.png", GREY),
        ("8bit.bmp", GREY),
    ],
)
def test_pixels_of_any_depth_come_out_as_8_bits(tmp_path: Path, name: str, array: np.ndarray) -> None:
    found = pixels(saved(tmp_path / name, Image.fromarray(array)))
    assert (found == GREY[..., None]).all()


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (GREY.astype(np.int32) * 70_000, "32-bit whole numbers"),
        (GREY.astype(np.float32), "float pixels outside 0 to 1"),
        (np.full((2, 2), np.nan, dtype=np.float32), "float pixels outside 0 to 1"),
    ],
)
def test_pixels_without_a_known_white_are_refused_with_the_reason(tmp_path: Path, array: np.ndarray, reason: str) -> None:
    with pytest.raises(SampleError, match=reason):
        pixels(saved(tmp_path / "x.tif", Image.fromarray(array)))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.webp"])
def test_an_image_stored_sideways_is_read_upright(tmp_path: Path, orientation: int, name: str) -> None:
    upright = np.zeros((16, 32, 3), dtype=np.uint8)
    upright[:8, :16] = 255  # white in the upper left corner only
    # How a camera stores it for each value of the tag (the inverse of what a viewer does).
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.transpose(1, 0, 2), 6: np.rot90(upright),
        7: upright.transpose(1, 0, 2)[::-1, ::-1], 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / name, Image.fromarray(np.ascontiguousarray(stored)), exif=exif, **({"quality": 95} if name != "x.png" else {}))
    found = pixels(path)
    assert found.shape == upright.shape
    assert np.abs(found.astype(int) - upright).mean() < 3
    assert bool(read_image(path, "x").info["notes"]) is (orientation != 1)


def test_transparent_parts_are_white(tmp_path: Path) -> None:
    drawing = np.zeros((4, 4, 4), dtype=np.uint8)
    drawing[1, 1, 3] = 255  # one opaque black pixel; the rest is transparent, and black below
    expected = np.full((4, 4, 3), 255, dtype=np.uint8)
    expected[1, 1] = 0
    rgba = Image.fromarray(drawing)
    palette = Image.fromarray((drawing[..., 3] > 0).astype(np.uint8), "P")
    palette.putpalette([0, 0, 0, 0, 0, 0])
    files = [
        saved(tmp_path / "rgba.png", rgba), saved(tmp_path / "la.png", rgba.convert("LA")), saved(tmp_path / "x.webp", rgba, lossless=True),
        saved(tmp_path / "p.png", palette, transparency=0), saved(tmp_path / "p.gif", palette, transparency=0),
    ]  # fmt: skip
    for file in files:
        assert (pixels(file) == expected).all(), file.name


def test_of_an_animated_image_the_first_frame_is_read_and_that_is_said(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue", "lime")]
    for name in ("x.gif", "x.webp", "x.tif", "x.png"):
        path = saved(
            tmp_path / name, frames[0], save_all=True, append_images=frames[1:], **({"lossless": True} if name == "x.webp" else {})
        )
        assert (pixels(path) == (255, 0, 0)).all(), name
        assert read_image(path, name).info["notes"] == ("3 frames, the first is read",)
    table = tmp_path / "own.csv"
    table.write_text("question,answer,image\nIs it red?,yes,x.gif\n")
    found = check_dataset(TableBenchmark(questions=table).samples("all"), open_images=True)
    assert found.problems["images read with a remark"].count == 1


def test_only_six_formats_are_opened(tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 4), "red")
    for kind in ("PPM", "TGA", "ICO", "PCX", "EPS"):
        with pytest.raises(SampleError, match="JPEG, PNG, WEBP, BMP, GIF, TIFF"):
            read_image(saved(tmp_path / f"{kind}.png", image, format=kind), kind)


def test_only_plain_files_of_a_bounded_size_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    for name, reason in (("pipe.png", "a pipe, device or socket"), ("folder.png", "a folder"), ("gone.png", "no such image")):
        with pytest.raises(SampleError, match=reason):
            FileImage(tmp_path / name).load()
    path = saved(tmp_path / "x.png", Image.new("RGB", (4, 4)))
    monkeypatch.setattr(image_files, "MOST_BYTES", 10)
    with pytest.raises(SampleError, match="more than the 10 that are read"):
        FileImage(path).load()


def test_a_cut_file_is_a_sample_error(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(buffer, "JPEG")
    with pytest.raises(SampleError, match="x: cannot be read as an image"):
        read_image(buffer.getvalue()[:600], "x")


SHAPE = np.array([[0, 1, 1], [0, 1, 0]], dtype=np.uint8)


def label_image(colours: list[int]) -> Image.Image:
    image = Image.fromarray(SHAPE, "P")
    image.putpalette(colours)
    return image


def with_alpha(colour: np.ndarray, alpha: np.ndarray) -> Image.Image:
    return Image.fromarray(np.dstack([np.broadcast_to(colour[..., None], (2, 3, 3)), alpha]).astype(np.uint8))


MASKS: dict[str, tuple[Image.Image, np.ndarray]] = {
    "white on black": (Image.fromarray(SHAPE * 255), SHAPE),
    "zeros and ones": (Image.fromarray(SHAPE), SHAPE),
    "dark grey on black": (Image.fromarray(SHAPE * 40), SHAPE),
    "labels": (Image.fromarray(SHAPE * np.array([[0, 1, 2], [0, 3, 0]], dtype=np.uint8)), SHAPE),
    "16 bit": (Image.fromarray(SHAPE.astype(np.uint16) * 65535), SHAPE),
    "16 bit, zeros and ones": (Image.fromarray(SHAPE.astype(np.uint16)), SHAPE),
    "one bit": (Image.fromarray(SHAPE * 255).convert("1"), SHAPE),
    "soft edge": (Image.fromarray(np.array([[0, 200, 255], [90, 255, 10]], dtype=np.uint8)), SHAPE),
    "colour palette": (label_image([0, 0, 0, 128, 0, 0]), SHAPE),
    "black and white palette": (label_image([255, 255, 255, 0, 0, 0]), 1 - SHAPE),
    "opaque white on transparent": (with_alpha(np.full((2, 3), 255), SHAPE * 255), SHAPE),
    "opaque black on transparent": (with_alpha(np.zeros((2, 3)), SHAPE * 255), SHAPE),
    "white on black, all opaque": (with_alpha(SHAPE * 255, np.full((2, 3), 255)), SHAPE),
    "white on black, the rest transparent": (with_alpha(SHAPE * 255, np.array([[255, 255, 255], [0, 255, 255]])), SHAPE),
    "all white": (Image.new("L", (3, 2), 255), np.ones((2, 3))),
    "all black": (Image.new("L", (3, 2), 0), np.zeros((2, 3))),
}


@pytest.mark.parametrize("kind", MASKS)
def test_a_mask_is_read_as_it_is_meant(tmp_path: Path, kind: str) -> None:
    image, expected = MASKS[kind]
    assert (read_mask(saved(tmp_path / "mask.png", image), kind) == expected.astype(bool)).all()


def test_images_named_by_a_path_are_found_below_images_or_beside_the_question_file(tmp_path: Path) -> None:
    for name in ("images/pics/1.png", "pics/2.png", "3.png", "secret.png"):
        saved(tmp_path / "data" / name, Image.new("RGB", (4, 3), "red"))
    saved(tmp_path / "outside.png", Image.new("RGB", (4, 3), "red"))
    folders = image_folders(tmp_path / "data" / "images", beside=tmp_path / "data")
    for name in ("pics/1.png", "pics/1.jpg", "pics/2.png", "./3.png", str(tmp_path / "data/images/pics/1.png")):
        assert isinstance(folders.find(name), FileImage), name
    for name in ("../outside.png", "pics/../../outside.png", str(tmp_path / "outside.png"), "pics/1.png\0", "x" * 5000 + "/1.png"):
        assert isinstance(folders.find(name), MissingImage), name
    rows = f"question,answer,image\nIs it?,yes,{tmp_path}/outside.png\nIs it?,yes,pics/2.png\n"
    (tmp_path / "data" / "own.csv").write_text(rows)
    samples = list(TableBenchmark(questions=tmp_path / "data" / "own.csv").samples("all"))
    assert [sample.image.load().size for sample in samples] == [(4, 3), (4, 3)]
