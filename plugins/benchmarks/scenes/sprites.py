"""Drawing of the scenes world's kinds, materials and action glyphs as small anti-aliased sprites.

Every public function is pure and cached: the same arguments give the same read-only array. Shapes are drawn with Pillow
on a canvas `OVERSAMPLE` times larger and averaged down. Coordinates in the drawing functions are sprite pixels (0..32).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

GROUPS: dict[str, tuple[str, ...]] = {
    "animal": ("dog", "cat", "bird", "fish"),
    "vehicle": ("car", "bus", "boat", "plane"),
    "indoor": ("lamp", "chair", "cup", "clock"),
}
KINDS: tuple[str, ...] = tuple(kind for kinds in GROUPS.values() for kind in kinds)
COLOR_VALUES: dict[str, tuple[int, int, int]] = {
    "red": (214, 32, 36),
    "green": (36, 158, 58),
    "blue": (36, 84, 216),
    "yellow": (244, 202, 8),
    "purple": (142, 50, 176),
    "orange": (248, 114, 10),
}
COLORS: tuple[str, ...] = tuple(COLOR_VALUES)
MATERIALS: tuple[str, ...] = ("plain", "striped", "dotted", "checked")

SPRITE = 32  # side of a sprite in pixels
OVERSAMPLE = 8
ROPE_SIZE = (24, 12)  # width, height of the pulling glyph
TRAY_SIZE = (36, 15)  # width, height of the carrying glyph
DARK = (36, 32, 34, 255)
LIGHT = (240, 244, 250, 255)

FloatArray = NDArray[np.float32]
Paint = tuple[int, ...]


class Pen:
    """Draws in sprite pixels on two layers: the body, which takes colour and material, and fixed details on top."""

    def __init__(self, width: int = SPRITE, height: int = SPRITE) -> None:
        size = (width * OVERSAMPLE, height * OVERSAMPLE)
        self.body = Image.new("L", size, 0)
        self.details = Image.new("RGBA", size, (0, 0, 0, 0))
        self._body = ImageDraw.Draw(self.body)
        self._details = ImageDraw.Draw(self.details)

    def _target(self, fill: Paint | None) -> tuple[ImageDraw.ImageDraw, int | tuple[int, ...]]:
        return (self._body, 255) if fill is None else (self._details, fill)

    def ellipse(self, x0: float, y0: float, x1: float, y1: float, fill: Paint | None = None) -> None:
        """Fill an ellipse; `fill` None means body."""
        draw, value = self._target(fill)
        draw.ellipse([v * OVERSAMPLE for v in (x0, y0, x1, y1)], fill=value)

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: Paint | None = None, r: float = 0) -> None:
        """Fill a rectangle with corner radius `r`."""
        draw, value = self._target(fill)
        draw.rounded_rectangle([v * OVERSAMPLE for v in (x0, y0, x1, y1)], radius=r * OVERSAMPLE, fill=value)

    def polygon(self, *points: tuple[float, float], fill: Paint | None = None) -> None:
        """Fill a polygon."""
        draw, value = self._target(fill)
        draw.polygon([(x * OVERSAMPLE, y * OVERSAMPLE) for x, y in points], fill=value)

    def line(self, *points: tuple[float, float], width: float = 1.2, fill: Paint | None = DARK) -> None:
        """Draw a line with rounded joints."""
        draw, value = self._target(fill)
        scaled = [(x * OVERSAMPLE, y * OVERSAMPLE) for x, y in points]
        draw.line(scaled, fill=value, width=round(width * OVERSAMPLE), joint="curve")

    def ring(self, x0: float, y0: float, x1: float, y1: float, width: float, fill: Paint | None = None) -> None:
        """Draw an ellipse's outline of the given width, inside the box."""
        draw, value = self._target(fill)
        draw.ellipse([v * OVERSAMPLE for v in (x0, y0, x1, y1)], outline=value, width=round(width * OVERSAMPLE))


