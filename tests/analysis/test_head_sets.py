from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vseam_core.analysis.head_sets import (
    matched_random_sets,
    ranked_heads,
    select_heads,
)
from vseam_core.analysis.heads import score_heads, with_verdicts
from vseam_core.api.types import HeadId


@pytest.fixture
def scores(make_task: Any) -> Any:
    task = make_task(0, images=300, positive={(0, 1): 0.6, (1, 3): 1.5, (2, 0): 1.0}, negative={(2, 3): 1.5})
    scored = score_heads(*task.arguments(), measure="logit_diff", seed=0, splits=20)
    return with_verdicts(scored, dict.fromkeys(scored.with_verdict("candidate"), "confirmed"))


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
    unresolved = score_heads(*task.arguments(), measure="logit_diff", seed=0, splits=20)
    assert not unresolved.resolved_support
    assert unresolved.frame["claim_positive"].iloc[0]
    assert len(select_heads(unresolved, "positive", 1, seed=0)) == 0
    assert "not resolved" in select_heads(unresolved, "positive", 1, seed=0).reason
    assert list(select_heads(unresolved, "positive", 1, seed=0, require_resolved=False)) == [HeadId(0, 0)]


def test_an_exclusive_selection_puts_no_head_in_both_signs(make_task: Any) -> None:
    task = make_task(2, images=300, positive={(0, 0): 2.0}, negative={(0, 0): 3.0, (1, 1): 1.5})
    both = score_heads(*task.arguments(), measure="logit_diff", seed=0, splits=20)
    both = with_verdicts(both, dict.fromkeys(both.with_verdict("candidate"), "confirmed"))
    assert HeadId(0, 0) in select_heads(both, "negative", 2, seed=0)
    assert HeadId(0, 0) in select_heads(both, "positive", 1, seed=0, exclusive=True)
    assert list(select_heads(both, "negative", 2, seed=0, exclusive=True)) == [HeadId(1, 1)]


def test_ties_are_broken_by_the_seed_and_nothing_else() -> None:
    effects = np.zeros((40, 2, 8))
    effects[:, 0, 3] = 2.0
    effects[:, :, 4:] = 1.0
    arguments = (effects, np.ones(40), np.ones(40, dtype=bool), np.arange(40) % 2, np.arange(40))
    tied = score_heads(*arguments, measure="logit_diff", seed=0, splits=5)
    chosen = [select_heads(tied, "positive", 4, seed=seed).heads for seed in range(20)]
    assert all(heads[0] == HeadId(0, 3) for heads in chosen)
    assert len({frozenset(heads) for heads in chosen}) > 5
    assert chosen[0] == select_heads(tied, "positive", 4, seed=0).heads


def test_rankings_are_flagged_as_exploratory_and_leave_out_the_wrong_sign(scores: Any) -> None:
    ranking = ranked_heads(scores, "positive", 12, seed=0)
    assert ranking.exploratory
    assert ranking[:3] == (HeadId(1, 3), HeadId(2, 0), HeadId(0, 1))
    means = scores.map("support")
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
    few = score_heads(*make_task(3, wrong=0.0).arguments(), measure="logit_diff", seed=0, splits=5)
    ranking = ranked_heads(few, "negative", 3, seed=0)
    assert (len(ranking), ranking.reason) == (0, "too few wrong answers (0 < 10)")


def test_unknown_signs_and_sizes_raise(scores: Any) -> None:
    with pytest.raises(ValueError, match="sign must be"):
        select_heads(scores, "both", 1, seed=0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 1"):
        ranked_heads(scores, "positive", 0, seed=0)


SELECTED = [HeadId(0, 1), HeadId(0, 2), HeadId(4, 7)]
NORMS = np.random.default_rng(0).random((6, 8))


def test_random_sets_match_size_and_layers_are_distinct_and_never_the_selected_one() -> None:
    matched = matched_random_sets(SELECTED, NORMS, 80, seed=0)
    assert len({frozenset(heads) for heads in matched.sets}) == len(matched.sets) == 80
    assert matched.reason == ""
    for heads in matched.sets:
        assert sorted(head.layer for head in heads) == [0, 0, 4]
        assert len(set(heads)) == 3
        assert set(heads) != set(SELECTED)
    # Selected heads are exchanged like any others: sets may hold some of them.
    assert any(set(heads) & set(SELECTED) for heads in matched.sets)


def test_every_set_that_a_layer_allows_is_used_once_and_where_these_are_too_few_the_reason_says_so() -> None:
    one = matched_random_sets([HeadId(2, 5)], NORMS, 199, seed=1)
    assert (len(one.sets), one.possible) == (7, 8)
    assert one.reason == "no p-value: 7 distinct sets beside the selected one, at least 19 needed"
    four = matched_random_sets([HeadId(3, head) for head in (0, 2, 5, 7)], NORMS, 199, seed=1)
    assert (len(four.sets), four.possible, four.reason) == (69, 70, "")
    assert len(matched_random_sets([HeadId(3, head) for head in range(8)], NORMS, 199, seed=1).sets) == 0


def test_in_wide_layers_heads_are_exchanged_with_those_alike_in_norm() -> None:
    norms = np.random.default_rng(1).random((4, 64))
    chosen = [HeadId(1, 3), HeadId(2, 40)]
    ranks = {layer: np.argsort(np.argsort(norms[layer])) // 16 for layer in (1, 2)}
    for heads in matched_random_sets(chosen, norms, 199, seed=0).sets:
        for head, like in zip(heads, chosen, strict=True):
            assert ranks[head.layer][head.head] == ranks[like.layer][like.head]


@pytest.mark.parametrize("layout", [(2,), (1, 1), (3,), (2, 1), (4,), (2, 2), (1, 1, 1, 1)], ids=str)
def test_selections_at_random_are_called_better_than_chance_in_at_most_6_of_100_cases(layout: tuple[int, ...]) -> None:
    # 600 selections whose effect is the sum of their heads' own; the permutation test is exact, so 6 % leaves one standard error.
    random = np.random.default_rng(0)
    rejected = 0
    for seed in range(600):
        norms, own = random.random((6, 8)), np.exp(random.normal(size=(6, 8)))
        heads = [HeadId(layer, int(head)) for layer, number in enumerate(layout) for head in random.choice(8, number, replace=False)]
        sets = matched_random_sets(heads, norms, 99, seed=seed).sets
        effects = [sum(own[head.layer, head.head] for head in chosen) for chosen in (heads, *sets)]
        rejected += sum(effect >= effects[0] - 1e-12 for effect in effects) / len(effects) <= 0.05
    assert rejected <= 36


def test_random_sets_follow_the_seed_and_the_stack() -> None:
    heads = [HeadId(1, 1, "encoder")]
    assert matched_random_sets(SELECTED, NORMS, 20, seed=3) == matched_random_sets(SELECTED, NORMS, 20, seed=3)
    assert matched_random_sets(SELECTED, NORMS, 20, seed=3) != matched_random_sets(SELECTED, NORMS, 20, seed=4)
    assert all(head.stack == "encoder" for drawn in matched_random_sets(heads, NORMS, 5, seed=0).sets for head in drawn)


def test_heads_that_do_not_exist_and_norms_that_are_no_numbers_raise() -> None:
    with pytest.raises(ValueError, match="L9H0"):
        matched_random_sets([HeadId(9, 0)], NORMS, 5, seed=0)
    with pytest.raises(ValueError, match="NaN"):
        matched_random_sets(SELECTED, np.full((6, 8), np.nan), 5, seed=0)
