"""How many positions fit into one batch: measured while batches run, within a budget of bytes.

What a position costs depends on the model, the prompt and the sites in question, so it is not computed but measured: the first batch of
a kind is a single run, its peak is taken, and the next ones grow to what the budget allows.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vseam_core.errors import VseamError
from vseam_core.sizes import readable_bytes

Result = TypeVar("Result")

# More positions than this in one batch run no faster on a CPU: the activations leave its caches.
_MOST_TOKENS_ON_CPU = 8192
# Batches of one kind differ a little in what a position costs.
_MARGIN = 0.8
_SHARE_OF_AVAILABLE = 0.25
_SHARE_OF_ACCELERATOR = 0.7


class MemoryBudgetError(VseamError):
    """The smallest piece of work does not fit into the memory budget, or into the memory there is."""


def default_budget(device: torch.device) -> int:
    """A quarter of the memory that is available now; on an accelerator, most of what is free there."""
    return int(available_bytes(device) * (_SHARE_OF_ACCELERATOR if device.type == "cuda" else _SHARE_OF_AVAILABLE))


def available_bytes(device: torch.device) -> int:
    """The memory that could be taken on a device now."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2 if hasattr(os, "sysconf") else 4 * 2**30


class PeakMemory(TorchDispatchMode):
    """Measures the most bytes that tensors made inside held at one time, beyond what there was before.

    On an accelerator the allocator's own count is read. On a CPU every new tensor is counted until it is freed; scratch space inside
    a kernel is not seen, which is small beside the activations.
    """

    def __init__(self, device: torch.device):
        super().__init__()
        self._device = device
        self._live = 0
        self._known: set[int] = set()
        self.bytes = 0

    def __enter__(self) -> PeakMemory:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            self._live = torch.cuda.memory_allocated(self._device)
            return self
        super().__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self._device) - self._live
            return
        super().__exit__(*exception)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(value, torch.Tensor):
                self._count(value.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self._live += size
        self.bytes = max(self.bytes, self._live)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._live -= size


class BatchSizer:
    """Says how many positions the next batch of a kind may hold, from what earlier batches of that kind needed.

    `budget` is in bytes, for batches alone (recordings have their own share). `most_tokens` bounds batches whatever the budget.
    """

    def __init__(self, budget: int, device: torch.device, most_tokens: int | None = None):
        self.budget, self._device = budget, device
        self._most = most_tokens or (_MOST_TOKENS_ON_CPU if device.type == "cpu" else 2**20)
        self._bytes_per_token: dict[Hashable, float] = {}
        self._measured: dict[Hashable, int] = {}
        self._ceiling: dict[Hashable, int] = {}

    def tokens(self, kind: Hashable) -> int:
        """The most positions of the next batch of this kind; 1 (a single run) before anything was measured."""
        if kind not in self._bytes_per_token:
            return 1
        return max(1, min(self._ceiling.get(kind, self._most), int(_MARGIN * self.budget / self._bytes_per_token[kind])))

    def measured(self, kind: Hashable, tokens: int, work: Callable[[], Result]) -> Result:
        """Do the work of one batch; measure it when it is larger than any of its kind so far.

        What a batch needs whatever its size makes small ones look dear, so the largest one counts. Raises what `work` raises, and
        `MemoryBudgetError` when even the first, a single run, took more than the budget.
        """
        if tokens <= self._measured.get(kind, 0):
            return work()
        with PeakMemory(self._device) as peak:
            result = work()
        if kind not in self._measured and peak.bytes > self.budget:
            raise MemoryBudgetError(
                f"one run of {tokens} positions needs {readable_bytes(peak.bytes)}, but the memory budget leaves "
                f"{readable_bytes(self.budget)} for it: raise --memory-budget"
            )
        self._measured[kind] = tokens
        self._bytes_per_token[kind] = max(1.0, peak.bytes / tokens)
        return result

    def halve(self, kind: Hashable, tokens: int) -> None:
        """Memory ran out at this size: half of it from now on."""
        self._ceiling[kind] = max(1, tokens // 2)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out (PyTorch has a class for accelerators only)."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and ("DefaultCPUAllocator" in str(error) or "out of memory" in str(error))


def out_of_memory(tokens: int) -> MemoryBudgetError:
    """What is raised when even one run does not fit."""
    return MemoryBudgetError(f"memory ran out on a single run of {tokens} positions: use a smaller --dtype, or a device with more memory")
