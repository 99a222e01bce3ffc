"""The identity of a unit of work: a hash of everything that changes its result, and of nothing else.

Two processes, machines or days that would compute the same numbers get the same key; that is what lets a run resume.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image


def unit_key(**parts: object) -> str:
    """The identity of a unit: the sha256 (64 hex digits) of its parts as canonical JSON.

    Parts are None, booleans, integers, finite floats, strings, lists or tuples, mappings with string keys, and numpy
    scalars. The order of mappings does not matter, that of sequences does. Leave out what does not change the result:
    device, batch size, limit, path. Raises `TypeError` for anything else (hash it first, pictures with
    `image_digest`) and `ValueError` for NaN and infinity.
    """
    return hashlib.sha256(canonical_json(parts).encode("utf-8")).hexdigest()


def canonical_json(value: object) -> str:
    """The one spelling of a value as JSON: sorted keys, no spaces, floats by `repr`. Raises as `unit_key` does."""
    return json.dumps(_plain(value, "value"), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def image_digest(image: Image) -> str:
    """The identity of a picture: the sha256 (64 hex digits) of its mode, size and pixel bytes, whatever file it came from."""
    digest = hashlib.sha256(f"{image.mode}:{image.width}x{image.height}:".encode("ascii"))
    palette = image.getpalette()
    if palette is not None:
        digest.update(bytes(palette))
    digest.update(image.tobytes())
    return digest.hexdigest()


def _plain(value: object, where: str) -> Any:
    """The value as what `json` writes in one way only; `where` names it in errors."""
    if value is None or isinstance(value, bool):
        return value
    # Enumeration members are the plain value that they equal.
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value}: a unit's identity takes finite numbers only")
        return float(value)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{where} has the key {key!r}: a unit's identity takes mappings with string keys only")
        return {str(key): _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    scalar = _numpy_scalar(value)
    if scalar is not None:
        return _plain(scalar, where)
    raise TypeError(f"{where} is a {type(value).__name__}: a unit's identity takes plain values only; hash it first")


def _numpy_scalar(value: object) -> bool | int | float | str | None:
    """The Python value of a numpy scalar, or None for anything else; does not import numpy."""
    if type(value).__module__ != "numpy" or getattr(value, "shape", None) != ():
        return None
    item = getattr(value, "item", None)
    result = item() if callable(item) else None
    return result if isinstance(result, bool | int | float | str) else None
