"""Which samples have their heads scanned: some whatever the model answered, and enough wrong answers, evenly over the gold answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from vseam_core.api.interfaces import Benchmark
from vseam_core.api.types import PoolChoice, Sample

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ScanSamples:
    """Identifiers of the samples of a scan: those drawn without a look at the answer, and those taken because it was wrong."""

    sampled: tuple[str, ...]
    wrong: tuple[str, ...]

    @property
    def identifiers(self) -> tuple[str, ...]:
        """All of them."""
        return self.sampled + self.wrong


def choose_samples(baselines: pd.DataFrame, first_split: str, sampled: int, wrong: int) -> ScanSamples:
    """The samples to scan, evenly over the gold answers: the first ones of the first split, and wrong answers from any.

    What is said of positive heads rests on the former alone: a head that adds noise decides which answers are right, so that among
    right answers its own noise would look like help. `baselines` has the columns identifier, split, answer and correct_strict, in
    the order in which samples are to be taken.
    """
    frame = baselines[baselines["pair_role"].isin(["", "clean"])]
    drawn = _evenly(frame[frame["split"] == first_split], sampled)
    mistaken = frame[~frame["correct_strict"].astype(bool)]
    missing = max(0, wrong - int(mistaken["identifier"].isin(drawn).sum()))
    return ScanSamples(tuple(drawn), tuple(_evenly(mistaken[~mistaken["identifier"].isin(drawn)], missing)))


def _evenly(frame: pd.DataFrame, count: int) -> list[str]:
    """The first `count` rows, taken in turn from each gold answer."""
    queues = [group["identifier"].tolist() for _, group in frame.groupby(frame["answer"].str.lower(), sort=True)]
    taken: list[str] = []
    while len(taken) < count and any(queues):
        for queue in queues:
            if queue and len(taken) < count:
                taken.append(queue.pop(0))
    return taken


def find_samples(benchmark: Benchmark, identifiers: Sequence[str], baselines: pd.DataFrame, seed: int) -> list[Sample]:
    """The samples of those identifiers, in that order, from every pool and split that the baseline pass saw."""
    wanted, found = set(identifiers), {}
    seen = baselines[baselines["pair_role"].isin(["", "clean"])]
    for (pool, split), group in seen.groupby(["pool", "split"], sort=False):
        for sample in benchmark.samples(cast(PoolChoice, pool), str(split), len(group) + len(wanted), seed):
            if sample.identifier in wanted:
                found[sample.identifier] = sample
    return [found[identifier] for identifier in identifiers if identifier in found]
