"""How far attention implementations and number formats move a model's logits from float64: the noise of the model itself."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from vseam_core.api.interfaces import VisionLanguageModel
from vseam_core.config.bytes import readable_bytes
from vseam_core.engine.dtype import cast_weights
from vseam_core.engine.memory import available_bytes
from vseam_core.engine.probe import probe

_ATTENTIONS = ("eager", "sdpa")
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Drift:
    """One way of running the model on the probe: the largest difference of a logit from float64, and whether the same token wins.

    `reason` says why it could not be measured, where it could not.
    """

    attention: str
    dtype: str
    error: float | None = None
    same_answer: bool | None = None
    reason: str = ""


def drift(model: VisionLanguageModel) -> list[Drift]:
    """Every attention implementation and number format against float64 with the model's own attention, on one sample.

    The weights are those that were loaded, converted in a copy: one copy in float64 must fit into memory beside the model.
    """
    if reason := _reason_against_copies(model):
        return [Drift(model.info.attention, "float64", reason=reason)]
    prompt = probe(model)
    inputs = model.collate([prompt])
    parameters = sum(parameter.numel() for parameter in model.module.parameters())
    device = next(model.module.parameters()).device
    needed, free = 8 * parameters, available_bytes(device)
    if needed > free:
        reason = f"a float64 copy needs {readable_bytes(needed)}, {readable_bytes(free)} are free"
        return [Drift(model.info.attention, "float64", reason=reason)]
    try:
        with _copied(model.module, torch.float64) as module:
            exact = _logits(module, inputs, torch.float64)
    except (ValueError, ImportError, RuntimeError) as error:  # code of the library that knows no float64 (Kosmos-2's mask)
        return [Drift(model.info.attention, "float64", reason=str(error).splitlines()[0])]
    found: list[Drift] = []
    for dtype_name, dtype in _DTYPES.items():
        with _copied(model.module, dtype) as module:
            found.extend(
                _compared(module, inputs, dtype=dtype, attention=attention, name=dtype_name, exact=exact) for attention in _ATTENTIONS
            )
    return found


def _reason_against_copies(model: VisionLanguageModel) -> str:
    """Why the weights cannot be converted in a copy, or ""."""
    if "+" in model.info.dtype:
        return "quantised weights are not converted"
    return "its weights lie on several devices" if getattr(model.module, "hf_device_map", None) else ""


def _compared(module: Any, inputs: dict[str, torch.Tensor], dtype: torch.dtype, attention: str, name: str, exact: torch.Tensor) -> Drift:
    try:
        with _without_remarks():
            module.set_attn_implementation(attention)
        logits = _logits(module, inputs, dtype)
    except (ValueError, ImportError, RuntimeError) as error:
        return Drift(attention, name, reason=str(error).splitlines()[0])
    return Drift(attention, name, float((logits - exact).abs().max()), bool(logits.argmax() == exact.argmax()))


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Without the library's remark on every part that keeps its own attention (BLIP): what comes of it is in the table."""
    library = logging.getLogger("transformers")
    level = library.level
    library.setLevel(logging.ERROR)
    try:
        yield
    finally:
        library.setLevel(level)


@torch.no_grad()
def _logits(module: Any, inputs: dict[str, torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
    given = {name: value.to(dtype) if value.is_floating_point() else value for name, value in inputs.items()}
    logits: torch.Tensor = module(**given, use_cache=False).logits[0, -1]
    return logits.double()


@contextmanager
def _copied(module: Any, dtype: torch.dtype) -> Iterator[Any]:
    copied = copy.deepcopy(module)
    cast_weights(copied, dtype)
    if dtype == torch.float64 and hasattr(copied, "set_experts_implementation"):
        # The grouped products of mixtures of experts know no float64; one expert after another does.
        copied.set_experts_implementation("eager")
    try:
        yield copied
    finally:
        del copied
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
