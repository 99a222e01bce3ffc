"""Heads that tasks share: overlap against chance and against a ceiling, and whether tasks of one level share more.

Heads are not exchangeable across layers (early and late heads differ in every task), so chance is a permutation of
heads within their layer. Under it the overlap in a layer with H heads is hypergeometric, and the overlap of two sets is
the sum over layers: the null distribution is computed exactly by convolution, without drawing.

That null is rejected too where some heads matter more than others in every task, which is no sharing between two of them. So a second
p-value stands beside it, under which each head keeps its mean importance over all tasks: its scores are dealt to the tasks at random.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from math import factorial, prod
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from vseam_core.analysis.frames import NUMBER, TEXT, WHOLE, frame_records, nullable_frame
from vseam_core.analysis.head_claims import MINIMUM_ANSWERS
from vseam_core.analysis.head_sets import select_heads
from vseam_core.analysis.heads import HeadScores, Sign
from vseam_core.analysis.multiple_testing import benjamini_hochberg, permutation_p_value
from vseam_core.analysis.statistics import Array, cluster_codes, cluster_sums, finite, generator
from vseam_core.api.types import HeadId
from vseam_core.errors import counted

LARGEST_SHARE = 0.1
OTHER_FORMS = "every category is asked in two forms: only pairs of different forms count"
"""What a level test says of itself whose pairs have no form of question in common, unless levels have."""
NULL_NAME = "heads permuted within layers (exact)"
EXACT_GROUPINGS = 20_000
FEWEST_TASKS = 3
"""Tasks below which a head's importance in general cannot be told from that in two of them."""

SHARED_COLUMNS: dict[str, str] = {
    "first": TEXT,
    "second": TEXT,
    "sign": TEXT,
    "k": WHOLE,
    "heads": WHOLE,
    "overlap": WHOLE,
    "jaccard": NUMBER,
    "expected_overlap": NUMBER,
    "p_value": NUMBER,
    "q_value": NUMBER,
    "p_importance": NUMBER,
    "ceiling_first": NUMBER,
    "ceiling_second": NUMBER,
    "ceiling": NUMBER,
    "rank_correlation": NUMBER,
    "null": TEXT,
    "reason": TEXT,
}


@dataclass(frozen=True)
class SplitHalfCeiling:
    """The overlap that a task reaches with itself on other images; None with a reason where there are too few answers."""

    overlap: float | None
    jaccard: float | None
    reason: str = ""


@dataclass(frozen=True)
class LevelTest:
    """Whether tasks of one level are more alike than tasks of different levels: difference of mean similarities, one-sided p."""

    within: float | None
    across: float | None
    difference: float | None
    p_value: float | None
    groupings: int
    exact: bool
    tasks: int
    reason: str = ""

    @property
    def across_forms(self) -> bool:
        """Whether only pairs of tasks that are asked in different forms were compared."""
        return self.reason == OTHER_FORMS


def shared_heads(
    scores: Mapping[str, HeadScores],
    *,
    sign: Sign,
    k: int,
    seed: int,
    ceilings: Mapping[str, SplitHalfCeiling] | None = None,
    permutations: int = 999,
) -> pd.DataFrame:
    """For every pair of tasks, how many of their top-`k` heads are the same; one row per pair, columns `SHARED_COLUMNS`.

    Only heads that pass the claim count; where a task has fewer than `k`, or `k` is more than a tenth of the heads, the
    pair is null with the reason. `p_value` is the chance of at least this overlap under the null named in `null`;
    `q_value` is Benjamini-Hochberg over all pairs; `p_importance` is that of `importance_p_values`. `ceiling` is the mean of both
    tasks' own split-half overlaps (`split_half_ceiling`). `rank_correlation` is Spearman's over all heads. Raises `ValueError` when
    the tasks' models differ in shape.
    """
    names = list(scores)
    shapes = {task.shape for task in scores.values()}
    if len(shapes) > 1:
        raise ValueError(f"tasks of one model have one shape, got {sorted(shapes)}")
    selections = {name: select_heads(task, sign, k, seed) for name, task in scores.items()}
    complete = [name for name in names if selections[name].complete]
    importance = importance_p_values({name: scores[name] for name in complete}, sign, k, seed, permutations)
    rows = []
    for first, second in combinations(names, 2):
        row: dict[str, Any] = {"first": first, "second": second, "sign": sign, "k": k, "null": NULL_NAME}
        row["heads"] = int(scores[first].exists.sum())
        row["rank_correlation"] = rank_correlation(scores[first], scores[second], sign)
        row |= _ceiling_columns(ceilings or {}, first, second)
        reasons = [f"{name}: {selections[name].reason}" for name in (first, second) if not selections[name].complete]
        if k > LARGEST_SHARE * row["heads"]:
            reasons = [f"k = {k} is more than a tenth of {row['heads']} heads"]
        row["reason"] = "; ".join(reasons)
        if not reasons:
            row |= _overlap_columns(selections[first].heads, selections[second].heads, scores[first].exists.sum(axis=1))
            row["p_importance"] = importance.get((first, second))
        rows.append(row)
    tested = [row for row in rows if "p_value" in row]
    for row, q_value in zip(tested, benjamini_hochberg([row["p_value"] for row in tested]), strict=True):
        row["q_value"] = float(q_value)
    return nullable_frame(rows, SHARED_COLUMNS)


