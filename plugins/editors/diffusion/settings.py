"""What every diffusion painter can be told: steps, guidance, number format, memory; and the sizes it works at."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from vseam_core.errors import SampleError, VseamError, did_you_mean

Offload = Literal["none", "model", "sequential"]
LEAST_SIDE = 32
"""An image with a shorter side in pixels shows a model too little to paint into."""
_OFFLOADS = ("none", "model", "sequential")
_DTYPES = ("auto", "float32", "float16", "bfloat16")


@dataclass(frozen=True)
class DiffusionSettings:
    """Options shared by all diffusion painters, checked.

    Without `steps` or `guidance` the pipeline's own defaults count. `scheduler` is the name of a diffusers scheduler class (None: the
    checkpoint's own). `dtype` `auto` is float16 on a GPU and float32 on the CPU. `side` is the length to which the shorter side of a
    image is brought, `max_side` the most for the longer one; `multiple` is what both are divisible by (None: what the pipeline asks
    for). `offload` keeps on the GPU only the part of the pipeline that is computing (`model`), or only the layer (`sequential`: slow,
    least memory).
    """

    painter: str
    steps: int | None
    guidance: float | None
    scheduler: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    side: int = 512
    max_side: int = 1024
    multiple: int | None = None
    offload: Offload = "none"
    attention_slicing: bool = False
    vae_tiling: bool = False
    safety_checker: bool = False

    def __post_init__(self) -> None:
        if self.steps is not None:
            self._number("steps", self.steps, 1, 1000, whole=True)
        if self.guidance is not None:
            self._number("guidance", self.guidance, 0, 100)
        self._number("side", self.side, 8, 8192, whole=True)
        self._number("max_side", self.max_side, self.side, 8192, whole=True)
        if self.multiple is not None:
            self._number("multiple", self.multiple, 1, 256, whole=True)
        self._choice("offload", self.offload, _OFFLOADS)
        self._choice("dtype", self.dtype, _DTYPES)

    def identity(self) -> dict[str, object]:
        """The settings that change pixels."""
        return {
            "steps": self.steps,
            "guidance": self.guidance,
            "scheduler": self.scheduler,
            "side": self.side,
            "max_side": self.max_side,
            "multiple": self.multiple,
            "attention_slicing": self.attention_slicing,
            "vae_tiling": self.vae_tiling,
        }

    def working_size(self, size: tuple[int, int], multiple: int) -> tuple[int, int]:
        """The width and height, divisible by `multiple`, at which an image of `size` is painted. Raises `SampleError` for small ones."""
        short, long = min(size), max(size)
        if short < LEAST_SIDE:
            raise SampleError(f"{self.painter}: the image has {size[0]}×{size[1]} pixels; expected at least {LEAST_SIDE} on each side")
        scale = min(self.side / short, self.max_side / long)
        if short * scale < max(multiple, LEAST_SIDE):
            raise SampleError(f"{self.painter}: an image of {size[0]}×{size[1]} pixels is too narrow for max_side={self.max_side}")
        width, height = (min(round(length * scale / multiple), self.max_side // multiple) * multiple for length in size)
        return max(width, multiple), max(height, multiple)

    def _number(self, name: str, value: Any, low: float, high: float, whole: bool = False) -> None:
        fits = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not fits or not low <= value <= high:
            kind = "a whole number" if whole else "a number"
            raise VseamError(f"editor {self.painter!r}: {name} is {value!r}; expected {kind} from {low:g} to {high:g}")

    def _choice(self, name: str, value: Any, known: tuple[str, ...]) -> None:
        if value not in known:
            raise VseamError(f"editor {self.painter!r}: {name} is {value!r}; {did_you_mean(str(value), known)}")
