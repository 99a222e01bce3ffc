from __future__ import annotations

from collections import Counter
from itertools import combinations, permutations
from typing import Any

import numpy as np
import pandas as pd
import pytest

from vseam_core.analysis.frames import frame_records
from vseam_core.analysis.heads import score_heads
from vseam_core.analysis.shared import (
    SHARED_COLUMNS,
    SplitHalfCeiling,
    all_groupings,
    count_groupings,
    importance_p_values_of,
    level_test,
    level_test_of,
    overlap_null,
    shared_heads,
    similarity_matrix,
    split_half_ceiling,
)
from vseam_core.api.types import HeadId

SHAPE = (5, 8)


@pytest.fixture
def tasks(make_task: Any) -> dict[str, Any]:
    """Colour and material share two of three positive heads, action shares none with them and has only two."""
    planted = {
        "color": {(0, 1): 1.5, (2, 3): 1.2, (4, 4): 1.0},
        "material": {(0, 1): 1.5, (2, 3): 1.2, (3, 0): 1.0},
        "action": {(1, 1): 1.5, (1, 2): 1.5},
    }
    return {name: make_task(seed, images=150, wrong=0.2, shape=SHAPE, positive=heads) for seed, (name, heads) in enumerate(planted.items())}


def scores_of(task: Any) -> Any:
    return score_heads(*task.arguments(), measure="logit_diff", seed=0, splits=20)


def test_the_overlap_null_equals_the_shares_found_by_permuting_heads_within_layers() -> None:
    random = np.random.default_rng(0)
    first = [HeadId(0, 1), HeadId(0, 2), HeadId(0, 5), HeadId(3, 7)]
    second = [HeadId(0, 2), HeadId(0, 6), HeadId(3, 7), HeadId(4, 0)]
    counts: Counter[int] = Counter()
    for _ in range(20000):
        orders = [random.permutation(8) for _ in range(5)]
        moved = {(head.layer, int(orders[head.layer][head.head])) for head in second}
        counts[len(moved & {(head.layer, head.head) for head in first})] += 1
    null = overlap_null(first, second, [SHAPE[1]] * SHAPE[0])
    assert null.sum() == pytest.approx(1)
    # 20,000 permutations: five standard errors of a share are below 0.018.
    assert [counts[overlap] / 20000 for overlap in range(len(null))] == pytest.approx(null.tolist(), abs=0.018)
    assert null @ np.arange(len(null)) == pytest.approx(3 * 2 / 8 + 1 * 1 / 8)


def test_shared_heads_are_counted_with_chance_ceiling_and_q_over_all_pairs(tasks: dict[str, Any]) -> None:
    scores = {name: scores_of(task) for name, task in tasks.items() if name != "action"}
    ceilings = {"color": SplitHalfCeiling(2.0, 0.5), "material": SplitHalfCeiling(3.0, 1.0)}
    frame = shared_heads(scores, sign="positive", k=3, seed=0, ceilings=ceilings)
    (row,) = frame_records(frame)
    assert (row["first"], row["second"], row["overlap"], row["heads"]) == ("color", "material", 2, 40)
    assert row["jaccard"] == 2 / 4
    assert row["expected_overlap"] == pytest.approx(1 / 8 + 1 / 8)
    assert row["p_value"] == pytest.approx(1 / 64)
    assert row["q_value"] == row["p_value"]
    assert (row["ceiling_first"], row["ceiling_second"], row["ceiling"]) == (2.0, 3.0, 2.5)
    assert row["null"] == "heads permuted within layers (exact)"
    assert row["reason"] == ""
    assert list(frame.columns) == list(SHARED_COLUMNS)


def test_a_task_with_fewer_than_k_passing_heads_gives_null_and_names_itself(tasks: dict[str, Any]) -> None:
    frame = shared_heads({name: scores_of(task) for name, task in tasks.items()}, sign="positive", k=3, seed=0)
    rows = {(row["first"], row["second"]): row for row in frame_records(frame)}
    assert rows["color", "material"]["overlap"] == 2
    for other in ("color", "material"):
        row = rows[other, "action"]
        assert [row[name] for name in ("overlap", "jaccard", "expected_overlap", "p_value", "q_value")] == [None] * 5
        assert row["reason"] == "action: 2 of 3 heads pass as positive"
        assert row["rank_correlation"] is not None