def overlap_null(first: Sequence[HeadId], second: Sequence[HeadId], heads_by_layer: Sequence[int]) -> Array:
    """The probability of each overlap 0, 1, … of two sets when heads are permuted within their layers, which have so many."""
    from scipy import stats  # a second of importing, for shared heads only

    distribution = np.ones(1)
    for layer, heads in enumerate(heads_by_layer):
        one, two = (sum(head.layer == layer for head in chosen) for chosen in (first, second))
        if one and two:
            in_layer = stats.hypergeom.pmf(np.arange(min(one, two) + 1), heads, one, two)
            distribution = np.convolve(distribution, in_layer)
    return distribution


def importance_p_values(
    scores: Mapping[str, HeadScores], sign: Sign, k: int, seed: int, permutations: int = 999
) -> dict[tuple[str, str], float]:
    """For each pair of tasks, the p of sharing so many of their top `k` heads if heads differ in importance in general only.

    Maps are divided by their spread over heads, so that tasks can be compared; then each head's scores are dealt to the tasks at
    random, which keeps its mean over tasks, and the overlaps of the new top `k` are what the observed ones are held against:
    p = (1 + deals with at least that overlap) / (1 + deals). Nothing for fewer than `FEWEST_TASKS` tasks or maps with gaps.
    """
    column, turn = ("support", 1.0) if sign == "positive" else ("mean_wrong", -1.0)
    maps = [None if (values := task.map(column)) is None else values[task.exists] for task in scores.values()]
    if len(maps) < FEWEST_TASKS or any(values is None or not np.isfinite(values).all() or np.ptp(values) == 0 for values in maps):
        return {}
    table = np.stack([turn * values.ravel() / values.std() for values in maps if values is not None])
    names = list(scores)
    found = importance_p_values_of(table, k, seed, permutations)
    return {(names[one], names[two]): p_value for (one, two), p_value in found.items()}


def importance_p_values_of(table: ArrayLike, k: int, seed: int, permutations: int = 999) -> dict[tuple[int, int], float]:
    """`importance_p_values` of maps `[tasks, heads]` on one scale, larger being stronger, by pairs of rows."""
    values = finite("maps", table)
    random = generator(seed, "importance null")
    pairs = list(combinations(range(len(values)), 2))

    def overlaps(maps: Array) -> Array:
        top = np.zeros(maps.shape, dtype=np.int64)
        np.put_along_axis(top, np.argpartition(-maps, k - 1, axis=1)[:, :k], 1, axis=1)
        shared = top @ top.T
        return np.array([shared[pair] for pair in pairs], dtype=np.float64)

    observed = overlaps(values)
    null = np.array([overlaps(random.permuted(values, axis=0)) for _ in range(permutations)])
    return {pair: permutation_p_value(observed[index], null[:, index]) for index, pair in enumerate(pairs)}


def rank_correlation(first: HeadScores, second: HeadScores, sign: Sign) -> float | None:
    """Spearman's correlation over all heads of the means on sampled questions (positive) or wrong answers (negative).

    None where a map is missing or flat, or where heads of it were not measured.
    """
    column = "support" if sign == "positive" else "mean_wrong"
    one, two = (None if (values := task.map(column)) is None else values[task.exists] for task in (first, second))
    if one is None or two is None or not np.isfinite([one, two]).all() or np.ptp(one) == 0 or np.ptp(two) == 0:
        return None
    from scipy import stats

    return float(stats.spearmanr(one.ravel(), two.ravel()).statistic)


