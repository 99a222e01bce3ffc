"""How many positions fit into one batch: measured while batches run, within a budget of bytes.

What a position costs depends on the model, the prompt and the sites in question, so it is not computed but measured: of every kind of
run one and then a few are tried first, and what they took at most says how much a batch takes whatever its size, and how much
for each position.
"""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vseam_core.config.bytes import readable_bytes
from vseam_core.errors import VseamError

Result = TypeVar("Result")

# More positions than this in one batch run no faster on a CPU: the activations leave its caches.
_MOST_TOKENS_ON_CPU = 4096
# As many as the check at load packs: what it has not seen is not used.
_MOST_TOKENS = 2**16
# Batches of one kind differ a little in what a position costs.
_MARGIN = 0.8
# A batch that is expected to take less of the budget than this is not measured: counting every tensor takes half as long as the work.
_FAR_WITHIN = 0.25
_SHARE_OF_AVAILABLE = 0.25
_SHARE_OF_ACCELERATOR = 0.7


class MemoryBudgetError(VseamError):
    """The smallest piece of work does not fit into the memory budget, or into the memory there is."""


def default_budget(device: torch.device) -> int:
    """About a quarter of the memory that is available now; on an accelerator, about half of what is free there.

    A power of two, so that batches, and with them the last digits of results, do not change with every megabyte.
    """
    return _power_of_two(available_bytes(device) * (_SHARE_OF_ACCELERATOR if device.type == "cuda" else _SHARE_OF_AVAILABLE))


def _power_of_two(size: float) -> int:
    return int(2 ** int(math.log2(max(size, 1))))


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
        self._live_ones: dict[int, weakref.ref[torch.UntypedStorage]] = {}
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
                self._count(value.untyped_storage(), args)
        return result

    def _count(self, storage: torch.UntypedStorage, args: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._live_ones or any(isinstance(one, torch.Tensor) and one.untyped_storage()._cdata == key for one in args):
            return  # made before, or a view of what was there (a weight, turned)
        # The reference is ours: what outlives this measurement keeps nothing of it.
        self._live_ones[key] = weakref.ref(storage, lambda _: self._free(key, size))
        self._live += size
        self.bytes = max(self.bytes, self._live)

    def _free(self, key: int, size: int) -> None:
        if self._live_ones.pop(key, None) is not None:
            self._live -= size


class BatchSizer:
    """Says how many positions a batch of some kind may hold, from what smaller ones took.

    `budget` is in bytes, for batches alone (recordings have their own share). `most` (positions) bounds batches whatever the budget. As
    long as the budget is wide, the answer depends on nothing that ran before: the same runs in the same order make the same batches.
    """

    def __init__(self, budget: int, device: torch.device, most_tokens: int | None = None):
        self.budget, self._device = budget, device
        self.most = most_tokens or (_MOST_TOKENS_ON_CPU if device.type == "cpu" else _MOST_TOKENS)
        self._fixed: dict[Hashable, float] = {}
        self._per_token: dict[Hashable, float] = {}
        self._largest: dict[Hashable, int] = {}
        self._ceiling: dict[Hashable, int] = {}

    def knows(self, kind: Hashable) -> bool:
        """Whether batches of this kind were tried."""
        return kind in self._per_token

    def tokens(self, kind: Hashable) -> int:
        """The most positions of a batch of this kind, at least 1."""
        room = _MARGIN * self.budget - self._fixed[kind]
        return min(self._ceiling.get(kind, self.most), _power_of_two(room / self._per_token[kind]))

    def try_out(self, kind: Hashable, trials: Sequence[tuple[int, Callable[[], object]]]) -> None:
        """Learn from a single run and a few together, given as (positions, work).

        Raises what `work` raises, and `MemoryBudgetError` where the single run alone takes more than the budget.
        """
        measured = [(tokens, self._peak(work)) for tokens, work in trials]
        (tokens, needed), (most, highest) = measured[0], measured[-1]
        if needed > self.budget:
            raise MemoryBudgetError(
                f"one run of {tokens} positions needs {readable_bytes(needed)}, but the memory budget leaves "
                f"{readable_bytes(self.budget)} for it: raise --memory-budget"
            )
        # What the few took beyond the one is what their positions cost; nothing can be read off where they took no more.
        slope = (highest - needed) / (most - tokens) if most > tokens and highest > needed else highest / most
        self._per_token[kind] = max(slope, 1.0)
        self._fixed[kind] = max(0.0, needed - self._per_token[kind] * tokens)
        self._largest[kind] = most

    def measured(self, kind: Hashable, tokens: int, work: Callable[[], Result]) -> Result:
        """Do the work of one batch; where it is the largest of its kind so far, see whether it took more than was expected.

        Not where a CPU's budget is wide, which makes the same batches whatever is found; an accelerator counts at no cost.
        """
        expected = self._fixed[kind] + self._per_token[kind] * tokens
        if tokens <= self._largest[kind] or (self._device.type != "cuda" and expected <= _FAR_WITHIN * self.budget):
            return work()
        results: list[Result] = []
        peak = self._peak(lambda: results.append(work()))
        self._largest[kind] = tokens
        self._per_token[kind] = max(self._per_token[kind], (peak - self._fixed[kind]) / tokens)
        return results[0]

    def halve(self, kind: Hashable, tokens: int) -> None:
        """Memory ran out at this size: half of it from now on."""
        self._ceiling[kind] = max(1, tokens // 2)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _peak(self, work: Callable[[], object]) -> int:
        with PeakMemory(self._device) as peak:
            work()
        return peak.bytes


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out (PyTorch has a class for accelerators only)."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and ("DefaultCPUAllocator" in str(error) or "out of memory" in str(error))


def out_of_memory(tokens: int) -> MemoryBudgetError:
    """What is raised when even one run does not fit."""
    return MemoryBudgetError(
        f"memory ran out on a single run of {tokens} positions: use a smaller number format, or a device with more memory"
    )
