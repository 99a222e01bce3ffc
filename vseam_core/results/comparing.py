"""Two studies held against each other: how much more each head does in the second, with intervals over the images that both measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vseam_core.analysis.frames import frame_records
from vseam_core.analysis.multiple_testing import benjamini_hochberg
from vseam_core.analysis.statistics import Moments, clustered_moments, combined_moments
from vseam_core.errors import VseamError
from vseam_core.results.stored_study import StoredStudy

if TYPE_CHECKING:
    from vseam_core.store.records import HeadEffectSet
    from vseam_core.store.store import Store

MEASURE = "logit_diff"


@dataclass(frozen=True, eq=False)
class HeadDifference:
    """One scan of two studies: the second's effects minus the first's, `[layers, heads]` each, NaN for heads that no side measured.

    Errors are None with too few images. `paired`: both measured the same `n` samples, and differences are taken sample by sample;
    otherwise means are compared, of which the smaller side has `n` samples. `wrong_added`: a scan adds wrong answers to the questions
    that it draws, and they count here too, so that the mean is not that of drawn questions. `same_units`: both hold the same measurements.
    """

    models: tuple[str, str]
    dataset: str
    operation: str
    positions: str
    stack: str
    paired: bool
    n: int
    clusters: int
    difference: np.ndarray
    low: np.ndarray | None
    high: np.ndarray | None
    q_value: np.ndarray | None
    reason: str
    runs: tuple[int, int]
    wrong_added: bool = False
    same_units: bool = False


def compare_studies(first: tuple[Store, StoredStudy], second: tuple[Store, StoredStudy]) -> list[HeadDifference]:
    """Every scan that both studies hold: of one model by its name, or of their only models, on one dataset by one operation.

    Raises `VseamError` where they have no scan in common.
    """
    scans = [_scans(*side) for side in (first, second)]
    only = [list(dict.fromkeys(model for model, *_ in found)) for found in scans]
    # Two models with different names are compared where there is no doubt which with which.
    renamed = {only[0][0]: only[1][0]} if len(only[0]) == len(only[1]) == 1 else {}
    found = []
    for (model, *rest), run in scans[0].items():
        other = scans[1].get((model, *rest)) or scans[1].get((renamed.get(model, ""), *rest))
        if other is not None:
            difference = _difference((first[0], run.run_id), (second[0], other.run_id), (model, renamed.get(model, model)), tuple(rest))
            if difference is not None:
                found.append(replace(difference, wrong_added=run.wrong_added or other.wrong_added))
    if not found:
        raise VseamError(f"{first[1].name} and {second[1].name} hold no scan of the same dataset, operation and number of heads to compare")
    return found


class _Scan(NamedTuple):
    run_id: int
    wrong_added: bool


def _scans(store: Store, chosen: StoredStudy) -> dict[tuple[str, ...], _Scan]:
    """The scans by model, dataset, operation, positions and stack."""
    scores = store.scores("head_scores", chosen.run_ids, measure=MEASURE)
    names = ["model", "dataset", "operation", "positions", "stack"]
    rows = frame_records(scores[[*names, "run_id", "n", "n_sampled"]].drop_duplicates()) if len(scores) else []
    return {tuple(str(row[name]) for name in names): _Scan(int(row["run_id"]), row["n"] > row["n_sampled"] > 0) for row in rows}


def _difference(
    first: tuple[Store, int], second: tuple[Store, int], models: tuple[str, str], about: Sequence[str]
) -> HeadDifference | None:
    dataset, operation, positions, stack = about
    one, two = (store.head_effects(run, operation, MEASURE, positions=positions, stack=stack) for store, run in (first, second))
    if not len(one) or not len(two) or one.values.shape[1:] != two.values.shape[1:]:
        return None
    there = ~np.isnan(one.values).all(axis=0)
    if not np.array_equal(there, ~np.isnan(two.values).all(axis=0)):
        # A screening measured other heads on each side.
        return None
    if np.isnan(one.values[:, there]).any() or np.isnan(two.values[:, there]).any():
        return None
    places = {name: place for place, name in enumerate(two.samples["identifier"])}
    common = [(place, places[name]) for place, name in enumerate(one.samples["identifier"]) if name in places]
    matched = len(common) >= min(len(one), len(two)) / 2
    moments = _paired(one, two, there, common=common) if matched else _unpaired(one, two, there)
    ends, p_values = moments.interval(), moments.p_values()
    return HeadDifference(
        models=models,
        dataset=dataset,
        operation=operation,
        positions=positions,
        stack=stack,
        paired=matched,
        n=len(common) if matched else min(len(one), len(two)),
        clusters=moments.clusters,
        difference=_as_map(moments.mean, there),
        low=_as_map(ends[0], there) if ends else None,
        high=_as_map(ends[1], there) if ends else None,
        q_value=None if p_values is None else _as_map(benjamini_hochberg(p_values), there),
        reason=moments.reason,
        runs=(first[1], second[1]),
        same_units=set(one.samples["key"]) == set(two.samples["key"]),
    )


def _as_map(values: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Values of the heads that were measured, in their places; NaN for others."""
    found = np.full(there.shape, np.nan)
    found[there] = values
    return found


def _paired(one: HeadEffectSet, two: HeadEffectSet, there: np.ndarray, common: Sequence[tuple[int, int]]) -> Moments:
    left, right = (np.array(side) for side in zip(*common, strict=True))
    images = one.samples["image_id"].to_numpy()[left]
    return clustered_moments(two.values[right][:, there].astype(np.float64) - one.values[left][:, there].astype(np.float64), images)


def _unpaired(one: HeadEffectSet, two: HeadEffectSet, there: np.ndarray) -> Moments:
    values = np.concatenate([one.values, two.values])[:, there].astype(np.float64)
    side = np.repeat([0, 1], [len(one), len(two)])
    images = np.concatenate([one.samples["image_id"].to_numpy(), two.samples["image_id"].to_numpy()])
    return combined_moments(values, side, (-1.0, 1.0), images)
