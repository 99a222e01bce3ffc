"""Number formats: a model's weights in another one, as the library would have loaded them."""

from __future__ import annotations

import torch
from torch import nn


def cast_weights(module: nn.Module, dtype: torch.dtype) -> None:
    """Put parameters and saved buffers into a number format, in place.

    Buffers that are not saved (rotary frequencies) stay as they are, as the library keeps them: rounded frequencies turn positions
    by too much, the more the longer the prompt.
    """
    for parameter in module.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    for part in module.modules():
        for name, buffer in part._buffers.items():
            if buffer is not None and buffer.is_floating_point() and name not in part._non_persistent_buffers_set:
                part._buffers[name] = buffer.to(dtype)
