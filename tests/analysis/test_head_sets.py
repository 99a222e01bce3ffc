from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vseam_core.analysis.head_sets import (
    cumulative_measures,
    matched_random_sets,
    ranked_heads,
    select_heads,
    smallest_faithful_size,
)
from vseam_core.analysis.heads import score_heads
from vseam_core.api.types import HeadId
from vseam_core.errors import VseamError


@pytest.fixture
def scores(make_task: Any) -> Any:
    task = make_task(0, images=300, positive={(0, 1): 0.6, (1, 3): 1.5, (2, 0): 1.0}, negative={(2, 3): 1.5})
    return score_heads(*task.arguments(), measure="logit_diff", seed=0, draws=50, splits=20)


def test_selected_heads_are_those_that_pass_strongest_first(scores: Any) -> None:
    assert list(select_heads(scores, "positive", 3, seed=0)) == [HeadId(1, 3), HeadId(2, 0), HeadId(0, 1)]
    assert select_heads(scores, "positive", 2, seed=0).heads == (HeadId(1, 3), HeadId(2, 0))
    assert list(select_heads(scores, "negative", 1, seed=0)) == [HeadId(2, 3)]


def test_fewer_passing_heads_than_asked_for_are_returned_and_flagged(scores: Any) -> None:
    selection = select_heads(scores, "positive", 5, seed=0)
    assert len(selection) == 3
    assert not selection.complete
    assert selection.reason == "3 of 5 heads pass as positive"
    assert select_heads(scores, "positive", 3, seed=0).complete


def test_an_unresolved_map_selects_nothing_unless_told_to(make_task: Any) -> None:
    # One small steady head among many noisy ones: its effect is sure, the ranking of the heads is not.
    task = make_task(1, images=40, wrong=0.0, shape=(4, 8))
    task.effects[:, 0, 0] = 0.2 + 0.1 * task.effects[:, 0, 0]
    unresolved = score_heads(*task.arguments(), measure="logit_diff", seed=0, draws=20, splits=20)
    assert not unresolved.resolved_correct
    assert unresolved.frame["claim_positive"].iloc[0]
    assert len(select_heads(unresolved, "positive", 1, seed=0)) == 0
    assert "not resolved" in select_heads(unresolved, "positive", 1, seed=0).reason
    assert list(select_heads(unresolved, "positive", 1, seed=0, require_resolved=False)) == [HeadId(0, 0)]


def test_an_exclusive_selection_puts_no_head_in_both_signs(make_task: Any) -> None:
    task = make_task(2, images=300, positive={(0, 0): 2.0}, negative={(0, 0): 0.8, (1, 1): 1.5})
    both = score_heads(*task.arguments(), measure="logit_diff", seed=0, draws=20, splits=20)
    assert HeadId(0, 0) in select_heads(both, "negative", 2, seed=0)
    assert HeadId(0, 0) in select_heads(both, "positive", 1, seed=0, exclusive=True)
    assert list(select_heads(both, "negative", 2, seed=0, exclusive=True)) == [HeadId(1, 1)]


def test_ties_are_broken_by_the_seed_and_nothing_else() -> None:
    effects = np.zeros((40, 2, 8))
    effects[:, 0, 3] = 2.0
    effects[:, :, 4:] = 1.0
    arguments = (effects, np.ones(40), np.ones(40, dtype=bool), np.arange(40) % 2, np.arange(40))
    tied = score_heads(*arguments, measure="logit_diff", seed=0, draws=10, splits=5)
    chosen = [select_heads(tied, "positive", 4, seed=seed).heads for seed in range(20)]
    assert all(heads[0] == HeadId(0, 3) for heads in chosen)
    assert len({frozenset(heads) for heads in chosen}) > 5
    assert chosen[0] == select_heads(tied, "positive", 4, seed=0).heads


def test_rankings_are_flagged_as_exploratory_and_leave_out_the_wrong_sign(scores: Any) -> None:
    ranking = ranked_heads(scores, "positive", 12, seed=0)
    assert ranking.exploratory
    assert ranking[:3] == (HeadId(1, 3), HeadId(2, 0), HeadId(0, 1))
    means = scores.map("mean_correct")
    assert len(ranking) == (means > 0).sum() < 12
    assert "of 12 heads have a positive score" in ranking.reason
    strengths = [means[head.layer, head.head] for head in ranking]
    assert strengths == sorted(strengths, reverse=True)


def test_rankings_by_the_published_score_follow_that_column(scores: Any) -> None:
    for sign in ("positive", "negative"):
        published = scores.map(sign)
        ranking = ranked_heads(scores, sign, 12, seed=0, by="published")
        assert [published[head.layer, head.head] for head in ranking] == sorted(published.ravel(), reverse=True)


