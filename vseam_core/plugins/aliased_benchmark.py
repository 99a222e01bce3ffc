"""A dataset under a name of the user's (registry.yaml), perhaps asked in a text of the user's too, such as a harness's "Answer the
question using a single word or phrase."."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from vseam_core.api.interfaces import Benchmark
from vseam_core.api.types import Answered, Pair, PoolChoice, Sample
from vseam_core.errors import VseamError

QUESTION = "{question}"


class RegisteredBenchmark(Benchmark):
    """Another benchmark under another name, with an instruction on every sample where one is given; answers are judged as ever.

    Samples belong to the dataset of that name, and get identifiers of their own (with a hash of the instruction), so that answers to
    one way of asking are never taken for answers to another. Raises `VseamError` for an instruction without exactly one `{question}`.
    """

    def __init__(self, inner: Benchmark, name: str, instruction: Any = None) -> None:
        if instruction is not None and (not isinstance(instruction, str) or instruction.count(QUESTION) != 1):
            raise VseamError(f"dataset {name!r}: instruction must be a text with {QUESTION} in it once, got {instruction!r}")
        self._inner, self._instruction = inner, instruction or ""
        self._mark = f"@{hashlib.sha256(instruction.encode()).hexdigest()[:8]}" if instruction else ""
        self.name, self.level, self.category = name, inner.level, inner.category
        # Of the class in the interface: without these, the interface's own values would hide those of the other benchmark.
        self.version, self.endless = inner.version, inner.endless  # type: ignore[misc]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._inner, name)

    def samples(self, pool: PoolChoice, split: str = "plain", limit: int | None = None, seed: int = 0) -> Iterator[Sample]:
        """The other benchmark's samples under this name, each with the instruction."""
        for sample in self._inner.samples(pool, split, limit, seed):
            rest = sample.identifier.removeprefix(f"{self._inner.name}/")
            instruction = self._instruction or sample.instruction
            yield replace(sample, dataset=self.name, identifier=f"{self.name}/{rest}{self._mark}", instruction=instruction)

    def judge(self, sample: Sample, answer: str) -> bool:
        """As the other benchmark judges."""
        return self._inner.judge(sample, answer)

    def score(self, sample: Sample, answer: str) -> float:
        """As the other benchmark scores."""
        return self._inner.score(sample, answer)

    def metrics(self, answered: Sequence[Answered]) -> Mapping[str, float | None]:
        """The other benchmark's figures."""
        return self._inner.metrics(answered)

    def splits(self) -> tuple[str, ...]:
        """The other benchmark's splits."""
        return self._inner.splits()

    def control_edit(self, sample: Sample) -> Pair | None:
        """The other benchmark's own edit, where it makes one."""
        return self._inner.control_edit(sample)
