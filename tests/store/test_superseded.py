"""Units that a later call superseded: kept, never shown, and current again without being recomputed when they are asked for again."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from vseam_core.api.types import Skip
from vseam_core.runs.progress import SilentProgress
from vseam_core.runs.runner import Outcome, Unit, run_units
from vseam_core.runs.spec import Answer, UnitResult
from vseam_core.store import Store

from .builders import ablation, baseline, head_effect, modulation, pair, run_spec, sample, trace_effect


class Counting:
    """Computes one answer and one baseline per unit, right where the unit's payload says so, and counts its calls."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def __call__(self, units: Sequence[Unit]) -> list[UnitResult]:
        self.made += [unit.key for unit in units]
        return [_result(unit) for unit in units]


def _result(unit: Unit) -> UnitResult:
    one = sample(int(unit.identifier))
    return UnitResult(
        unit.key,
        unit.identifier,
        baselines=(baseline(one, correct=unit.payload),),
        answers=(Answer(one, "Yes", float(unit.payload), unit.payload),),
    )


def call(store: Store, run: int, units: Sequence[Unit], compute: Counting) -> Outcome:
    return run_units(store, run, units, compute, SilentProgress(), "test")


def units(version: str, right: bool) -> list[Unit]:
    return [Unit(f"{version}-{number}", str(number), right) for number in range(4)]


def test_an_image_replaced_under_its_name_shows_each_question_once_and_as_it_is_now(store: Store) -> None:
    run, compute = store.ensure_run(run_spec()), Counting()
    before = units("before", True)
    call(store, run, before, compute)
    after = [*before[:3], Unit("after-3", "3", False)]
    call(store, run, after, compute)
    for frame in (store.answers(run), store.baselines(run)):
        assert frame["key"].tolist() == ["before-0", "before-1", "before-2", "after-3"]
    assert store.answers(run)["correct"].tolist() == [True, True, True, False]
    assert store.baselines(run)["correct_strict"].tolist() == [True, True, True, False]
    assert store.info()["counts"]["answers"] == 5
    assert store.runs()[["units_done", "units_superseded"]].values.tolist() == [[4, 1]]


def test_an_image_changed_back_makes_the_old_units_current_again_without_recomputation(store: Store) -> None:
    run, compute = store.ensure_run(run_spec()), Counting()
    before, after = units("before", True), units("after", False)
    for called in (before, after):
        call(store, run, called, compute)
    made = list(compute.made)
    outcome = call(store, run, before, compute)
    assert compute.made == made
    assert (outcome.made, outcome.reused) == (0, 4)
    assert store.answers(run)["key"].tolist() == [unit.key for unit in before]


def test_a_smaller_call_supersedes_nothing_that_it_is_not_about(store: Store) -> None:
    run, compute = store.ensure_run(run_spec()), Counting()
    call(store, run, units("all", True), compute)
    call(store, run, units("all", True)[:2], compute)
    assert len(store.answers(run)) == 4


def test_a_sample_that_can_no_longer_be_read_takes_its_old_answer_with_it(store: Store) -> None:
    run, compute = store.ensure_run(run_spec()), Counting()
    call(store, run, units("good", True), compute)
    outcome = call(store, run, [Unit("gone-1", "1", None, "the image is gone")], compute)
    assert outcome.skips == [Skip("1", "the image is gone")]
    assert store.answers(run)["key"].tolist() == ["good-0", "good-2", "good-3"]
    call(store, run, units("good", True), compute)
    assert store.skips(run).empty


def test_units_that_share_a_subject_are_replaced_as_a_whole(store: Store) -> None:
    run = store.ensure_run(run_spec(method="ablation"))

    def conditions(unit_list: Sequence[Unit]) -> list[UnitResult]:
        return [
            UnitResult(unit.key, unit.identifier, ablations=(ablation(trial=unit.payload),), modulations=(modulation(),))
            for unit in unit_list
        ]

    first = [Unit(f"first-{number}", f"sets {number}", number, subject="conditions") for number in range(3)]
    second = [Unit("second-0", "sets 0", 0, subject="conditions")]
    for called in (first, second):
        run_units(store, run, called, conditions, SilentProgress(), "test")
    assert store.ablations(run)["key"].tolist() == ["second-0"]
    assert store.modulations(run)["key"].tolist() == ["second-0"]
    run_units(store, run, first, conditions, SilentProgress(), "test")
    assert store.ablations(run)["trial"].tolist() == [0, 1, 2]


def test_superseded_effects_and_the_flags_of_superseded_answers_are_not_read(store: Store) -> None:
    run, one, both = store.ensure_run(run_spec()), sample(0), pair(0)

    def result(key: str, right: bool, value: float) -> UnitResult:
        answered = (baseline(one, correct=right), baseline(both.clean, correct=right, role="clean"))
        effects = ((one, head_effect(value)),)
        return UnitResult(key, "0", pairs=(both,), baselines=answered, head_effects=effects, trace_effects=((both, trace_effect(value)),))

    store.save(run, [result("old", True, 1.0)])
    store.make_current(run, {"new": "0"})
    store.save(run, [result("new", False, 2.0)])
    effects = store.head_effects(run)
    assert effects.values[:, 0, 0].tolist() == [2.0]
    assert effects.samples["correct_strict"].tolist() == [False]
    records = store.trace_effects(run)
    assert [(record.key, record.clean_correct) for record in records] == [("new", False)]


def test_a_call_that_is_interrupted_never_shows_two_answers_to_a_question(store: Store) -> None:
    run, compute = store.ensure_run(run_spec()), Counting()
    call(store, run, units("before", True), compute)

    class Interrupted(Counting):
        def __call__(self, units: Sequence[Unit]) -> list[UnitResult]:
            if self.made:
                raise KeyboardInterrupt
            return super().__call__(units)

    with pytest.raises(KeyboardInterrupt):
        call(store, run, units("after", False), Interrupted())
    assert store.answers(run)["key"].tolist() == ["after-0"]
