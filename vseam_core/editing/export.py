"""Writes edited pairs as images with a manifest, for people to look at and for other tools to read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vseam_core.api.types import Pair
from vseam_core.editing.checks import EditCheck, check_edit
from vseam_core.editing.folder import safe_name
from vseam_core.files import atomic_file, write_atomically

if TYPE_CHECKING:
    from PIL.Image import Image

GAP = 8
"""Pixels between the images of a side-by-side view."""
_SHOWN_WIDTH = 360
_EDIT_COLOUR = (230, 30, 30)


@dataclass(frozen=True)
class ExportedPair:
    """One written pair: the files, relative to the folder, and the check of its pixels."""

    pair: Pair
    clean: str
    corrupt: str
    view: str
    check: EditCheck


def export_pairs(pairs: Iterable[Pair], directory: Path) -> Iterator[ExportedPair]:
    """Write each pair's two images and a side-by-side view with the edited boxes drawn, and a line of `manifest.jsonl`.

    The manifest replaces an older one when all pairs are there. Raises `SampleError` for an image that cannot be loaded, `OSError` for
    a folder that cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with atomic_file(directory / "manifest.jsonl") as manifest:
        for pair in pairs:
            exported = _export(pair, directory)
            manifest.write((json.dumps(_manifest_entry(exported), ensure_ascii=False) + "\n").encode("utf-8"))
            yield exported


def file_stem(identifier: str) -> str:
    """A file name that any file system takes, made from an identifier that may hold anything; different ones stay different."""
    return f"{safe_name(identifier)}-{hashlib.sha256(identifier.encode()).hexdigest()[:8]}"


def _export(pair: Pair, directory: Path) -> ExportedPair:
    clean, corrupt = pair.clean.image.load(), pair.corrupt.image.load()
    mask = None if pair.mask is None else pair.mask.load()
    check = check_edit(clean, corrupt, pair.boxes, mask)
    images = {"clean": clean, "corrupt": corrupt, "view": side_by_side(clean, corrupt, pair)}
    names = _names_in_folder(pair, directory)
    written = ["view"] if names else list(images)
    names = names or {part: f"{file_stem(pair.identifier)}-{part}.png" for part in images}
    for part in written:
        write_atomically(directory / names[part], partial(images[part].save, format="PNG"))
    return ExportedPair(pair, names["clean"], names["corrupt"], names["view"], check)


def _names_in_folder(pair: Pair, directory: Path) -> dict[str, str] | None:
    """The names of images that lie in this folder already, kept there by the editor; the view is laid beside them."""
    if pair.record is None:
        return None
    clean, corrupt = Path(pair.record.clean_path), Path(pair.record.image_path)
    if not (clean.is_relative_to(directory) and corrupt.is_relative_to(directory)):
        return None
    files = {"clean": clean, "corrupt": corrupt, "view": corrupt.with_suffix(".view.png")}
    return {part: file.relative_to(directory).as_posix() for part, file in files.items()}


def side_by_side(clean: Image, corrupt: Image, pair: Pair) -> Image:
    """The two images beside one another, enlarged where they are small, with the edited boxes drawn on the corrupt one."""
    from PIL import Image as images
    from PIL import ImageDraw

    scale = max(1, _SHOWN_WIDTH // clean.width)
    size = (clean.width * scale, clean.height * scale)
    view = images.new("RGB", (2 * size[0] + GAP, size[1]), "white")
    for index, image in enumerate((clean, corrupt)):
        view.paste(image.convert("RGB").resize(size, images.Resampling.NEAREST), (index * (size[0] + GAP), 0))
    draw = ImageDraw.Draw(view)
    for x0, y0, x1, y1 in pair.boxes:
        left = size[0] + GAP
        corners = (left + x0 * scale, y0 * scale, left + x1 * scale - 1, y1 * scale - 1)
        draw.rectangle(corners, outline=_EDIT_COLOUR, width=2)
    return view


def _manifest_entry(exported: ExportedPair) -> dict[str, Any]:
    pair = exported.pair
    return {
        "identifier": pair.identifier,
        "kind": pair.kind,
        "editor": pair.editor,
        "question": pair.clean.question,
        "clean_answer": pair.clean.answer,
        "corrupt_answer": pair.corrupt.answer,
        "source_term": pair.source_term,
        "target_term": pair.target_term,
        "boxes": [list(box) for box in pair.boxes],
        **({} if pair.record is None else {"record": asdict(pair.record), "measured": dict(pair.checks)}),
        "clean": exported.clean,
        "corrupt": exported.corrupt,
        "view": exported.view,
        "checks": asdict(exported.check),
    }
