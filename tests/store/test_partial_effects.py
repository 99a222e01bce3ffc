"""Head effects of some heads only: what was not measured is not stored, and comes back as NaN, never as zero."""

from __future__ import annotations

import numpy as np
from sqlalchemy import select

from vseam_core.api.types import HeadEffect
from vseam_core.store import Store, schema
from vseam_core.store.codec import decode_equal_arrays, decode_head_effect, encode_head_effect, with_checksum

from .builders import head_effect, head_unit, run_spec, sample


def test_heads_that_were_not_measured_leave_no_number_behind(store: Store) -> None:
    measured = np.array([[True, False, False], [False, True, False]])
    values = np.where(measured, [[1.5, 0, 0], [0, -2.5, 0]], np.nan).astype(np.float32)
    run = store.ensure_run(run_spec())
    one = sample(0)
    effects = (HeadEffect("resample", "all", measure, "decoder", values, 0.25, measured) for measure in ("logit_diff", "published_prob"))
    whole = HeadEffect("resample", "all", "logit_diff_estimate", "decoder", np.ones((2, 3), np.float32), 0.25)
    unit = head_unit(0, head_effects=(*((one, effect) for effect in effects), (one, whole)))
    assert store.save(run, [unit]) == []
    with store.transaction() as connection:
        stored = connection.execute(select(schema.head_effects).where(schema.head_effects.c.measure == "logit_diff")).mappings().one()
    assert (stored["height"], stored["width"]) == (1, 2)
    assert np.frombuffer(stored["data"], "<f4").tolist() == [1.5, -2.5]
    found = store.head_effects(run, measure="logit_diff").values[0]
    np.testing.assert_array_equal(found, values)
    assert store.head_effects(run).values.shape == (3, 2, 3)


def test_nan_in_a_measured_head_is_still_a_skip(store: Store) -> None:
    measured = np.array([[True, False, False], [False, True, False]])
    values = np.where(measured, np.nan, 0).astype(np.float32)
    run = store.ensure_run(run_spec())
    effect = HeadEffect("resample", "all", "logit_diff", "decoder", values, 0.25, measured)
    assert store.save(run, [head_unit(0, head_effects=((sample(0), effect),))]) == ["key-0"]
    assert "layer 0, head 0" in store.skips(run)["reason"].iloc[0]


def test_many_whole_matrices_are_decoded_at_once_as_one_by_one_and_a_damaged_one_is_left_to_be_named() -> None:
    random = np.random.default_rng(0)
    rows = []
    for base in (0.1, -3.0, 1e-300, 5e22, 2.5, 7.0):
        effect = head_effect(values=random.standard_normal((4, 3)).astype(np.float32))
        rows.append(with_checksum({"base": base, **encode_head_effect(effect, "effect")}))
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    together = decode_equal_arrays(columns)
    assert together is not None
    assert (together == np.array([decode_head_effect(row, "effect") for row in rows])).all()
    for name, value in (
        ("base", 0.2),
        ("data", bytes(48)),
        ("data", b""),
        ("data", None),
        ("height", 3),
        ("dtype", "<f8"),
        ("measured", "{}"),
    ):
        assert decode_equal_arrays({**columns, name: [value, *columns[name][1:]]}) is None
