"""A dataset of samples that somebody has in memory: one question to be explained, the rows of a table that was read elsewhere."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from vseam_core.api.interfaces import Benchmark
from vseam_core.api.types import PoolChoice, Sample
from vseam_core.datasets.answers import normal_answer
from vseam_core.errors import UnknownNameError, did_you_mean


class GivenSamples(Benchmark):
    """Samples in the order in which they are given; an answer is right by exact match, whatever the case."""

    def __init__(self, name: str, samples: Sequence[Sample], level: str = "object", category: str = "") -> None:
        self.name, self.level, self.category = name, level, category or name
        self._samples = tuple(samples)

    def samples(self, pool: PoolChoice, split: str = "plain", limit: int | None = None, seed: int = 0) -> Iterator[Sample]:
        """The samples of a pool. Raises `UnknownNameError` for another split than `plain`."""
        if split not in self.splits():
            raise UnknownNameError(f"{self.name}: unknown split {split!r}; {did_you_mean(split, self.splits())}")
        yield from itertools.islice((sample for sample in self._samples if pool in ("all", sample.pool)), limit)

    def judge(self, sample: Sample, answer: str) -> bool:
        """Exact match, without white space around and full stops at the end of either side."""
        return normal_answer(answer) == normal_answer(sample.answer)