def split_half_ceiling(
    effects: ArrayLike, counted: ArrayLike, clusters: ArrayLike, *, sign: Sign, k: int, seed: int, splits: int = 50
) -> SplitHalfCeiling:
    """The mean overlap of a task's top-`k` heads between two halves of its images, over `splits` seeded halvings.

    `counted` `[n]` flags the samples that the sign rests on: the sampled questions (positive) or the wrong answers (negative).

    Half the images rarely suffice for a claim, so halves are ranked by the signed mean alone; and half the images rank
    less surely than all of them, so this ceiling lies a little low. Arguments as in `score_heads`.
    """
    array, mask = finite("effects", effects), np.asarray(counted, dtype=bool)
    codes, count = cluster_codes(np.asarray(clusters)[mask], int(mask.sum()))
    if count < 2 * MINIMUM_ANSWERS:
        reason = (
            f"{count} images{'' if sign == 'positive' else ' with wrong answers'}, at least {2 * MINIMUM_ANSWERS} needed for two halves"
        )
        return SplitHalfCeiling(None, None, reason)
    sums = cluster_sums(array[mask].reshape(len(codes), -1), codes, count)
    sizes = np.bincount(codes, minlength=count).astype(float)
    first, ties = _ceiling_draws(seed, count, sums.shape[1], splits)
    maps = _half_means(first, sums, sizes) * (1 if sign == "positive" else -1)
    tops = [[_top(maps[split, half], k, ties[split, half]) for half in range(2)] for split in range(splits)]
    overlaps = [len(one & two) for one, two in tops]
    jaccards = [len(one & two) / max(1, len(one | two)) for one, two in tops]
    return SplitHalfCeiling(float(np.mean(overlaps)), float(np.mean(jaccards)))


@lru_cache(maxsize=4)
def _ceiling_draws(seed: int, images: int, heads: int, splits: int) -> tuple[np.ndarray, Array]:
    """Which images are in the first half of each split, `[splits, images]`, and what decides between tied heads, `[splits, 2, heads]`.

    Kept, since tasks of one size are halved alike.
    """
    random = generator(seed, "split-half ceiling")
    first, ties = np.zeros((splits, images), dtype=bool), np.zeros((splits, 2, heads))
    for split in range(splits):
        first[split, np.array_split(random.permutation(images), 2)[0]] = True
        ties[split] = random.random(ties.shape[1:])
    for kept in (first, ties):
        kept.setflags(write=False)
    return first, ties


def _half_means(halves: np.ndarray, sums: Array, sizes: Array) -> Array:
    """Means over the images of a half and over those of the other, `[splits, 2, heads]`; `halves` `[splits, images]` is true or false.

    All splits are one matrix product. Heads that are alike in every image stay tied, however that product rounds.
    """
    first = halves.astype(np.float64)
    distinct: dict[bytes, int] = {}
    alike = [distinct.setdefault(column.tobytes(), head) for head, column in enumerate(sums.T)]
    one, images = first @ sums, (first @ sizes)[:, None]
    means = np.stack([one / images, (sums.sum(axis=0) - one) / (sizes.sum() - images)], axis=1)
    return np.asarray(means[:, :, alike])


def similarity_matrix(shared: pd.DataFrame, column: str = "overlap") -> tuple[list[str], Array]:
    """Tasks and their similarities `[tasks, tasks]` from `shared_heads`, without tasks that have a null (the most nulls first).

    The diagonal is 0 and never used.
    """
    records = frame_records(shared)
    tasks = list(dict.fromkeys(name for row in records for name in (row["first"], row["second"])))
    values = {frozenset((row["first"], row["second"])): row[column] for row in records}
    while nulls := [pair for pair, value in values.items() if value is None]:
        worst = max(tasks, key=lambda task: sum(task in pair for pair in nulls))
        tasks.remove(worst)
        values = {pair: value for pair, value in values.items() if worst not in pair}
    matrix = [[0.0 if one == two else values[frozenset((one, two))] for two in tasks] for one in tasks]
    return tasks, np.array(matrix, dtype=np.float64).reshape(len(tasks), len(tasks))


def level_test_of(shared: pd.DataFrame, levels: Mapping[str, str], categories: Mapping[str, str], *, seed: int) -> LevelTest:
    """`level_test` on the overlaps of `shared_heads`; `levels` and `categories` by task.

    Where every category comes from two families of datasets (`a/color` and `b/color`: the same questions in two forms), pairs of one
    family do not count: the similarity of two categories is then the mean of both pairs that are asked in different forms. Of levels
    whose forms are exchanged between the families, tasks of different levels then have their form in common and tasks of one level have
    not, so that sharing by form cannot be taken for sharing by level.
    """
    names, matrix = similarity_matrix(shared)
    families: dict[str, dict[str, str]] = {}
    for task, category in categories.items():
        families.setdefault(task.rpartition("/")[0], {})[category] = task
    first, second = list(families.values()) if len(families) == 2 else ({}, {})
    if not first or set(first) != set(second) or len(first) + len(second) != len(categories):
        return level_test(matrix, [levels[name] for name in names], seed=seed)
    both = [category for category in first if first[category] in names and second[category] in names]
    one, two = ([names.index(family[category]) for category in both] for family in (first, second))
    across = matrix[np.ix_(one, two)]
    found = level_test((across + across.T) / 2, [levels[first[category]] for category in both], seed=seed)
    return found if found.reason else replace(found, reason=OTHER_FORMS)


