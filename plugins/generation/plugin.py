"""Registers the built-in ways to change how answers are generated."""

from __future__ import annotations

from collections.abc import Iterator

from vseam_core.plugins.hookspecs import hookimpl
from vseam_core.plugins.records import GenerationMethodRecord

PLUGIN_API = 1

_METHODS = (
    ("vcd", "contrast:NoisedImageContrast", "contrasts the image with a noised one (VCD, Leng et al. 2023)"),
    ("pai", "contrast:ImageAttention", "more attention to the image, contrasted with the text alone (PAI, Liu et al. 2024)"),
)


@hookimpl
def vseam_generation_methods() -> Iterator[GenerationMethodRecord]:
    """Contrastive decoding and image attention."""
    for name, factory, summary in _METHODS:
        yield GenerationMethodRecord(name=name, summary=summary, factory=f"vseam_plugins.generation.{factory}")
