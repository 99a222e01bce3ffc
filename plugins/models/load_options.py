"""How a checkpoint is to be opened: every loading option, read from what users write, with one clear line for what makes no sense."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vseam_core.config.loading import DTYPES
from vseam_core.errors import UnknownNameError, UnsupportedError, VseamError, did_you_mean
from vseam_core.plugins.loading import require_extra
from vseam_core.plugins.option_types import expected_instead

PLACEMENTS = ("auto", "balanced", "balanced_low_0", "sequential")
QUANTISATIONS = ("8bit", "4bit")


@dataclass(frozen=True)
class LoadRequest:
    """What to open and how: `source` is a folder or a hub id, `random_seed` asks for fresh weights in the same architecture.

    `device_map` (a placement such as `auto`, or module name → device) spreads a model over several GPUs, the CPU's memory and
    the disk; `max_memory` and `offload_folder` limit that. `quantisation` is `8bit` or `4bit`; `dtype` is then what is computed
    in. `local_files_only` never asks the hub, `allow_pickle` also reads weights that are no safetensors.
    `attention` may name one for each part (`{text_config: eager}`). `ocr` says whether a processor that can reads the words of an
    image (None: as its files say).
    """

    name: str
    source: str
    device: torch.device
    dtype: torch.dtype
    attention: str | Mapping[str, str] | None = None
    revision: str | None = None
    random_seed: int | None = None
    trust_remote_code: bool = False
    device_map: str | Mapping[str, Any] | None = None
    max_memory: Mapping[Any, Any] = field(default_factory=dict)
    offload_folder: str | None = None
    quantisation: str | None = None
    local_files_only: bool = False
    allow_pickle: bool = False
    ocr: bool | None = None

    def __post_init__(self) -> None:
        """Refuse unknown values, combinations without a meaning, and what needs a package that is missing."""
        self._check_placement()
        self._check_quantisation()
        self.check_attention(self.attention)

    @property
    def is_folder(self) -> bool:
        return Path(self.source).expanduser().is_dir()

    @property
    def is_spread(self) -> bool:
        """Whether the library places the weights, so that nothing is moved afterwards."""
        return self.device_map is not None or self.quantisation is not None

    @property
    def format_name(self) -> str:
        """The number format that results depend on: `float32`, or `float16+4bit` for quantised weights."""
        dtype = str(self.dtype).removeprefix("torch.")
        return f"{dtype}+{self.quantisation}" if self.quantisation else dtype

    def _check_placement(self) -> None:
        if self.device_map is None:
            if self.max_memory or self.offload_folder:
                raise VseamError(f"model {self.name!r}: max_memory and offload_folder say how to spread a model; give device_map too")
            return
        if isinstance(self.device_map, str) and self.device_map not in PLACEMENTS:
            raise UnknownNameError(
                f"model {self.name!r}: unknown device_map {self.device_map!r}; {did_you_mean(self.device_map, PLACEMENTS)}"
            )
        require_extra(f"model {self.name!r}: device_map", "large")
        if self.random_seed is not None:
            raise UnsupportedError(f"model {self.name!r}: random weights are drawn on one device; leave device_map out")

    def check_attention(self, attention: object) -> None:
        """Refuse at once what would look like hanging (compiled for every length of prompt, a minute and more each) or run fetched code."""
        if "flex_attention" in str(attention):
            raise UnsupportedError(
                f"model {self.name!r}: flex_attention is compiled for every length of prompt, which takes longer than the answers; "
                "take attention eager, sdpa or flash_attention_2"
            )

        if "/" in str(attention):
            raise UnsupportedError(
                f"model {self.name!r}: attention {str(attention)!r} is code that would be fetched from the hub and run, which vseam does "
                "not do; take attention eager, sdpa or flash_attention_2"
            )

    def _check_quantisation(self) -> None:
        if self.quantisation is None:
            return
        if self.quantisation not in QUANTISATIONS:
            given = str(self.quantisation)
            raise UnknownNameError(f"model {self.name!r}: unknown quantisation {given!r}; {did_you_mean(given, QUANTISATIONS)}")
        require_extra(f"model {self.name!r}: quantisation", "quantised")
        if self.random_seed is not None:
            raise UnsupportedError(f"model {self.name!r}: random weights are not quantised; leave out either")
        if self.dtype == torch.float64:
            raise UnsupportedError(f"model {self.name!r}: quantised weights are not computed in float64; take float32, float16 or bfloat16")


def refuse_wrong_types(name: str, options: Mapping[str, Any]) -> None:
    """Raise `VseamError` for an option of another type than `LoadRequest` says."""
    for option, value in options.items():
        expected = expected_instead(LoadRequest, option, value)
        if expected:
            raise VseamError(f"model {name!r}: option {option} is {value!r:.80}, expected {expected}")


def parse_device(text: str) -> torch.device:
    """The device a user names: `auto` is the first GPU where there is one, else the CPU. Raises `VseamError`."""
    if text == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(text)
    except RuntimeError:
        raise UnknownNameError(f"unknown device {text!r}; expected auto, cpu, cuda, cuda:0, mps …") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise VseamError(f"device {text!r} was asked for, but this torch sees no GPU; use --device cpu")
    return device


def parse_dtype(dtype: str | torch.dtype | None) -> torch.dtype:
    """The number format to compute in: float32 unless said otherwise, on every device, so that results do not depend on it."""
    if dtype is None:
        return torch.float32
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in DTYPES:
        raise UnknownNameError(f"unknown dtype {dtype!r}; {did_you_mean(dtype, DTYPES)}")
    found: torch.dtype = getattr(torch, dtype)
    return found
