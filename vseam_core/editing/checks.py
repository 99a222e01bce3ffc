"""Checks of an edited image against its original: what changed, whether it stayed inside the region, and how the edge looks.

`measure_edit` returns numbers, `judge` says whether they pass. Both the composited image (the one that models see) and the raw one
(what the painter returned) are looked at: outside the mask the composited image is the original by construction.

| check | what it is | fails when |
|---|---|---|
| `mask_share` | share of the image that the mask covers | above `MOST_MASK_SHARE` |
| `changed_inside` | share of the mask's pixels of which a channel changed by more than `VISIBLE` levels of 255 | below `LEAST_CHANGED` |
| `changed_outside` | number of pixels outside the mask that differ at all, composited image | above 0 |
| `raw_psnr_outside` | peak signal-to-noise ratio of the raw image outside the mask, in dB | below `LEAST_RAW_PSNR` |
| `raw_ssim_outside` | mean structural similarity there (Wang et al. 2004), where windows hold no pixel of the mask | – |
| `seam` | how much harder the steps across the mask's edge became, in levels of grey; see `seam` | above `MOST_SEAM` |
| `clip_margin_before`, `_after` | similarity to the new concept minus to the old one, on the crop; see `editing/clip.py` | no rise |
| `flip_second` | whether an independent model's answer changed as planned | 0 |
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vseam_core.api.types import Box
from vseam_core.errors import SampleError

if TYPE_CHECKING:
    from PIL.Image import Image

VISIBLE = 8
MOST_MASK_SHARE = 0.8
LEAST_CHANGED = 0.02
LEAST_RAW_PSNR = 20.0
MOST_SEAM = 30.0
IDENTICAL_PSNR = 100.0
"""What stands for the infinite PSNR of equal images, in dB."""
_SSIM_WINDOW = 7
_LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class EditCheck:
    """How many pixels differ inside and outside the edited boxes, and the share of the image that the boxes cover."""

    changed_inside: int
    changed_outside: int
    region_share: float


def check_edit(clean: Image, corrupt: Image, boxes: Sequence[Box], mask: np.ndarray | None = None) -> EditCheck:
    """Compare two images pixel by pixel, by the mask where there is one. Raises `SampleError` where their sizes differ."""
    if clean.size != corrupt.size:
        sizes = [f"{image.width}×{image.height}" for image in (corrupt, clean)]
        raise SampleError(f"the edited image is {sizes[0]} pixels large, the original {sizes[1]}")
    changed = (np.asarray(clean.convert("RGB")) != np.asarray(corrupt.convert("RGB"))).any(-1)
    inside = region(boxes, clean.size) if mask is None else mask
    return EditCheck(int((changed & inside).sum()), int((changed & ~inside).sum()), float(inside.mean()))


def region(boxes: Sequence[Box], size: tuple[int, int]) -> np.ndarray:
    """The union of boxes as a boolean array `[height, width]` for an image of `size` = (width, height)."""
    mask = np.zeros((size[1], size[0]), dtype=bool)
    for x0, y0, x1, y1 in boxes:
        mask[max(0, int(np.floor(y0))) : int(np.ceil(y1)), max(0, int(np.floor(x0))) : int(np.ceil(x1))] = True
    return mask


def measure_edit(clean: Image, corrupt: Image, raw: Image, mask: np.ndarray) -> dict[str, float]:
    """The checks that need nothing but the images, all of one size, and the mask; finite numbers by name.

    `raw_…` are left out where no pixel lies outside the mask, `raw_ssim_outside` also where scikit-image is not installed.
    """
    original, final, painted = (np.asarray(image.convert("RGB")).astype(float) for image in (clean, corrupt, raw))
    difference = np.abs(final - original).max(-1)
    checks = {
        "mask_share": float(mask.mean()),
        "changed_inside": float((difference[mask] > VISIBLE).mean()),
        "changed_outside": float((difference[~mask] > 0).sum()),
        "seam": seam(original, final, mask),
    }
    if not mask.all():
        checks["raw_psnr_outside"] = psnr(original[~mask], painted[~mask])
    similarity = ssim_outside(original, painted, mask)
    return checks if similarity is None else {**checks, "raw_ssim_outside": similarity}


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    """10 · log10(255² / mean squared difference) in dB; `IDENTICAL_PSNR` for equal values."""
    error = float(np.mean((first - second) ** 2))
    return IDENTICAL_PSNR if error == 0 else min(IDENTICAL_PSNR, float(10 * np.log10(255.0**2 / error)))


def seam(original: np.ndarray, final: np.ndarray, mask: np.ndarray) -> float:
    """How visible the mask's edge is: the mean rise of the step in brightness across it, in levels of 255, never below 0.

    Over all pairs of neighbouring pixels (left–right and above–below) of which one lies inside the mask and one outside:
    max(0, |step in the edited image| − |step in the original|), steps in luma (ITU-R BT.601). An edge that was there before, such as
    an object's own outline, counts for nothing; 0 where the mask has no edge.
    """
    before, after = original @ _LUMA, final @ _LUMA
    rises = []
    for axis in (0, 1):
        crosses = np.diff(mask.astype(np.int8), axis=axis) != 0
        rise = np.abs(np.diff(after, axis=axis)) - np.abs(np.diff(before, axis=axis))
        rises.append(np.maximum(rise[crosses], 0.0))
    steps = np.concatenate(rises)
    return float(steps.mean()) if len(steps) else 0.0


def ssim_outside(original: np.ndarray, painted: np.ndarray, mask: np.ndarray) -> float | None:
    """The mean structural similarity over windows of 7 × 7 pixels that hold no pixel of the mask; None where there are none.

    None too where scikit-image is not installed (`can_measure_ssim`).
    """
    from scipy.ndimage import binary_dilation

    if not can_measure_ssim() or min(mask.shape) < _SSIM_WINDOW:
        return None
    from skimage.metrics import structural_similarity

    half = _SSIM_WINDOW // 2
    free = ~binary_dilation(mask, structure=np.ones((_SSIM_WINDOW, _SSIM_WINDOW), dtype=bool))
    inner = np.zeros_like(free)
    inner[half:-half, half:-half] = free[half:-half, half:-half]
    if not inner.any():
        return None
    similarity = structural_similarity(original, painted, win_size=_SSIM_WINDOW, data_range=255.0, channel_axis=-1, full=True)[1]
    return float(similarity[inner].mean())


def can_measure_ssim() -> bool:
    """Whether scikit-image is there (the extra `edit`)."""
    return importlib.util.find_spec("skimage") is not None


def judge(checks: Mapping[str, Any], control: str = "") -> tuple[Literal["passed", "failed"], str]:
    """Whether an edit passes its checks, and every reason why not.

    A control that repaints the same concept may change nothing, and a control has no new concept to be seen. The traced model's own
    answer decides nothing: choosing pairs by it would choose the result.
    """
    reasons = []
    if checks["mask_share"] > MOST_MASK_SHARE:
        reasons.append(f"the mask covers {checks['mask_share']:.0%} of the image")
    if checks["changed_inside"] < LEAST_CHANGED and control != "repaint":
        reasons.append(f"only {checks['changed_inside']:.1%} of the mask changed visibly")
    if checks["changed_outside"] > 0:
        reasons.append(f"{checks['changed_outside']:.0f} pixels outside the mask changed")
    if checks.get("raw_psnr_outside", IDENTICAL_PSNR) < LEAST_RAW_PSNR:
        reasons.append(f"the painter changed the rest of the image too (PSNR {checks['raw_psnr_outside']:.1f} dB)")
    if checks["seam"] > MOST_SEAM:
        reasons.append(f"the mask's edge shows (a seam of {checks['seam']:.0f} levels)")
    if not control and checks.get("clip_margin_after", 1.0) <= checks.get("clip_margin_before", 0.0):
        reasons.append("CLIP does not see the new concept more than before")
    if not control and checks.get("flip_second") == 0:
        reasons.append("the second model's answer does not change as planned")
    return ("failed", "; ".join(reasons)) if reasons else ("passed", "")
