from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from vseam_core.analysis.frames import frame_records
from vseam_core.analysis.statistics import clustered_mean
from vseam_core.analysis.traces import (
    TRACE_COLUMNS,
    PairTrace,
    aggregate_random_model,
    aggregate_traces,
    beside_own,
    column_means,
    random_model_band,
    strongest_cells,
    with_band,
)
from vseam_core.api.types import TraceEffect

ROLES = ("template", "object", "object", "last")


def tokenwise(values: Any, clean: float = 4.0, corrupt: float = -2.0, **changes: Any) -> TraceEffect:
    array = np.asarray(values, dtype=np.float32)
    effect = TraceEffect(
        tracer="tokenwise",
        stack="decoder",
        site_kind="mlp_output",
        direction="denoising",
        measure="logit_diff",
        layers=tuple(range(len(array))),
        columns=("0", "1", "2", "3"),
        column_kind="position",
        roles=ROLES,
        values=array,
        clean=clean,
        corrupt=corrupt,
    )
    return replace(effect, **changes)


def study(seed: int, images: int = 40, peak: tuple[int, int] = (1, 1), size: float = 2.0, **changes: Any) -> list[PairTrace]:
    """Two pairs per image with noise everywhere and `size` at the peak (layer, position)."""
    random = np.random.default_rng(seed)
    traces = []
    for index in range(2 * images):
        values = random.normal(size=(3, 4))
        values[peak] += size
        effect = tokenwise(values, 3 + random.random(), -3 + random.random(), **changes)
        traces.append(PairTrace(effect, f"image-{index // 2}", random.random() < 0.8, random.random() < 0.8))
    return traces


def cell(frame: Any, **wanted: Any) -> dict[str, Any]:
    (row,) = [row for row in frame_records(frame) if all(row[name] == value for name, value in wanted.items())]
    return row


def test_every_cell_equals_a_computation_by_loops_over_pairs_and_positions() -> None:
    traces = study(0)
    frame = aggregate_traces(traces)
    for subset in ("all", "flipped"):
        used = [trace for trace in traces if subset == "all" or (trace.clean_right and trace.corrupt_flipped)]
        for layer in range(3):
            for role in ("template", "object", "last"):
                spans = [np.mean([t.effect.values[layer, p] for p in range(4) if ROLES[p] == role]) for t in used]
                estimate = clustered_mean(spans, [trace.cluster for trace in used])
                row = cell(frame, subset=subset, layer=layer, column_label=role)
                assert row["n"] == len(used) == row["n_normalised"]
                assert row["mean"] == pytest.approx(estimate.mean)
                assert row["standard_error"] == pytest.approx(estimate.standard_error)
                assert (row["low"], row["high"]) == pytest.approx((estimate.low, estimate.high))
                gaps = [trace.effect.clean - trace.effect.corrupt for trace in used]
                assert row["normalised"] == pytest.approx(sum(spans) / sum(gaps))
                assert row["normalised_low"] < row["normalised"] < row["normalised_high"]
    assert len(frame) == 2 * 3 * 3
    assert list(frame.columns) == list(TRACE_COLUMNS)


def test_cells_of_skewed_or_mostly_zero_effects_are_flagged() -> None:
    random = np.random.default_rng(3)
    values = random.normal(size=(60, 3, 4))
    values[:, 1] = np.exp(2 * values[:, 1])
    values[:, 2] *= random.random((60, 1)) < 0.3
    traces = [PairTrace(tokenwise(value), f"image-{index}", True, True) for index, value in enumerate(values)]
    rows = frame_records(aggregate_traces(traces))
    flags = {(row["layer"], row["column_label"]): row["irregular"] for row in rows if row["subset"] == "all"}
    assert flags == {(layer, role): layer > 0 for layer in range(3) for role in ("template", "object", "last")}
    few = aggregate_traces(traces[:5])
    assert few["irregular"].isna().all(), "unknown where there is no interval"


