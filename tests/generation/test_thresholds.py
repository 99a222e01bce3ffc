"""The yes/no threshold beside every method, against every threshold there is, tried one after another."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from vseam_core.evaluation.thresholds import thresholded


def answers(seed: int, n: int = 60, bias: float = 1.5, images: str = "a") -> pd.DataFrame:
    """Stored answers of a model that says yes too often; `logit_diff` is gold minus the other word."""
    random = np.random.default_rng(seed)
    gold = random.random(n) < 0.5
    scores = np.where(gold, 1.0, -1.0) + bias + random.normal(0, 1.2, n)
    return pd.DataFrame(
        {
            "identifier": [f"{images}{index}" for index in range(n)],
            "image_id": [f"{images}{index // 2}" for index in range(n)],
            "form": "yes_no",
            "answer": np.where(gold, "Yes", "no"),
            "predicted": np.where(scores > 0, "Yes.", "No"),
            "logit_diff": np.where(gold, scores, -scores),
            "score": ((scores > 0) == gold).astype(float),
            "correct": (scores > 0) == gold,
            "note": "",
        }
    )


def by_hand(frame: pd.DataFrame, threshold: float) -> np.ndarray:
    right = []
    for row in frame.itertuples():
        yes_minus_no = row.logit_diff if row.answer.lower() == "yes" else -row.logit_diff
        right.append((yes_minus_no > threshold) == (row.answer.lower() == "yes"))
    return np.array(right)


def test_no_threshold_does_better_on_the_pool_that_it_is_chosen_on() -> None:
    choose, test = answers(0), answers(1, images="b")
    found = thresholded(choose, test)
    assert found.bias is not None
    best = max(
        by_hand(choose, threshold).mean() for threshold in [*np.linspace(-3, 6, 31), *(score + 1e-6 for score in choose["logit_diff"])]
    )
    assert found.bias.accuracy == pytest.approx(best)
    assert found.bias.accuracy > choose["score"].mean()
    np.testing.assert_array_equal(found.answers["correct"], by_hand(test, found.bias.threshold))
    said_yes = (found.answers["predicted"] == "Yes").mean()
    assert said_yes < (test["predicted"] == "Yes.").mean()


def test_a_model_without_a_bias_gains_nothing_from_it() -> None:
    choose, test = answers(2, n=4000, bias=0.0), answers(3, n=4000, bias=0.0, images="b")
    assert thresholded(choose, test).answers["score"].mean() == pytest.approx(test["score"].mean(), abs=0.02)


def test_pools_that_share_an_image_are_refused() -> None:
    with pytest.raises(ValueError, match="not apart: a0"):
        thresholded(answers(0), answers(1))


def test_where_there_is_no_threshold_the_reason_is_said() -> None:
    choose, test = answers(0), answers(1, images="b")
    open_question = thresholded(choose, test.assign(form="open"))
    assert open_question.bias is None
    assert "pool test" in open_question.reason
    assert "b0" in open_question.reason
    unread = choose.assign(note="says nothing of its first token")
    unread.loc[3, "logit_diff"] = np.nan
    assert thresholded(unread, test).reason.startswith("pool choose: says nothing of its first token (such as a3)")
    assert thresholded(choose.iloc[:0], test).reason == "pool choose: no answers"
