"""Heads planted in copies of the embedded LLaVA are found for what they are: a few with every run, the whole with the slow tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.heads.planted import (
    MODEL,
    Outputs,
    Sizes,
    claims,
    copy_head,
    outputs_of,
    planted,
    recorded_noise,
    strength_of_harm,
    write_into,
    yes_minus_no,
)
from vseam_core.analysis.heads import HeadScores
from vseam_core.api.types import HeadId, parse_head
from vseam_core.experiments.encoding import prepare
from vseam_core.runs.workspace import Workspace, open_workspace

COLOR, ANIMAL = "scenes/color", "scenes/animal"
# What the model answers about colours with: without them it loses 3 to 6 of its 6 nats, without any other head 1 at most.
CARRIERS = {"L1H2", "L4H5"}
# Heads whose own part is below 0.2 nats, and which can be given noise at the prompt's end that is not there at the answer's.
WEAK = ("L2H0", "L2H2", "L3H0", "L3H1", "L3H2", "L3H5", "L3H6", "L4H1", "L4H3", "L4H4", "L4H6", "L5H1")
# As many wrong answers as a study can have where a twentieth and more of the answers are wrong; half of a study's donors.
WHOLE = Sizes(plain=60, hard=220, sampled=60, wrong=50, confirm=200, donors=2, reference=48)
SMALL = Sizes(plain=24, hard=80, sampled=24, wrong=30, confirm=70, reference=24, operation="dataset_mean", positions="last")
LEADER, TWIN, PUSHES = HeadId(5, 3), HeadId(5, 5), HeadId(5, 7)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with open_workspace(tmp_path_factory.mktemp("planted") / "results.db", device="cpu") as opened:
        yield opened


def named(scores: HeadScores, column: str) -> set[str]:
    frame = scores.frame[scores.frame[column].astype(bool)]
    return {str(HeadId(int(layer), int(head))) for layer, head in zip(frame["layer"], frame["head"], strict=True)}


def verdicts(scores: HeadScores, verdict: Any) -> set[str]:
    return {str(head) for head in scores.with_verdict(verdict)}


def direction(workspace: Workspace, dataset: str) -> np.ndarray:
    sample = next(iter(workspace.benchmark(dataset).samples("test", "plain", 1, 0)))
    return yes_minus_no(workspace, prepare(workspace.model(MODEL), sample))


def noise_of(workspace: Workspace, outputs: Outputs, head: HeadId) -> np.ndarray:
    """A W_O with which a head writes noise between yes and no."""
    return np.outer(direction(workspace, COLOR), outputs.noise_direction(head))


def test_a_head_that_only_adds_noise_is_confirmed_negative_and_is_not_positive(workspace: Workspace, tmp_path: Path) -> None:
    model = planted(tmp_path / "noise", write_into(HeadId(3, 6), 45 * recorded_noise()))
    found = claims(workspace, model, COLOR, SMALL)
    assert "L3H6" not in named(found, "claim_positive") | named(found, "claim_suppressor")
    assert verdicts(found, "confirmed") == {"L3H6"}


def test_a_copy_that_takes_back_half_of_what_its_twin_writes_is_a_suppressor(workspace: Workspace, tmp_path: Path) -> None:
    model = planted(tmp_path / "pair", copy_head(LEADER, TWIN, kept=2.0, copied=-1.0))
    found = claims(
        workspace, model, ANIMAL, Sizes(plain=24, hard=0, sampled=24, wrong=0, confirm=0, reference=24, operation="dataset_mean")
    )
    assert named(found, "claim_suppressor") == {str(TWIN)}
    assert str(LEADER) in named(found, "claim_positive")
    assert not named(found, "claim_negative")


@pytest.mark.slow
def test_the_recorded_direction_of_noise_is_that_of_the_embedded_model(workspace: Workspace) -> None:
    found = noise_of(workspace, outputs_of(workspace, COLOR, 12), HeadId(3, 6))
    assert recorded_noise() == pytest.approx(found, abs=1e-3)


@pytest.mark.slow
def test_of_twelve_heads_of_noise_at_least_ten_are_confirmed_negative_none_is_positive_and_nothing_else_is(
    workspace: Workspace, tmp_path: Path
) -> None:
    """Each costs a tenth of the answers or more, measured on images of its own; what was measured stands in docs/statistics.md."""
    loaded, outputs = workspace.model(MODEL), outputs_of(workspace, COLOR, 30)
    others = list(workspace.benchmark(COLOR).samples("test", "hard", 320, 0))[WHOLE.confirm :]
    asked = [prepare(loaded, sample) for sample in others]
    counts = dict.fromkeys(("claimed", "confirmed", "other confirmed", "carriers"), 0)
    told = []
    for name in WEAK:
        head, matrix = parse_head(name), noise_of(workspace, outputs, parse_head(name))
        strength = strength_of_harm(workspace, head, matrix, asked, harm=0.12)
        assert strength is not None, f"{name} does no harm"
        model = planted(tmp_path / name, write_into(head, strength * matrix))
        found = claims(workspace, model, COLOR, WHOLE)
        counts["claimed"] += name in named(found, "claim_positive") | named(found, "claim_suppressor")
        counts["confirmed"] += name in verdicts(found, "confirmed")
        counts["other confirmed"] += len(verdicts(found, "confirmed") - {name})
        counts["carriers"] += len(named(found, "claim_positive") & CARRIERS)
        row = found.frame.set_index(["layer", "head"]).loc[head.layer, head.head]
        told.append(f"{name} × {strength:.0f}: {found.n_wrong} wrong, q = {row['q_negative']:.3g}, {row['verdict']} {found.reason_wrong}")
        workspace.release(model)
    every = "\n".join([str(counts), *told])
    assert counts["claimed"] == 0, every
    assert counts["other confirmed"] == 0, every
    assert counts["confirmed"] >= 0.8 * len(WEAK), every
    assert counts["carriers"] >= 0.7 * len(WEAK) * len(CARRIERS), every


@pytest.mark.slow
def test_a_strong_suppressor_is_tested_where_a_model_errs_towards_yes_only(workspace: Workspace, tmp_path: Path) -> None:
    """It takes back most of what answers "no" rest on, while another head pushes yes whatever the image shows."""
    outputs = outputs_of(workspace, ANIMAL, 20)
    push = 17 * np.outer(direction(workspace, ANIMAL), outputs.push_direction(PUSHES))
    model = planted(tmp_path / "errs", copy_head(LEADER, TWIN, kept=1.0, copied=-0.6), write_into(PUSHES, push))
    found = claims(workspace, model, ANIMAL, Sizes(hard=160, donors=2))
    assert "gold no only: tested there, beside a control for pushing one answer" in found.reason_wrong
    assert str(TWIN) in named(found, "claim_suppressor")
    assert verdicts(found, "confirmed") == {str(TWIN)}
    assert str(PUSHES) not in verdicts(found, "candidate") | verdicts(found, "not confirmed")
