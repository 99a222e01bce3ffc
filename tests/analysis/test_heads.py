from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vseam_core.analysis.frames import frame_records
from vseam_core.analysis.head_claims import smallest_effect, split_half_reliability
from vseam_core.analysis.heads import HEAD_COLUMNS, score_heads, with_verdicts
from vseam_core.analysis.multiple_testing import both_hold_q_values, positive_mean_p_values
from vseam_core.analysis.statistics import clustered_mean, clustered_moments
from vseam_core.api.types import HeadId


def score(task: Any, **options: Any) -> Any:
    settings: dict[str, Any] = {"measure": "logit_diff", "seed": 0, "splits": 20} | options
    return score_heads(*task.arguments(), **settings)


def test_published_scores_equal_the_published_formulas_written_as_loops(make_task: Any) -> None:
    task = make_task(0, images=30)
    rows = frame_records(score(task).frame)
    assert [(row["layer"], row["head"]) for row in rows] == [(layer, head) for layer in range(3) for head in range(4)]
    for row in rows:
        positive: list[float] = []
        negative: list[float] = []
        every: list[float] = []
        for sample in range(len(task.base)):
            base = task.base[sample]
            masked = base - task.effects[sample, row["layer"], row["head"]]
            (positive if task.correct[sample] else negative).append(
                max(0, base - masked) if task.correct[sample] else max(0, masked - base)
            )
            every.append(base - masked)
        assert row["positive"] == pytest.approx(sum(positive) / len(positive))
        assert row["negative"] == pytest.approx(sum(negative) / len(negative))
        assert row["signed"] == pytest.approx(sum(every) / len(every))


def test_claims_columns_equal_means_and_errors_computed_one_head_at_a_time(make_task: Any) -> None:
    task = make_task(1, images=60)
    scores = score(task)
    for row in frame_records(scores.frame):
        values = task.effects[:, row["layer"], row["head"]]
        for suffix, mask in (("correct", task.correct), ("wrong", ~task.correct)):
            estimate = clustered_mean(values[mask], task.clusters[mask])
            assert row[f"mean_{suffix}"] == pytest.approx(estimate.mean)
            assert row[f"se_{suffix}"] == pytest.approx(estimate.standard_error)
            assert row[f"mean_{suffix}_yes"] == pytest.approx(values[mask & task.gold_yes].mean())
            assert row[f"mean_{suffix}_no"] == pytest.approx(values[mask & ~task.gold_yes].mean())
            assert (row[f"low_{suffix}"], row[f"high_{suffix}"]) == pytest.approx((estimate.low, estimate.high))
        assert row["support_yes"] == pytest.approx(values[task.gold_yes].mean())
        assert row["support_no"] == pytest.approx(values[~task.gold_yes].mean())
        assert row["support"] == pytest.approx((row["support_yes"] + row["support_no"]) / 2)
        assert row["low_support"] < row["support"] < row["high_support"]
    assert (scores.n, scores.n_correct, scores.n_wrong) == (120, task.correct.sum(), (~task.correct).sum())
    assert scores.base_correct == pytest.approx(task.base[task.correct].mean())


def test_the_claims_rest_on_the_larger_class_p_and_are_corrected_over_heads_that_pass_one_class(make_task: Any) -> None:
    task = make_task(2, positive={(0, 1): 0.4}, negative={(1, 1): 1.0}, images=80)
    scores = score(task)
    for name, rows, turn in (("positive", np.ones(160, bool), 1), ("suppressor", np.ones(160, bool), -1), ("negative", ~task.correct, -1)):
        classes = [
            positive_mean_p_values(clustered_moments(turn * task.effects[rows & gold], task.clusters[rows & gold]))
            for gold in (task.gold_yes, ~task.gold_yes)
        ]
        assert scores.map(f"p_{name}") == pytest.approx(np.maximum(*classes))
        assert scores.map(f"q_{name}") == pytest.approx(both_hold_q_values(classes))


def test_planted_heads_are_found_for_what_they_are_and_noise_heads_are_not(make_task: Any) -> None:
    # 20 studies with three planted heads each, and 9 noise heads that get 3 tests each.
    wrongly = 0
    for seed in range(20):
        scores = score(make_task(seed, images=200, positive={(0, 1): 0.6, (1, 2): -0.6}, negative={(2, 3): 0.9}))
        rows = {(row["layer"], row["head"]): row for row in frame_records(scores.frame)}
        assert rows.pop((0, 1))["sign"] == "positive"
        assert rows.pop((1, 2))["claim_suppressor"]
        assert rows.pop((2, 3))["verdict"] == "candidate"
        wrongly += sum(row["claim_positive"] or row["claim_suppressor"] or row["verdict"] == "candidate" for row in rows.values())
    assert wrongly <= 3


