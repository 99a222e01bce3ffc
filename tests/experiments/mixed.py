"""A small finite dataset with everything in it that can go wrong, for tests of evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vseam_core.api.interfaces import Benchmark
from vseam_core.api.types import Answered, PoolChoice, Sample
from vseam_core.errors import SampleError
from vseam_plugins.benchmarks.scenes.benchmark import SceneBenchmark

HEADS = ["L0H0", "L0H1", "L1H2", "L2H3", "L3H1", "L4H1"]


@dataclass(frozen=True)
class Lost:
    """An image that is not there."""

    def load(self) -> Any:
        raise SampleError("no image: /nowhere/7.png")


class Mixed(Benchmark):
    """A finite set of yes/no and open questions in two categories, with part marks, one lost image and three questions to an image."""

    name, level, category = "mixed", "attribute", "mixed"

    def __init__(self, size: int = 30) -> None:
        kinds = [SceneBenchmark("color"), SceneBenchmark("spatial"), SceneBenchmark("color", "open")]
        streams = [kind.samples("test", "hard", size) for kind in kinds]
        self.all: list[Sample] = []
        for number, samples in enumerate(zip(*streams, strict=True)):
            sample = samples[number % 3]
            image = Lost() if number == 7 else sample.image
            question_id = f"{number:03}"
            self.all.append(
                replace(
                    sample,
                    identifier=f"mixed/{question_id}",
                    dataset="mixed",
                    question_id=question_id,
                    image_id=f"{number // 2}",
                    image=image,
                )
            )
        # The tokens of this answer are known to nobody: generated answers can be judged, first tokens cannot.
        self.all[4] = replace(self.all[4], answer="zebra", competitor="quagga", form="open")

    def samples(self, pool: PoolChoice, split: str = "plain", limit: int | None = None, seed: int = 0) -> Iterator[Sample]:
        wanted = self.all if pool == "all" else [sample for sample in self.all if sample.pool == pool]
        yield from wanted[:limit]

    def judge(self, sample: Sample, answer: str) -> bool:
        return answer.strip().lower() == sample.answer.lower()

    def score(self, sample: Sample, answer: str) -> float:
        return 1.0 if self.judge(sample, answer) else 0.3 if answer else 0.0

    def metrics(self, answered: Sequence[Answered]) -> Mapping[str, float | None]:
        return {"first_letters": float(np.mean([each.text[:1] == each.sample.answer[:1] for each in answered])), "unknowable": None}