def _dog(pen: Pen) -> None:
    pen.box(8, 14, 27, 23.5, r=3.5)
    for x in (9, 13.6, 19, 23):
        pen.box(x, 20, x + 3.4, 31, r=1)
    pen.polygon((24, 15), (28.5, 5), (31, 6), (27.5, 18))
    pen.box(4, 3.5, 15, 17, r=4)
    pen.box(0.5, 8.5, 9, 15.5, r=2.5)
    pen.ellipse(10.5, 3, 16.5, 15.5, DARK)
    pen.ellipse(5.6, 6, 8.6, 9, DARK)
    pen.ellipse(0, 7.8, 3.6, 11.2, DARK)


def _cat(pen: Pen) -> None:
    pen.ellipse(7, 15, 25, 31.5)
    pen.line((23, 29), (29.5, 27), (30, 19), (27.5, 17), width=2.8, fill=None)
    pen.ellipse(5, 3.5, 27, 20)
    pen.polygon((5.5, 0.3), (14, 5), (5.8, 12))
    pen.polygon((26.5, 0.3), (18, 5), (26.2, 12))
    pen.ellipse(9.4, 8.2, 13, 13, DARK)
    pen.ellipse(19, 8.2, 22.6, 13, DARK)
    pen.polygon((14, 13.6), (18, 13.6), (16, 16), fill=DARK)
    for dy in (-1.8, 1.8):
        pen.line((11.5, 15.2 + dy / 3), (1, 15 + dy), width=0.9)
        pen.line((20.5, 15.2 + dy / 3), (31, 15 + dy), width=0.9)
    pen.line((16, 24), (16, 31), width=1)


def _bird(pen: Pen) -> None:
    pen.line((14, 25), (13, 31), (10, 31), width=1.4)
    pen.line((19, 25), (18.5, 31), (15.5, 31), width=1.4)
    pen.ellipse(6.5, 10.5, 26, 27)
    pen.polygon((22, 15), (31.5, 9.5), (31, 16), (24, 23))
    pen.ellipse(4.5, 2, 17, 15)
    pen.polygon((6, 6.4), (0, 9.4), (6, 11.6), fill=DARK)
    pen.ellipse(8, 5.6, 11.2, 8.8, DARK)
    pen.line((13.5, 16), (16.5, 21.5), (21.5, 21), (25, 15.5), width=1.4)


def _fish(pen: Pen) -> None:
    pen.ellipse(0.5, 7.5, 24.5, 24.5)
    pen.polygon((21, 16), (31.5, 6.5), (29, 16), (31.5, 25.5))
    pen.polygon((9, 9), (15, 2.5), (18.5, 9.5))
    pen.polygon((11, 23), (16, 28.5), (17, 22))
    pen.ellipse(3.6, 11.4, 7.8, 15.6, LIGHT)
    pen.ellipse(4.4, 12.4, 7, 15, DARK)
    pen.line((10.2, 10.5), (11.8, 16), (10.2, 21.5), width=1.2)


def _car(pen: Pen) -> None:
    pen.box(0.6, 14.5, 31.4, 25, r=3)
    pen.polygon((6, 15.5), (10.5, 6.5), (22, 6.5), (27.5, 15.5))
    pen.polygon((9.2, 14), (12, 8.5), (15.4, 8.5), (15.4, 14), fill=LIGHT)
    pen.polygon((17.2, 14), (17.2, 8.5), (21, 8.5), (24.2, 14), fill=LIGHT)
    for x in (3.6, 20):
        pen.ellipse(x, 20, x + 8.6, 28.6, DARK)
        pen.ellipse(x + 2.8, 22.8, x + 5.8, 25.8, LIGHT)


def _bus(pen: Pen) -> None:
    pen.box(0.8, 2.5, 31.2, 27, r=2.6)
    for x in (2.8, 9.4, 16):
        pen.box(x, 5.5, x + 5, 12, LIGHT)
    pen.box(23.4, 5.5, 29, 24, LIGHT)
    pen.line((26.2, 5.5), (26.2, 24), width=1)
    for x in (3.6, 14.4):
        pen.ellipse(x, 22.4, x + 8, 30.4, DARK)
        pen.ellipse(x + 2.7, 25.1, x + 5.3, 27.7, LIGHT)


