"""The control for methods that change yes/no answers: a threshold on logit(yes) - logit(no), chosen on other images than it is tried on.

A method that only makes a model say yes more or less often does what a threshold does. Whether it does more is asked twice: is the method
better than the unchanged model with a threshold, and is the method with a threshold of its own better than that?
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from vseam_core.analysis.rescaling import YesNoBias, fit_yes_no_bias
from vseam_core.evaluation.accuracy import says_yes


@dataclass(frozen=True, eq=False)
class Thresholded:
    """Answers by a threshold: the fit, the judged answers on test (as `Store.answers` has them), or the `reason` why there are none."""

    bias: YesNoBias | None
    answers: pd.DataFrame
    reason: str = ""


def thresholded(choose: pd.DataFrame, test: pd.DataFrame) -> Thresholded:
    """The threshold with the best accuracy on `choose`, and the answers that it gives on `test`: one row per sample, as stored answers.

    Raises `ValueError` where the two share an image.
    """
    shared = set(choose["image_id"]) & set(test["image_id"])
    if shared:
        raise ValueError(f"the images that a threshold is chosen on and tried on are not apart: {sorted(shared)[0]} is among both")
    for name, part in (("choose", choose), ("test", test)):
        for reason in _against(part):
            return Thresholded(None, test.iloc[:0], f"pool {name}: {reason}")
    fitted_on, gold = _scores(choose)
    bias = fit_yes_no_bias(fitted_on, gold)
    scores, gold_test = _scores(test)
    said = bias.answers(scores)
    right = said == gold_test
    answers = test.assign(predicted=np.where(said, "Yes", "No"), correct=right, score=right.astype(float), first_token_correct=right)
    return Thresholded(bias, answers)


def _against(answers: pd.DataFrame) -> Iterator[str]:
    """Why no threshold can be set on these answers."""
    if answers.empty:
        yield "no answers"
        return
    other = answers[answers["form"] != "yes_no"]
    if len(other):
        yield f"a threshold has no meaning for questions such as {other['identifier'].iloc[0]}, which is not yes or no"
    unread = answers[answers["logit_diff"].isna()]
    if len(unread):
        yield f"{unread['note'].iloc[0] or 'no logits of yes and no'} (such as {unread['identifier'].iloc[0]})"


def _scores(answers: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """logit(yes) - logit(no) of each answer, and whether the gold answer is yes."""
    gold = says_yes(answers["answer"]).to_numpy(dtype=bool)
    return answers["logit_diff"].to_numpy(dtype=float) * np.where(gold, 1.0, -1.0), gold
