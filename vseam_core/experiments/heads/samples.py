"""Which samples have their heads scanned: some whatever the model answered, and enough wrong answers, evenly over the gold answers."""

from __future__ import annotations

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


@dataclass(frozen=True)
class Chosen:
    """The samples of a scan by identifier, and where they are found: pool, split, and how many of its samples were answered."""

    identifiers: tuple[str, ...]
    places: tuple[tuple[str, str, int], ...]


def chosen_of(baselines: pd.DataFrame, first_split: str, sampled: int, wrong: int) -> Chosen:
    """What `choose_samples` takes of a pool's answers, so that it can be found without them."""
    identifiers = choose_samples(baselines, first_split, sampled, wrong).identifiers
    seen = baselines[baselines["pair_role"].isin(["", "clean"])]
    places = [(str(pool), str(split), len(group)) for (pool, split), group in seen.groupby(["pool", "split"], sort=False)]
    return Chosen(identifiers, tuple(places))


def find_samples(benchmark: Benchmark, chosen: Chosen, seed: int) -> list[Sample]:
    """The chosen samples in their order, from every pool and split that the baseline pass saw."""
    wanted, found = set(chosen.identifiers), {}
    for pool, split, answered in chosen.places:
        for sample in benchmark.samples(cast(PoolChoice, pool), split, answered + len(wanted), seed):
            if sample.identifier in wanted:
                found[sample.identifier] = sample
    return [found[identifier] for identifier in chosen.identifiers if identifier in found]
