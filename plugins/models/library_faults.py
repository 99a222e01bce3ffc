"""Faults of the library that keep a model from running at all, mended on the loaded module."""

from __future__ import annotations

from typing import Any

from vseam_core.engine.module_discovery import source_of

_FIELD = "image_outputs"


def mend(module: Any) -> Any:
    """The module, able to run where a known fault of the library would stop it; nothing that it computes is changed.

    Llama 4 in transformers 5.24.0 reads a field off the output of its language model that this output does not have, so that no
    forward pass ends (findings/transformers-llama4-image-outputs.sh): there it is given one that is empty.
    """
    written = source_of(type(module).forward)
    if "outputs = self.language_model(" in written and f"outputs.{_FIELD}" in written:
        module.language_model.register_forward_hook(_with_field)
    return module


def _with_field(module: Any, args: Any, output: Any) -> None:
    if not hasattr(output, _FIELD) and hasattr(output, "logits"):
        setattr(output, _FIELD, None)