def test_too_few_wrong_answers_give_no_ranking(make_task: Any) -> None:
    few = score_heads(*make_task(3, wrong=0.0).arguments(), measure="logit_diff", seed=0, draws=10, splits=5)
    ranking = ranked_heads(few, "negative", 3, seed=0)
    assert (len(ranking), ranking.reason) == (0, "too few wrong answers (0 < 10)")


def test_unknown_signs_and_sizes_raise(scores: Any) -> None:
    with pytest.raises(ValueError, match="sign must be"):
        select_heads(scores, "both", 1, seed=0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 1"):
        ranked_heads(scores, "positive", 0, seed=0)


SELECTED = [HeadId(0, 1), HeadId(0, 2), HeadId(4, 7)]
NORMS = np.random.default_rng(0).random((6, 8))


def test_random_sets_match_size_and_layers_exclude_the_selected_and_are_distinct() -> None:
    sets = matched_random_sets(SELECTED, NORMS, 80, seed=0)
    assert len({frozenset(heads) for heads in sets}) == len(sets) == 80
    for heads in sets:
        assert sorted(head.layer for head in heads) == [0, 0, 4]
        assert len(set(heads)) == 3
        assert not set(heads) & set(SELECTED)


def test_random_sets_come_from_the_four_heads_nearest_in_norm_while_these_suffice() -> None:
    chosen = HeadId(2, 5)
    nearest = sorted((abs(NORMS[2, other] - NORMS[2, 5]), other) for other in range(8) if other != 5)[:4]
    sets = matched_random_sets([chosen], NORMS, 4, seed=1)
    assert {heads[0].head for heads in sets} == {other for _, other in nearest}


def test_random_sets_widen_to_the_whole_layer_and_only_then_repeat() -> None:
    sets = matched_random_sets([HeadId(2, 5)], NORMS, 30, seed=1)
    assert len(sets) == 30
    assert {heads[0].head for heads in sets} == set(range(8)) - {5}


def test_a_layer_with_too_few_others_is_filled_from_the_nearest_layers() -> None:
    full = [HeadId(3, head) for head in range(6)]
    for heads in matched_random_sets(full, NORMS, 20, seed=0):
        layers = [head.layer for head in heads]
        assert layers.count(3) == 2
        assert set(layers) <= {2, 3, 4}
        assert not set(heads) & set(full)


def test_random_sets_follow_the_seed_and_the_stack() -> None:
    heads = [HeadId(1, 1, "encoder")]
    assert matched_random_sets(SELECTED, NORMS, 20, seed=3) == matched_random_sets(SELECTED, NORMS, 20, seed=3)
    assert matched_random_sets(SELECTED, NORMS, 20, seed=3) != matched_random_sets(SELECTED, NORMS, 20, seed=4)
    assert all(head.stack == "encoder" for drawn in matched_random_sets(heads, NORMS, 5, seed=0) for head in drawn)


def test_more_than_half_of_the_heads_cannot_be_matched_and_bad_input_raises() -> None:
    everything = [HeadId(layer, head) for layer in range(6) for head in range(5)]
    with pytest.raises(VseamError, match="30 of 48 heads are selected; choose at most 24"):
        matched_random_sets(everything, NORMS, 5, seed=0)
    with pytest.raises(ValueError, match="L9H0"):
        matched_random_sets([HeadId(9, 0)], NORMS, 5, seed=0)
    with pytest.raises(ValueError, match="NaN"):
        matched_random_sets(SELECTED, np.full((6, 8), np.nan), 5, seed=0)


def test_curve_measures_follow_their_definitions() -> None:
    curve = cumulative_measures([0.6, 0.8, 0.9], [0.8, 0.7, 0.7], full=0.9, floor=0.5)
    assert curve["size"].tolist() == [1, 2, 3]
    assert curve["faithfulness"].tolist() == pytest.approx([0.25, 0.75, 1.0])
    assert curve["completeness"].tolist() == pytest.approx([0.25, 0.5, 0.5])
    assert curve["contribution"].tolist() == pytest.approx([0.1, 0.1, 0.0])


def test_ratios_are_null_where_replacing_every_head_costs_nothing() -> None:
    curve = cumulative_measures([0.5], [0.5], full=0.5, floor=0.5)
    assert curve[["faithfulness", "completeness"]].isna().all().all()
    assert curve["contribution"].tolist() == [0.0]


def test_the_smallest_faithful_size_stays_faithful_from_there_on() -> None:
    curve = cumulative_measures([0.9, 0.6, 0.95, 1.0], [0.9] * 4, full=1.0, floor=0.0)
    assert smallest_faithful_size(curve) == 3
    assert smallest_faithful_size(curve, level=0.5) == 1
    assert smallest_faithful_size(cumulative_measures([0.2], [0.9], full=1.0, floor=0.0)) is None