def test_a_head_that_only_adds_noise_is_a_candidate_for_negative_and_never_positive() -> None:
    # The head's own draw decides which answers are right, and a fresh draw stands in for it.
    positive, on_correct, candidates = 0, 0, 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        own, fresh = random.normal(size=(2, 200))
        base = 1.0 + 1.5 * own + 0.5 * random.normal(size=200)
        effects = 0.1 * random.normal(size=(200, 2, 4))
        effects[:, 1, 2] = 1.5 * (own - fresh)
        sampled = np.arange(200) < 60
        kept = sampled | (base < 0)
        gold = np.arange(200) % 2 == 0
        arguments = (effects[kept], base[kept], base[kept] > 0, gold[kept], np.arange(kept.sum()))
        row = frame_records(score_heads(*arguments, sampled=sampled[kept], measure="logit_diff", seed=0, splits=5).frame)[6]
        positive += row["claim_positive"] or row["claim_suppressor"]
        on_correct += row["low_correct"] > 0
        candidates += row["verdict"] == "candidate"
    assert positive <= 2
    assert on_correct >= 20, "on right answers alone it looks like a head that helps"
    assert candidates >= 30


def test_a_head_that_pushes_yes_whatever_the_image_shows_is_never_claimed(make_task: Any) -> None:
    for seed in range(10):
        task = make_task(seed, images=300, pushes_yes={(1, 1): 2.0})
        row = frame_records(score(task).frame)[5]
        assert row["support_yes"] > 1.5 > -1.5 > row["support_no"]
        assert not row["claim_positive"]
        assert not row["claim_suppressor"]
        assert row["verdict"] == "none"
        assert row["p_positive"] == row["p_negative"] == 1.0


@pytest.mark.parametrize("null", ["normal", "skewed to the left", "skewed to the right", "mostly zero", "mostly zero, skewed to the left"])
def test_maps_without_effects_hold_a_positive_head_in_at_most_5_of_100_cases(null: str) -> None:
    # 20 questions, 48 heads, as many as a small model has; perf/statistics does the same with more maps.
    wrongly = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        effects = random.normal(size=(20, 6, 8))
        if "skewed" in null:
            effects = (np.exp(effects) - np.exp(0.5)) * (-1 if "left" in null else 1)
        if "zero" in null:
            effects *= random.random((20, 6, 8)) < 0.3
        scored = score_heads(effects, np.ones(20), np.ones(20), np.arange(20) % 2, np.arange(20), measure="logit_diff", seed=0, splits=2)
        wrongly += bool(scored.frame["claim_positive"].any())
    assert wrongly <= 5


def test_an_effect_of_1_2_standard_deviations_is_found_on_20_questions_in_60_of_100_cases() -> None:
    found = 0
    for seed in range(100):
        effects = np.random.default_rng(seed).normal(size=(20, 6, 8))
        effects[:, 3, 3] += 1.2
        scored = score_heads(effects, np.ones(20), np.ones(20), np.arange(20) % 2, np.arange(20), measure="logit_diff", seed=0, splits=2)
        found += bool(scored.frame["claim_positive"].iloc[27])
    assert found >= 60


def test_where_nothing_passes_the_reason_says_what_would_have_been_found(make_task: Any) -> None:
    scores = score(make_task(8, images=40, wrong=0.0))
    images = [len(np.unique(scores_images)) for scores_images in yes_no_images(make_task(8, images=40, wrong=0.0))]
    effect = smallest_effect((images[0], images[1]), 12)
    assert effect is not None
    assert f"{images[0]} + {images[1]} images find an effect of {effect:.2f} SD in 80 % of cases" in scores.reason_support
    assert smallest_effect((40, 40), 48) < smallest_effect((10, 10), 48)  # type: ignore[operator]
    assert smallest_effect((10, 9), 48) is None


def yes_no_images(task: Any) -> list[np.ndarray]:
    return [task.clusters[task.gold_yes], task.clusters[~task.gold_yes]]


def test_one_class_of_wrong_answers_is_tested_beside_a_control_for_pushing_one_answer(make_task: Any) -> None:
    # Errs towards yes only: a head that hurts there is a candidate, one that pushes yes everywhere is not.
    task = make_task(6, images=200, wrong=0.3, negative={(0, 0): 1.5}, pushes_yes={(1, 1): 1.5})
    task.correct[task.gold_yes] = True
    scores = score(task)
    verdicts = {(row["layer"], row["head"]): row["verdict"] for row in frame_records(scores.frame)}
    assert [place for place, verdict in verdicts.items() if verdict == "candidate"] == [(0, 0)]
    assert "gold no only: tested there, beside a control for pushing one answer" in scores.reason_wrong


