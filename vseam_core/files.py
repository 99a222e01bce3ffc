"""Files are written whole or not at all, and read only where a plain file of a size that can be read lies.

A kill or a full disk leaves what was there before, never half of something new. A pipe or a device would be waited for without end.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from vseam_core.errors import InvalidFileError

MOST_BYTES = 1 << 30


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that takes its place when the context ends well; its folder is made where it is missing.

    A link stays one, and what it points to is written; to a device or a pipe everything is written as it comes. Raises `OSError`, after
    which nothing of it is left and an older file of that name is as it was.
    """
    path = path.resolve()
    if path.exists() and not path.is_file() and not path.is_dir():
        with path.open("wb") as file:  # a file in the place of /dev/null would be everybody's loss
            yield file
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: str | bytes | Callable[[BinaryIO], object]) -> None:
    """Write text (UTF-8), bytes, or what a function writes to the file it is given. Raises `OSError`, as `atomic_file` does."""
    with atomic_file(path) as file:
        if callable(content):
            content(file)
        else:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)


def why_not_read(path: Path, most_bytes: int = MOST_BYTES) -> str:
    """Why what lies at a path is not read as a file: "" for a plain one of a size that can be read. Raises `OSError`."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        return f"it is {'a folder' if stat.S_ISDIR(found.st_mode) else 'a pipe, device or socket'}, expected a file"
    return f"{found.st_size:,} bytes are more than the {most_bytes:,} that are read" if found.st_size > most_bytes else ""


def read_bytes(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """The content of a file that somebody else may have written. Raises `InvalidFileError` where it cannot be read."""
    try:
        reason = why_not_read(path, most_bytes)
        if reason:
            raise InvalidFileError(f"{path}: {reason}")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise InvalidFileError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def parse_json(text: str | bytes) -> Any:
    """JSON from a file or a request of somebody else's; `ValueError` with the reason also for what is nested too deep."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
