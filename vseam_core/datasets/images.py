"""Images of file benchmarks: found by name or path over suffixes and COCO's zero-padded names, in the folders that are given."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from vseam_core.datasets.image_files import read_image
from vseam_core.errors import SampleError, VseamError
from vseam_core.runs.identity import file_stamp

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".jpg", ".png", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_COCO = re.compile(r"(?:COCO_\w+?\d{4}_)?0*(\d+)")


def without_suffix(name: str) -> str:
    """The name of an image without the ending of its format."""
    return name.rsplit(".", 1)[0] if name.lower().endswith(SUFFIXES) else name


@dataclass(frozen=True)
class FileImage:
    """An image in a file."""

    path: Path

    def load(self) -> Image:
        """The image in RGB. Raises `SampleError`."""
        return read_image(self.path, str(self.path))

    def stamp(self) -> tuple[str, ...]:
        """What changes when the file does."""
        return file_stamp(self.path)


@dataclass(frozen=True)
class BytesImage:
    """An image inside a record (parquet files carry them)."""

    content: bytes = field(repr=False)
    name: str

    def load(self) -> Image:
        """The image in RGB. Raises `SampleError`."""
        return read_image(self.content, self.name)

    def stamp(self) -> BytesImage:
        """The image itself: its bytes are all there is."""
        return self


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """An image that is in memory already."""

    image: Image

    def load(self) -> Image:
        """The image in RGB."""
        return self.image.convert("RGB")


def image_source(image: Any) -> FileImage | BytesImage | LoadedImage:
    """Where an image comes from that is given as a path, as the bytes of a file, as an image of Pillow's, or as an array of pixels.

    Raises `VseamError` for anything else.
    """
    from PIL import Image as images

    if isinstance(image, (str, Path)):
        return FileImage(Path(image).expanduser())
    if isinstance(image, bytes):
        return BytesImage(image, "the given image")
    if isinstance(image, images.Image):
        return LoadedImage(image)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        return LoadedImage(images.fromarray(image))
    raise VseamError(
        f"expected an image as a path, as the bytes of a file, of Pillow's kind, or as uint8 pixels [height, width, 3]; got {image!r:.60}"
    )


@dataclass(frozen=True)
class MissingImage:
    """Stands for an image that cannot be used; loading it says why."""

    reason: str

    def load(self) -> Image:
        """Always raises `SampleError`."""
        raise SampleError(self.reason)


@dataclass(frozen=True)
class ImageFolders:
    """Folders of images, searched in order, then `beside` (the question file's own folder).

    Names are looked up in listings, so no name can lead outside: one with `..` in it is refused, an absolute one unless it lies in one
    of the folders, or, where none is given (`absolute`), anywhere. What a link inside a folder points at belongs to the folder.
    """

    folders: tuple[Path, ...]
    beside: Path | None = None
    absolute: bool = False

    def find(self, name: str) -> FileImage | MissingImage:
        """The image of that name or path: as it is, with another suffix, or as a COCO number with other zeros or another prefix."""
        path = PurePosixPath(name.replace("\\", "/") if "/" not in name else name)
        if ".." in path.parts or "\0" in name:
            return MissingImage(f"image {name!r}: a name cannot lead out of its folder")
        for folder in self._places(path):
            listed = self._listing(folder)
            for key in _keys(path.name):
                if key in listed:
                    return FileImage(listed[key])
        if path.is_absolute() and not self.absolute:
            return MissingImage(f"image {name!r}: lies in none of the folders that the option images names")
        if not self.folders and self.beside is None:
            return MissingImage(
                f"image {name!r}: no folder of images is given; name it by --images (the dataset's option images) or VSEAM_DATA"
            )
        where = " and ".join(str(folder) for folder in self._all)
        hint = "" if self.folders else "; name it by --images (the dataset's option images) or VSEAM_DATA"
        return MissingImage(f"image {name!r}: not found in {where} (tried {', '.join(SUFFIXES)} and COCO names){hint}")

    @property
    def _all(self) -> tuple[Path, ...]:
        return (*self.folders, *([self.beside] if self.beside is not None else []))

    def _places(self, path: PurePosixPath) -> Iterator[Path]:
        """The folders in which the last part of a path may lie."""
        if not path.is_absolute():
            yield from (folder / path.parent for folder in self._all)
        elif self.absolute or any(path.is_relative_to(folder.absolute().as_posix()) for folder in self._all):
            yield Path(path.parent)

    def _listing(self, folder: Path) -> dict[str, Path]:
        if folder not in self._listings:
            self._listings[folder] = _listed(folder)
        return self._listings[folder]

    @cached_property
    def _listings(self) -> dict[Path, dict[str, Path]]:
        return {}


def _keys(name: str) -> Iterator[str]:
    """What a name is looked up by: itself, without its suffix, its COCO number."""
    yield name
    stem = without_suffix(name)
    yield stem
    number = _COCO.fullmatch(stem)
    if number:
        yield f"#{number[1]}"


def _listed(folder: Path) -> dict[str, Path]:
    """The images of a folder by everything that they are looked up by."""
    listed: dict[str, Path] = {}
    try:
        paths = sorted(folder.iterdir())
    except OSError:  # no folder, or a name that is too long for one
        return listed
    for path in paths:
        # Some releases name their images without an ending.
        if path.suffix.lower() in SUFFIXES or (not path.suffix and path.is_file()):
            for key in _keys(path.name):
                listed.setdefault(key, path)
    return listed


def image_folders(folders: str | Path | Sequence[str | Path] | None, beside: Path | None = None) -> ImageFolders:
    """Folders from an option: one path, several, or none, in which case names may be absolute paths."""
    several = [] if folders is None else [folders] if isinstance(folders, (str, Path)) else list(folders)
    return ImageFolders(tuple(Path(folder).expanduser() for folder in several), beside, absolute=folders is None)