def test_verdicts_from_test_images_decide_which_heads_are_negative(make_task: Any) -> None:
    scores = score(make_task(1, images=300, negative={(0, 0): 2.0, (1, 1): 2.0}))
    assert set(scores.with_verdict("candidate")) == {HeadId(0, 0), HeadId(1, 1)}
    assert not (scores.frame["sign"] == "negative").any()
    judged = with_verdicts(scores, {HeadId(0, 0): "confirmed", HeadId(1, 1): "not confirmed"})
    rows = {(row["layer"], row["head"]): row for row in frame_records(judged.frame)}
    assert (rows[0, 0]["sign"], rows[0, 0]["claim_negative"], rows[0, 0]["verdict"]) == ("negative", True, "confirmed")
    assert (rows[1, 1]["sign"], rows[1, 1]["claim_negative"], rows[1, 1]["verdict"]) == ("none", False, "not confirmed")
    neither = with_verdicts(scores, dict.fromkeys((HeadId(0, 0), HeadId(1, 1)), "not confirmed"))  # type: ignore[arg-type]
    assert neither.reason_wrong == "2 candidates, none confirmed on test images"


def test_reliability_is_shown_without_the_strongest_head_too(make_task: Any) -> None:
    row = frame_records(score(make_task(9, images=100, wrong=0.0, shape=(6, 8), positive={(0, 0): 3.0})).frame)[0]
    assert row["reliability_support"] > 0.9
    assert row["reliability_support_rest"] < 0.5


def test_without_wrong_answers_their_columns_are_null_and_never_zero(make_task: Any) -> None:
    scores = score(make_task(4, wrong=0.0, positive={(0, 0): 2.0}))
    for row in frame_records(scores.frame):
        empty = ("negative", "mean_wrong", "se_wrong", "low_wrong", "high_wrong", "mean_wrong_yes", "mean_wrong_no", "p_negative")
        assert [row[name] for name in (*empty, "q_negative", "reliability_wrong")] == [None] * 10
        assert row["reason"].endswith("too few wrong answers (0 < 10)")
    assert frame_records(scores.frame)[0]["sign"] == "positive"
    assert not scores.frame.isin([float("nan")]).any().any()


def test_seven_wrong_answers_are_too_few_for_any_claim(make_task: Any) -> None:
    task = make_task(5, wrong=0.0)
    task.correct[:7] = False
    scores = score(task)
    assert scores.reason_wrong == "too few wrong answers (7 < 10)"
    assert scores.frame["p_negative"].isna().all()
    assert (scores.frame["verdict"] == "untested").all()
    assert scores.frame["mean_wrong"].notna().all()


def test_answers_of_one_gold_class_only_allow_no_claim(make_task: Any) -> None:
    task = make_task(6, positive={(0, 0): 3.0})
    task.gold_yes[:] = True
    scores = score(task)
    assert "cannot be tested at this size: needs 10 images of each, has 120 with gold yes and 0 with gold no" in scores.reason_support
    assert (scores.frame["sign"] == "none").all()
    assert scores.frame["support_no"].isna().all()


def test_open_questions_are_one_class(make_task: Any) -> None:
    task = make_task(7, positive={(0, 0): 1.0})
    scores = score_heads(task.effects, task.base, task.correct, None, task.clusters, measure="logit_diff", seed=0, splits=10)
    assert scores.frame["sign"].iloc[0] == "positive"
    assert scores.frame["support_yes"].isna().all()


def test_a_map_of_noise_is_called_not_resolved_with_its_number_of_answers_and_reliability(make_task: Any) -> None:
    scores = score(make_task(8, images=40, wrong=0.0))
    assert not scores.resolved_support
    assert scores.reliability_support is not None
    assert f"answers not resolved at n = 80: split-half reliability {scores.reliability_support:.2f} < 0.7" in scores.reason_support
    assert not scores.frame["resolved"].any()


def test_a_strong_map_is_resolved_and_has_no_reason(make_task: Any) -> None:
    scores = score(make_task(9, images=300, positive={(0, 0): 1.5}, negative={(1, 1): 2.0}))
    assert scores.resolved_support
    assert scores.resolved_wrong
    assert (scores.frame["reason"] == "").all()


