"""Keeps small images of what was measured: the clean and the edited image of every pair, the mask of its edit, every scanned image."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from vseam_core.api.types import Pair, Sample
from vseam_core.errors import SampleError
from vseam_core.runs.workspace import Workspace
from vseam_core.store.thumbnails import Thumbnail, put_thumbnails, without_thumbnail

if TYPE_CHECKING:
    from PIL.Image import Image

LONGEST = 160
"""Pixels of a thumbnail's longer side; smaller images keep their size."""
_QUALITY = 60
_NOISY = 0.45
"""Bytes per pixel above which an image is noise, which no quality makes small: it looks alike at the lowest."""
_QUALITY_OF_NOISE = 10


def keep_thumbnails(workspace: Workspace, samples: Iterable[Sample] = (), pairs: Iterable[Pair] = ()) -> None:
    """Keep thumbnails of stored samples and pairs that have none, where the workspace keeps any. An image that cannot be read has none."""
    if not workspace.thumbnails:
        return
    edits = list(pairs)
    wanted = {sample.identifier: sample for sample in samples}
    wanted |= {sample.identifier: sample for pair in edits for sample in (pair.clean, pair.corrupt)}
    missing = without_thumbnail(workspace.store, wanted)
    images, masks = {}, {}
    for name in missing:
        try:
            images[name] = thumbnail_of(wanted[name].image.load())
        except SampleError:
            continue
    for pair in edits:
        if pair.mask is not None and pair.corrupt.identifier in missing:
            try:
                masks[pair.identifier] = mask_thumbnail(pair.mask.load())
            except SampleError:
                continue
    put_thumbnails(workspace.store, images, masks)


def thumbnail_of(image: Image) -> Thumbnail:
    """A small WebP of an image."""
    from PIL import Image as images

    shown = image.convert("RGB")
    shown.thumbnail((LONGEST, LONGEST), images.Resampling.LANCZOS)
    found = _encoded(shown, image.size, quality=_QUALITY)
    is_noise = len(found.data) > _NOISY * shown.width * shown.height
    return _encoded(shown, image.size, quality=_QUALITY_OF_NOISE) if is_noise else found


def mask_thumbnail(mask: np.ndarray) -> Thumbnail:
    """A small lossless WebP of a mask, white where the edit may have changed the image."""
    from PIL import Image as images

    shown = images.fromarray(np.where(mask, 255, 0).astype(np.uint8))
    shown.thumbnail((LONGEST, LONGEST), images.Resampling.NEAREST)
    return _encoded(shown.convert("RGB"), (mask.shape[1], mask.shape[0]), lossless=True)


def _encoded(shown: Image, size: tuple[int, int], **options: object) -> Thumbnail:
    file = io.BytesIO()
    # Method 2 takes a millisecond for a thumbnail, half of what the default takes, at the same size.
    shown.save(file, format="WEBP", method=2, **options)
    return Thumbnail(file.getvalue(), "webp", *size)
