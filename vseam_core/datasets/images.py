"""Pictures of file benchmarks: found by name over suffixes and COCO's zero-padded names, opened with a cap on their size."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vseam_core.errors import SampleError
from vseam_core.runs.identity import file_stamp

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".jpg", ".png", ".jpeg", ".webp")
MOST_PIXELS = 100_000_000
_COCO = re.compile(r"(?:COCO_\w+?\d{4}_)?0*(\d+)")


def open_picture(source: Any, name: str) -> Image:
    """The picture in RGB. Raises `SampleError` for one that cannot be read, or of more than 100 million pixels."""
    from PIL import Image as images

    try:
        with images.open(source) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise SampleError(f"{name}: {picture.width} × {picture.height} pixels are more than the {MOST_PIXELS:,} that are read")
            return picture.convert("RGB")
    except SampleError:
        raise
    except (OSError, ValueError, SyntaxError, images.DecompressionBombError) as error:
        raise SampleError(f"{name}: not a readable picture ({' '.join(str(error).split())[:120]})") from None


@dataclass(frozen=True)
class FileImage:
    """A picture in a file."""

    path: Path

    def load(self) -> Image:
        """The picture in RGB. Raises `SampleError`."""
        return open_picture(self.path, str(self.path))

    def stamp(self) -> tuple[str, ...]:
        """What changes when the file does."""
        return file_stamp(self.path)


@dataclass(frozen=True)
class BytesImage:
    """A picture inside a record (parquet files carry them)."""

    content: bytes = field(repr=False)
    name: str

    def load(self) -> Image:
        """The picture in RGB. Raises `SampleError`."""
        return open_picture(io.BytesIO(self.content), self.name)

    def stamp(self) -> BytesImage:
        """The image itself: its bytes are all there is."""
        return self


@dataclass(frozen=True)
class MissingImage:
    """Stands for a picture that cannot be used; loading it says why."""

    reason: str

    def load(self) -> Image:
        """Always raises `SampleError`."""
        raise SampleError(self.reason)


@dataclass(frozen=True)
class ImageFolders:
    """Folders of pictures, searched in order. Names are looked up in a listing, so no name can lead outside the folders."""

    folders: tuple[Path, ...]

    def find(self, name: str) -> FileImage | MissingImage:
        """The picture of that name: as it is, with another suffix, or as a COCO number with other zeros or another prefix."""
        if not self.folders:
            return MissingImage(f"picture {name!r}: no folder of pictures is given; set the dataset's option images, or VSEAM_DATA")
        for key in self._keys(name):
            if key in self._listed:
                return FileImage(self._listed[key])
        where = " and ".join(str(folder) for folder in self.folders)
        return MissingImage(f"picture {name!r}: not found in {where} (tried {', '.join(SUFFIXES)} and COCO names)")

    @staticmethod
    def _keys(name: str) -> Iterable[str]:
        yield name
        stem = name.rsplit(".", 1)[0] if name.lower().endswith(SUFFIXES) else name
        yield stem
        number = _COCO.fullmatch(stem)
        if number:
            yield f"#{number[1]}"

    @cached_property
    def _listed(self) -> dict[str, Path]:
        listed: dict[str, Path] = {}
        for folder in self.folders:
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                if path.suffix.lower() not in SUFFIXES:
                    continue
                number = _COCO.fullmatch(path.stem)
                for key in (path.name, path.stem, *([f"#{number[1]}"] if number else [])):
                    listed.setdefault(key, path)
        return listed


def image_folders(folders: str | Path | Sequence[str | Path] | None) -> ImageFolders:
    """Folders from an option: one path, several, or none."""
    if folders is None:
        return ImageFolders(())
    several = [folders] if isinstance(folders, (str, Path)) else list(folders)
    return ImageFolders(tuple(Path(folder).expanduser() for folder in several))
