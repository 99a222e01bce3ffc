from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from vseam_core.analysis.frames import frame_records
from vseam_core.analysis.heads import HEAD_COLUMNS, permute_gold, score_heads, split_half_reliability
from vseam_core.analysis.statistics import clustered_mean


def score(task: Any, **options: Any) -> Any:
    settings: dict[str, Any] = {"measure": "logit_diff", "seed": 0, "draws": 100, "splits": 20} | options
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
            assert row[f"low_{suffix}"] < row[f"mean_{suffix}"] < row[f"high_{suffix}"]
    assert (scores.n, scores.n_correct, scores.n_wrong) == (120, task.correct.sum(), (~task.correct).sum())
    assert scores.base_correct == pytest.approx(task.base[task.correct].mean())


def test_the_p_of_a_claim_is_the_larger_class_p_and_one_where_a_class_has_the_wrong_sign(make_task: Any) -> None:
    task = make_task(2, positive={(0, 1): 0.4}, images=80)
    for row in frame_records(score(task).frame):
        values = task.effects[:, row["layer"], row["head"]]
        p_values = []
        for gold in (task.gold_yes, ~task.gold_yes):
            rows = task.correct & gold
            estimate = clustered_mean(values[rows], task.clusters[rows])
            p = 2 * stats.t.sf(abs(estimate.mean / estimate.standard_error), estimate.clusters - 1)  # type: ignore[operator]
            p_values.append(p if estimate.mean > 0 else 1.0)  # type: ignore[operator]
        assert row["p_positive"] == pytest.approx(max(p_values))


def test_planted_heads_are_found_with_their_signs_and_noise_heads_are_not(make_task: Any) -> None:
    # 20 studies with the two planted heads each, and 10 noise heads that get 2 tests each.
    wrongly = 0
    for seed in range(20):
        scores = score(make_task(seed, images=200, positive={(0, 1): 0.6}, negative={(2, 3): 0.9}))
        signs = {(row["layer"], row["head"]): row["sign"] for row in frame_records(scores.frame)}
        assert signs.pop((0, 1)) == "positive"
        assert signs.pop((2, 3)) == "negative"
        wrongly += sum(sign != "none" for sign in signs.values())
    assert wrongly <= 2


def test_a_head_that_pushes_yes_whatever_the_picture_shows_is_never_claimed(make_task: Any) -> None:
    for seed in range(10):
        task = make_task(seed, images=300, pushes_yes={(1, 1): 2.0})
        row = frame_records(score(task).frame)[5]
        assert row["mean_correct_yes"] > 1.5 > -1.5 > row["mean_correct_no"]
        assert row["sign"] == "none"
        assert row["p_positive"] == row["p_negative"] == 1.0


def test_permuted_gold_labels_lead_to_a_claim_in_at_most_5_of_100_seeds(make_task: Any) -> None:
    # Effects with strong true heads, a yes-pushing head and unequal classes. Without permutation every study finds the heads (last
    # line), with it no more than 5 of 100 may. No binomial slack is needed: the intersection-union test with two-sided class
    # tests is conservative (its true rate lies far below 5 %), and so is Benjamini-Hochberg when all nulls are true.
    claims, rejected, tests, found = 0, 0, 0, 0
    for seed in range(100):
        task = make_task(seed, images=100, positive={(0, 1): 0.7}, negative={(2, 3): 1.2}, pushes_yes={(1, 0): 1.5})
        effects, gold = permute_gold(task.effects, task.gold_yes, seed=seed)
        scores = score_heads(effects, task.base, task.correct, gold, task.clusters, measure="logit_diff", seed=seed, draws=10, splits=4)
        claims += bool((scores.frame["sign"] != "none").any())
        p_values = scores.frame[["p_positive", "p_negative"]].to_numpy(dtype=float)
        rejected, tests = rejected + int((p_values < 0.05).sum()), tests + p_values.size
        found += score(task, draws=10, splits=4).frame["sign"].tolist()[1] == "positive"
    assert claims <= 5
    assert rejected / tests <= 0.05
    assert found >= 95


def test_permuting_gold_turns_effects_only_where_the_label_changes_and_keeps_the_number_of_yes() -> None:
    gold = np.random.default_rng(0).random(60) < 0.7
    effects = np.random.default_rng(1).normal(size=(60, 2, 2))
    permuted, labels = permute_gold(effects, gold, seed=3)
    assert labels.sum() == gold.sum()
    assert (labels != gold).any()
    assert np.array_equal(permuted, np.where((labels == gold)[:, None, None], effects, -effects))


def test_a_head_that_supports_whichever_answer_is_given_passes_both_claims_and_is_filed_under_the_stronger(make_task: Any) -> None:
    task = make_task(3, images=300, positive={(1, 2): 2.0}, negative={(1, 2): 0.8})
    row = frame_records(score(task).frame)[6]
    assert row["claim_positive"]
    assert row["claim_negative"]
    assert row["sign"] == "positive"


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
    assert scores.frame["mean_wrong"].notna().all()


def test_answers_of_one_gold_class_only_allow_no_claim(make_task: Any) -> None:
    task = make_task(6, positive={(0, 0): 3.0})
    task.gold_yes[:] = True
    scores = score(task)
    assert "too few images with correct answers with gold answer no (0 < 10)" in scores.reason_correct
    assert (scores.frame["sign"] == "none").all()
    assert scores.frame["mean_correct_no"].isna().all()


def test_open_questions_are_one_class(make_task: Any) -> None:
    task = make_task(7, positive={(0, 0): 1.0})
    scores = score_heads(task.effects, task.base, task.correct, None, task.clusters, measure="logit_diff", seed=0, draws=50, splits=10)
    assert scores.frame["sign"].iloc[0] == "positive"
    assert scores.frame["mean_correct_yes"].isna().all()


def test_a_map_of_noise_is_called_not_resolved_with_its_number_of_answers_and_reliability(make_task: Any) -> None:
    scores = score(make_task(8, images=40, wrong=0.0))
    assert not scores.resolved_correct
    assert scores.reliability_correct is not None
    assert scores.reason_correct == (
        f"correct answers not resolved at n = 80: split-half reliability {scores.reliability_correct:.2f} < 0.7"
    )
    assert not scores.frame["resolved"].any()


def test_a_strong_map_is_resolved_and_has_no_reason(make_task: Any) -> None:
    scores = score(make_task(9, images=300, positive={(0, 0): 1.5}, negative={(1, 1): 2.0}))
    assert scores.resolved_correct
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
    assert "published_prob is a published measure" in scores.reason_correct


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
    swapped = score_heads(task.effects[:, ::-1], *task.arguments()[1:], measure="logit_diff", seed=0, draws=100, splits=20)
    swapped_map = swapped.map("q_positive")
    assert swapped_map is not None
    assert swapped_map[::-1] == pytest.approx(straight.map("q_positive"))
    order = np.random.default_rng(0).permutation(len(task.base))
    shuffled = score_heads(*[part[order] for part in task.arguments()], measure="logit_diff", seed=0, draws=100, splits=20)
    for column in ("mean_correct", "low_correct", "p_positive", "reliability_correct", "negative"):
        assert shuffled.map(column) == pytest.approx(straight.map(column))


def test_the_seed_reproduces_the_whole_table_and_only_resampled_columns_depend_on_it(make_task: Any) -> None:
    task = make_task(14)
    one, again, other = (frame_records(score(task, seed=seed).frame) for seed in (0, 0, 1))
    assert one == again
    assert one[0]["low_correct"] != other[0]["low_correct"]
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
