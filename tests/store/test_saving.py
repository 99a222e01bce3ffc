"""Saving units: whole, idempotent, and never a number that is not finite."""

from __future__ import annotations

import dataclasses
import math
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vseam_core.errors import StoreError
from vseam_core.runs.spec import UnitResult
from vseam_core.store import Store, open_store

from .builders import (
    ablation,
    baseline,
    head_effect,
    head_unit,
    model_info,
    modulation,
    pair,
    prompt,
    run_spec,
    sample,
    trace_effect,
    trace_unit,
)


def rows(store: Store, query: str) -> list[tuple[Any, ...]]:
    with store.reading() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(query)]


def test_a_saved_unit_is_done_and_its_rows_are_there_once(store: Store) -> None:
    run = store.ensure_run(run_spec())
    assert store.save(run, [head_unit(0), head_unit(1)]) == []
    assert store.unit_statuses(run) == {"key-0": "done", "key-1": "done"}
    counts = store.info()["counts"]
    assert [counts[name] for name in ("units", "samples", "baselines", "head_effects", "skips")] == [2, 2, 2, 4, 0]


def test_saving_a_key_again_replaces_everything_that_hung_on_it(store: Store) -> None:
    run = store.ensure_run(run_spec())
    store.save(run, [head_unit(0, value=0.5), head_unit(1, value=0.5)])
    store.save(run, [head_unit(0, value=7.0, ablations=(ablation(),))])
    effects = store.head_effects(run, measure="logit_diff")
    assert effects.values[:, 0, 0].tolist() == [7.0, 0.5]
    counts = store.info()["counts"]
    assert (counts["head_effects"], counts["baselines"], counts["ablations"], counts["samples"]) == (4, 2, 1, 2)


def test_the_same_key_in_two_runs_is_two_units(store: Store) -> None:
    first, second = store.ensure_run(run_spec()), store.ensure_run(run_spec(seed=1))
    store.save(first, [head_unit(0)])
    store.save(second, [head_unit(0, value=3.0)])
    assert store.head_effects(first).values[0, 0, 0] == 0.5
    assert store.head_effects(second).values[0, 0, 0] == 3.0


def test_the_last_of_two_units_with_one_key_counts(store: Store) -> None:
    run = store.ensure_run(run_spec())
    store.save(run, [head_unit(0, value=1.0), head_unit(0, value=2.0)])
    assert store.head_effects(run, measure="logit_diff").values[:, 0, 0].tolist() == [2.0]


def test_a_skipped_unit_leaves_its_reason_and_no_numbers(store: Store) -> None:
    run = store.ensure_run(run_spec())
    store.save(run, [head_unit(0, status="skipped", reason="the image cannot be read")])
    assert store.unit_statuses(run) == {"key-0": "skipped"}
    skips = store.skips(run)
    assert skips[["identifier", "reason", "category"]].values.tolist() == [
        ["scenes/color/score/plain/0", "the image cannot be read", "color"]
    ]
    assert len(store.head_effects(run)) == 0
    store.save(run, [head_unit(0)])
    assert store.unit_statuses(run) == {"key-0": "done"}
    assert store.skips(run).empty


def test_a_skipped_unit_keeps_its_own_reason_whatever_its_details_hold(store: Store) -> None:
    run = store.ensure_run(run_spec())
    skipped = head_unit(0, status="skipped", reason="no answer", details={"loss": math.nan})
    assert store.save(run, [skipped]) == []
    assert store.skips(run)["reason"].tolist() == ["no answer"]


def bad_units() -> dict[str, UnitResult]:
    nan, infinite = math.nan, math.inf
    values = np.ones((2, 3), dtype=np.float32)
    values[1, 2] = nan
    one, both = sample(0), pair(0)
    broken_pair = dataclasses.replace(both, checks={"outside": nan})
    return {
        "baseline": head_unit(0, baselines=(baseline(one, logit_diff=nan),)),
        "numpy baseline": head_unit(0, baselines=(baseline(one, logit=np.float32("inf")),)),
        "head effect": head_unit(0, head_effects=((one, head_effect(values=values)),)),
        "head effect too large for float32": head_unit(0, head_effects=((one, head_effect(values=np.full((2, 3), 1e39))),)),
        "base": head_unit(0, head_effects=((one, head_effect(base=infinite)),)),
        "trace effect": trace_unit(0, key="key-0", trace_effects=((both, trace_effect(values=values)),)),
        "clean measure": trace_unit(0, key="key-0", trace_effects=((both, trace_effect(clean=nan)),)),
        "edit check": trace_unit(0, key="key-0", pairs=(broken_pair,)),
        "ablation": head_unit(0, ablations=(ablation(drop=nan),)),
        "modulation": head_unit(0, modulations=(modulation(gain_error=infinite),)),
        "scale": head_unit(0, modulations=(modulation(scales={"L0H0": nan}),)),
        "details": head_unit(0, details={"curve": [1.0, {"deep": nan}]}),
    }