def _boat(pen: Pen) -> None:
    pen.polygon((0.5, 21), (31.5, 21), (25.5, 30.5), (6.5, 30.5))
    pen.polygon((17.2, 1), (29.5, 18), (17.2, 18))
    pen.polygon((13.4, 5), (13.4, 18), (4, 18))
    pen.box(14.4, 0.5, 16.4, 21, DARK)


def _plane(pen: Pen) -> None:
    pen.ellipse(12.6, 0.3, 19.4, 30)
    pen.polygon((14, 9.5), (18, 9.5), (31.6, 19), (31.6, 22.5), (18, 18.8), (14, 18.8), (0.4, 22.5), (0.4, 19))
    pen.polygon((15, 23), (17, 23), (24, 28.6), (24, 31.2), (16, 29), (8, 31.2), (8, 28.6))
    pen.polygon((13.8, 6.4), (16, 3.4), (18.2, 6.4), fill=LIGHT)
    for x in (6.5, 22.8):
        pen.box(x, 12.6, x + 2.7, 17.2, DARK, r=1)


def _lamp(pen: Pen) -> None:
    pen.polygon((9.5, 0.8), (22.5, 0.8), (30.5, 17), (1.5, 17))
    pen.box(14.7, 17, 17.3, 27, DARK)
    pen.line((23, 17), (23, 22.5), width=1)
    pen.ellipse(21.8, 21.5, 24.2, 24, DARK)
    pen.box(7.5, 26, 24.5, 31.2, r=2)


def _chair(pen: Pen) -> None:
    pen.box(3, 0.8, 10.5, 20, r=1.5)
    pen.box(3, 14.5, 29.5, 22, r=1.5)
    pen.box(3, 20, 8.2, 31.4)
    pen.box(24.3, 20, 29.5, 31.4)


def _cup(pen: Pen) -> None:
    pen.ring(19, 12, 31.5, 26, 3.2)
    pen.polygon((2, 9.5), (24.5, 9.5), (22.5, 30.8), (4, 30.8))
    pen.ellipse(2, 6.8, 24.5, 12.2)
    pen.ellipse(4, 8, 22.5, 11.4, DARK)
    for x in (8.5, 14.5):
        pen.line((x, 6), (x + 1.6, 4.2), (x, 2.4), (x + 1.6, 0.6), width=1.2, fill=(110, 110, 118, 255))


def _clock(pen: Pen) -> None:
    pen.line((8, 26), (4.5, 31), width=2.2)
    pen.line((24, 26), (27.5, 31), width=2.2)
    pen.ellipse(1.8, 0.4, 12.4, 9.6)
    pen.ellipse(19.6, 0.4, 30.2, 9.6)
    pen.ellipse(2, 3, 30, 31)
    pen.ellipse(8, 9, 24, 25, LIGHT)
    pen.line((16, 17), (16, 11), width=1.7)
    pen.line((16.2, 17), (20.6, 19.4), width=1.7)


_DRAWERS: dict[str, Callable[[Pen], None]] = {
    "dog": _dog, "cat": _cat, "bird": _bird, "fish": _fish,
    "car": _car, "bus": _bus, "boat": _boat, "plane": _plane,
    "lamp": _lamp, "chair": _chair, "cup": _cup, "clock": _clock,
}  # fmt: skip


@cache
def _texture(color: str, material: str) -> FloatArray:
    """Colour of every oversampled body pixel, [side, side, 3]."""
    side = SPRITE * OVERSAMPLE
    rows, columns = np.mgrid[:side, :side] / OVERSAMPLE
    base = np.asarray(COLOR_VALUES[color], np.float32)
    if material == "striped":
        mark, paint = ((rows + columns) % 6.0) < 2.6, base * 0.2
    elif material == "dotted":
        row = np.floor(rows / 5.0)
        shift = (row % 2) * 3.0
        mark = np.hypot(rows % 5.0 - 2.5, (columns + shift) % 6.0 - 3.0) < 1.7
        paint = np.full(3, 255.0, np.float32)
    elif material == "checked":
        mark, paint = (np.floor(rows / 4.6) + np.floor(columns / 4.6)) % 2 == 0, base * 0.25
    else:
        mark, paint = np.zeros((side, side), bool), base
    return np.where(mark[..., None], paint, base).astype(np.float32)