def level_test(similarity: ArrayLike, levels: Sequence[str], *, seed: int, permutations: int = 9999) -> LevelTest:
    """Mean similarity within levels minus across levels, against all groupings of the tasks into groups of the same sizes.

    `similarity` `[tasks, tasks]` is symmetric (the diagonal is not used), `levels` names each task's level. Seven tasks
    in groups of 3, 2, 2 have 105 groupings, so p cannot fall below 1/105. More than `EXACT_GROUPINGS` groupings are
    sampled with `seed`. Null with a reason where there is no pair within or none across levels. Raises `ValueError` for
    NaN or an asymmetric matrix.
    """
    matrix = finite("similarity", similarity)
    tasks = len(levels)
    if matrix.shape != (tasks, tasks) or not np.allclose(matrix, matrix.T):
        raise ValueError(f"similarity must be symmetric for {tasks} tasks, got shape {matrix.shape}")
    labels = np.unique(np.asarray(levels), return_inverse=True)[1] if tasks else np.zeros(0, dtype=int)
    sizes = np.bincount(labels).tolist() if tasks else []
    if len(sizes) < 2 or max(sizes) < 2:
        reason = f"{counted(tasks, 'task')} in {counted(len(sizes), 'level')}: no pairs both within and across levels to compare"
        return LevelTest(within=None, across=None, difference=None, p_value=None, groupings=0, exact=True, tasks=tasks, reason=reason)
    groupings = count_groupings(sizes)
    exact = groupings <= EXACT_GROUPINGS
    within, across = _within_across(matrix, labels)
    if exact:
        null = [_difference(matrix, grouping) for grouping in all_groupings(sizes)]
    else:
        random = generator(seed, "level test")
        null = [_difference(matrix, random.permutation(labels)) for _ in range(permutations)]
    p_value = permutation_p_value(within - across, null, exact=exact)
    return LevelTest(
        within=within, across=across, difference=within - across, p_value=p_value, groupings=groupings, exact=exact, tasks=tasks
    )


def count_groupings(sizes: Sequence[int]) -> int:
    """In how many ways items can be put into unnamed groups of the given sizes: 105 for 3, 2, 2."""
    same = [sizes.count(size) for size in set(sizes)]
    return factorial(sum(sizes)) // (prod(factorial(size) for size in sizes) * prod(factorial(number) for number in same))


def all_groupings(sizes: Sequence[int]) -> Iterator[np.ndarray]:
    """Every grouping once, as a group number per item."""

    def fill(free: tuple[int, ...], left: tuple[int, ...]) -> Iterator[list[tuple[int, ...]]]:
        if not free:
            yield []
            return
        # The first free item goes into one group of each size that is left, so that no grouping comes twice.
        for size in sorted(set(left)):
            rest = list(left)
            rest.remove(size)
            for others in combinations(free[1:], size - 1):
                group = (free[0], *others)
                remaining = tuple(item for item in free if item not in group)
                for tail in fill(remaining, tuple(rest)):
                    yield [group, *tail]

    for groups in fill(tuple(range(sum(sizes))), tuple(sizes)):
        labels = np.empty(sum(sizes), dtype=int)
        for number, group in enumerate(groups):
            labels[list(group)] = number
        yield labels


def _overlap_columns(first: tuple[HeadId, ...], second: tuple[HeadId, ...], heads_by_layer: Sequence[int]) -> dict[str, Any]:
    null = overlap_null(first, second, heads_by_layer)
    overlap = len(set(first) & set(second))
    return {
        "overlap": overlap,
        "jaccard": overlap / len(set(first) | set(second)),
        "expected_overlap": float(null @ np.arange(len(null))),
        "p_value": min(1.0, float(null[overlap:].sum())),
    }


def _ceiling_columns(ceilings: Mapping[str, SplitHalfCeiling], first: str, second: str) -> dict[str, float | None]:
    values = [ceilings[name].overlap if name in ceilings else None for name in (first, second)]
    known = [value for value in values if value is not None]
    mean = sum(known) / 2 if len(known) == 2 else None
    return {"ceiling_first": values[0], "ceiling_second": values[1], "ceiling": mean}


def _top(values: Array, k: int, ties: Array) -> set[int]:
    """The `k` largest positive values; of equal ones, those that drew the smaller number."""
    order = np.lexsort((ties, -values))
    return {int(index) for index in order[:k] if values[index] > 0}


def _within_across(matrix: Array, labels: np.ndarray) -> tuple[float, float]:
    rows, columns = np.triu_indices(len(matrix), 1)
    same = labels[rows] == labels[columns]
    values = matrix[rows, columns]
    return float(values[same].mean()), float(values[~same].mean())


def _difference(matrix: Array, labels: np.ndarray) -> float:
    within, across = _within_across(matrix, labels)
    return within - across