@pytest.mark.parametrize("name", sorted(bad_units()))
def test_a_unit_with_a_number_that_is_not_finite_becomes_a_skip_that_names_the_sample(name: str, store: Store) -> None:
    run = store.ensure_run(run_spec())
    assert store.save(run, [bad_units()[name], head_unit(1)]) == ["key-0"]
    assert store.unit_statuses(run) == {"key-0": "skipped", "key-1": "done"}
    reason = store.skips(run)["reason"].item()
    assert "scenes/color/score/plain/0" in reason
    assert "nan" in reason or "inf" in reason or "not finite" in reason
    counts = store.info()["counts"]
    assert (counts["head_effects"], counts["trace_effects"], counts["ablations"], counts["modulations"]) == (2, 0, 0, 0)


def test_the_reason_of_a_bad_head_effect_names_the_head(store: Store) -> None:
    run = store.ensure_run(run_spec())
    store.save(run, [bad_units()["head effect"]])
    assert "layer 1, head 2 in resample at all positions (logit_diff)" in store.skips(run)["reason"].item()


def test_the_database_itself_refuses_infinity_and_damaged_arrays(store: Store, path: Path) -> None:
    run = store.ensure_run(run_spec())
    store.save(run, [head_unit(0)])
    with sqlite3.connect(path) as connection:
        for change in (
            "UPDATE stored_baselines SET logit_diff = 9e999",
            "UPDATE stored_baselines SET answer_prob = NULL",
            "UPDATE stored_head_effects SET base = 'much'",
            "UPDATE stored_head_effects SET data = x'00'",
            "UPDATE stored_head_effects SET dtype = '<f8'",
            "UPDATE units SET status = 'perhaps'",
        ):
            with pytest.raises(sqlite3.IntegrityError):
                connection.execute(change)


def test_an_array_whose_bytes_do_not_fit_its_shape_is_not_decoded(store: Store, path: Path) -> None:
    run = store.ensure_run(run_spec())
    store.save(run, [head_unit(0)])
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("UPDATE stored_head_effects SET data = x'00000000'")
    with pytest.raises(StoreError, match="expected 2 x 3 float32 values, found 4 bytes"):
        store.head_effects(run)


def test_two_different_samples_with_one_identifier_are_refused_and_nothing_is_written(store: Store) -> None:
    run = store.ensure_run(run_spec())
    clash = UnitResult("clash", "clash", samples=(sample(1), sample(1, answer="No")))
    with pytest.raises(StoreError, match=r"two different samples are called .*plain/1.* 'Yes' and 'No'"):
        store.save(run, [head_unit(0), clash])
    assert store.unit_statuses(run) == {}
    assert store.info()["counts"]["samples"] == 0


def test_an_effect_whose_labels_do_not_fit_its_array_is_refused(store: Store) -> None:
    run = store.ensure_run(run_spec())
    effect = trace_effect(columns=("4", "5"), roles=("", ""))
    with pytest.raises(StoreError, match=r"tokenwise \(attention_output\).*expected 2 layers x 2 columns.*2 x 3"):
        store.save(run, [trace_unit(0, trace_effects=((pair(0), effect),))])


def test_samples_are_stored_once_and_follow_their_latest_version(store: Store) -> None:
    run = store.ensure_run(run_spec())
    store.save(run, [head_unit(0)])
    moved = sample(0, competitor=None, split="hard")
    store.save(run, [head_unit(5, samples=(moved,), prompts=(), baselines=(), head_effects=())])
    assert rows(store, "SELECT identifier, competitor, split, image, metadata FROM samples WHERE question_id = '0'") == [
        ("scenes/color/score/plain/0", None, "hard", "pictures/0.png", '{"objects":3}')
    ]


