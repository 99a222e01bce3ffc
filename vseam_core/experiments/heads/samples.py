"""Which samples have their heads scanned: enough right and enough wrong answers, evenly over the gold answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vseam_core.api.interfaces import Benchmark
from vseam_core.api.types import Sample

if TYPE_CHECKING:
    import pandas as pd


def choose_samples(baselines: pd.DataFrame, first_split: str, correct: int, wrong: int) -> list[str]:
    """Identifiers of the samples to scan, evenly over the gold answers: right ones from the first split, wrong from any.

    `baselines` has the columns identifier, split, answer and correct_strict, in the order in which samples are to be taken.
    """
    frame = baselines[baselines["pair_role"].isin(["", "clean"])]
    right = frame[frame["correct_strict"].astype(bool) & (frame["split"] == first_split)]
    return _evenly(right, correct) + _evenly(frame[~frame["correct_strict"].astype(bool)], wrong)


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
    """The samples of those identifiers, in that order, from every split of the score pool that the baseline pass saw."""
    wanted, found = set(identifiers), {}
    seen = baselines[baselines["pair_role"].isin(["", "clean"])]
    for split, group in seen.groupby("split", sort=False):
        for sample in benchmark.samples("score", str(split), len(group) + len(wanted), seed):
            if sample.identifier in wanted:
                found[sample.identifier] = sample
    return [found[identifier] for identifier in identifiers if identifier in found]
