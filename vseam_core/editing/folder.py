"""The folder of edited images: an edit is made once, found again by what it was made from, and never trusted half-written.

    edits/
      clean/DIGEST.png                   original images, each once
      masks/REQUEST-DIGEST.png           masks, by what they were asked for
      EDITOR/NAME-KEY.{png,mask.png,json}  one edit; the JSON is written last and holds the digests of both images

Every file is written under another name first and then renamed, so a run that is killed or a full disk leaves no part of a file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vseam_core.editing.masks import MaskFile, mask_digest, mask_image
from vseam_core.errors import InvalidFileError, SampleError
from vseam_core.files import parse_json, read_bytes, write_atomically
from vseam_core.runs.identity import image_digest

if TYPE_CHECKING:
    from PIL.Image import Image

SCHEMA = "vseam.edit/1"
_KEY_SHOWN = 16
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredEdit:
    """An edit in the folder: its three images, and the entry that describes it."""

    clean: Path
    image: Path
    mask: Path
    entry: Mapping[str, Any]


class EditFolder:
    """A folder of edited images; it is made when the first edit is written."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def find(self, editor: str, identifier: str, key: str) -> StoredEdit | None:
        """The edit of that key; None where there is none, or where its files are not what its entry says (said in the log)."""
        stem = self._stem(editor, identifier, key)
        path = stem.with_name(f"{stem.name}.json")
        if not path.exists():
            return None
        try:
            entry = parse_json(read_bytes(path))
            if entry["schema"] != SCHEMA or entry["key"] != key:
                raise ValueError("it is of another kind")
            files = {name: self.path / entry["files"][name]["path"] for name in ("clean", "image", "mask")}
            for name, file in files.items():
                if _file_digest(file) != entry["files"][name]["sha256"]:
                    raise ValueError(f"{file.name} is not the file that was written")
        except (OSError, InvalidFileError, ValueError, KeyError, TypeError) as error:
            _log.warning("the edit %s is damaged and is made again: %s", path, error)
            return None
        return StoredEdit(files["clean"], files["image"], files["mask"], entry)

    def save(self, editor: str, identifier: str, key: str, images: Mapping[str, Image], entry: Mapping[str, Any]) -> StoredEdit:
        """Write the images `clean`, `image` and `mask` of an edit, then its entry. Raises `OSError`."""
        stem = self._stem(editor, identifier, key)
        places = {
            "clean": self._clean(images["clean"]),
            "image": stem.with_name(f"{stem.name}.png"),
            "mask": stem.with_name(f"{stem.name}.mask.png"),
        }
        files = {}
        for name, place in places.items():
            self._write_image(place, images[name])
            files[name] = {"path": place.relative_to(self.path).as_posix(), "sha256": _file_digest(place)}
        whole = {"schema": SCHEMA, "key": key, **entry, "files": files}
        self._write_entry(stem, whole)
        return StoredEdit(places["clean"], places["image"], places["mask"], whole)

    def update(self, stored: StoredEdit, **changes: Any) -> StoredEdit:
        """Write the entry of an edit again with changes (checks that were made later)."""
        entry = {**stored.entry, **changes}
        self._write_entry(stored.image.with_suffix(""), entry)
        return StoredEdit(stored.clean, stored.image, stored.mask, entry)

    def mask(self, request: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        """The mask of that request, from the folder or made now; its file name holds the digest of what it must contain."""
        folder = self.path / "masks"
        for path in sorted(folder.glob(f"{request[:_KEY_SHOWN]}-*.png")):
            with contextlib.suppress(SampleError):
                found = MaskFile(path).load()
                if path.stem == _mask_name(request, found):
                    return found
            _log.warning("the mask %s is damaged and is made again", path)
        mask = make()
        self._write_image(folder / f"{_mask_name(request, mask)}.png", mask_image(mask))
        return mask

    def _stem(self, editor: str, identifier: str, key: str) -> Path:
        return self.path / safe_name(editor) / f"{safe_name(identifier)}-{key[:_KEY_SHOWN]}"

    def _clean(self, image: Image) -> Path:
        return self.path / "clean" / f"{image_digest(image)[:_KEY_SHOWN]}.png"

    def _write_image(self, path: Path, image: Image) -> None:
        write_atomically(path, lambda file: image.save(file, format="PNG"))

    def _write_entry(self, stem: Path, entry: Mapping[str, Any]) -> None:
        text = json.dumps(entry, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
        write_atomically(stem.with_name(f"{stem.name}.json"), text)


def safe_name(identifier: str, most: int = 80) -> str:
    """A name that any file system takes as one part of a path, made from an identifier that may hold anything."""
    return re.sub(r"[^A-Za-z0-9]+", "-", identifier).strip("-")[-most:].lstrip("-") or "unnamed"


def _mask_name(request: str, mask: np.ndarray) -> str:
    return f"{request[:_KEY_SHOWN]}-{mask_digest(mask)[:_KEY_SHOWN]}"


def _file_digest(path: Path) -> str:
    return hashlib.sha256(read_bytes(path)).hexdigest()
