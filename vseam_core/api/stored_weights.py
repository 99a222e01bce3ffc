"""Weights as they are between forward passes: accelerate leaves an empty "meta" tensor where a layer is offloaded.

A product with a meta tensor raises nothing and means nothing, so whatever reads or writes a weight outside a pass comes through here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vseam_core.errors import UnsupportedError

if TYPE_CHECKING:
    import torch
    from torch import nn


def stored_weight(module: Any, name: str = "weight") -> torch.Tensor:
    """A module's parameter or buffer with its numbers, from wherever accelerate keeps it (the disk, the CPU's memory).

    Raises `UnsupportedError` for an empty tensor whose numbers nobody keeps.
    """
    tensor: torch.Tensor = getattr(module, name)
    if not tensor.is_meta:
        return tensor
    hook = getattr(module, "_hf_hook", None)
    for each in getattr(hook, "hooks", (hook,)):
        kept = getattr(each, "weights_map", None)
        if kept is not None and name in kept:
            found: torch.Tensor = kept[name]
            return found
    raise UnsupportedError(f"the {name} of a {type(module).__name__} is offloaded and cannot be read; load the model without device_map")


def require_in_place(module: nn.Module, what: str) -> None:
    """Refuse to write a weight that is offloaded: the numbers lie elsewhere. Raises `UnsupportedError`."""
    weight: Any = module.weight
    if weight.is_meta:
        raise UnsupportedError(f"{what}: its weights are offloaded, so an edit would be lost; load the model whole, without device_map")
