"""Reading back: the same numbers in a fixed order, with what is known about their samples."""

from __future__ import annotations

import numpy as np
import pytest

from vseam_core.errors import StoreError
from vseam_core.runs.spec import UnitResult
from vseam_core.store import Store

from .builders import (
    ablation,
    baseline,
    head_effect,
    head_unit,
    model_info,
    modulation,
    pair,
    run_spec,
    sample,
    trace_effect,
    trace_unit,
)


def test_head_effects_come_back_bit_for_bit_in_an_order_of_their_own(store: Store) -> None:
    run = store.ensure_run(run_spec())
    random = np.random.default_rng(0)
    arrays = [random.standard_normal((2, 3)).astype(np.float32) for _ in range(3)]
    for number in (2, 0, 1):
        effect = head_effect(values=arrays[number], base=float(number))
        store.save(run, [head_unit(number, head_effects=((sample(number), effect),))])
    effects = store.head_effects(run, "resample", "logit_diff")
    assert np.array_equal(effects.values, np.stack(arrays))
    assert effects.values.dtype == np.float32
    assert effects.base.tolist() == [0.0, 1.0, 2.0]
    assert effects.samples["image_id"].tolist() == ["scene-0", "scene-1", "scene-2"]
    assert effects.samples["key"].tolist() == ["key-0", "key-1", "key-2"]
    assert len(effects) == 3


def test_head_effects_are_narrowed_by_operation_measure_and_unit(store: Store) -> None:
    run = store.ensure_run(run_spec())
    zero = head_effect(9.0, operation="zero")
    store.save(run, [head_unit(0), head_unit(1, head_effects=((sample(1), zero),))])
    assert len(store.head_effects(run)) == 3
    assert store.head_effects(run, operation="zero").values[0, 0, 0] == 9.0
    assert store.head_effects(run, measure="published_prob").samples["identifier"].tolist() == ["scenes/color/score/plain/0"]
    assert set(store.head_effects(run, keys=["key-0", "key-0", "nothing"]).samples["measure"]) == {"logit_diff", "published_prob"}
    assert len(store.head_effects(run, operation="patch")) == 0


def test_more_units_than_a_database_takes_parameters_can_be_asked_for(store: Store) -> None:
    run = store.ensure_run(run_spec())
    store.save(run, [UnitResult(f"k{n}", "x", head_effects=((sample(n), head_effect()),)) for n in range(3)])
    keys = ["k1", *[f"missing-{n}" for n in range(1200)], "k2"]
    assert store.head_effects(run, keys=keys).samples["key"].tolist() == ["k1", "k2"]


def test_head_effects_of_two_shapes_are_refused_until_a_stack_is_named(store: Store) -> None:
    run = store.ensure_run(run_spec())
    encoder = head_effect(values=np.zeros((4, 2), dtype=np.float32), stack="encoder")
    store.save(run, [head_unit(0, head_effects=((sample(0), head_effect()), (sample(0), encoder)))])
    with pytest.raises(StoreError, match="decoder 2 x 3, encoder 4 x 2"):
        store.head_effects(run)
    assert store.head_effects(run, stack="encoder").values.shape == (1, 4, 2)


def test_head_effects_know_whether_the_model_answered_rightly_from_any_run_of_that_model(store: Store) -> None:
    answers = store.ensure_run(run_spec(method="baseline"))
    wrong = UnitResult("b0", "x", baselines=(baseline(sample(0), correct=False),))
    store.save(answers, [wrong, UnitResult("b1", "y", baselines=(baseline(sample(1)),))])
    other = store.ensure_run(run_spec(method="baseline", model=model_info(weights_hash="other")))
    store.save(other, [UnitResult("b2", "z", baselines=(baseline(sample(2)),))])
    run = store.ensure_run(run_spec())
    store.save(run, [head_unit(n, baselines=()) for n in range(3)])
    known = store.head_effects(run, measure="logit_diff").samples["correct_strict"]
    assert known.tolist()[:2] == [False, True]
    assert known.isna().tolist() == [False, False, True]
    store.save(run, [head_unit(0, baselines=(baseline(sample(0), correct=True),))])
    assert store.head_effects(run, measure="logit_diff").samples["correct_strict"].tolist()[0] is True


def test_trace_effects_come_back_with_axes_pair_and_flags(store: Store) -> None:
    run = store.ensure_run(run_spec(method="tokenwise"))
    both = pair(1)
    groups = trace_effect(column_kind="group", columns=("image", "text", "last"), roles=("", "", ""), tracer="groups")
    wrong = trace_unit(0, baselines=(baseline(pair(0).clean, role="clean", correct=False), baseline(pair(0).corrupt, role="corrupt")))
    store.save(run, [trace_unit(1, trace_effects=((both, trace_effect(0.125)), (both, groups))), wrong])
    records = store.trace_effects(run)
    assert [record.effect.tracer for record in records] == ["tokenwise", "tokenwise", "groups", "tokenwise"]
    assert [record.flipped for record in records] == [False, False, True, True]
    last = records[-1]
    assert (last.identifier, last.image_id, last.answer, last.corrupt_answer) == (
        "scenes/color/score/plain/1",
        "scene-1",
        "Yes",
        "No",
    )
    assert (last.clean_correct, last.corrupt_correct, last.kind, last.editor) == (True, True, "edit", "scenes")
    expected = trace_effect(0.125)
    assert np.array_equal(last.effect.values, expected.values)
    assert (last.effect.layers, last.effect.columns, last.effect.roles) == (expected.layers, expected.columns, expected.roles)
    assert (last.effect.clean, last.effect.corrupt) == (4.0, -3.0)
    assert store.info()["counts"]["trace_axes"] == 2


