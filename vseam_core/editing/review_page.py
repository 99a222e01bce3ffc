"""The page on which a person looks at edits: everything in one file, images included, everything escaped.

Served by `vseam edit review --serve` it stores each verdict at once; opened as a file it collects them and exports a JSON.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vseam_core.datasets.images import FileImage
from vseam_core.editing.masks import MaskFile
from vseam_core.editing.review import SCHEMA, ReviewItem
from vseam_core.errors import SampleError
from vseam_core.pages.rendering import asset, render

if TYPE_CHECKING:
    from PIL.Image import Image

_PACKAGE = "vseam_core.editing"
SHOWN_PIXELS = 360
"""The longer side of an image on the page; smaller images are enlarged by whole factors."""
_AMPLIFIED = 3
_DIMMED = 4
_LABELS = {
    "mask_share": ("mask, share of the image", "{:.1%}"),
    "changed_inside": ("changed inside the mask", "{:.1%}"),
    "changed_outside": ("pixels changed outside", "{:.0f}"),
    "raw_psnr_outside": ("raw image outside: PSNR", "{:.1f} dB"),
    "raw_ssim_outside": ("raw image outside: SSIM", "{:.3f}"),
    "seam": ("seam at the edge, levels", "{:.1f}"),
    "clip_margin_before": ("CLIP new − old, before", "{:+.3f}"),
    "clip_margin_after": ("CLIP new − old, after", "{:+.3f}"),
    "flip_model": ("the model's answer changes", "{}"),
    "flip_second": ("the second model's answer changes", "{}"),
}
_SKIPPED_IN_PLAN = ("source_term", "target_term", "target_answer", "boxes")


def review_page(items: Sequence[ReviewItem], title: str, token: str | None = None, reviewer: str = "") -> str:
    """The HTML of the page. With `token` verdicts are posted to the server that serves it, else they are only exported."""
    failed = sum(item.verdict == "failed" for item in items)
    reviewed = sum(bool(item.reviews) for item in items)
    return render(
        _PACKAGE,
        "review.html",
        title=title,
        style=asset(_PACKAGE, "review.css"),
        script=asset(_PACKAGE, "review.js"),
        blocks={"settings": {"schema": SCHEMA, "token": token, "reviewer": reviewer}},
        connect=token is not None,
        summary=f"{len(items)} edits, {failed} of them failed their checks, {reviewed} reviewed before.",
        saving="Each verdict is stored at once." if token else "Verdicts stay on this page until you export them.",
        cards=[_card(item) for item in items],
    )


def _card(item: ReviewItem) -> dict[str, Any]:
    """What the template shows of one edit; where an image cannot be read, the words that say so."""
    latest = item.reviews[-1] if item.reviews else {}
    images, missing = [], ""
    try:
        images = [(words, _data(image)) for words, image in _images(item).items()]
    except (SampleError, ValueError) as error:
        missing = str(error)
    return {
        "item": item,
        "latest": {name: latest.get(name, "") for name in ("verdict", "comment")},
        "kind": "edit" if item.kind == "edit" else f"control: {item.kind}",
        "images": images,
        "missing": missing,
        "checks": _checks(item),
        "plan": _plan(item),
    }


def _checks(item: ReviewItem) -> list[tuple[str, str]]:
    rows = []
    places = {name: place for place, name in enumerate(_LABELS)}
    for name, value in sorted(item.checks.items(), key=lambda check: (places.get(check[0], len(places)), check[0])):
        label, form = _LABELS.get(name, (name.replace("_", " "), "{:.4g}"))
        shown = ("yes" if value else "no") if form == "{}" else form.format(value)
        rows.append((label, shown if math.isfinite(value) else "–"))
    return rows


def _plan(item: ReviewItem) -> list[tuple[str, str]]:
    return [(name.replace("_", " "), _words(value)) for name, value in item.plan.items() if name not in _SKIPPED_IN_PLAN]


def _words(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _images(item: ReviewItem) -> dict[str, Image]:
    """The four images of an edit by their words. Raises `SampleError` where one cannot be read."""
    assert item.clean is not None
    assert item.corrupt is not None
    clean, corrupt = FileImage(item.clean).load(), FileImage(item.corrupt).load()
    mask = _mask(item.mask, clean)
    views = {"original": clean, "edited": corrupt, f"difference × {_AMPLIFIED}": difference_view(clean, corrupt)}
    return views if mask is None else {"original": clean, "may change (the rest dimmed)": mask_view(clean, mask), **views}


def _mask(path: Path | None, clean: Image) -> np.ndarray | None:
    mask = None if path is None else MaskFile(path).load()
    if mask is not None and mask.shape != (clean.height, clean.width):
        raise SampleError(f"mask {path}: {mask.shape[1]}×{mask.shape[0]} pixels, the image has {clean.width}×{clean.height}")
    return mask


def mask_view(clean: Image, mask: np.ndarray) -> Image:
    """The original where the edit may have changed it, and dimmed everywhere else."""
    from PIL import Image as images

    pixels = np.asarray(clean.convert("RGB")).copy()
    pixels[~mask] //= _DIMMED
    return images.fromarray(pixels)


def difference_view(clean: Image, corrupt: Image) -> Image:
    """The absolute difference of each channel, amplified; black where nothing changed. Raises `SampleError` for other sizes."""
    from PIL import Image as images

    if clean.size != corrupt.size:
        raise SampleError(f"the edited image has {corrupt.width}×{corrupt.height} pixels, the original {clean.width}×{clean.height}")
    first, second = (np.asarray(image.convert("RGB")).astype(int) for image in (clean, corrupt))
    return images.fromarray(np.minimum(_AMPLIFIED * np.abs(first - second), 255).astype(np.uint8))


def _data(image: Image) -> str:
    """The image at the size of the page as a data address: JPEG, or PNG where it is small and enlarged."""
    from PIL import Image as images

    longest = max(image.size)
    shown = image.convert("RGB")
    file = io.BytesIO()
    if longest > SHOWN_PIXELS:
        shown.thumbnail((SHOWN_PIXELS, SHOWN_PIXELS), images.Resampling.LANCZOS)
        shown.save(file, format="JPEG", quality=88)
        kind = "jpeg"
    else:
        factor = max(1, SHOWN_PIXELS // longest)
        shown.resize((image.width * factor, image.height * factor), images.Resampling.NEAREST).save(file, format="PNG")
        kind = "png"
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
