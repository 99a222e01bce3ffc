"""The identity of a unit of work: a hash of everything that changes its result, and of nothing else.

Two processes, machines or days that would compute the same numbers get the same key; that is what lets a run resume. Whatever a
plugin contributes is a `Component`, which carries its version and its options in a place of their own.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

    from vseam_core.api.types import ModelInfo


@dataclass(frozen=True)
class Component:
    """One part of an experiment that can be exchanged or upgraded: its name, its version, and the options that change its results.

    `options` are plain values or further components (an editor's painter, planner and masks).
    """

    name: str
    version: int = 1
    options: Mapping[str, object] = field(default_factory=dict)

    def identity(self) -> dict[str, Any]:
        """The component as plain values. Raises `TypeError` and `ValueError` as `unit_key` does."""
        return {"name": self.name, "version": self.version, "options": _plain(self.options, f"the options of {self.name}")}


def component_of(plugin: Any, given: Mapping[str, object] | None = None, name: str = "") -> Component:
    """What a plugin contributes to an identity: its name, version, and what its `options()` or `identity()` says.

    A plugin that says nothing of its own is told apart by the options that it was `given`. `name` is for plugins that are known by the
    name they were asked for.
    """
    own = own_options(plugin)
    return Component(name or plugin.name, plugin.version, dict(given or {}) if own is None else own)


def own_options(plugin: Any) -> dict[str, object] | None:
    """What a plugin's `options()` or `identity()` says, or None where it leaves it to its interface, which says nothing."""
    for method in ("options", "identity"):
        function = getattr(type(plugin), method, None)
        if function is not None:
            # The interfaces' own methods return nothing, for plugins that have no options or forgot to name them.
            return None if function.__module__.startswith("vseam_core.api.") else dict(getattr(plugin, method)())
    return None


def model_identity(info: ModelInfo) -> dict[str, Any]:
    """What about a model changes its numbers: weights, number format, attention implementation, processor."""
    return {"weights": info.weights_hash, "dtype": info.dtype, "attention": info.attention, "processor": info.processor_hash}


def unit_key(**parts: object) -> str:
    """The identity of a unit: the sha256 (64 hex digits) of its parts as canonical JSON.

    Parts are None, booleans, integers, finite floats, strings, lists or tuples, mappings with string keys, components, and numpy
    scalars. The order of mappings does not matter, that of sequences does. Leave out what does not change the result:
    device, batch size, limit, path. Raises `TypeError` for anything else (hash it first, images with
    `image_digest`) and `ValueError` for NaN and infinity.
    """
    return hashlib.sha256(canonical_json(parts).encode("utf-8")).hexdigest()


def canonical_json(value: object) -> str:
    """The one spelling of a value as JSON: sorted keys, no spaces, floats by `repr`. Raises as `unit_key` does."""
    return json.dumps(_plain(value, "value"), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def image_digest(image: Image) -> str:
    """The identity of an image: the sha256 (64 hex digits) of its mode, size and pixel bytes, whatever file it came from."""
    digest = hashlib.sha256(f"{image.mode}:{image.width}x{image.height}:".encode("ascii"))
    palette = image.getpalette()
    if palette is not None:
        digest.update(bytes(palette))
    digest.update(image.tobytes())
    return digest.hexdigest()


def file_stamp(path: Path) -> tuple[str, ...]:
    """What changes when a file does, without reading it: its path, inode, size and time of change; the path alone where it is missing."""
    try:
        status = path.stat()
    except OSError:
        return (str(path),)
    return (str(path), *(str(part) for part in (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)))


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
    if isinstance(value, Component):
        return value.identity()
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
