from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from vseam_core.analysis.heads import score_heads
from vseam_core.analysis.rescaling import (
    UNCHANGED,
    Setting,
    SettingResult,
    choose,
    fit_yes_no_bias,
    published_scales,
    rescaling_grid,
    rescaling_scores,
    scale_change,
    scaled_by_rank,
    shuffled_within_layers,
)
from vseam_core.api.types import HeadId

SCORES = np.array([[0.8, 0.1, 0.0], [-0.4, 0.2, -0.05]])
POSITIVE, NEGATIVE = [HeadId(0, 0), HeadId(1, 1)], [HeadId(1, 0)]


def test_published_scales_are_one_plus_strength_times_score_clipped_to_zero_and_two() -> None:
    assert published_scales([[0.003, -0.5], [1.7, -3.0]]).tolist() == [[1.003, 0.5], [2.0, 0.0]]
    assert published_scales([[0.1]], strength=5.0).tolist() == [[1.5]]


def test_scales_by_rank_move_only_the_given_heads_and_the_strongest_by_the_whole_strength() -> None:
    scales = scaled_by_rank(SCORES, POSITIVE, NEGATIVE, strength=0.5)
    assert scales == pytest.approx(np.array([[1.5, 1.0, 1.0], [0.75, 1.125, 1.0]]))
    assert scaled_by_rank(SCORES, [], [], 1.0).tolist() == np.ones((2, 3)).tolist()


def test_a_clip_bounds_the_change_in_both_directions() -> None:
    scales = scaled_by_rank(SCORES, POSITIVE, NEGATIVE, strength=4.0, clip=1.0)
    assert scales == pytest.approx(np.array([[2.0, 1.0, 1.0], [0.0, 2.0, 1.0]]))


def test_a_score_of_the_wrong_sign_or_a_head_in_both_lists_raises() -> None:
    with pytest.raises(ValueError, match="not so for L0H1"):
        scaled_by_rank(SCORES, [], [HeadId(0, 1)], 1.0)
    with pytest.raises(ValueError, match="both lists: L0H0"):
        scaled_by_rank(SCORES, POSITIVE, [HeadId(0, 0)], 1.0)


def test_rescaling_scores_take_sampled_questions_for_positive_and_wrong_answers_for_negative_heads(make_task: Any) -> None:
    task = make_task(0, positive={(0, 1): 1.0}, negative={(2, 3): 2.0})
    scores = score_heads(*task.arguments(), measure="logit_diff", seed=0, splits=5)
    values = rescaling_scores(scores, [HeadId(0, 1)], [HeadId(2, 3)])
    assert values[0, 1] == pytest.approx(np.mean([task.effects[gold, 0, 1].mean() for gold in (task.gold_yes, ~task.gold_yes)]))
    assert values[2, 3] == pytest.approx(task.effects[~task.correct, 2, 3].mean())
    assert np.count_nonzero(values) == 2
    assert scaled_by_rank(values, [HeadId(0, 1)], [HeadId(2, 3)], 1.0)[2, 3] == pytest.approx(0.0)


def test_rescaling_scores_for_heads_whose_effect_is_unknown_raise(make_task: Any) -> None:
    scores = score_heads(*make_task(1, wrong=0.0).arguments(), measure="logit_diff", seed=0, splits=5)
    with pytest.raises(ValueError, match="L2H3 is selected, but mean_wrong is unknown"):
        rescaling_scores(scores, [], [HeadId(2, 3)])


def test_the_grid_leaves_out_settings_whose_clip_never_bites() -> None:
    assert rescaling_grid((0.5, 2.0), (1,), (None, 1.0)) == [Setting(0.5, 1), Setting(2.0, 1), Setting(2.0, 1, 1.0)]
    assert len(rescaling_grid()) == len(set(rescaling_grid())) == 15


def result(setting: Setting, accuracy: float, change: float) -> SettingResult:
    return SettingResult(setting, accuracy, change)


def test_the_most_accurate_setting_is_chosen() -> None:
    choice = choose([result(UNCHANGED, 0.8, 0.0), result(Setting(1.0, 2), 0.85, 1.4)])
    assert (choice.setting, choice.accuracy) == (Setting(1.0, 2), 0.85)


def test_ties_go_to_the_smallest_change_then_fewer_heads_then_less_strength_then_the_tighter_clip() -> None:
    tied = [result(Setting(2.0, 2), 0.9, 1.0), result(Setting(1.0, 1), 0.9, 0.5), result(UNCHANGED, 0.9, 0.0)]
    assert choose(tied).setting == UNCHANGED
    assert choose([result(Setting(1.0, 4), 0.9, 0.5), result(Setting(1.0, 2), 0.9, 1.0)]).setting == Setting(1.0, 4)
    assert choose([result(Setting(1.0, 4), 0.9, 1.0), result(Setting(1.5, 2), 0.9, 1.0)]).setting == Setting(1.5, 2)
    assert choose([result(Setting(2.0, 2), 0.9, 1.0), result(Setting(1.5, 2), 0.9, 1.0)]).setting == Setting(1.5, 2)
    assert choose([result(Setting(2.0, 2), 0.9, 1.0), result(Setting(2.0, 2, 1.0), 0.9, 1.0)]).setting == Setting(2.0, 2, 1.0)


