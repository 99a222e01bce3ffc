"""The page on which a person looks at edits: everything in one file, images included, everything escaped.

Served by `vseam edit review --serve` it stores each verdict at once; opened as a file it collects them and exports a JSON.
"""

from __future__ import annotations

import base64
import html
import io
import json
import math
import secrets
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vseam_core.datasets.images import FileImage
from vseam_core.editing.masks import MaskFile
from vseam_core.editing.review import SCHEMA, ReviewItem
from vseam_core.errors import SampleError

if TYPE_CHECKING:
    from PIL.Image import Image

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
    nonce = secrets.token_urlsafe(16)
    policy = (
        f"default-src 'none'; img-src data:; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; base-uri 'none'"
    )
    settings = {"schema": SCHEMA, "token": token, "reviewer": reviewer}
    failed = sum(item.verdict == "failed" for item in items)
    summary = f"{len(items)} edits, {failed} of them failed their checks, {sum(bool(item.reviews) for item in items)} reviewed before."
    saving = "Each verdict is stored at once." if token else "Verdicts stay on this page until you export them."
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<title>{html.escape(title)}</title><style nonce="{nonce}">{_asset("review.css")}</style></head><body>',
            f"<header><h1>{html.escape(title)}</h1>",
            f'<p class="note">{html.escape(summary)} {html.escape(saving)} Keys: <kbd>a</kbd> accept, <kbd>r</kbd> reject, '
            "<kbd>j</kbd> and <kbd>k</kbd> go down and up.</p>",
            '<p><button id="export" type="button">Export verdicts</button> <span id="status" role="status"></span></p></header><main>',
            *(_card(number, item) for number, item in enumerate(items, 1)),
            "</main>",
            f'<script type="application/json" id="settings">{_in_script(settings)}</script>',
            f'<script nonce="{nonce}">{_asset("review.js")}</script></body></html>',
            "",
        ]
    )


def _in_script(value: object) -> str:
    """JSON that no browser can take for the end or the beginning of an element."""
    return json.dumps(value).replace("<", "\\u003c").replace("&", "\\u0026")


def _asset(name: str) -> str:
    return resources.files("vseam_core.editing").joinpath("assets", name).read_text(encoding="utf-8")


def _card(number: int, item: ReviewItem) -> str:
    latest = item.reviews[-1] if item.reviews else {}
    name = html.escape(item.identifier, quote=True)
    kind = "edit" if item.kind == "edit" else f"control: {item.kind}"
    verdict = "".join(
        f'<p class="review {html.escape(review["verdict"])}">{html.escape(review["verdict"])}'
        f"{html.escape(' by ' + review['reviewer'] if review['reviewer'] else '')}"
        f"{html.escape(': ' + review['comment'] if review['comment'] else '')}</p>"
        for review in item.reviews
    )
    return (
        f'<article tabindex="0" id="edit-{number}" data-edit="{name}" data-verdict="{html.escape(latest.get("verdict", ""))}">'
        f"<h2>{html.escape(item.question)}</h2>"
        f'<p class="answers"><span>{html.escape(item.clean_answer)}</span> → <span>{html.escape(item.corrupt_answer)}</span>'
        f' <span class="terms">{html.escape(item.edit)}</span> <span class="tag">{html.escape(kind)}</span>'
        f' <span class="tag">{html.escape(item.editor)}</span> {_badge(item)}</p>'
        f'<div class="images">{_images(item)}</div>'
        f'<div class="facts"><table><caption>Checks</caption>{_rows(_checks(item))}</table>'
        f"<table><caption>Plan</caption>{_rows(_plan(item))}</table>"
        f'<div class="verdict">{verdict}<label>Comment '
        f'<input type="text" class="comment" value="{html.escape(latest.get("comment", ""))}"></label>'
        '<p><button type="button" class="accept">Accept</button> <button type="button" class="reject">Reject</button></p>'
        f'<p class="name">{name}</p></div></div></article>'
    )


def _badge(item: ReviewItem) -> str:
    if not item.verdict:
        return ""
    words = f"checks {item.verdict}" + (f": {item.reason}" if item.reason else "")
    return f'<span class="badge {html.escape(item.verdict)}">{html.escape(words)}</span>'


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


def _rows(rows: Sequence[tuple[str, str]]) -> str:
    return "".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in rows)


def _images(item: ReviewItem) -> str:
    """The four images of an edit; where one cannot be read, the words that say so."""
    assert item.clean is not None
    assert item.corrupt is not None
    try:
        clean, corrupt = FileImage(item.clean).load(), FileImage(item.corrupt).load()
        mask = _mask(item.mask, clean)
        views = {"original": clean, "edited": corrupt, f"difference × {_AMPLIFIED}": difference_view(clean, corrupt)}
        if mask is not None:
            views = {"original": clean, "may change (the rest dimmed)": mask_view(clean, mask), **views}
    except (SampleError, ValueError) as error:
        return f'<p class="missing">{html.escape(str(error))}</p>'
    return "".join(
        f'<figure><img src="{_data(image)}" alt="{html.escape(words)}"><figcaption>{html.escape(words)}</figcaption></figure>'
        for words, image in views.items()
    )


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
