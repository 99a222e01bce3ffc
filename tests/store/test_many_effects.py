"""Head effects that are read all at once are those that their rows hold, one after the other."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from vseam_core.runs.spec import UnitResult
from vseam_core.store import Store

from .builders import baseline, head_effect, run_spec, sample

MEASURES = ("logit_diff", "published_prob")
ROWS = """
SELECT units.key, samples.*, effects.operation, effects.measure, effects.base, effects.data,
    answers.correct_strict, answers.correct_published
FROM stored_head_effects AS effects JOIN units ON units.id = effects.unit_id JOIN samples ON samples.id = effects.sample_id
LEFT JOIN stored_baselines AS answers ON answers.unit_id = effects.unit_id AND answers.sample_id = effects.sample_id
WHERE NOT units.superseded
ORDER BY samples.identifier, effects.operation, effects.positions, effects.measure, effects.stack, units.key
"""


@pytest.fixture
def run(store: Store) -> int:
    """A scan of nine samples, four of them in two units, saved in any order by two operations and three measures."""
    run, random = store.ensure_run(run_spec()), np.random.default_rng(0)
    units = []
    for number in random.permutation(13):
        one = sample(int(number) % 9)
        effects = tuple(
            (one, head_effect(values=random.standard_normal((2, 3)).astype(np.float32), base=random.random(), measure=name, operation=kind))
            for name in (*MEASURES, "logprob")
            for kind in (("zero", "resample") if number % 2 else ("resample",))
        )
        units.append(
            UnitResult(f"key-{number}", f"unit {number}", head_effects=effects, baselines=(baseline(one, correct=number % 3 == 0),))
        )
    store.save(run, units)
    store.make_current(run, {"other": "unit 5"})
    return run


@pytest.mark.parametrize("few", [0, 1000])
def test_effects_of_several_measures_are_those_of_their_rows(
    store: Store, run: int, path: Path, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for room in ("head_effects", "effects"):
        monkeypatch.setattr(f"vseam_core.store.{room}.FEW", few)
    keys = [f"key-{number}" for number in range(11)]
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        rows = [row for row in connection.execute(ROWS) if row["key"] in keys]
    found = store.head_effects(run, keys=keys)
    assert len(found) == len(rows) == 3 * (6 + 2 * 4)  # six even and four odd numbers below 11 without 5, three measures
    np.testing.assert_array_equal(found.values, [np.frombuffer(row["data"], dtype="<f4").reshape(2, 3) for row in rows])
    assert found.base.tolist() == [row["base"] for row in rows]
    for name in ("key", "identifier", "image_id", "category", "competitor", "operation", "measure", "correct_strict", "correct_published"):
        assert found.samples[name].tolist() == [row[name] for row in rows], name
    images = sorted({row["image_id"] for row in rows})
    assert found.images.tolist() == [images.index(row["image_id"]) for row in rows]
    parts = store.head_effects_by_measure(run, (*MEASURES, "nothing"), keys=keys)
    assert list(parts) == list(MEASURES)
    for measure, part in parts.items():
        alone = store.head_effects(run, measure=measure, keys=keys)
        mine = [index for index, row in enumerate(rows) if row["measure"] == measure]
        for one in (part, alone):
            np.testing.assert_array_equal(one.values, found.values[mine])
            assert one.base.tolist() == found.base[mine].tolist()
            assert one.samples.equals(found.samples.iloc[mine].reset_index(drop=True))