def test_trace_effects_are_narrowed_by_unit_tracer_direction_and_measure(store: Store) -> None:
    run = store.ensure_run(run_spec(method="tokenwise"))
    store.save(run, [trace_unit(0), trace_unit(1)])
    assert len(store.trace_effects(run, ["trace-edit-1"])) == 2
    assert [record.effect.direction for record in store.trace_effects(run, direction="noising")] == ["noising", "noising"]
    assert store.trace_effects(run, measure="logprob") == []
    assert store.trace_effects(run, tracer="lens") == []


def test_a_control_edit_is_never_flipped_and_its_flags_are_unknown_without_baselines(store: Store) -> None:
    run = store.ensure_run(run_spec(method="tokenwise"))
    store.save(run, [trace_unit(0, kind="control", baselines=())])
    record = store.trace_effects(run)[0]
    assert (record.kind, record.clean_correct, record.corrupt_correct, record.flipped) == ("control", None, None, False)


def test_baselines_are_one_row_each_with_sample_model_and_types_that_can_be_used(store: Store) -> None:
    first = store.ensure_run(run_spec())
    second = store.ensure_run(run_spec(category="material", model=model_info(name="big", weights_hash="b")))
    store.save(first, [head_unit(0, baselines=(baseline(sample(0), correct=False, logit_diff=None),))])
    store.save(second, [head_unit(1)])
    frame = store.baselines()
    assert frame["model"].tolist() == ["tiny", "big"]
    assert frame["correct_strict"].dtype == bool
    assert frame[frame["correct_strict"]]["identifier"].tolist() == ["scenes/color/score/plain/1"]
    assert frame["logit_diff"].isna().tolist() == [True, False]
    assert frame["logit_diff"].dtype == np.float64
    for column in (
        "image_id",
        "dataset",
        "pool",
        "split",
        "level",
        "category",
        "form",
        "answer",
        "competitor",
        "pair",
        "predicted",
    ):
        assert column in frame
    assert store.baselines(model="big")["model"].tolist() == ["big"]
    assert store.baselines(first)["run_id"].tolist() == [first]
    assert store.baselines([first, second], category=["color", "material"]).shape[0] == 2
    assert store.baselines(category="action").empty


def test_an_unknown_filter_is_answered_with_the_known_ones(store: Store) -> None:
    with pytest.raises(StoreError, match=r"no filter 'modell' on runs: did you mean 'model'"):
        store.baselines(modell="tiny")


def test_ablations_and_modulations_come_back_as_they_were_saved(store: Store) -> None:
    run = store.ensure_run(run_spec(method="ablation", pool="test"))
    trials = tuple(ablation(condition="random", trial=trial, drop=0.01 * trial, pair_accuracy=0.5) for trial in range(3))
    fits = (modulation(), modulation(role="shuffled", clip=2.0, gain_error=np.float32(0.25)))
    store.save(run, [UnitResult("u", "set", ablations=(ablation(), *trials), modulations=fits)])
    frame = store.ablations(run)
    assert frame["drop"].tolist() == [0.0, 0.01, 0.02, 0.2]
    assert frame["heads"].tolist()[0] == ["L0H1", "L1H2"]
    assert frame["pair_accuracy"].isna().tolist() == [False, False, False, True]
    assert (frame["category"] == "color").all()
    fitted = store.modulations(run)
    assert fitted["scales"].tolist()[0] == {"L0H1": 1.5, "L1H2": 0.5}
    assert fitted["role"].tolist() == ["fitted", "shuffled"]
    assert fitted["clip"].isna().tolist() == [True, False]
    assert fitted["gain_error"].tolist()[1] == 0.25
    assert store.modulations(pool="choose").empty


def test_runs_count_their_units_and_belong_to_their_studies(store: Store) -> None:
    study = store.ensure_study("paper", {"a": 1})
    run = store.ensure_run(run_spec(), study=study)
    store.ensure_run(run_spec(seed=1))
    store.save(run, [head_unit(0), head_unit(1, status="skipped", reason="no image")])
    assert store.runs()[["units_done", "units_skipped"]].values.tolist() == [[1, 1], [0, 0]]
    members = store.runs(study=study)
    assert members["id"].tolist() == [run]
    assert members["configuration"].tolist() == [{"operation": "resample", "donors": 5}]
    assert store.baselines(study=study)["run_id"].tolist() == [run]
    assert store.skips(study=study + 1).empty


def test_edits_are_listed_with_both_answers_and_their_reviews(store: Store) -> None:
    run = store.ensure_run(run_spec(method="edit"))
    store.save(run, [UnitResult("e", "x", pairs=(pair(0), pair(0, "control")))])
    name = pair(0).identifier
    store.review_edit(name, "accepted", reviewer="ann")
    store.review_edit(name, "rejected", reviewer="ann", comment="a second dog")
    frame = store.edits().set_index("identifier")
    assert frame["verdicts"].to_dict() == {pair(0, "control").identifier: 0, name: 1}
    assert frame.loc[name, ["answer", "corrupt_answer"]].tolist() == ["Yes", "No"]
    assert frame.loc[name, "boxes"] == [[1, 2, 8, 9]]
    with pytest.raises(StoreError, match="there is no edit 'nothing'"):
        store.review_edit("nothing", "accepted")


def test_empty_tables_have_their_columns(store: Store) -> None:
    assert "drop" in store.ablations()
    assert "reason" in store.skips()
    assert "correct_strict" in store.baselines()
    assert store.head_effects(store.ensure_run(run_spec())).values.shape == (0, 0, 0)