def test_the_choice_does_not_depend_on_the_order_of_results() -> None:
    random = np.random.default_rng(0)
    results = [result(setting, 0.8 + 0.1 * (index % 3), 1.0) for index, setting in enumerate(rescaling_grid())]
    chosen = {choose([results[index] for index in random.permutation(len(results))]).setting for _ in range(10)}
    assert len(chosen) == 1


def test_choosing_from_nothing_or_nan_raises() -> None:
    with pytest.raises(ValueError, match="no setting"):
        choose([])
    with pytest.raises(ValueError, match="NaN"):
        choose([result(UNCHANGED, float("nan"), 0.0)])


def test_the_change_of_a_rescaling_is_its_distance_from_no_rescaling() -> None:
    assert scale_change(np.ones((3, 4))) == 0.0
    assert scale_change([[1.3, 1.0], [0.6, 1.0]]) == pytest.approx(0.5)


def test_shuffled_scales_stay_in_their_layer_and_reach_every_head() -> None:
    scales = np.ones((3, 6))
    scales[0, 0], scales[2, 5], scales[2, 1] = 1.5, 0.5, 1.25
    drawn = shuffled_within_layers(scales, 200, seed=0)
    assert drawn.shape == (200, 3, 6)
    assert np.array_equal(np.sort(drawn, axis=2), np.broadcast_to(np.sort(scales, axis=1), drawn.shape))
    assert {int(np.argmax(shuffle[0])) for shuffle in drawn} == set(range(6))
    assert np.array_equal(drawn, shuffled_within_layers(scales, 200, seed=0))
    assert not np.array_equal(drawn, shuffled_within_layers(scales, 200, seed=1))
    assert np.array_equal(scales[0], [1.5, 1, 1, 1, 1, 1])


def best_by_loops(scores: np.ndarray, gold: np.ndarray) -> float:
    levels = sorted(set(scores))
    candidates = [levels[0] - 1, levels[-1] + 1, *[(one + two) / 2 for one, two in pairwise(levels)]]
    return float(max(np.mean((scores > threshold) == gold) for threshold in candidates))


def test_the_fitted_bias_is_the_best_of_all_thresholds_and_reproduces_its_accuracy() -> None:
    for seed in range(30):
        random = np.random.default_rng(seed)
        gold = random.random(40) < 0.5
        scores = np.round(np.where(gold, 1.5, 0.5) + random.normal(size=40), 1)
        bias = fit_yes_no_bias(scores, gold)
        assert bias.accuracy == pytest.approx(best_by_loops(scores, gold))
        assert np.mean(bias.answers(scores) == gold) == pytest.approx(bias.accuracy)


@pytest.mark.parametrize(
    ("scores", "gold", "threshold"),
    [
        ([-1.0, 2.0], [False, True], 0.0),
        ([3.0, 5.0], [False, True], 4.0),
        ([3.0, 5.0], [True, True], 0.0),
        ([-3.0, -2.0], [False, False], 0.0),
        ([-3.0, -2.0], [True, True], -3.5),
        ([3.0, 4.0], [False, False], 4.5),
        ([1.0, 2.0, 3.0], [True, False, True], 0.0),
    ],
)
def test_of_equally_good_thresholds_the_one_nearest_to_no_bias_is_taken(scores: list[float], gold: list[bool], threshold: float) -> None:
    assert fit_yes_no_bias(scores, gold).threshold == threshold


def test_a_threshold_between_neighbouring_floats_keeps_its_accuracy() -> None:
    # The middle of these two rounds to the upper one.
    scores = np.array([1.0 + 2**-52, 1.0 + 2**-51])
    bias = fit_yes_no_bias(scores, [False, True])
    assert bias.accuracy == np.mean(bias.answers(scores) == [False, True]) == 1.0


def test_a_fitted_bias_is_evaluated_on_other_samples_with_a_clustered_error() -> None:
    bias = fit_yes_no_bias([3.0, 5.0], [False, True])
    estimate = bias.evaluate([3.9, 4.1] * 10, [False, False] * 10, np.arange(20) // 2)
    assert (estimate.mean, estimate.clusters) == (0.5, 10)
    assert estimate.standard_error == 0.0


def test_nan_raises_in_every_function() -> None:
    for call in (published_scales, scale_change, lambda values: shuffled_within_layers(values, 2, 0)):
        with pytest.raises(ValueError, match="NaN"):
            call([[np.nan]])
    with pytest.raises(ValueError, match="NaN"):
        scaled_by_rank([[np.nan]], [], [], 1.0)
    with pytest.raises(ValueError, match="NaN"):
        fit_yes_no_bias([np.nan], [True])
