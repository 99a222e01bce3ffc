"""Recolouring without weights: what the mask covers takes the plan's target colour and keeps its shading."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from vseam_core.api.interfaces import EditPlan
from vseam_core.errors import SampleError, VseamError, did_you_mean
from vseam_plugins.editors.colors import NamedColor, color_of, oklab, shown
from vseam_plugins.editors.pixels import PixelPainter

Selection = Literal["auto", "all", "source"]
_SELECTIONS = ("auto", "all", "source")
# A thing of a colour shows, in more or less light, OKLab lightness from and to these multiples of the colour's own …
_LIGHT = (0.35, 1.75)
# … a hue that differs by up to this many degrees (beyond the second value it is another colour) …
_HUE = (30.0, 55.0)
# … and at least this share of the colour's chroma per lightness (below the first value it is none).
_SATURATION = (0.25, 0.45)
# Black, white and greys: lightness from and to, and the chroma up to which a pixel surely is one and from which on it surely is none.
_GREYS = {"black": (0.0, 0.42), "grey": (0.3, 0.8), "silver": (0.45, 0.95), "white": (0.6, 1.0)}
_NEUTRAL = (0.04, 0.07)
# A mask of which a smaller share has the source colour is painted whole where the choice is `auto`.
_LEAST_SHARE = 0.12
_SOFTENING = 1.0
# Contrast may change by these factors at most: the noise in black things is not to become texture.
_CONTRAST = (0.45, 1.4)


class RecolorPainter(PixelPainter):
    """Gives the mask the colour that the plan's target names, with the shading that is there.

    Lightness moves so that the median of what is painted becomes that of the target, contrast by the law of less light on the same
    surface; highlights keep little colour. `pixels` says which pixels of the mask: `all`; those that have the colour of the plan's
    source term (`source`); or `auto`, the latter where the source is a colour of which the mask has enough, else all.
    """

    name = "recolor"

    def __init__(self, strength: float = 1.0, pixels: Selection = "auto") -> None:
        super().__init__(strength)
        if pixels not in _SELECTIONS:
            raise VseamError(f"editor 'recolor': pixels is {pixels!r}; {did_you_mean(str(pixels), _SELECTIONS)}")
        self.pixels = pixels

    def identity(self) -> Mapping[str, object]:
        return {**super().identity(), "pixels": self.pixels}

    def paint_pixels(self, pixels: np.ndarray, mask: np.ndarray, plan: EditPlan, seed: int) -> np.ndarray:
        target = color_of(plan.target_term)
        if target is None:
            raise SampleError(f"recolor: the target {plan.target_term!r} is no colour; use another editor for such edits")
        lab = oklab(pixels / 255.0)
        weights = self._weights(lab, mask, color_of(plan.source_term))
        painted = np.array(pixels, dtype=np.float64)
        painted[mask] = 255 * shown(recolored(lab[mask], weights[mask], target))
        share = self.strength * weights[..., None]
        return share * painted + (1 - share) * pixels

    def _weights(self, lab: np.ndarray, mask: np.ndarray, source: NamedColor | None) -> np.ndarray:
        """How much each pixel `[height, width]` takes part, from 0 to 1. Raises `SampleError` where nothing has the source colour."""
        from scipy.ndimage import gaussian_filter

        if self.pixels == "all" or (self.pixels == "auto" and source is None):
            return mask.astype(float)
        if source is None:
            raise SampleError("recolor: the plan names no source colour; use pixels=all")
        # Smoothed inside the mask alone, so that its rim weighs as much as its middle.
        inside = gaussian_filter(mask.astype(float), _SOFTENING)
        likely = gaussian_filter(likeness(lab, source) * mask, _SOFTENING) / np.maximum(inside, 1e-9) * mask
        if likely[mask].mean() >= _LEAST_SHARE:
            return np.clip(likely, 0, 1)
        if self.pixels == "auto":
            return mask.astype(float)
        raise SampleError(f"recolor: less than {_LEAST_SHARE:.0%} of the mask is {source.name}")


def likeness(lab: np.ndarray, color: NamedColor) -> np.ndarray:
    """How surely OKLab pixels `[..., 3]` show a thing of that colour under more or less light, from 0 to 1."""
    lightness, chroma = lab[..., 0], np.hypot(lab[..., 1], lab[..., 2])
    if color.is_achromatic:
        low, high = _GREYS.get(color.name, (color.lightness - 0.2, color.lightness + 0.2))
        # In the dark a trace of colour has much chroma per lightness and yet looks black.
        return _falling(chroma, *_NEUTRAL) * _within(lightness, low, high)
    hue = np.degrees(np.arctan2(lab[..., 2], lab[..., 1]) - np.arctan2(color.b, color.a))
    apart = np.abs((hue + 180) % 360 - 180)
    saturation = chroma / np.maximum(lightness, 0.05) / (color.chroma / color.lightness)
    is_saturated = 1 - _falling(saturation, *_SATURATION)
    return _falling(apart, *_HUE) * is_saturated * _within(lightness, *(factor * color.lightness for factor in _LIGHT))


def _falling(values: np.ndarray, start: float, end: float) -> np.ndarray:
    """1 up to `start`, 0 from `end` on, straight between."""
    return np.clip((end - values) / (end - start), 0, 1)


def _within(values: np.ndarray, low: float, high: float, rim: float = 0.06) -> np.ndarray:
    """1 from `low` to `high`, falling to 0 over `rim` on both sides."""
    return _falling(values, high, high + rim) * (1 - _falling(values, low - rim, low))


def recolored(lab: np.ndarray, weights: np.ndarray, target: NamedColor) -> np.ndarray:
    """OKLab pixels `[pixels, 3]` in the target colour; `weights` say how much each counts for the median lightness."""
    lightness = lab[:, 0]
    middle = _weighted_median(lightness, weights)
    contrast = float(np.clip(target.lightness / max(middle, 1e-3), *_CONTRAST))
    moved = target.lightness + _bounded(contrast * (lightness - middle), target.lightness * 0.92, 0.97 - target.lightness)
    # Darker parts have less chroma in proportion; towards white it fades, as on anything that shines.
    above = np.clip((moved - target.lightness) / (1 - target.lightness), 0, 1)
    chroma = np.where(moved <= target.lightness, moved / target.lightness, 1 - above**1.5)
    return np.stack([moved, chroma * target.a, chroma * target.b], axis=1)


def _bounded(values: np.ndarray, below: float, above: float) -> np.ndarray:
    """Values squeezed smoothly between `-below` and `above`, with slope 1 at 0."""
    limit = np.where(values < 0, below, max(above, 1e-3))
    return limit * np.tanh(values / limit)


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values, kind="stable")
    summed = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(summed, summed[-1] / 2)])
