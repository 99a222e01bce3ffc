"""Files of directions: safetensors, one vector for each layer and kind, with what they were fitted on in the header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vseam_core.errors import InvalidFileError, UnknownNameError, VseamError, did_you_mean

FORMAT = "vseam-directions/1"


def write_directions(path: Path, vectors: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    """Write vectors by name (`L3.difference`), float32 `[width]`. Raises `VseamError` where the folder does not exist."""
    from safetensors.numpy import save

    from vseam_core.files import write_atomically

    if not path.absolute().parent.is_dir():
        raise VseamError(f"{path}: its folder does not exist")
    named = {name: np.ascontiguousarray(vector, dtype=np.float32) for name, vector in vectors.items()}
    write_atomically(path, save(named, {"format": FORMAT, "about": json.dumps(dict(about), sort_keys=True)}))


def read_direction(path: Path, layer: int, kind: str) -> tuple[np.ndarray, dict[str, Any]]:
    """One direction, float32 `[width]`, and what the file says about all of them.

    Raises `InvalidFileError` for a file that is no file of directions, and `UnknownNameError` for a layer or kind that it lacks.
    """
    from safetensors import SafetensorError, safe_open

    from vseam_core.files import parse_json, why_not_read

    try:
        if reason := why_not_read(path):
            raise InvalidFileError(f"{path}: {reason}")
        with safe_open(str(path), "np") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise InvalidFileError(f"{path}: expected a file of `vseam directions fit`")
            names = list(file.keys())
            name = f"L{layer}.{kind}"
            if name not in names:
                raise UnknownNameError(f"{path} has no direction {name!r}; {did_you_mean(name, names)}")
            return np.asarray(file.get_tensor(name)), parse_json(header["about"])
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise InvalidFileError(f"{path}: cannot be read as a file of directions: {error}") from error
