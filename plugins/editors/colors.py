"""Named colours, and the colour space in which things are recoloured.

The space is OKLab (Björn Ottosson 2020, https://bottosson.github.io/posts/oklab/): L from 0 (black) to 1 (white), a (green to red) and
b (blue to yellow). Less or more light on the same surface scales all three by about one factor, and lines of equal hue are straight, also
for blue.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

_TO_CONES = np.array(
    [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566], [0.0883024619, 0.2817188376, 0.6299787005]]
)
_TO_LAB = np.array(
    [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099], [0.0259040371, 0.7827717662, -0.8086757660]]
)
_FROM_CONES, _FROM_LAB = np.linalg.inv(_TO_CONES), np.linalg.inv(_TO_LAB)

# sRGB of what a photograph shows of a thing that is called so: no pure primaries, which exist on screens only.
_COLORS: dict[str, tuple[int, int, int]] = {
    "black": (28, 28, 30),
    "white": (226, 226, 224),
    "grey": (128, 128, 129),
    "silver": (180, 182, 186),
    "red": (196, 32, 38),
    "maroon": (108, 22, 36),
    "crimson": (170, 20, 50),
    "orange": (236, 124, 28),
    "amber": (240, 168, 30),
    "yellow": (244, 208, 44),
    "gold": (206, 160, 58),
    "blond": (214, 184, 122),
    "green": (52, 142, 60),
    "olive": (116, 116, 48),
    "teal": (20, 122, 124),
    "turquoise": (58, 190, 186),
    "cyan": (40, 190, 214),
    "blue": (38, 88, 190),
    "navy": (26, 38, 92),
    "purple": (118, 52, 150),
    "violet": (136, 88, 190),
    "lavender": (184, 168, 220),
    "magenta": (200, 40, 140),
    "pink": (238, 140, 172),
    "rose": (222, 108, 128),
    "brown": (112, 68, 38),
    "brunette": (72, 46, 32),
    "bronze": (140, 98, 48),
    "copper": (176, 100, 60),
    "tan": (200, 166, 122),
    "khaki": (176, 162, 112),
    "beige": (222, 206, 174),
    "cream": (244, 234, 206),
    "ivory": (242, 238, 222),
}
_OTHER_NAMES = {
    "gray": "grey",
    "golden": "gold",
    "blonde": "blond",
    "aqua": "cyan",
    "indigo": "navy",
    "burgundy": "maroon",
    "scarlet": "red",
    "lilac": "lavender",
    "fuchsia": "magenta",
}
# How a shade changes L and the chroma.
_SHADES = {"dark": (0.68, 0.9), "deep": (0.78, 1.0), "light": (1.22, 0.75), "pale": (1.25, 0.5), "bright": (1.08, 1.2)}
_ACHROMATIC = 0.03


@dataclass(frozen=True)
class NamedColor:
    """A colour that a phrase names, as OKLab values."""

    name: str
    lightness: float
    a: float
    b: float

    @property
    def chroma(self) -> float:
        return float(np.hypot(self.a, self.b))

    @property
    def is_achromatic(self) -> bool:
        """Whether it is black, white or something between."""
        return self.chroma < _ACHROMATIC


def color_names() -> tuple[str, ...]:
    """Every word that names a colour, spellings included."""
    return (*_COLORS, *_OTHER_NAMES)


def color_of(phrase: str) -> NamedColor | None:
    """The colour that a phrase names ("red", "dark blue", "a light-green car"), or None where it names none or says which it is not.

    Of several the last one counts, as in "orange red".
    """
    words = re.findall(r"[a-z]+", phrase.lower())
    named = [position for position, word in enumerate(words) if _OTHER_NAMES.get(word, word) in _COLORS]
    if not named or "not" in words[: named[-1]]:
        return None
    word = words[named[-1]]
    lightness, a, b = oklab(np.array(_COLORS[_OTHER_NAMES.get(word, word)]) / 255)
    shade = words[named[-1] - 1] if named[-1] > 0 else ""
    scale, chroma = _SHADES.get(shade, (1.0, 1.0))
    shown = f"{shade} {word}" if shade in _SHADES else word
    return NamedColor(shown, float(min(lightness * scale, 0.97)), float(a * chroma), float(b * chroma))


def oklab(srgb: np.ndarray) -> np.ndarray:
    """OKLab of sRGB values from 0 to 1, both `[..., 3]`."""
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ _TO_CONES.T) @ _TO_LAB.T


def srgb(lab: np.ndarray) -> np.ndarray:
    """sRGB of OKLab values, both `[..., 3]`; values outside 0 to 1 are colours that a screen cannot show."""
    linear = (lab @ _FROM_LAB.T) ** 3 @ _FROM_CONES.T
    positive = np.maximum(linear, 0.0031308)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * positive ** (1 / 2.4) - 0.055)


def shown(lab: np.ndarray) -> np.ndarray:
    """sRGB from 0 to 1 of OKLab values `[pixels, 3]`; what a screen cannot show loses chroma, not hue or lightness."""
    whole = srgb(lab)
    low, high = np.zeros(len(lab)), np.ones(len(lab))
    for _ in range(10):
        middle = (low + high) / 2
        fits = _can_be_shown(srgb(_with_chroma(lab, middle)))
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    # Halving only comes near 1: what can be shown as it is keeps all of its chroma.
    return np.clip(np.where(_can_be_shown(whole)[:, None], whole, srgb(_with_chroma(lab, low))), 0.0, 1.0)


def _with_chroma(lab: np.ndarray, factors: np.ndarray) -> np.ndarray:
    return lab * np.stack([np.ones(len(lab)), factors, factors], axis=1)


def _can_be_shown(values: np.ndarray) -> np.ndarray:
    return np.all((values >= -1e-4) & (values <= 1 + 1e-4), axis=1)
