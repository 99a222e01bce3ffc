"""Readings beside effects: the correlation is scipy's, a planted relation is found, and none is found where there is none."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from vseam_core.analysis.beside_effects import BESIDE_COLUMNS, reading_beside_effect
from vseam_core.analysis.traces import PairTrace
from vseam_core.api.types import TraceEffect
from vseam_core.results.beside_effects import readings_beside_effects

LAYERS, HEADS, IMAGES = 4, 6, 30
NAMES = [f"image {number}" for number in range(IMAGES)]


def noisy(generator, means, noise=0.3):
    return means + noise * generator.normal(size=(IMAGES, LAYERS, HEADS))


def test_the_correlation_is_scipys_of_the_means_and_absolute_takes_their_size():
    generator = np.random.default_rng(0)
    readings, effects = (generator.normal(size=(IMAGES, LAYERS, HEADS)) for _ in range(2))
    means = readings.mean(0).ravel(), effects.mean(0).ravel()
    for absolute, second in ((False, means[1]), (True, np.abs(means[1]))):
        found = reading_beside_effect(readings, NAMES, effects, NAMES, absolute=absolute, seed=0)
        assert found["rank_correlation"] == pytest.approx(spearmanr(means[0], second).statistic)
        assert found["low"] <= found["high"]
        assert (found["heads"], found["images"], found["n_readings"], found["n_effects"]) == (24, IMAGES, IMAGES, IMAGES)


def test_a_planted_relation_is_found_and_its_interval_excludes_nothing_else():
    generator = np.random.default_rng(1)
    truth = generator.normal(size=(LAYERS, HEADS))
    found = reading_beside_effect(noisy(generator, truth), NAMES, noisy(generator, truth**3), NAMES, absolute=False, seed=0)
    assert found["low"] > 0.7
    assert found["p_value"] < 0.01


def test_where_there_is_none_p_values_are_as_chance_makes_them():
    generator = np.random.default_rng(2)
    found = [
        reading_beside_effect(
            noisy(generator, generator.normal(size=(LAYERS, HEADS))), NAMES,
            noisy(generator, generator.normal(size=(LAYERS, HEADS))), NAMES, absolute=False, seed=seed,
        )["p_value"]
        for seed in range(60)
    ]  # fmt: skip
    assert 0.35 < np.mean(found) < 0.65
    assert np.mean(np.array(found) < 0.1) < 0.25


def test_what_only_grows_with_depth_in_both_is_no_relation_of_heads():
    generator = np.random.default_rng(3)
    depth = 3 * np.arange(LAYERS)[:, None] * np.ones(HEADS)
    first, second = (depth + generator.normal(size=(LAYERS, HEADS)) for _ in range(2))
    found = reading_beside_effect(noisy(generator, first), NAMES, noisy(generator, second), NAMES, absolute=False, seed=0)
    assert found["rank_correlation"] > 0.8
    assert found["p_value"] > 0.05


def test_heads_that_were_not_run_are_left_out_and_few_images_have_no_interval():
    generator = np.random.default_rng(4)
    readings, effects = (generator.normal(size=(8, LAYERS, HEADS)) for _ in range(2))
    effects[:, 0] = np.nan
    found = reading_beside_effect(readings, NAMES[:8], effects, NAMES[:8], absolute=False, seed=0)
    assert found["heads"] == (LAYERS - 1) * HEADS
    assert "low" not in found
    assert found["rank_correlation"] == pytest.approx(spearmanr(readings.mean(0)[1:].ravel(), effects.mean(0)[1:].ravel()).statistic)


def test_maps_of_two_models_are_refused():
    with pytest.raises(ValueError, match="of one model"):
        reading_beside_effect(np.zeros((3, 2, 2)), "abc", np.zeros((3, 2, 3)), "abc", absolute=False, seed=0)


def test_named_readings_of_the_clean_image_are_set_beside_the_drawn_samples():
    generator = np.random.default_rng(5)
    values = generator.normal(size=(IMAGES, LAYERS, HEADS)).astype(np.float32)

    def trace(number, site, direction):
        columns = tuple(f"H{head}" for head in range(HEADS))
        effect = TraceEffect(
            tracer="looks", stack="decoder", site_kind=site, direction=direction, measure="weight", layers=tuple(range(LAYERS)),
            columns=columns, column_kind="group", roles=columns, values=values[number], clean=1.0, corrupt=1.0,
        )  # fmt: skip
        return PairTrace(effect, NAMES[number], clean_right=True, corrupt_flipped=True)

    traces = [trace(number, site, direction) for number in range(IMAGES) for site in ("a", "b") for direction in ("clean", "corrupt")]
    sampled = np.arange(IMAGES + 5) < IMAGES
    effects = SimpleNamespace(
        values=np.concatenate([-values, 100 * np.ones((5, LAYERS, HEADS))]),
        samples=pd.DataFrame({"image_id": [*NAMES, *"vwxyz"], "operation": "zero"}),
    )
    frame = readings_beside_effects({"a": "looks at a"}, traces, SimpleNamespace(effects=effects, sampled=sampled), 0)
    assert list(frame.columns) == list(BESIDE_COLUMNS)
    assert frame[["reading", "effect", "operation", "n_readings"]].values.tolist() == [
        ["looks at a", "signed", "zero", IMAGES],
        ["looks at a", "size", "zero", IMAGES],
    ]
    assert frame["rank_correlation"][0] == pytest.approx(-1.0)
