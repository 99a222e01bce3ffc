from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vseam_core.analysis.confirmation import CONFIRMATION_COLUMNS, TestAnswers, confirm_heads, verdicts_of, without_shift
from vseam_core.analysis.frames import frame_records
from vseam_core.api.types import HeadId

GOLD = np.arange(200) % 2 == 0
OPERATIONS = ("zero", "dataset_mean")


def answers(logit_diff: np.ndarray) -> TestAnswers:
    return TestAnswers(logit_diff > 0, logit_diff)


def confirmed(base: np.ndarray, without: dict[str, list[np.ndarray]], n: int = 200) -> dict[HeadId, Any]:
    found = {(head, name): answers(values) for head, both in without.items() for name, values in zip(OPERATIONS, both, strict=True)}
    frame = confirm_heads(answers(base), found, GOLD[:n], np.arange(n), seed=0)
    assert list(frame.columns) == list(CONFIRMATION_COLUMNS)
    return verdicts_of(frame)


@pytest.fixture
def world() -> tuple[np.ndarray, np.ndarray]:
    """Log odds of the gold answer with a harmful noise head, and that head's part of them."""
    random = np.random.default_rng(0)
    noise = 2 * random.normal(size=200)
    return 1.5 + 0.7 * random.normal(size=200) + noise, noise


def test_a_head_without_which_more_answers_are_right_under_both_operations_is_confirmed(world: Any) -> None:
    base, noise = world
    assert confirmed(base, {"L1H2": [base - noise, base - noise]}) == {HeadId(1, 2): "confirmed"}


def test_a_gain_under_one_operation_only_confirms_nothing(world: Any) -> None:
    base, noise = world
    assert confirmed(base, {"L1H2": [base - noise, base]}) == {HeadId(1, 2): "not confirmed"}


def test_other_noise_in_the_place_of_the_head_confirms_nothing(world: Any) -> None:
    base, noise = world
    fresh = 2 * np.random.default_rng(1).normal(size=200)
    assert confirmed(base, {"L1H2": [base - noise + fresh] * 2}) == {HeadId(1, 2): "not confirmed"}


def test_undoing_a_bias_between_yes_and_no_is_no_harm_undone() -> None:
    """A head that pushes yes costs accuracy, and taking it out helps as much as moving the threshold would."""
    signal = 0.8 + 0.5 * np.random.default_rng(2).normal(size=200)
    push = np.where(GOLD, 1.5, -1.5)
    base = signal + push
    assert answers(signal).correct.mean() - answers(base).correct.mean() > 0.2
    assert confirmed(base, {"L0H0": [signal, signal]}) == {HeadId(0, 0): "not confirmed"}
    assert without_shift(base, signal, GOLD) == pytest.approx(base)


def test_without_candidates_of_any_effect_hardly_any_is_confirmed() -> None:
    """100 studies with 8 candidates each, whose removal changes answers at random."""
    wrongly = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        base = 0.8 + random.normal(size=200)
        without = {f"L0H{head}": [base + random.normal(size=200) * 0.5 for _ in OPERATIONS] for head in range(8)}
        wrongly += "confirmed" in confirmed(base, without).values()
    assert wrongly <= 5


def test_a_head_without_which_no_answer_changes_has_an_interval_and_no_error_of_zero(world: Any) -> None:
    base, _ = world
    (row,) = frame_records(confirm_heads(answers(base), {("L0H0", "zero"): answers(base)}, GOLD, np.arange(200), seed=0))
    most = 1 - 0.025 ** (1 / 200)
    assert (row["gain"], row["gain_error"], row["verdict"]) == (0.0, None, "not confirmed")
    assert (row["gain_low"], row["gain_high"]) == pytest.approx((-most, most))


def test_too_few_test_images_leave_a_candidate_what_it_is_and_say_so(world: Any) -> None:
    base, noise = world[0][:9], world[1][:9]
    found = {("L0H0", name): answers(base - noise) for name in OPERATIONS}
    frame = confirm_heads(answers(base), found, GOLD[:9], np.arange(9), seed=0)
    assert set(frame["verdict"]) == {"candidate"}
    assert set(frame["reason"]) == {"cannot be tested at this size: 9 test images, needs 10"}


def test_gains_have_errors_over_images_and_open_questions_no_shift(world: Any) -> None:
    base, noise = world
    frame = confirm_heads(answers(base), {("L0H0", "zero"): answers(base - noise)}, None, np.arange(200), seed=0)
    (row,) = frame_records(frame)
    assert row["gain"] == pytest.approx(row["accuracy"] - (base > 0).mean())
    assert row["gain_low"] < row["gain"] < row["gain_high"]
    assert row["gain_without_shift"] is None
    assert row["verdict"] == "confirmed"