def test_prompt_tokens_hold_class_and_role_with_image_positions_as_one_row(store: Store) -> None:
    run = store.ensure_run(run_spec())
    store.save(run, [head_unit(0)])
    store.save(run, [head_unit(0)])
    query = "SELECT position, length, token, class, role FROM prompt_tokens ORDER BY position"
    expected = [
        (0, 1, "<s>", "structural_before", ""),
        (1, 3, "<image>", "image", ""),
        (4, 1, "red", "question", "attribute"),
        (5, 1, "?", "last", ""),
    ]
    assert rows(store, query) == expected
    changed = dataclasses.replace(prompt("other"), tokens=("<s>", "i", "i", "i", "blue", "?"))
    store.save(run, [head_unit(0, prompts=((sample(0), changed),))])
    assert [row[2] for row in rows(store, query)] == ["<s>", "i", "blue", "?"]


def test_a_baseline_in_a_pair_knows_its_pair(store: Store) -> None:
    run = store.ensure_run(run_spec())
    edit, control = trace_unit(0), trace_unit(0, kind="control")
    both = dataclasses.replace(edit, pairs=(pair(0, "control"), *edit.pairs), baselines=(*edit.baselines, control.baselines[1]))
    store.save(run, [both])
    frame = store.baselines(run).set_index("pair_role")["pair"]
    base = "scenes/color/score/plain/0#scenes"
    assert frame.to_dict() == {"clean": f"{base}-edit", "corrupt": f"{base}-edit", "control": f"{base}-control"}


def test_a_run_with_the_same_identity_is_one_run_whatever_its_device_or_path(store: Store) -> None:
    study = store.ensure_study("paper", {"models": ["tiny"]})
    first = store.ensure_run(run_spec(), study=study, device="cpu", versions={"torch": "2.13"}, trust={"noise": 1e-6})
    store.finish_run(first)
    moved = run_spec(model=model_info(source="/elsewhere", device="cuda:0"), configuration={"donors": 5, "operation": "resample"})
    assert store.ensure_run(moved, study=study, device="cuda") == first
    row = store.runs(study=study).iloc[0]
    assert (row["device"], row["versions"], row["trust"]) == ("cuda", {"torch": "2.13"}, {"noise": 1e-6})
    assert row["finished"] is None or row["finished"] != row["finished"]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"method_version": 2},
        {"configuration": {"operation": "zero"}},
        {"pool": "test"},
        {"split": "hard"},
        {"model": model_info(weights_hash="other")},
        {"model": model_info(dtype="float16")},
        {"model": model_info(attention="sdpa")},
        {"model": model_info(processor_hash="other")},
    ],
)
def test_whatever_changes_results_makes_another_run(change: dict[str, Any], store: Store) -> None:
    assert store.ensure_run(run_spec()) != store.ensure_run(run_spec(**change))


def test_a_study_of_the_same_name_with_other_contents_is_another_study(store: Store) -> None:
    first = store.ensure_study("paper", {"limit": 10, "models": ["a"]})
    assert store.ensure_study("paper", {"models": ["a"], "limit": 10}) == first
    assert store.ensure_study("paper", {"models": ["b"], "limit": 10}) != first


def test_unknown_runs_and_configurations_without_a_spelling_are_one_clear_line(store: Store) -> None:
    for action in (
        lambda: store.save(7, [head_unit(0)]),
        lambda: store.finish_run(7),
        lambda: store.head_effects(7),
        lambda: store.ensure_run(run_spec(configuration={"heads": {1, 2}})),
        lambda: store.ensure_run(run_spec(configuration={"strength": math.nan})),
        lambda: store.ensure_run(run_spec(), study=9),
    ):
        with pytest.raises(StoreError) as caught:
            action()
        assert "\n" not in str(caught.value)


def test_saving_imports_neither_pandas_nor_torch_and_the_package_not_even_sqlalchemy(path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import vseam_core.store, vseam_core.store.query, vseam_core.runs.identity\n"
        "assert not {'sqlalchemy', 'pandas', 'torch', 'numpy'} & set(sys.modules)\n"
        "from builders import head_unit, run_spec\n"
        "store = vseam_core.store.open_store(sys.argv[2]); store.save(store.ensure_run(run_spec()), [head_unit()])\n"
        "assert not {'pandas', 'torch'} & set(sys.modules)\n"
    )
    folder = str(Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", code, folder, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_store_in_memory_works_too() -> None:
    with open_store(":memory:") as store:
        run = store.ensure_run(run_spec())
        store.save(run, [head_unit(0)])
        assert store.unit_statuses(run) == {"key-0": "done"}
        assert store.info()["bytes"] is None
        assert store.warnings == ()
