"""Painters without weights: what they change, what they leave, and what they refuse."""

from __future__ import annotations

import colorsys
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from vseam_core.api.interfaces import EditPlan
from vseam_core.errors import PluginError, SampleError, VseamError
from vseam_core.plugins.discovery import build_plugins
from vseam_core.plugins.records import EditorRecord
from vseam_plugins.editors.pixels import BlurPainter, GreyPainter, NoisePainter, PixelPainter
from vseam_plugins.editors.recolor import RecolorPainter

from .images import ball

PAINTERS = {"noise": NoisePainter, "blur": BlurPainter, "grey": GreyPainter, "recolor": RecolorPainter}
SOURCES = {"white": (236, 236, 236), "red": (200, 30, 35), "black": (34, 34, 36), "brown": (120, 72, 40), "blue": (40, 80, 190)}
# Hue in degrees that a person expects.
HUES = {"red": 0, "blue": 220, "green": 125, "yellow": 50, "purple": 280, "orange": 28, "pink": 340, "brown": 25}


def plan(source: str, target: str) -> EditPlan:
    return EditPlan(source, target, f"a {target} ball", None)


def painted(painter: PixelPainter, source: str, target: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pixels before and after, and the mask."""
    image, mask = ball(SOURCES[source])
    return np.asarray(image), np.asarray(painter.paint(image, mask, plan(source, target), seed)), mask


@pytest.mark.parametrize("name", sorted(PAINTERS))
def test_every_painter_is_registered_cheap_and_made_by_the_plugin_manager(name: str) -> None:
    painter = build_plugins().find(EditorRecord, name).create(PixelPainter)
    assert type(painter) is PAINTERS[name]
    assert painter.name == name
    assert painter.is_cheap


@pytest.mark.parametrize("name", sorted(PAINTERS))
def test_only_pixels_in_the_mask_change_and_nearly_all_of_them_do(name: str) -> None:
    before, after, mask = painted(PAINTERS[name](), "red", "green")
    assert np.array_equal(before[~mask], after[~mask])
    assert (before[mask] != after[mask]).any(axis=1).mean() > 0.95


@pytest.mark.parametrize("name", sorted(PAINTERS))
def test_the_same_seed_gives_the_same_pixels(name: str) -> None:
    first, again, other = (painted(PAINTERS[name](), "red", "green", seed)[1] for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert np.array_equal(first, other) == (name != "noise")


@pytest.mark.parametrize("name", sorted(PAINTERS))
def test_a_smaller_strength_changes_less(name: str) -> None:
    def change(strength: float) -> float:
        before, after, mask = painted(PAINTERS[name](strength=strength), "red", "green")
        return float(np.abs(before[mask].astype(int) - after[mask]).mean())

    assert 0 < change(0.1) < 0.7 * change(1.0)
    assert PAINTERS[name](strength=0.1).identity() != PAINTERS[name](strength=0.2).identity()


def test_grey_is_middle_grey_and_noise_has_the_asked_spread() -> None:
    _, after, mask = painted(GreyPainter(), "red", "green")
    assert (after[mask] == 128).all()
    image, everything = Image.new("RGB", (200, 200), (128, 128, 128)), np.ones((200, 200), bool)
    noisy = np.asarray(NoisePainter(strength=0.1).paint(image, everything, plan("a", "b"), 0)).astype(float)
    assert noisy.std() == pytest.approx(25.5, rel=0.02)


def test_blur_removes_what_is_finer_than_its_width() -> None:
    stripes = np.zeros((60, 60, 3), np.uint8)
    stripes[:, ::2] = 255
    mask = np.zeros((60, 60), bool)
    mask[10:50, 10:50] = True
    after = np.asarray(BlurPainter().paint(Image.fromarray(stripes), mask, plan("a", "b"), 0))
    assert after[mask].std() < 2
    assert after[mask].mean() == pytest.approx(127.5, abs=2)


@pytest.mark.parametrize("source", sorted(SOURCES))
@pytest.mark.parametrize("target", sorted(HUES))
def test_a_recoloured_thing_has_the_hue_of_its_target(source: str, target: str) -> None:
    _, after, mask = painted(RecolorPainter(pixels="all"), source, target)
    red, green, blue = np.median(after[mask], axis=0) / 255
    hue, saturation, _ = colorsys.rgb_to_hsv(red, green, blue)
    assert abs((hue * 360 - HUES[target] + 180) % 360 - 180) < 16
    assert saturation > 0.3


@pytest.mark.parametrize("source", sorted(SOURCES))
@pytest.mark.parametrize(("target", "low", "high"), [("black", 0, 60), ("grey", 95, 160), ("white", 190, 255)])
def test_black_grey_and_white_have_their_lightness_and_no_colour(source: str, target: str, low: int, high: int) -> None:
    _, after, mask = painted(RecolorPainter(pixels="all"), source, target)
    middle = np.median(after[mask], axis=0)
    assert low <= middle.min() <= middle.max() <= high
    assert np.ptp(middle) < 8


@pytest.mark.parametrize("source", sorted(SOURCES))
@pytest.mark.parametrize("target", ["red", "blue", "white", "black", "brown", "pink", "grey"])
def test_the_shading_stays(source: str, target: str) -> None:
    before, after, mask = painted(RecolorPainter(pixels="all"), source, target)
    grey = [np.asarray(Image.fromarray(pixels).convert("L")).astype(float)[mask] for pixels in (before, after)]
    assert np.corrcoef(*grey)[0, 1] > 0.9
    assert grey[1].std() > 3


def test_pixels_of_another_colour_than_the_source_stay() -> None:
    image, mask = ball(SOURCES["white"], ground=(60, 140, 70))
    everything = np.ones_like(mask)
    before, after = np.asarray(image), np.asarray(RecolorPainter().paint(image, everything, plan("white", "red"), 0))
    from scipy.ndimage import binary_dilation, binary_erosion

    inner, outer = binary_erosion(mask, iterations=4), ~binary_dilation(mask, iterations=4)
    assert np.array_equal(before[outer], after[outer])
    assert (after[inner][:, 0] - after[inner][:, 1].astype(int) > 40).mean() > 0.9


def test_where_the_source_colour_is_not_there_all_is_painted_or_the_sample_refused() -> None:
    image, mask = ball(SOURCES["red"])
    wrong = plan("green", "blue")
    whole = np.asarray(RecolorPainter(pixels="all").paint(image, mask, wrong, 0))
    assert np.array_equal(np.asarray(RecolorPainter().paint(image, mask, wrong, 0)), whole)
    with pytest.raises(SampleError, match="less than 12% of the mask is green"):
        RecolorPainter(pixels="source").paint(image, mask, wrong, 0)
    with pytest.raises(SampleError, match="names no source colour"):
        RecolorPainter(pixels="source").paint(image, mask, plan("ball", "blue"), 0)


@pytest.mark.parametrize("target", ["wooden", "not red", "dog", ""])
def test_recolor_refuses_a_target_that_is_no_colour(target: str) -> None:
    with pytest.raises(SampleError, match="is no colour; use another editor"):
        painted(RecolorPainter(), "red", target)


@pytest.mark.parametrize("name", sorted(PAINTERS))
def test_an_empty_mask_and_one_of_another_size_are_refused(name: str) -> None:
    image, mask = ball(SOURCES["red"])
    with pytest.raises(SampleError, match="the mask is empty"):
        PAINTERS[name]().paint(image, np.zeros_like(mask), plan("red", "blue"), 0)
    with pytest.raises(SampleError, match="the mask has 80×96 pixels, the image 96×80"):
        PAINTERS[name]().paint(image, mask.T, plan("red", "blue"), 0)


@pytest.mark.parametrize("strength", [0, -1, 1.5, float("nan"), True, "much"])
@pytest.mark.parametrize("name", sorted(PAINTERS))
def test_a_strength_that_is_none_is_one_line(name: str, strength: Any) -> None:
    with pytest.raises(VseamError, match=rf"editor '{name}': strength is .*; expected a number above 0 and up to 1"):
        PAINTERS[name](strength=strength)


def test_unknown_options_are_named() -> None:
    with pytest.raises(VseamError, match="pixels is 'sauce'; did you mean 'source'"):
        RecolorPainter(pixels="sauce")  # type: ignore[arg-type]
    with pytest.raises(PluginError, match="has no option 'strenght'"):
        build_plugins().find(EditorRecord, "blur").create(PixelPainter, strenght=1)


@pytest.mark.skipif("VSEAM_PUBLISHED_DATA" not in os.environ, reason="needs the published data: set VSEAM_PUBLISHED_DATA to its folder")
@pytest.mark.parametrize(
    ("name", "box", "source", "target", "hue"),
    [("spatial", (165, 60, 290, 325), "brown", "red", 0), ("color", (100, 60, 430, 310), "white", "blue", 220)],
)
def test_photographs_are_recoloured_where_they_have_the_source_colour(
    name: str, box: tuple[int, int, int, int], source: str, target: str, hue: int
) -> None:
    image = Image.open(Path(os.environ["VSEAM_PUBLISHED_DATA"]) / "examples" / f"{name}.jpg").convert("RGB")
    region = Image.new("1", image.size)
    ImageDraw.Draw(region).rectangle(box, fill=1)
    mask = np.asarray(region)
    before, after = np.asarray(image), np.asarray(RecolorPainter().paint(image, mask, plan(source, target), 0))
    assert np.array_equal(before[~mask], after[~mask])
    changed = np.abs(before.astype(int) - after).sum(axis=2) > 60
    assert 0.12 < changed[mask].mean() < 0.7
    hsv = np.asarray(Image.fromarray(after).convert("HSV"))[changed]
    apart = np.abs((hsv[:, 0] / 255 * 360 - hue + 180) % 360 - 180)
    assert np.median(apart) < 16