def test_patching_everything_gives_one_and_patching_nothing_gives_zero_in_both_directions() -> None:
    for direction, sign in (("denoising", 1), ("noising", -1)):
        traces = []
        for index in range(12):
            clean, corrupt = 2.0 + index, -1.0
            values = np.zeros((2, 4))
            values[1] = sign * (clean - corrupt)
            traces.append(PairTrace(tokenwise(values, clean, corrupt, direction=direction), str(index), True, True))
        frame = aggregate_traces(traces)
        assert cell(frame, subset="all", layer=0, column_label="last")["normalised"] == 0.0
        assert cell(frame, subset="all", layer=1, column_label="last")["normalised"] == pytest.approx(1.0)


def test_the_normalised_effect_is_a_ratio_of_sums_and_leaves_out_pairs_with_a_gap_below_one_nat() -> None:
    effects = [
        tokenwise(np.full((1, 4), 1.0), 4.0, 0.0),
        tokenwise(np.full((1, 4), 6.0), 6.0, 0.0),
        tokenwise(np.full((1, 4), 9.0), 0.9, 0.0),
    ]
    row = cell(aggregate_traces([PairTrace(e, str(i), True, True) for i, e in enumerate(effects)]), subset="all", column_label="last")
    assert row["normalised"] == pytest.approx(7 / 10)
    assert (row["n"], row["n_normalised"]) == (3, 2)
    assert row["mean"] == pytest.approx(16 / 3)


@pytest.mark.parametrize("changes", [{"measure": "published_prob"}, {"measure": "logit"}, {"direction": "clean"}])
def test_measures_without_nats_and_readings_of_one_run_have_no_share(changes: dict[str, Any]) -> None:
    traces = study(1, **changes)
    frame = aggregate_traces(traces)
    assert frame["normalised"].isna().all()
    assert frame["mean"].notna().all()


def test_roles_average_over_the_whole_span_and_pairs_without_a_role_do_not_count() -> None:
    with_object = tokenwise([[0.0, 2.0, 4.0, 1.0]])
    without = tokenwise([[5.0, 5.0, 5.0, 1.0]], roles=("template", "template", "template", "last"))
    assert column_means(with_object)["object"].tolist() == [3.0]
    frame = aggregate_traces([PairTrace(with_object, "a", True, True), PairTrace(without, "b", True, True)])
    assert (cell(frame, subset="all", column_label="object")["n"], cell(frame, subset="all", column_label="object")["mean"]) == (
        1,
        3.0,
    )
    assert cell(frame, subset="all", column_label="last")["n"] == 2


def test_groups_keep_their_own_names_and_roles_are_not_looked_at() -> None:
    effect = tokenwise([[1.0, 2.0, 3.0, 4.0]], column_kind="group", columns=("image", "question", "last", "all"))
    frame = aggregate_traces([PairTrace(effect, "a", True, True)])
    assert set(frame["column_label"]) == {"image", "question", "last", "all"}
    assert set(frame["column_kind"]) == {"group"}


def test_without_flipped_pairs_their_rows_are_there_with_n_zero_and_nulls() -> None:
    traces = [replace(trace, corrupt_flipped=False) for trace in study(2)]
    row = cell(aggregate_traces(traces), subset="flipped", layer=0, column_label="last")
    assert (row["n"], row["mean"], row["normalised"], row["below_noise_floor"]) == (0, None, None, None)


def test_below_ten_images_there_are_means_and_no_intervals() -> None:
    row = cell(aggregate_traces(study(3, images=9)), subset="all", layer=0, column_label="last")
    assert (row["n"], row["clusters"]) == (18, 9)
    assert row["mean"] is not None
    assert row["normalised"] is not None
    assert [row[name] for name in ("standard_error", "low", "high", "normalised_low", "normalised_high")] == [None] * 5


def test_cells_below_three_times_the_noise_floor_are_flagged() -> None:
    traces = [replace(trace, noise_floor=0.5) for trace in study(4, size=4.0)]
    frame = aggregate_traces(traces)
    assert not cell(frame, subset="all", layer=1, column_label="object")["below_noise_floor"]
    assert cell(frame, subset="all", layer=0, column_label="object")["below_noise_floor"]


