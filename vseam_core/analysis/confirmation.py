"""Whether candidates for negative heads hold on test images: does accuracy rise when such a head is taken out of the model?

Wrong answers of the score pool can only give candidates. An answer is wrong partly by noise, and whatever noise a head had there is gone
when it is replaced, so that any noisy head seems to have done harm. Here every question of the test pool counts, right or wrong, and
the head is replaced by what has no noise in it (its mean, or zero): a gain in accuracy is then a gain.

A head that only pushes one answer can raise accuracy too, by undoing a bias. Its effect is one and the same shift of yes against no
for all questions, so the gain is also measured with the head's mean shift put back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from vseam_core.analysis.frames import NUMBER, TEXT, WHOLE, frame_records, nullable_frame
from vseam_core.analysis.head_claims import SIGNIFICANCE
from vseam_core.analysis.heads import Verdict
from vseam_core.analysis.statistics import MINIMUM_CLUSTERS, accuracy_change, cluster_codes, cluster_sign_flip, finite
from vseam_core.api.types import HeadId, parse_head

CONFIRMATION_COLUMNS: dict[str, str] = {
    "stack": TEXT,
    **dict.fromkeys(("layer", "head"), WHOLE),
    "operation": TEXT,
    **dict.fromkeys(("n", "clusters"), WHOLE),
    **dict.fromkeys(
        ("accuracy", "gain", "gain_error", "gain_low", "gain_high", "p_value", "gain_without_shift", "p_without_shift"), NUMBER
    ),
    "verdict": TEXT,
    "reason": TEXT,
}


@dataclass(frozen=True, eq=False)
class TestAnswers:
    """Answers on test questions, `[n]` each: whether they are right, and the log odds of the gold answer against the other."""

    correct: np.ndarray
    logit_diff: np.ndarray

    __test__ = False
    """Not a test class, whatever pytest makes of the name."""


def confirm_heads(
    base: TestAnswers,
    without: Mapping[tuple[str, str], TestAnswers],
    gold_yes: ArrayLike | None,
    clusters: ArrayLike,
    *,
    seed: int,
) -> pd.DataFrame:
    """Gains in accuracy without each candidate, and a verdict; one row per head and operation, columns `CONFIRMATION_COLUMNS`.

    `without` holds the answers by (head, operation). A head is confirmed where under *every* operation accuracy rises, and rises with
    the mean shift between yes and no put back (`gold_yes` None: open questions have none), each by a one-sided sign-flip test over
    images; the largest p of a head is held against 0.05 with Holm's correction over the candidates. Below `MINIMUM_CLUSTERS` images
    the verdict stays `candidate`, with the reason.
    """
    codes, images = cluster_codes(clusters, len(base.correct))
    rows = [_row(base, answers, name=name, gold_yes=gold_yes, codes=codes, seed=seed) for name, answers in without.items()]
    largest: dict[tuple[int, int], float] = {}
    for row in rows:
        place = (row["layer"], row["head"])
        largest[place] = max(largest.get(place, 0.0), row["p_value"], row["p_without_shift"] or 0.0)
    passing = _holm(largest)
    for row in rows:
        verdict: Verdict = "confirmed" if (row["layer"], row["head"]) in passing else "not confirmed"
        if images < MINIMUM_CLUSTERS:
            verdict, row["reason"] = "candidate", f"cannot be tested at this size: {images} test images, needs {MINIMUM_CLUSTERS}"
        row["verdict"] = verdict
    return nullable_frame(rows, CONFIRMATION_COLUMNS)


def verdicts_of(confirmation: pd.DataFrame) -> dict[HeadId, Verdict]:
    """The verdict on each head of a confirmation."""
    return {HeadId(row["layer"], row["head"], row["stack"]): row["verdict"] for row in frame_records(confirmation)}


def without_shift(base: ArrayLike, ablated: ArrayLike, gold_yes: ArrayLike) -> np.ndarray:
    """The ablated log odds of the gold answer `[n]`, with the ablation's mean shift of yes against no taken out again."""
    turn = np.where(np.asarray(gold_yes, dtype=bool), 1.0, -1.0)
    before, after = finite("base", base) * turn, finite("ablated", ablated) * turn
    shift = after - before
    # Weighs gold yes and gold no alike, so that a real gain on an unbalanced set is not mistaken for a shift.
    common = np.mean([shift[turn == side].mean() for side in (1.0, -1.0) if (turn == side).any()])
    unshifted: np.ndarray = (after - common) * turn
    return unshifted


def _row(
    base: TestAnswers, answers: TestAnswers, name: tuple[str, str], gold_yes: ArrayLike | None, codes: np.ndarray, seed: int
) -> dict[str, Any]:
    head = parse_head(name[0])
    gains = answers.correct.astype(float) - base.correct.astype(float)
    estimate = accuracy_change(base.correct, answers.correct, codes)
    row: dict[str, Any] = {"stack": head.stack, "layer": head.layer, "head": head.head, "operation": name[1], "reason": ""}
    row |= {"n": estimate.n, "clusters": estimate.clusters, "accuracy": float(answers.correct.mean()), "gain": estimate.mean}
    row |= {"gain_error": estimate.standard_error, "gain_low": estimate.low, "gain_high": estimate.high}
    row |= {"p_value": _rises(gains, codes, seed), "p_without_shift": None}
    if gold_yes is not None:
        adjusted = without_shift(base.logit_diff, answers.logit_diff, gold_yes) > 0
        gains = adjusted.astype(float) - (base.logit_diff > 0)
        row |= {"gain_without_shift": float(gains.mean()), "p_without_shift": _rises(gains, codes, seed)}
    return row


def _rises(gains: np.ndarray, codes: np.ndarray, seed: int) -> float:
    """The one-sided p of the sign-flip test: half of the two-sided one, whose null is symmetric."""
    test = cluster_sign_flip(gains, codes, seed=seed)
    return test.p_value / 2 if test.mean > 0 else 1.0


def _holm(p_values: Mapping[tuple[int, int], float]) -> set[tuple[int, int]]:
    """The heads that pass at `SIGNIFICANCE` by Holm's step-down correction."""
    ordered: Sequence[tuple[int, int]] = sorted(p_values, key=lambda place: p_values[place])
    passing: set[tuple[int, int]] = set()
    for rank, place in enumerate(ordered):
        if p_values[place] > SIGNIFICANCE / (len(ordered) - rank):
            break
        passing.add(place)
    return passing