def test_reliability_predicts_how_well_the_map_correlates_with_that_of_as_many_new_images(make_task: Any) -> None:
    truth = np.random.default_rng(0).normal(scale=0.15, size=(6, 8))
    reliabilities, correlations = [], []
    for seed in range(30):
        noise = np.random.default_rng(seed + 1).normal(size=(2, 60, 6, 8))
        reliability = split_half_reliability(truth + noise[0], np.arange(60), seed=seed, splits=40)
        assert reliability is not None
        reliabilities.append(reliability)
        correlations.append(np.corrcoef((truth + noise[0]).mean(axis=0).ravel(), (truth + noise[1]).mean(axis=0).ravel())[0, 1])
    # The spread of a mean over 30 repetitions is about 0.02 on both sides.
    assert np.mean(reliabilities) == pytest.approx(np.mean(correlations), abs=0.07)


def test_reliability_needs_ten_images_and_a_map_with_spread() -> None:
    effects = np.random.default_rng(0).normal(size=(30, 2, 3))
    assert split_half_reliability(effects, np.arange(30) % 9, seed=0) is None
    assert split_half_reliability(np.ones((30, 2, 3)), np.arange(30), seed=0) is None


def test_no_significance_is_claimed_on_published_measures(make_task: Any) -> None:
    scores = score(make_task(10, positive={(0, 0): 3.0}), measure="published_prob")
    assert scores.frame[["p_positive", "q_positive", "p_negative", "q_negative"]].isna().all().all()
    assert (scores.frame["sign"] == "none").all()
    assert "published_prob is a published measure" in scores.reason_support


def test_effects_below_three_times_the_noise_floor_pass_no_claim(make_task: Any) -> None:
    task = make_task(11, images=200, positive={(0, 0): 0.6})
    clear, drowned = score(task, noise_floor=0.1), score(task, noise_floor=0.25)
    assert clear.frame["sign"].iloc[0] == "positive"
    assert not clear.frame["below_noise_floor"].iloc[0]
    assert drowned.frame["sign"].iloc[0] == "none"
    assert drowned.frame["below_noise_floor"].iloc[0]


def test_a_head_without_any_effect_has_p_one_and_no_sign(make_task: Any) -> None:
    task = make_task(12)
    task.effects[:, 1, 1] = 0.0
    row = frame_records(score(task).frame)[5]
    assert (row["signed"], row["p_positive"], row["p_negative"], row["sign"]) == (0.0, 1.0, 1.0, "none")


def test_permuting_heads_permutes_scores_and_reordering_samples_changes_nothing(make_task: Any) -> None:
    task = make_task(13, positive={(0, 1): 0.6})
    straight = score(task)
    swapped = score_heads(task.effects[:, ::-1], *task.arguments()[1:], measure="logit_diff", seed=0, splits=20)
    swapped_map = swapped.map("q_positive")
    assert swapped_map is not None
    assert swapped_map[::-1] == pytest.approx(straight.map("q_positive"))
    order = np.random.default_rng(0).permutation(len(task.base))
    shuffled = score_heads(*[part[order] for part in task.arguments()], measure="logit_diff", seed=0, splits=20)
    for column in ("support", "low_support", "p_positive", "reliability_support", "negative"):
        assert shuffled.map(column) == pytest.approx(straight.map(column))


def test_the_seed_reproduces_the_whole_table_and_only_resampled_columns_depend_on_it(make_task: Any) -> None:
    task = make_task(14)
    one, again, other = (frame_records(score(task, seed=seed).frame) for seed in (0, 0, 1))
    assert one == again
    assert one[0]["reliability_support"] != other[0]["reliability_support"]
    assert [row["p_positive"] for row in one] == [row["p_positive"] for row in other]


def test_the_table_has_the_stated_columns_and_names_its_stack(make_task: Any) -> None:
    scores = score(make_task(15, images=20), stack="encoder")
    assert list(scores.frame.columns) == list(HEAD_COLUMNS)
    assert set(scores.frame["stack"]) == {"encoder"}


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_nan_raises_wherever_it_stands(make_task: Any, place: int) -> None:
    effects, base, correct, gold = (np.array(part, dtype=float) for part in make_task(16, images=20).arguments()[:4])
    (effects, base, correct, gold)[place].flat[3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        score_heads(effects, base, correct, gold, np.arange(40), measure="logit_diff", seed=0)


def test_arrays_of_different_lengths_raise(make_task: Any) -> None:
    task = make_task(17, images=20)
    with pytest.raises(ValueError, match="one entry for each of 40"):
        score_heads(task.effects, task.base[:-1], *task.arguments()[2:], measure="logit_diff", seed=0)
    with pytest.raises(ValueError, match="layers, heads"):
        score_heads(task.effects[0], *task.arguments()[1:], measure="logit_diff", seed=0)
