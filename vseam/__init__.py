"""vseam: which parts of a vision-language model cause its answers, found by intervention.

    import vseam

    with vseam.open_workspace("results.db") as workspace:
        study = vseam.default_study().with_overrides(models=["llava-tiny"], datasets=["scenes/color"], limit=20)
        material = vseam.run_study(workspace, study)
        print(material.accuracy)

The public names are those of `__init__.pyi`, the one list of them, and each is imported on first use: `import vseam` alone imports nothing
else. The framework below is `vseam_core`.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any


def _homes() -> dict[str, str]:
    """The module that each public name is imported from, read from the stub."""
    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    return {name.name: node.module or "" for node in stub.body if isinstance(node, ast.ImportFrom) for name in node.names}


_HOMES = _homes()

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("vseam")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
