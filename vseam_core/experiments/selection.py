"""Which samples of a benchmark are answered: pool, split, how many of them, from where on."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import cast

from vseam_core.api.interfaces import Benchmark
from vseam_core.api.types import POOLS, PoolChoice, Sample
from vseam_core.errors import UnknownNameError, VseamError, did_you_mean

LIMIT_OF_ENDLESS = 100


@dataclass(frozen=True)
class Selection:
    """Which samples of a benchmark: `limit` is a number, or a fraction of all as a float; None is everything there is.

    `pool` and `split` None are the benchmark's own: all pools of a finite one, the test pool of an endless one; the first split.
    """

    pool: PoolChoice | None = None
    split: str | None = None
    limit: int | float | None = None
    offset: int = 0


def settled(selection: Selection, benchmark: Benchmark) -> Selection:
    """A selection with nothing left open. Raises `VseamError` for a pool, split, limit or offset that this benchmark does not have."""
    splits = benchmark.splits()
    split = splits[0] if selection.split is None else selection.split
    if split not in splits:
        raise UnknownNameError(f"{benchmark.name}: unknown split {split!r}; {did_you_mean(split, splits)}")
    pool = selection.pool or cast(PoolChoice, "test" if benchmark.endless else "all")
    if pool not in (*POOLS, "all"):
        raise UnknownNameError(f"unknown pool {pool!r}; {did_you_mean(pool, (*POOLS, 'all'))}")
    limit = selection.limit
    if isinstance(limit, float) and not 0 < limit <= 1:
        raise VseamError(f"--limit {limit}: expected a whole number of samples, or a fraction of them between 0 and 1")
    if isinstance(limit, int) and limit < 1:
        raise VseamError(f"--limit {limit}: expected at least 1 sample")
    if selection.offset < 0:
        raise VseamError(f"--offset {selection.offset}: expected 0 or more")
    if benchmark.endless:
        if isinstance(limit, float):
            raise VseamError(f"{benchmark.name}: its samples have no end, so --limit must be a number, not a fraction")
        limit = limit or LIMIT_OF_ENDLESS
    return Selection(pool, split, limit, selection.offset)


def selected_samples(benchmark: Benchmark, selection: Selection, seed: int) -> list[Sample]:
    """The samples of a settled selection, in the benchmark's order. Raises `VseamError` where there is none."""
    pool, split, limit, offset = cast(PoolChoice, selection.pool), cast(str, selection.split), selection.limit, selection.offset
    if isinstance(limit, float):
        every = list(benchmark.samples(pool, split, None, seed))
        samples = every[offset : offset + math.ceil(limit * len(every))]
    else:
        end = None if limit is None else offset + limit
        samples = list(itertools.islice(benchmark.samples(pool, split, end, seed), offset, end))
    if not samples:
        raise VseamError(f"{benchmark.name}: no sample in pool {pool}, split {split}, from number {offset} on")
    return samples
