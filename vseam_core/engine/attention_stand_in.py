"""Standing in for the attention function that layers look up: only while their attention modules run, everything else as ever.

The library keeps its functions in one table. While an attention module runs, its configuration names an entry of ours, which is given what
the layer's own function would be given, and hands the call on to that (`original`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn

from vseam_core.engine.attention import FUNCTION_TABLE
from vseam_core.errors import UnsupportedError


class StandIn:
    """Has `attend` called in place of the attention function of `modules`, which are given with their layers, under the entry `name`.

    `attend` takes what the library's attention functions take: module, query, key, value, mask and named arguments. Raises
    `UnsupportedError` for modules whose function cannot be stood in for.
    """

    def __init__(self, name: str, modules: Mapping[nn.Module, int], attend: Callable[..., Any]):
        self._name, self._modules, self._attend = name, modules, attend
        self.used: dict[nn.Module, str] = {}
        self._stack = ExitStack()

    def __enter__(self) -> StandIn:
        if not self._modules:
            return self
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        with ExitStack() as stack:
            stack.enter_context(FUNCTION_TABLE)
            ALL_ATTENTION_FUNCTIONS[self._name] = self._attend
            stack.callback(ALL_ATTENTION_FUNCTIONS.pop, self._name, None)
            for module, layer in self._modules.items():
                self.used[module] = implementation_of(module, layer)
                stack.callback(self._give_back, module)
                stack.callback(module.register_forward_pre_hook(self._take_over).remove)
                stack.callback(module.register_forward_hook(self._after, always_call=True).remove)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def original(self, module: nn.Module) -> Callable[..., Any]:
        """The attention function that a module would have looked up."""
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        found = (
            ALL_ATTENTION_FUNCTIONS["sdpa"]
            if self.used[module] == "sdpa"
            else getattr(sys.modules.get(type(module).__module__), "eager_attention_forward", None)
        )
        if found is None:
            raise UnsupportedError(f"{type(module).__name__}: its eager attention function is not where the library keeps it")
        function: Callable[..., Any] = found
        return function

    def is_causal(self, module: Any, query: Tensor, mask: Tensor | None, arguments: Mapping[str, Any]) -> bool:
        """Whether a call goes without a mask because causal goes without saying: what the library's sdpa takes for granted."""
        if mask is not None or self.used[module] != "sdpa":
            return False
        given = arguments.get("is_causal")
        return query.shape[2] > 1 and bool(getattr(module, "is_causal", True) if given is None else given)

    def _take_over(self, module: Any, args: tuple[Any, ...]) -> None:
        # Only now: the masks were made before, in the form of the implementation in use.
        module.config._attn_implementation = self._name

    def _after(self, module: Any, args: tuple[Any, ...], output: Any) -> None:
        self._give_back(module)

    def _give_back(self, module: Any) -> None:
        module.config._attn_implementation = self.used[module]


def implementation_of(module: Any, layer: int) -> str:
    """The attention implementation of a module. Raises `UnsupportedError` for one whose masks say less than its function does."""
    config = getattr(module, "config", None)
    used = getattr(config, "_attn_implementation", None)
    if used not in ("eager", "sdpa"):
        name = "an attention of its own" if config is None else f"the attention implementation {used}"
        raise UnsupportedError(f"layer {layer} ({type(module).__name__}) uses {name}; weights are read and changed in eager and sdpa")
    return str(used)
