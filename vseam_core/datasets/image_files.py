"""The one place where image files are opened: datasets, edit folders, precomputed edits, masks and the review read them here.

Only JPEG, PNG, WebP, BMP, GIF and TIFF are opened: Pillow hands some other formats to external programs. Images come upright (EXIF
orientation applied; boxes are in pixels of the upright image), in RGB, transparent parts on white as in the model library's own
processors, of several frames the first. 16-bit pixels are scaled to 8 bits, floats from 0 to 1 too; whatever else would be guessed is a
`SampleError` with the reason.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vseam_core.errors import SampleError
from vseam_core.files import MOST_BYTES, why_not_read

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
MOST_PIXELS = 100_000_000
_HALF = {"1": 1, "F": 0.5, "I": 1 << 15}
_log = logging.getLogger(__name__)


def read_image(source: Path | bytes, name: str) -> Image:
    """An image in RGB from a file or its bytes; `name` is what messages call it.

    `info["notes"]` of the result lists what was done that may surprise (turned upright, first frame of several). Raises `SampleError`
    for what is no file, no image of `FORMATS`, too large, or has pixels without a known white.
    """
    with _opened(source, name) as image:
        upright, notes = _upright(image, name)
        result = _rgb(upright, image.format or "", name)
    result.info = {"notes": tuple(notes)}
    return result


def read_mask(source: Path | bytes, name: str) -> np.ndarray:
    """A mask from an image file as booleans `[height, width]`, read as it is meant.

    Of two values (0 and 1, 0 and 255) the larger one is the mask; of more, what is at least half of white, or, where nothing is, whatever
    is not 0 (label images). A coloured palette is a label image: index 0 is the background. Where alpha varies over one colour, the mask is
    what is opaque; over several colours, transparent parts are outside. Raises `SampleError` as `read_image`.
    """
    with _opened(source, name) as image:
        return _mask_of(_upright(image, name)[0])


@contextlib.contextmanager
def _opened(source: Path | bytes, name: str) -> Iterator[Image]:
    """The opened image, checked before its pixels are read."""
    from PIL import Image as images

    try:
        content: Any = io.BytesIO(source) if isinstance(source, bytes) else _regular_file(source, name)
        with images.open(content, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise SampleError(f"{name}: {image.width} × {image.height} pixels are more than the {MOST_PIXELS:,} that are read")
            yield image
    except SampleError:
        raise
    except images.UnidentifiedImageError:
        raise SampleError(f"{name}: cannot be read as an image (read are {', '.join(FORMATS)})") from None
    except images.DecompressionBombError:
        raise SampleError(f"{name}: more pixels than the {MOST_PIXELS:,} that are read") from None
    except FileNotFoundError:
        raise SampleError(f"{name}: no such image; it was moved or deleted") from None
    except (OSError, ValueError, SyntaxError, EOFError, OverflowError) as error:
        raise SampleError(f"{name}: cannot be read as an image ({' '.join(str(error).split())[:120]})") from None


def _regular_file(path: Path, name: str) -> Path:
    """The path, if a plain file of a size that can be read lies there: a pipe or a device would be waited for without end."""
    reason = why_not_read(path, MOST_BYTES)
    if reason:
        raise SampleError(f"{name}: cannot be read as an image ({reason})")
    return path


def _upright(image: Image, name: str) -> tuple[Image, list[str]]:
    """The image as its EXIF orientation says, and what is to be said about it."""
    from PIL import ImageOps

    notes = []
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # cameras keep a preview beside the photograph
        notes.append(f"{frames} frames, the first is read")
    if image.getexif().get(0x0112, 1) != 1:
        notes.append("turned upright by its EXIF orientation")
        image = ImageOps.exif_transpose(image)
    for note in notes:
        _log.info("%s: %s", name, note)
    return image, notes


def _rgb(image: Image, kind: str, name: str) -> Image:
    from PIL import Image as images

    if image.mode.startswith("I;16") or (image.mode == "I" and kind == "PNG"):  # Pillow shows 16 bits of a PNG either way
        return images.fromarray(np.rint(np.asarray(image).astype(np.float64) / 257).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "I":
        raise SampleError(f"{name}: cannot be read as an image (32-bit whole numbers have no known white; convert it to 16 bits)")
    if image.mode == "F":
        pixels = np.asarray(image)
        if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1):
            raise SampleError(f"{name}: cannot be read as an image (float pixels outside 0 to 1 have no known white)")
        return images.fromarray(np.rint(pixels.astype(np.float64) * 255).astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    shown = image.convert("RGBA")
    white = images.new("RGBA", shown.size, "white")
    return images.alpha_composite(white, shown).convert("RGB")


def _mask_of(image: Image) -> np.ndarray:
    if image.mode == "P" and "transparency" not in image.info:
        colours = image.convert("RGB").getcolors(1 << 24) or []
        if any(len(set(colour)) > 1 for _, colour in colours if isinstance(colour, tuple)):
            return np.asarray(image) != 0
    if image.mode in ("1", "F") or image.mode.startswith("I"):
        half = _HALF.get(image.mode, 1 << 15)
        return _larger(np.asarray(image), half)
    if not image.has_transparency_data:
        return _larger(np.asarray(image.convert("L")), 128)
    pixels = np.asarray(image.convert("RGBA"))
    opaque = pixels[..., 3] >= 128
    if opaque.all() or not opaque.any():
        return _larger(np.asarray(image.convert("RGB").convert("L")), 128) & opaque
    one_colour = len(np.unique(pixels[opaque][:, :3], axis=0)) == 1
    return opaque if one_colour else _larger(np.asarray(image.convert("RGB").convert("L")), 128) & opaque


def _larger(values: np.ndarray, half: float) -> np.ndarray:
    """Where values are the mask: see `read_mask`."""
    if not (values >= half).any():
        return np.asarray(values > 0)
    lowest, highest = values.min(), values.max()
    if ((values == lowest) | (values == highest)).all() and lowest < highest:
        return np.asarray(values == highest)
    return np.asarray(values >= half)