def test_normalised_intervals_cover_the_true_share_in_about_95_of_100_cases() -> None:
    # 150 studies × 3 cells: the standard error of the coverage is about 1 %, three of them below and above.
    covered = []
    for seed in range(150):
        random = np.random.default_rng(seed)
        traces = []
        for image in range(20):
            for _ in range(2):
                gap = 4 + random.normal()
                values = 0.4 * gap + random.normal(size=(3, 1))
                effect = tokenwise(values, gap, 0.0, columns=("image",), roles=("image",), column_kind="group")
                traces.append(PairTrace(effect, str(image), False, False))
        frame = aggregate_traces(traces)
        frame = frame[frame["subset"] == "all"]
        covered += ((frame["normalised_low"] <= 0.4) & (frame["normalised_high"] >= 0.4)).tolist()
    assert 0.92 <= np.mean(covered) <= 0.98


def test_the_strongest_cell_is_the_planted_one_estimated_on_images_that_did_not_select_it() -> None:
    traces = study(5)
    frame = strongest_cells(traces, seed=0, count=3)
    top = cell(frame, rank=1)
    assert (top["layer"], top["column_label"]) == (1, "object")
    assert len(frame) == 3
    assert top["n"] + top["selection_n"] == len(traces)
    spans = [trace.effect.values[1, 1:3].mean() for trace in traces]
    # Both halves are means over disjoint pairs, so their pairwise-weighted mean is that of all pairs.
    assert (top["n"] * top["mean"] + top["selection_n"] * top["selection_mean"]) / len(traces) == pytest.approx(np.mean(spans))


def test_selection_does_not_inflate_the_estimate_of_the_strongest_cell() -> None:
    # Pure noise: the selected mean is far from zero, the estimate on the other half is not (30 studies: its spread is about 0.05).
    selected, estimated = [], []
    for seed in range(30):
        row = cell(strongest_cells(study(seed, images=15, size=0.0), seed=seed, count=1), rank=1)
        sign = np.sign(row["selection_mean"])
        selected.append(sign * row["selection_mean"])
        estimated.append(sign * row["mean"])
    assert np.mean(selected) > 0.3
    assert abs(np.mean(estimated)) < 0.15


@pytest.mark.parametrize(
    ("left", "noise_floor", "ranked"), [(0.0, 0.0, False), (2e-5, 0.0, False), (0.02, 0.01, False), (0.02, 1e-4, True), (0.3, 0.0, True)]
)
def test_a_cell_where_everything_passes_is_not_among_the_strongest(left: float, noise_floor: float, ranked: bool) -> None:
    """The position at column 3 makes the run the donor's in layer 2, but for what is left of a gap of about six nats."""
    traces = []
    for trace in study(8, size=1.0):
        values = trace.effect.values.copy()
        values[2, 3] = trace.effect.clean - trace.effect.corrupt - left
        traces.append(replace(trace, effect=replace(trace.effect, values=values), noise_floor=noise_floor))
    frame = strongest_cells(traces, seed=0, count=12)
    found = {(row["layer"], row["column_label"]): row["rank"] for row in frame_records(frame)}
    assert found.get((2, ROLES[3])) == (1 if ranked else None)
    assert len(found) == 3 * len(set(ROLES)) - (not ranked)
    # One pair of the selecting half where it does not: then it is a finding like any other.
    traces = [
        replace(trace, effect=replace(trace.effect, clean=trace.effect.clean + 1)) if index % 2 else trace
        for index, trace in enumerate(traces)
    ]
    assert (2, ROLES[3]) in {(row["layer"], row["column_label"]) for row in frame_records(strongest_cells(traces, seed=0, count=12))}


def test_the_strongest_cells_follow_the_seed() -> None:
    traces = study(6)
    one, again, other = (frame_records(strongest_cells(traces, seed=seed)) for seed in (0, 0, 1))
    assert one == again
    assert one != other


def random_models(count: int) -> list[Any]:
    return [aggregate_random_model(study(100 + seed, size=0.1 * seed)) for seed in range(count)]


