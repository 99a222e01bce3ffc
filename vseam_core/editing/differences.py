"""Finds the edited region of an image that was edited elsewhere, from where it differs from the original."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vseam_core.errors import SampleError

if TYPE_CHECKING:
    from PIL.Image import Image

LEAST_DIFFERENCE = 12.0
"""Levels of 255: below this a smoothed difference is noise of the codec or the generator, whatever the rest of the image does."""
_TONE_DEVIATIONS = 5.0
_DETAIL_DEVIATIONS = 4.0
_SCALE = 0.01
_LEAST_PART = 0.1
_MAD_OF_NORMAL = 1.4826


def difference_mask(clean: Image, edited: Image, threshold: float | None = None) -> np.ndarray:
    """The edited region, boolean `[height, width]`: where two images of one size differ by far more than they do elsewhere.

    A generator changes fine textures everywhere, so two differences are taken at the scale σ = 1 % of the diagonal: that of the smoothed
    images (tone), and the smoothed difference of the images in relation to their texture (detail: a black dog in the place of a
    black cat). A pixel counts where tone exceeds `threshold` levels of 255 or detail exceeds its usual amount; by default tone must
    exceed its own usual amount and `LEAST_DIFFERENCE`. Usual is the median plus 5 (tone) or 4 (detail) robust standard deviations. The
    result is opened, closed and filled, and parts below a tenth of the largest one go. With a `threshold` tone alone decides.

    Raises `SampleError` where nothing is left.
    """
    from scipy import ndimage

    first, second = (np.asarray(image.convert("RGB")).astype(float) for image in (clean, edited))
    sigma = max(1.0, _SCALE * float(np.hypot(*first.shape[:2])))
    tone = np.abs(_smooth(first, sigma) - _smooth(second, sigma)).max(-1)
    if threshold is None:
        detail = _detail(first, second, sigma)
        strong = tone > max(LEAST_DIFFERENCE, _usual(tone, _TONE_DEVIATIONS))
        # Detail alone could be dither: an image that is nowhere edited has none that anybody sees.
        visible = tone.max() > LEAST_DIFFERENCE or float(np.abs(first - second).max()) > LEAST_DIFFERENCE
        changed = strong | ((detail > _usual(detail, _DETAIL_DEVIATIONS)) & visible)
    else:
        changed = tone > threshold
    small, large = _disc(max(1, round(sigma))), _disc(max(1, round(2 * sigma)))
    # Nothing lies outside the image, so its border neither erodes nor grows the region.
    opened = ndimage.binary_dilation(ndimage.binary_erosion(changed, small, border_value=1), small) & changed
    closed = ndimage.binary_erosion(ndimage.binary_dilation(opened, large), large, border_value=1) | opened
    mask = _without_specks(ndimage.binary_fill_holes(closed))
    if not mask.any():
        raise SampleError("the edited image does not differ visibly from the original")
    return mask


def _smooth(values: np.ndarray, sigma: float) -> np.ndarray:
    from scipy import ndimage

    return ndimage.gaussian_filter(values, (sigma, sigma, 0) if values.ndim == 3 else sigma)


def _detail(first: np.ndarray, second: np.ndarray, sigma: float) -> np.ndarray:
    """The mean difference around each pixel, divided by how much texture there is to differ in."""
    difference = _smooth(np.abs(first - second).mean(-1), sigma)
    texture = sum(_smooth(np.abs(image - _smooth(image, sigma)).mean(-1), sigma) for image in (first, second))
    return difference / (LEAST_DIFFERENCE + 0.5 * texture)


def _usual(values: np.ndarray, deviations: float) -> float:
    median = float(np.median(values))
    return median + deviations * _MAD_OF_NORMAL * float(np.median(np.abs(values - median)))


def _disc(radius: int) -> np.ndarray:
    rows, columns = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return rows**2 + columns**2 <= radius**2


def _without_specks(mask: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    parts, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = ndimage.sum_labels(mask, parts, np.arange(1, count + 1))
    kept = 1 + np.flatnonzero(sizes >= _LEAST_PART * sizes.max())
    return np.isin(parts, kept)