def test_more_than_a_tenth_of_the_heads_is_refused_with_the_reason(tasks: dict[str, Any]) -> None:
    scores = {name: scores_of(tasks[name]) for name in ("color", "material")}
    assert shared_heads(scores, sign="positive", k=5, seed=0)["reason"].tolist() == ["k = 5 is more than a tenth of 40 heads"]
    assert shared_heads(scores, sign="positive", k=5, seed=0)["overlap"].isna().all()


def test_models_of_different_shape_cannot_share_heads(make_task: Any) -> None:
    scores = {str(heads): scores_of(make_task(0, images=20, shape=(2, heads))) for heads in (4, 8)}
    with pytest.raises(ValueError, match="one shape"):
        shared_heads(scores, sign="positive", k=1, seed=0)


def test_overlap_p_values_reject_tasks_with_unrelated_heads_in_at_most_5_of_100_cases() -> None:
    # 400 pairs of random sets; the exact test on a discrete statistic is conservative, so no slack is needed.
    random = np.random.default_rng(1)
    rejected = 0
    for _ in range(400):
        one, two = ([HeadId(int(place) // 8, int(place) % 8) for place in random.choice(40, 4, replace=False)] for _ in range(2))
        rejected += overlap_null(one, two, [SHAPE[1]] * SHAPE[0])[len(set(one) & set(two)) :].sum() <= 0.05
    assert rejected <= 20


def tops(maps: np.ndarray, k: int = 4) -> list[set[int]]:
    return [set(np.argsort(-values)[:k].tolist()) for values in maps]


def test_the_importance_null_equals_dealing_each_heads_scores_to_the_tasks_by_loops() -> None:
    random = np.random.default_rng(20)
    maps = random.normal(size=(3, 12)) + np.arange(12) / 4
    counts = dict.fromkeys(combinations(range(3), 2), 0)
    for _ in range(1500):
        dealt = np.stack([column[random.permutation(3)] for column in maps.T], axis=1)
        for pair in counts:
            counts[pair] += len(tops(dealt)[pair[0]] & tops(dealt)[pair[1]]) >= len(tops(maps)[pair[0]] & tops(maps)[pair[1]])
    # 1,500 and 1,499 draws: five standard errors of the difference are below 0.092.
    expected = {pair: count / 1500 for pair, count in counts.items()}
    assert importance_p_values_of(maps, 4, seed=0, permutations=1499) == pytest.approx(expected, abs=0.092)


def test_heads_that_matter_in_every_task_are_taken_for_sharing_within_layers_and_not_by_the_importance_null() -> None:
    # 20 studies of 7 tasks whose heads differ in importance and share nothing beside it: 420 pairs, five standard errors are 5.3 %.
    random = np.random.default_rng(21)
    within_layers, importance = [], []
    for _ in range(20):
        maps = 2 * random.normal(size=40) + random.normal(size=(7, 40))
        chosen = [[HeadId(place // 8, place % 8) for place in top] for top in tops(maps)]
        for one, two in combinations(chosen, 2):
            within_layers.append(overlap_null(one, two, [8] * 5)[len(set(one) & set(two)) :].sum() <= 0.05)
        importance += [p_value <= 0.05 for p_value in importance_p_values_of(maps, 4, seed=0, permutations=199).values()]
    assert np.mean(within_layers) > 0.3
    assert np.mean(importance) <= 0.05 + 0.053


def test_two_tasks_that_share_heads_of_their_own_are_told_from_heads_that_matter_everywhere() -> None:
    random = np.random.default_rng(22)
    maps = 0.5 * random.normal(size=40) + random.normal(size=(7, 40))
    maps[:2, [3, 11, 25, 38]] += 6
    p_values = importance_p_values_of(maps, 4, seed=0)
    assert p_values[0, 1] < 0.05
    assert min(p_value for pair, p_value in p_values.items() if pair != (0, 1)) > 0.05


def overlaps(matrix: dict[frozenset[str], float]) -> pd.DataFrame:
    rows = [{"first": sorted(pair)[0], "second": sorted(pair)[1], "overlap": value} for pair, value in matrix.items()]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("shared_by", ["level", "form"])
def test_categories_in_two_forms_tell_sharing_by_level_from_sharing_by_form(shared_by: str) -> None:
    levels = dict(zip("abcdef", "xxyyzz", strict=True))
    # Objects are asked by one form and all else by the other; in the second family the forms are exchanged.
    form = {f"{family}/{name}": (level == "x") != (family == "other") for family in ("own", "other") for name, level in levels.items()}
    of_task = {task: levels[task[-1]] for task in form}
    same = of_task if shared_by == "level" else form
    frame = overlaps({frozenset(pair): 4.0 * (same[pair[0]] == same[pair[1]]) for pair in combinations(form, 2)})
    result = level_test_of(frame, of_task, {task: task[-1] for task in form}, seed=0)
    assert (result.tasks, result.across_forms) == (6, True)
    # 6 categories in levels of two can be grouped in 15 ways.
    assert (result.within, result.p_value) == ((4.0, pytest.approx(1 / 15)) if shared_by == "level" else (0.0, 1.0))
    # All pairs together cannot tell: the pairs of one family share level and form.
    alone = {task: level for task, level in of_task.items() if task.startswith("own")}
    kept = frame[frame["first"].isin(alone) & frame["second"].isin(alone)]
    confounded = level_test_of(kept, alone, {task: task[-1] for task in alone}, seed=0)
    assert not confounded.across_forms
    assert confounded.within == 4.0


def test_the_ceiling_is_high_for_a_clear_task_and_near_chance_for_noise(make_task: Any) -> None:
    clear = make_task(2, images=200, shape=SHAPE, wrong=0.0, positive={(0, 0): 3.0, (1, 1): 3.0, (2, 2): 3.0})
    noise = make_task(3, images=200, shape=SHAPE, wrong=0.0)
    results = [split_half_ceiling(task.effects, task.correct, task.clusters, sign="positive", k=3, seed=0) for task in (clear, noise)]
    assert results[0] == SplitHalfCeiling(3.0, 1.0)
    assert results[1].overlap is not None
    # Halves of one sample are not independent draws: a noisy map repeats even less than chance (3 × 3 / 40).
    assert results[1].overlap < 0.5


def test_negative_heads_have_a_ceiling_of_their_own_from_wrong_answers(make_task: Any) -> None:
    task = make_task(4, images=200, shape=SHAPE, negative={(0, 0): 3.0})
    result = split_half_ceiling(task.effects, ~task.correct, task.clusters, sign="negative", k=1, seed=0)
    assert result.overlap == 1.0
    few = split_half_ceiling(task.effects, np.arange(400) < 12, task.clusters, sign="negative", k=1, seed=0)
    assert few.overlap is None
    assert few.reason == "6 images with wrong answers, at least 20 needed for two halves"


@pytest.mark.parametrize(("sizes", "count"), [((3, 2, 2), 105), ((2, 2), 3), ((1, 1, 2), 6), ((3, 3), 10), ((4, 2, 1), 105)])
def test_groupings_are_all_and_each_once(sizes: tuple[int, ...], count: int) -> None:
    def canonical(labels: Any) -> frozenset[frozenset[int]]:
        return frozenset(frozenset(np.flatnonzero(np.asarray(labels) == label).tolist()) for label in set(labels))

    template = [group for group, size in enumerate(sizes) for _ in range(size)]
    by_brute_force = {canonical(order) for order in set(permutations(template))}
    found = [canonical(labels.tolist()) for labels in all_groupings(sizes)]
    assert set(found) == by_brute_force
    assert len(found) == len(by_brute_force) == count_groupings(sizes) == count


LEVELS = ["object"] * 3 + ["attribute"] * 2 + ["relation"] * 2


def test_a_perfect_level_structure_has_the_smallest_possible_p_of_one_in_105() -> None:
    similarity = np.array([[float(one == two) for two in LEVELS] for one in LEVELS])
    result = level_test(similarity, LEVELS, seed=0)
    assert (result.within, result.across, result.difference) == (1.0, 0.0, 1.0)
    assert (result.groupings, result.exact, result.tasks) == (105, True, 7)
    assert result.p_value == pytest.approx(1 / 105)


def test_the_level_test_equals_one_over_all_relabellings_by_loops() -> None:
    random = np.random.default_rng(5)
    upper = np.triu(random.integers(0, 4, (7, 7)), 1).astype(float)
    similarity = upper + upper.T

    def difference(labels: Any) -> float:
        within: list[float] = []
        across: list[float] = []
        for one in range(7):
            for two in range(one):
                (within if labels[one] == labels[two] else across).append(similarity[one, two])
        return float(np.mean(within) - np.mean(across))

    result = level_test(similarity, LEVELS, seed=0)
    differences = [difference(order) for order in permutations(LEVELS)]
    assert result.difference == pytest.approx(difference(LEVELS))
    assert result.p_value == pytest.approx(np.mean([value >= difference(LEVELS) - 1e-12 for value in differences]))


def test_without_level_structure_the_level_test_rejects_in_at_most_5_of_100_seeds() -> None:
    # An exact test: 5 of its 105 possible p-values are below 0.05, so its true rate is 4.8 %. With 100 seeds two standard errors
    # are 4.4 %.
    random = np.random.default_rng(6)
    rejected = 0
    for _ in range(100):
        upper = np.triu(random.random((7, 7)), 1)
        p_value = level_test(upper + upper.T, LEVELS, seed=0).p_value
        assert p_value is not None
        rejected += p_value <= 0.05
    assert rejected / 100 <= 0.05 + 0.044


def test_many_groupings_are_sampled_with_the_seed() -> None:
    levels = [str(index // 4) for index in range(16)]
    similarity = np.array([[float(one == two) for two in levels] for one in levels])
    result = level_test(similarity, levels, seed=1, permutations=99)
    assert not result.exact
    assert result.p_value == 1 / 100
    assert result == level_test(similarity, levels, seed=1, permutations=99)


@pytest.mark.parametrize("levels", [["object", "attribute", "relation"], ["object"] * 3, []])
def test_levels_without_pairs_to_compare_give_null_with_a_reason(levels: list[str]) -> None:
    result = level_test(np.zeros((len(levels), len(levels))), levels, seed=0)
    assert result.p_value is None
    assert "no pairs both within and across" in result.reason


def test_similarities_leave_out_tasks_whose_overlap_is_null(tasks: dict[str, Any]) -> None:
    frame = shared_heads({name: scores_of(task) for name, task in tasks.items()}, sign="positive", k=3, seed=0)
    names, matrix = similarity_matrix(frame)
    assert names == ["color", "material"]
    assert matrix.tolist() == [[0.0, 2.0], [2.0, 0.0]]
    names, matrix = similarity_matrix(frame, "rank_correlation")
    assert names == ["color", "material", "action"]
    assert np.array_equal(matrix, matrix.T)
    nothing, empty = similarity_matrix(frame.assign(overlap=None))
    assert len(nothing) == 1
    assert level_test(empty, ["object"], seed=0).p_value is None


def test_nan_and_lopsided_similarities_raise() -> None:
    with pytest.raises(ValueError, match="NaN"):
        level_test([[0, np.nan], [np.nan, 0]], ["a", "b"], seed=0)
    with pytest.raises(ValueError, match="symmetric"):
        level_test([[0, 1], [2, 0]], ["a", "b"], seed=0)
    with pytest.raises(ValueError, match="NaN"):
        split_half_ceiling(np.full((40, 2, 2), np.nan), np.ones(40), np.arange(40), sign="positive", k=1, seed=0)
