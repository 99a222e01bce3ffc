"""Screening statistics on hand-made maps: which heads are run, how agreement is weighed, and what may be claimed."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from scipy import stats

from vseam_core.analysis.frames import nullable_frame
from vseam_core.analysis.head_sets import ranked_heads, select_heads
from vseam_core.analysis.heads import score_heads
from vseam_core.analysis.screening import (
    SCREENING_COLUMNS,
    HeadChoice,
    agreement,
    choose_heads,
    default_top,
    score_verified_heads,
    weighted_rank_correlation,
)

SHAPE = (10, 10)


def choice(top: list[int], random: list[int], shape: tuple[int, int] = SHAPE) -> HeadChoice:
    flags = np.zeros((2, shape[0] * shape[1]), dtype=bool)
    flags[0, top], flags[1, random] = True, True
    return HeadChoice(flags[0].reshape(shape), flags[1].reshape(shape))


def masked(values: np.ndarray, chosen: HeadChoice) -> np.ndarray:
    return np.where(chosen.verified, values, np.nan)


def test_the_strongest_estimates_of_either_sign_are_chosen_in_turn_from_both_kinds_of_answer() -> None:
    right, wrong = np.zeros(SHAPE), np.zeros(SHAPE)
    right[0, :4] = [5, -4, 3, 0.5]
    wrong[9, :4], wrong[0, 0] = [0.4, -0.3, 0.2, 0.1], 9
    chosen = choose_heads({"correct": right, "wrong": wrong}, 5, seed=0)
    assert np.argwhere(chosen.top).tolist() == [[0, 0], [0, 1], [0, 2], [9, 0], [9, 1]]


def test_a_random_tenth_is_drawn_from_the_others_and_the_seed_decides_which() -> None:
    estimates = {"correct": np.arange(2000.0).reshape(40, 50)}
    one, again, other = (choose_heads(estimates, 60, seed) for seed in (1, 1, 2))
    assert (one.top.sum(), one.random.sum()) == (60, 6)
    assert not (one.top & one.random).any()
    assert (one.random == again.random).all()
    assert (one.random != other.random).any()
    assert (one.top == other.top).all()


def test_few_heads_still_get_three_random_ones_and_all_heads_none() -> None:
    estimates = {"correct": np.arange(24.0).reshape(4, 6)}
    assert choose_heads(estimates, 8, 0).random.sum() == 3
    everything = choose_heads(estimates, 99, 0)
    assert everything.top.all()
    assert not everything.random.any()


def test_every_head_is_drawn_equally_often() -> None:
    estimates = {"correct": np.arange(20.0).reshape(4, 5)}
    counts = np.sum([choose_heads(estimates, 8, seed).random for seed in range(400)], axis=0).ravel()
    assert counts[12:].sum() == 0
    assert stats.chisquare(counts[:12]).pvalue > 1e-3


def test_by_default_one_head_in_40_is_screened_and_at_least_eight() -> None:
    assert [default_top(heads) for heads in (5, 48, 128, 1024, 1600)] == [5, 8, 8, 25, 40]


def test_perfect_estimates_agree_perfectly() -> None:
    truth = np.random.default_rng(0).normal(size=SHAPE)
    chosen = choose_heads({"correct": truth}, 20, 0)
    row = agreement(truth / 2, masked(truth, chosen), chosen)
    assert [row[name] for name in ("rank_correlation", "rank_top", "rank_random")] == pytest.approx([1, 1, 1])
    assert (row["heads"], row["top"], row["random"], row["strongest"]) == (100, 20, 3, 5)
    assert row["recall"] == 1.0
    assert row["scale"] == pytest.approx(0.5)
    assert row["vanished"] == row["reason"] == ""
    assert len(nullable_frame([row | {"subset": "correct", "n": 7}], SCREENING_COLUMNS)) == 1


def test_recall_counts_what_the_random_part_says_was_left_out() -> None:
    truth, guess = np.zeros(100), np.zeros(100)
    truth[:20] = guess[:20] = np.arange(40, 20, -1)
    chosen = choice(list(range(20)), [30, 40, 50, 60])
    truth[50] = -38.5
    row = agreement(guess.reshape(SHAPE), masked(truth.reshape(SHAPE), chosen), chosen)
    assert (row["strongest"], row["threshold"]) == (5, 37.0)
    # Four of the top reach it; one of four random heads does, and stands for a quarter of the 80 others.
    assert row["recall"] == pytest.approx(4 / (4 + 20))
    assert row["recall_low"] < row["recall"] < row["recall_high"]


def test_the_limits_of_recall_are_those_of_a_sample_without_replacement() -> None:
    truth = np.zeros(100)
    truth[:20] = np.arange(40, 20, -1)
    chosen = choice(list(range(20)), [30, 40, 50, 60])
    row = agreement(truth.reshape(SHAPE), masked(truth.reshape(SHAPE), chosen), chosen)
    # With M of 80 heads above the threshold, none of 4 is drawn with probability C(80 - M, 4) / C(80, 4).
    most = max(m for m in range(77) if comb(80 - m, 4) / comb(80, 4) >= 0.025)
    assert row["recall_low"] == pytest.approx(5 / (5 + most))
    assert (row["recall"], row["recall_high"]) == (1.0, 1.0)


def test_the_limits_of_recall_cover_the_truth_as_often_as_they_say() -> None:
    random, covered, trials = np.random.default_rng(5), 0, 300
    truth, guess = random.normal(size=(8, 25)), random.normal(size=(8, 25))
    guess += truth
    top = choose_heads({"correct": guess}, 40, 0).top
    for _ in range(trials):
        drawn = np.zeros(truth.size, dtype=bool)
        drawn[random.choice(np.flatnonzero(~top.ravel()), 30, replace=False)] = True
        chosen = HeadChoice(top, drawn.reshape(truth.shape))
        row = agreement(guess, masked(truth, chosen), chosen)
        above = np.abs(truth) >= row["threshold"]
        covered += row["recall_low"] <= (above & top).sum() / above.sum() <= row["recall_high"]
    assert covered / trials >= 0.95


def test_the_rank_correlation_is_not_flattered_by_selection() -> None:
    """Over many heads of pure noise with a few strong ones, what selected heads alone say is not what all heads say."""
    random = np.random.default_rng(3)
    truth, guess = random.normal(size=(40, 50)), random.normal(size=(40, 50))
    guess[0], truth[0] = 10, 10 + truth[0] / 100
    truth[1], guess[1] = -10 + truth[1] / 100, -10
    chosen = choose_heads({"correct": guess}, 200, 0)
    more = HeadChoice(chosen.top, chosen.random | (random.random(truth.shape) < 0.2) & ~chosen.top)
    row = agreement(guess, masked(truth, more), more)
    everything = stats.spearmanr(guess.ravel(), truth.ravel()).statistic
    unweighted = stats.spearmanr(guess[more.verified], truth[more.verified]).statistic
    assert row["rank_correlation"] == pytest.approx(everything, abs=0.06)
    assert abs(unweighted - everything) > 0.1


def test_equal_weights_give_spearmans_correlation_with_ties() -> None:
    one, two = [1, 2, 2, 4, 5, 5], [2, 1, 4, 4, 4, 9]
    assert weighted_rank_correlation(one, two, np.ones(6)) == pytest.approx(stats.spearmanr(one, two).statistic)


def test_a_weight_is_as_many_equal_entries() -> None:
    one, two, weights = [3.0, 1.0, 2.0, 5.0], [1.0, 4.0, 2.0, 8.0], [1, 3, 2, 1]
    repeated = stats.spearmanr(np.repeat(one, weights), np.repeat(two, weights)).statistic
    assert weighted_rank_correlation(one, two, weights) == pytest.approx(repeated)


def test_too_few_or_constant_heads_have_no_correlation() -> None:
    assert weighted_rank_correlation([1, 2], [1, 2], [1, 1]) is None
    assert weighted_rank_correlation([1, 1, 1], [1, 2, 3], [1, 1, 1]) is None


def test_heads_that_matter_without_a_gradient_are_named_with_their_layers() -> None:
    truth, guess = np.zeros(SHAPE), np.zeros(SHAPE)
    truth[2, 3], guess[2, 3] = 5.0, 0.1  # saturated
    truth[4, 0], guess[4, 0] = 5.0, 4.0
    truth[6, 1], guess[6, 1] = 0.4, 0.0  # below a tenth of the largest
    truth[7, 7], guess[7, 7] = -2.0, 0.0  # saturated
    chosen = choice([23, 40, 61], [77, 80, 81])
    row = agreement(guess, masked(truth, chosen), chosen)
    assert row["vanished"] == "L2H3 L7H7"
    assert row["reason"] == "saturation: gradients vanish for 2 of 3 heads that matter, layers 2, 7"
    assert agreement(guess, masked(truth, chosen), chosen, noise_floor=1.0)["vanished"] == "L2H3"


def heads_of_noise(n: int = 60, seed: int = 0) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    random = np.random.default_rng(seed)
    effects = random.normal(size=(n, *SHAPE))
    return effects, (np.zeros(n), np.ones(n), np.arange(n) % 2, np.arange(n))


def test_only_verified_heads_are_scored_and_the_others_are_null() -> None:
    effects, about = heads_of_noise()
    effects[:, 3, 4] += 5
    chosen = choice([34, 11, 12, 13, 14, 15, 16, 17], [90, 91, 92])
    scores = score_verified_heads(np.where(chosen.verified, effects, np.nan), *about, measure="logit_diff", seed=0)
    frame = scores.frame.set_index(["layer", "head"])
    assert (len(frame), scores.shape) == (100, SHAPE)
    assert frame.loc[(3, 4), "sign"] == "positive"
    assert frame.loc[(3, 4), "mean_correct"] == pytest.approx(effects[:, 3, 4].mean())
    left_out = frame.loc[(0, 0)]
    assert left_out[["mean_correct", "q_positive", "signed", "below_noise_floor"]].isna().all()
    assert (left_out["sign"], left_out["claim_positive"]) == ("none", False)
    assert "not run exactly" in left_out["reason"]
    assert np.isfinite(scores.map("mean_correct")).sum() == 11
    assert [str(head) for head in select_heads(scores, "positive", 1, 0, require_resolved=False)] == ["L3H4"]
    assert str(ranked_heads(scores, "positive", 1, 0)[0]) == "L3H4"


def test_all_heads_verified_is_the_exact_scan() -> None:
    effects, about = heads_of_noise()
    exact = score_heads(effects, *about, measure="logit_diff", seed=0)
    assert score_verified_heads(effects, *about, measure="logit_diff", seed=0).frame.equals(exact.frame)


def test_choosing_heads_on_the_tested_samples_does_not_make_noise_pass() -> None:
    """The estimates are the effects themselves, the worst case: a correction over the chosen heads alone lets noise pass."""
    passing, naive, settings = 0, 0, {"measure": "logit_diff", "seed": 0, "splits": 1}
    for seed in range(100):
        effects, (base, correct, _, images) = heads_of_noise(seed=seed)
        about = (base, correct, None, images)
        chosen = choose_heads({"correct": effects.mean(axis=0)}, 4, seed)
        seen = np.where(chosen.top, effects, np.nan)
        passing += bool(score_verified_heads(seen, *about, **settings).frame["claim_positive"].any())
        naive += bool(score_heads(effects[:, chosen.top][:, None], *about, **settings).frame["claim_positive"].any())
    assert passing <= 8
    assert naive > 25, "the correction makes no difference here: this test shows nothing"


def test_a_head_measured_on_some_samples_only_is_refused() -> None:
    effects, about = heads_of_noise()
    effects[3, 0, 0] = np.nan
    with pytest.raises(ValueError, match="on every sample or on none"):
        score_verified_heads(effects, *about, measure="logit_diff", seed=0)