def _shrink(image: NDArray[np.floating[Any]]) -> FloatArray:
    """Average blocks of OVERSAMPLE x OVERSAMPLE pixels."""
    height, width = image.shape[0] // OVERSAMPLE, image.shape[1] // OVERSAMPLE
    blocks = image.reshape(height, OVERSAMPLE, width, OVERSAMPLE, -1)
    return np.asarray(blocks.mean(axis=(1, 3)), np.float32)


def _layers(pen: Pen, rim_width: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Body coverage, details (RGBA) and coverage with a rim around everything, all oversampled: [h, w, 1 | 4 | 1]."""
    body = np.asarray(pen.body, np.float32)[..., None] / np.float32(255)
    details = np.asarray(pen.details, np.float32)
    silhouette = np.maximum(body, details[..., 3:] / 255)
    grown = Image.fromarray((silhouette[..., 0] * 255).astype(np.uint8))
    grown = grown.filter(ImageFilter.MaxFilter(2 * round(rim_width * OVERSAMPLE) + 1))
    return body, details, np.asarray(grown, np.float32)[..., None] / np.float32(255)


def _premultiplied(layers: tuple[FloatArray, FloatArray, FloatArray], paint: FloatArray, rim: Paint) -> tuple[FloatArray, FloatArray]:
    """Colours times coverage [h, w, 3] and the remaining transparency [h, w, 1] of a drawing painted with a texture."""
    body, details, alpha = layers
    cover = details[..., 3:] / 255
    painted = np.where(body > 0.5, paint, np.asarray(rim[:3], np.float32))
    colors = painted * (1 - cover) + details[..., :3] * cover
    premultiplied, transparent = _shrink(colors * alpha), 1 - _shrink(alpha)
    premultiplied.flags.writeable = False
    transparent.flags.writeable = False
    return premultiplied, transparent


@cache
def _kind_layers(kind: str) -> tuple[FloatArray, FloatArray, FloatArray]:
    pen = Pen()
    _DRAWERS[kind](pen)
    return _layers(pen, 0.75)


@cache
def sprite(kind: str, color: str, material: str) -> tuple[FloatArray, FloatArray]:
    """A kind's image: premultiplied colours [32, 32, 3] (0..255) and transparency [32, 32, 1] (1 = see-through).

    Composite with `window * transparency + colours`. Raises KeyError for an unknown kind or colour.
    """
    return _premultiplied(_kind_layers(kind), _texture(color, material), DARK)


@cache
def rope(agent_on_left: bool) -> tuple[FloatArray, FloatArray]:
    """The pulling glyph, premultiplied [12, 24, 3] and transparency: a rope with a harness ring at the puller's end."""
    pen = Pen(*ROPE_SIZE)
    brown = (58, 30, 8, 255)
    pen.box(9, 4.4, 22.5, 7.6, brown)
    pen.ellipse(1, 1, 11, 11, brown)
    pen.ellipse(3.4, 3.4, 8.6, 8.6, (255, 250, 225, 255))
    pen.box(19.5, 2.2, 23, 9.8, brown)
    paint = np.zeros((ROPE_SIZE[1] * OVERSAMPLE, ROPE_SIZE[0] * OVERSAMPLE, 3), np.float32)
    colors, transparent = _premultiplied(_layers(pen, 1.0), paint, (255, 250, 225))
    if agent_on_left:
        return colors, transparent
    return np.ascontiguousarray(colors[:, ::-1]), np.ascontiguousarray(transparent[:, ::-1])


@cache
def tray() -> tuple[FloatArray, FloatArray]:
    """The carrying glyph, premultiplied [15, 36, 3] and transparency: a board on two posts."""
    pen = Pen(*TRAY_SIZE)
    brown = (58, 30, 8, 255)
    pen.box(1, 1, 35, 5.2, brown)
    pen.box(2.4, 4, 6, 14, brown)
    pen.box(30, 4, 33.6, 14, brown)
    paint = np.zeros((TRAY_SIZE[1] * OVERSAMPLE, TRAY_SIZE[0] * OVERSAMPLE, 3), np.float32)
    return _premultiplied(_layers(pen, 1.0), paint, (255, 250, 225))
