"""Candidates for negative heads, tried on test images of the embedded model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from vseam_core.analysis.frames import frame_records
from vseam_core.analysis.heads import HeadScores, score_heads
from vseam_core.experiments.heads.confirming import OPERATIONS, ConfirmationOptions, confirm_candidates
from vseam_core.runs.workspace import open_workspace

OPTIONS = ConfirmationOptions("hard", samples=24, reference_size=16)


def with_candidates(*places: tuple[int, int]) -> HeadScores:
    """Scores of noise in which these heads are candidates."""
    effects = np.random.default_rng(0).normal(size=(40, 6, 8))
    scores = score_heads(effects, np.ones(40), np.arange(40) % 2, np.arange(40) // 2 % 2, np.arange(40), measure="logit_diff", seed=0)
    chosen = [place in places for place in zip(scores.frame["layer"], scores.frame["head"], strict=True)]
    return replace(scores, frame=scores.frame.assign(verdict=np.where(chosen, "candidate", "none")))


def test_heads_that_carry_the_answer_are_tried_stored_and_not_confirmed(tmp_path: Path) -> None:
    with open_workspace(tmp_path / "results.db") as workspace:
        scores = with_candidates((1, 2), (4, 5))
        found = confirm_candidates(workspace, "llava-tiny", "scenes/color", OPTIONS, scores)
        assert {str(head) for head in found.scores.with_verdict("not confirmed")} == {"L1H2", "L4H5"}
        assert found.scores.reason_wrong == "2 candidates, none confirmed on test images"
        stored = [row for outcome in found.outcomes for row in frame_records(workspace.store.scores("head_confirmations", outcome.run))]
        assert sorted((row["head"], row["operation"]) for row in stored) == sorted((h, name) for h in (2, 5) for name in OPERATIONS)
        assert all(row["n"] == 24 and row["gain"] <= 0 for row in stored)
        again = confirm_candidates(workspace, "llava-tiny", "scenes/color", OPTIONS, scores)
        assert sum(outcome.made for outcome in again.outcomes) == 0
        assert again.figures.equals(found.figures)


def test_without_candidates_nothing_is_run(tmp_path: Path) -> None:
    with open_workspace(tmp_path / "results.db") as workspace:
        found = confirm_candidates(workspace, "llava-tiny", "scenes/color", OPTIONS, with_candidates())
        assert found.outcomes == ()
