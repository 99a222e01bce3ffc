"""Encodes each image once: a model's vision tower and Q-Former answer from memory what they were asked before.

Questions share images, and a prompt is run more than once (answered, generated from, recorded). What a tower gave for an image is
kept by the content of its inputs. The tower itself is not touched: while a `ImageCache` is entered, its place in the model is taken
by a module that asks the memory first. Towers that carry anybody's hooks are left alone, and so is every call that records gradients.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

# How the library's models call what looks at images, directly or one level down.
_TOWERS = ("vision_tower", "vision_model", "visual", "qformer")
_PLAIN = (type(None), bool, int, float, str)
# A row computed alone may differ from the same row in a batch by rounding only.
_ROUNDING = 64
Key = bytes


class ImageCache:
    """Remembers what the vision tower and the Q-Former of a model gave, within `budget` bytes, least recently used dropped first.

    A context manager that may be entered again while it is entered. `calls` and `reused` count rows (images, tiles) encoded and taken
    from memory.
    """

    def __init__(self, module: nn.Module, budget: int):
        self._module, self._budget = module, budget
        self._kept: OrderedDict[Key, tuple[list[Any], TreeSpec, int]] = OrderedDict()
        self._splits: dict[str, bool] = {}
        self._swapped: list[tuple[nn.Module, str, nn.Module]] = []
        self._depth = self._bytes = self.calls = self.reused = 0

    @property
    def bytes(self) -> int:
        """The memory that all kept outputs hold."""
        return self._bytes

    def __enter__(self) -> ImageCache:
        if self._depth == 0:
            for parent, name, tower in _towers(self._module):
                parent._modules[name] = _Remembering(tower, self, name)
                self._swapped.append((parent, name, tower))
        self._depth += 1
        return self

    def __exit__(self, *exception: object) -> None:
        self._depth -= 1
        while self._depth == 0 and self._swapped:
            parent, name, tower = self._swapped.pop()
            parent._modules[name] = tower

    def answer(self, tower: nn.Module, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the tower gives for these arguments, from memory where it was asked before."""
        leaves, spec = tree_flatten((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        plain = all(isinstance(leaf, (*_PLAIN, torch.Tensor)) for leaf in leaves)
        if torch.is_grad_enabled() or not tensors or not plain or any(map(_is_hooked, tower.modules())):
            return tower(*args, **kwargs)
        rows = _rows(tensors)
        if rows > 1 and name not in self._splits:
            output = tower(*args, **kwargs)
            self._splits[name] = _goes_by_row(tower, leaves, spec, output, rows)
            self.calls += rows
            if self._splits[name]:
                self._keep_rows(name, leaves, spec, output, list(range(rows)))
            return output
        if rows > 1 and self._splits[name]:
            return self._by_row(tower, name, leaves, spec, rows)
        key = _fingerprint(name, leaves, spec)
        if key not in self._kept:
            output = tower(*args, **kwargs)
            self.calls += rows
            self._keep(key, output)
            return output
        self.reused += rows
        return self._recall([key])

    def _by_row(self, tower: nn.Module, name: str, leaves: Sequence[Any], spec: TreeSpec, rows: int) -> Any:
        keys = [_fingerprint(name, _select(leaves, [row]), spec) for row in range(rows)]
        missing = {key: row for row, key in reversed(list(enumerate(keys))) if key not in self._kept}
        self.calls += len(missing)
        self.reused += rows - len(missing)
        if missing:
            wanted = sorted(missing.values())
            args, kwargs = tree_unflatten(_select(leaves, wanted), spec)
            output = tower(*args, **kwargs)
            found, shape = tree_flatten(output)
            if len(wanted) == rows:
                self._keep_rows(name, leaves, spec, output, wanted)
                return output
            place = {
                keys[row]: [one[at : at + 1] if isinstance(one, torch.Tensor) else one for one in found] for at, row in enumerate(wanted)
            }
            # Put together before anything is dropped from memory to make room.
            parts = [place[key] if key in place else self._kept[key][0] for key in keys]
            self._keep_rows(name, leaves, spec, output, wanted)
            return tree_unflatten([_joined(column) for column in zip(*parts, strict=True)], shape)
        return self._recall(keys)

    def _keep_rows(self, name: str, leaves: Sequence[Any], spec: TreeSpec, output: Any, rows: Sequence[int]) -> None:
        found, shape = tree_flatten(output)
        for at, row in enumerate(rows):
            self._keep(_fingerprint(name, _select(leaves, [row]), spec), tree_unflatten(_row_of(found, at), shape))

    def _keep(self, key: Key, output: Any) -> None:
        leaves, spec = tree_flatten(output)
        if key in self._kept or not all(isinstance(leaf, (*_PLAIN, torch.Tensor)) for leaf in leaves):
            return
        size = sum(leaf.numel() * leaf.element_size() for leaf in leaves if isinstance(leaf, torch.Tensor))
        if size > self._budget:
            return
        # A copy: the model may go on to change what it was given in place.
        self._kept[key] = ([leaf.clone() if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves], spec, size)
        self._bytes += size
        while self._bytes > self._budget:
            _, _, dropped = self._kept.popitem(last=False)[1]
            self._bytes -= dropped

    def _recall(self, keys: Sequence[Key]) -> Any:
        for key in keys:
            self._kept.move_to_end(key)
        parts = [self._kept[key][0] for key in keys]
        return tree_unflatten([_joined(column) for column in zip(*parts, strict=True)], self._kept[keys[0]][1])


class _Remembering(nn.Module):
    """Stands in a tower's place while a cache is entered; whatever else is asked of it is asked of the tower."""

    def __init__(self, tower: nn.Module, cache: ImageCache, name: str):
        super().__init__()
        self.tower = tower
        self.training = tower.training
        self._answer = cache.answer
        self._place = name

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("tower"), name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The tower's output."""
        return self._answer(self.tower, self._place, args, kwargs)


def _towers(module: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Where the towers of a model stand: (parent, name, tower). Those that somebody hooked into must run every time."""
    for parent in (module, module._modules.get("model")):
        for name in _TOWERS:
            tower = parent._modules.get(name) if parent is not None else None
            if parent is not None and tower is not None and not any(map(_is_hooked, tower.modules())):
                yield parent, name, tower


def _is_hooked(module: nn.Module) -> bool:
    """Whether a module has hooks that the library did not put there itself (it collects hidden states by hooks)."""
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    return any(not str(getattr(hook, "__module__", "")).startswith("transformers.") for hook in hooks)


def _rows(tensors: Sequence[torch.Tensor]) -> int:
    """The rows that all arguments share, 1 where they do not go by row."""
    counts = {tensor.shape[0] if tensor.ndim else 0 for tensor in tensors}
    return counts.pop() if len(counts) == 1 and 0 not in counts else 1


def _select(leaves: Sequence[Any], rows: Sequence[int]) -> list[Any]:
    return [leaf[list(rows)] if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]


def _row_of(leaves: Sequence[Any], row: int) -> list[Any]:
    return [leaf[row : row + 1] if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]


def _joined(parts: Sequence[Any]) -> Any:
    return torch.cat(list(parts)) if isinstance(parts[0], torch.Tensor) else parts[0]


def _goes_by_row(tower: nn.Module, leaves: Sequence[Any], spec: TreeSpec, output: Any, rows: int) -> bool:
    """Whether each row's output depends on that row alone: tried once, on the last row of the first batch."""
    found = [leaf for leaf in tree_flatten(output)[0] if isinstance(leaf, torch.Tensor)]
    if not all(leaf.ndim and leaf.shape[0] == rows for leaf in found):
        return False
    args, kwargs = tree_unflatten(_select(leaves, [rows - 1]), spec)
    alone = [leaf for leaf in tree_flatten(tower(*args, **kwargs))[0] if isinstance(leaf, torch.Tensor)]
    return len(alone) == len(found) and all(map(_equal_but_for_rounding, (leaf[-1:] for leaf in found), alone))


def _equal_but_for_rounding(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape:
        return False
    if not one.is_floating_point():
        return torch.equal(one, other)
    scale = max(float(one.abs().max()), 1.0) if one.numel() else 1.0
    # Written so that NaN is no agreement.
    return bool((one - other).abs().max() <= _ROUNDING * torch.finfo(one.dtype).eps * scale) if one.numel() else True


def _fingerprint(name: str, leaves: Sequence[Any], spec: TreeSpec) -> bytes:
    """A hash of a call: of the values, shapes and formats of its tensors and of every other argument."""
    digest = hashlib.blake2b(f"{name}\n{spec}\n".encode(), digest_size=20)
    for leaf in leaves:
        if isinstance(leaf, torch.Tensor):
            digest.update(f"{tuple(leaf.shape)} {leaf.dtype} {leaf.device}\n".encode())
            digest.update(leaf.detach().contiguous().reshape(-1).view(torch.uint8).cpu().numpy().data)
        else:
            digest.update(f"{type(leaf).__name__} {leaf!r}\n".encode())
    return digest.digest()