def test_a_band_is_the_range_over_random_models_and_tells_what_lies_outside() -> None:
    models = random_models(5)
    band = random_model_band(models)
    values = [cell(model, layer=1, column_label="object")["normalised"] for model in models]
    row = cell(band, layer=1, column_label="object")
    assert (row["band_low"], row["band_high"], row["models"]) == (min(values), max(values), 5)
    compared = beside_own(band, aggregate_random_model(study(7, size=6.0)))
    assert cell(compared, layer=1, column_label="object")["outside_band"]
    same = beside_own(band, models[2])
    assert not same["outside_band"].any()
    assert len(same) == len(models[2])


def test_a_model_is_held_against_random_ones_on_their_pairs_alone() -> None:
    band = random_model_band(random_models(5))
    traces = study(7, size=6.0)
    first = [trace for trace in traces if trace.cluster in sorted({trace.cluster for trace in traces})[:4]]
    scores = pd.concat([aggregate_traces(traces), aggregate_random_model(first)], ignore_index=True)
    row = cell(beside_own(band, scores), layer=1, column_label="object")
    gaps = [trace.effect.clean - trace.effect.corrupt for trace in first]
    effects = [trace.effect.values[1, [role == "object" for role in trace.effect.roles]].mean() for trace in first]
    assert row["pairs"] == len(first) < len(traces)
    assert row["own"] == pytest.approx(np.sign(gaps) @ effects / np.abs(gaps).sum())
    marked = cell(with_band(aggregate_traces(traces), beside_own(band, scores)), subset="all", layer=1, column_label="object")
    assert (marked["own"], marked["outside_band"]) == (row["own"], row["outside_band"])
    # What is known of other pairs alone is held against nothing.
    assert beside_own(band, aggregate_traces(traces))["outside_band"].isna().all()


def test_cells_without_a_band_are_neither_inside_nor_outside() -> None:
    band = random_model_band(random_models(5))
    other = aggregate_random_model(study(8, tracer="groups"))
    assert with_band(other, beside_own(band, other))["outside_band"].isna().all()


def test_a_cell_that_fewer_than_five_of_the_models_have_is_null_in_the_band() -> None:
    models = random_models(6)
    band = random_model_band([*models[:4], *(model[model["column_label"] != "last"] for model in models[4:])])
    lacking, full = (cell(band, layer=0, column_label=label) for label in ("last", "object"))
    assert (lacking["models"], lacking["band_low"], lacking["band_high"]) == (4, None, None)
    assert full["models"] == 6
    assert full["band_low"] < full["band_high"]


def test_fewer_than_five_random_models_make_no_band() -> None:
    with pytest.raises(ValueError, match="at least 5 random models, got 4"):
        random_model_band(random_models(4))


def test_random_models_count_small_gaps_and_turn_every_pair_the_same_way() -> None:
    # A random model leans to either answer by chance: gaps of ±0.02 nats cancel unless turned.
    traces = []
    for index in range(20):
        gap = 0.02 if index % 2 else -0.02
        traces.append(PairTrace(tokenwise(np.full((1, 4), 0.6 * gap), gap, 0.0), str(index), True, True))
    row = cell(aggregate_random_model(traces), column_label="last")
    assert row["normalised"] == pytest.approx(0.6)
    assert cell(aggregate_traces(traces), subset="all", column_label="last")["normalised"] is None


def test_nan_effects_wrong_shapes_and_different_layers_raise() -> None:
    good = PairTrace(tokenwise(np.zeros((2, 4))), "a", True, True)
    with pytest.raises(ValueError, match="NaN"):
        aggregate_traces([replace(good, effect=tokenwise(np.full((2, 4), np.nan)))])
    with pytest.raises(ValueError, match="NaN"):
        aggregate_traces([replace(good, effect=tokenwise(np.zeros((2, 4)), clean=float("nan")))])
    with pytest.raises(ValueError, match="2 layers × 4 columns"):
        aggregate_traces([replace(good, effect=tokenwise(np.zeros((2, 3))))])
    with pytest.raises(ValueError, match="differ in their layers"):
        aggregate_traces([good, PairTrace(tokenwise(np.zeros((3, 4))), "b", True, True)])


def test_no_traces_give_an_empty_table_with_all_columns() -> None:
    assert list(aggregate_traces([]).columns) == list(TRACE_COLUMNS)
    assert len(strongest_cells([], seed=0)) == 0
