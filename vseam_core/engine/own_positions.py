"""Layers that make positions by themselves: `torch.arange` over the sequence they are given, instead of positions handed to them.

Llama 4 scales the queries of its layers without rotation so. In a packed batch the place in the sequence is not the position in the
prompt. Recording notes which attention modules count; replay answers their counting with the positions of the packed tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode


class _Counting(TorchFunctionMode):
    """Hands `torch.arange(length)` to `answer` (None: the library's own) while `module` is set: one of the attention modules runs."""

    def __init__(self, answer: Callable[[nn.Module, torch.Tensor], torch.Tensor]):
        super().__init__()
        self._answer = answer
        self.module: nn.Module | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.arange and self.module is not None:
            return self._answer(self.module, result)
        return result


class CountingModules:
    """While entered, every `torch.arange` that one of `modules` calls inside its forward pass goes through `answer(module, counted)`."""

    def __init__(self, modules: Sequence[nn.Module], answer: Callable[[nn.Module, torch.Tensor], torch.Tensor]):
        self._modules, self._mode, self._stack = modules, _Counting(answer), ExitStack()

    def __enter__(self) -> CountingModules:
        with ExitStack() as stack:
            for module in self._modules:
                stack.callback(module.register_forward_pre_hook(self._begin).remove)
                stack.callback(module.register_forward_hook(self._end, always_call=True).remove)
            stack.enter_context(self._mode)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._mode.module = None
        self._stack.close()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Whatever is counted inside, by our own arithmetic, is left alone."""
        module, self._mode.module = self._mode.module, None
        try:
            yield
        finally:
            self._mode.module = module

    def _begin(self, module: nn.Module, args: Any) -> None:
        self._mode.module = module

    def _end(self, module: nn.Module, args: Any, output: Any) -> None:
        self._mode.module = None


def counts_positions(counted: torch.Tensor, length: int) -> bool:
    """Whether a result of `torch.arange` stands for the positions 0, 1, … of a sequence of `length`."""
    whole = not counted.is_floating_point() and counted.ndim == 1 and len(counted) == length > 0
    return whole and int(counted[0]) == 0 and int(counted[-1]) == length - 1
