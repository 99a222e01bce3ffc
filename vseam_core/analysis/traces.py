"""Aggregates causal traces over pairs: means with clustered errors per layer and token role or group, and what they must beat.

A row of the result stands for one cell: tracer, site kind, direction, measure, layer and column. Positions are averaged
within a pair over all tokens of a role (the whole span of a word), then over pairs; n is the number of pairs that have
the role.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from vseam_core.analysis.frames import FLAG, NUMBER, TEXT, WHOLE, nullable_frame, optional
from vseam_core.analysis.head_claims import FLOOR_FACTOR
from vseam_core.analysis.statistics import Array, cluster_codes, clustered_moments, clustered_ratio, finite, generator
from vseam_core.api.types import TraceEffect

MINIMUM_GAP = 1.0
"""Nats of |clean - corrupt| below which a pair has no normalised effect."""
NAT_MEASURES: tuple[str, ...] = ("logit_diff", "logprob")
RANDOM_MODELS = 5
WHOLE_GAP = 1e-4
"""What is left of a gap, as a share, when all of it is closed but for rounding."""

Subset = Literal["all", "flipped", "random_pairs"]
RANDOM_PAIRS: Subset = "random_pairs"
"""The pairs that random models were traced on, every one of them however small its gap: what a range of random models is held against."""
Key = tuple[str, str, str, str, str, str]

KEY_COLUMNS: tuple[str, ...] = ("tracer", "stack", "site_kind", "direction", "measure", "column_kind")
CELL_COLUMNS: tuple[str, ...] = (*KEY_COLUMNS, "layer", "column_label", "subset")
TRACE_COLUMNS: dict[str, str] = {
    **dict.fromkeys(KEY_COLUMNS, TEXT),
    "layer": WHOLE,
    "column_label": TEXT,
    "subset": TEXT,
    "n": WHOLE,
    "clusters": WHOLE,
    "mean": NUMBER,
    "standard_error": NUMBER,
    "low": NUMBER,
    "high": NUMBER,
    "normalised": NUMBER,
    "normalised_low": NUMBER,
    "normalised_high": NUMBER,
    "n_normalised": WHOLE,
    **dict.fromkeys(("below_noise_floor", "irregular"), FLAG),
}


@dataclass(frozen=True)
class PairTrace:
    """One stored effect with what aggregation needs to know about its pair.

    `cluster` is the image. `clean_right`: the clean answer is right; `corrupt_flipped`: the corrupt image gets the
    corrupt answer. `noise_floor` is the largest effect of an identity patch in the pair's run, in units of the measure. `sample` is the
    clean sample's name.
    """

    effect: TraceEffect
    cluster: str
    clean_right: bool
    corrupt_flipped: bool
    noise_floor: float = 0.0
    sample: str = ""

    @property
    def flipped(self) -> bool:
        """Whether the pair shows the answer changing: right on clean, and the corrupt answer on corrupt."""
        return self.clean_right and self.corrupt_flipped


@dataclass(frozen=True, eq=False)
class _Cells:
    """All effects of one key and column: `values` `[n, layers]`, one row per pair that has the column."""

    layers: tuple[int, ...]
    values: Array
    gaps: Array
    clusters: np.ndarray
    flipped: np.ndarray
    floors: Array


def donor_gap(effect: TraceEffect) -> float | None:
    """Donor minus base: clean - corrupt when denoising, corrupt - clean when noising; None where shares have no meaning."""
    sign = {"denoising": 1.0, "noising": -1.0}.get(str(effect.direction))
    if sign is None or effect.measure not in NAT_MEASURES:
        return None
    return sign * float(finite("clean and corrupt", [effect.clean, effect.corrupt]) @ [1.0, -1.0])


def aggregate_traces(traces: Iterable[PairTrace], *, minimum_gap: float = MINIMUM_GAP, oriented: bool = False) -> pd.DataFrame:
    """Means over pairs for every cell, over all pairs and over flipped pairs; columns `TRACE_COLUMNS`.

    `mean` is the raw effect in units of the measure with its clustered t interval, `irregular` flags cells whose interval may cover less
    than it says (skewed, or mostly zero). `normalised` = Σ effect / Σ (donor -
    base) over the pairs whose gap is at least `minimum_gap` nats (a mean of ratios explodes), with a linearised
    clustered interval. `oriented` turns every pair so that its gap is positive: for random models, whose leaning to
    either answer is chance, so that gaps do not cancel; their rows are of the subset `random_pairs`. Raises `ValueError` for NaN in
    effects, and where pairs of one key differ in their layers.
    """
    rows = []
    subsets: tuple[Subset, ...] = (RANDOM_PAIRS,) if oriented else ("all", "flipped")
    for key, columns in _collect(traces).items():
        for label, cells in columns.items():
            for subset in subsets:
                chosen = cells.flipped if subset == "flipped" else np.ones(len(cells.values), dtype=bool)
                for row in _cell_rows(cells, chosen, minimum_gap, oriented):
                    rows.append(dict(zip(KEY_COLUMNS, key, strict=True)) | {"column_label": label, "subset": subset} | row)
    return nullable_frame(rows, TRACE_COLUMNS)


def aggregate_random_model(traces: Iterable[PairTrace]) -> pd.DataFrame:
    """`aggregate_traces` for a randomly initialised model: every pair counts however small its gap, oriented by the gap.

    Of the trained model on the same pairs too, where the two are held against each other: one formula, one sample.
    """
    return aggregate_traces(traces, minimum_gap=0.0, oriented=True)


def strongest_cells(
    traces: Sequence[PairTrace], *, seed: int, count: int = 5, subset: Subset = "all", minimum_gap: float = MINIMUM_GAP
) -> pd.DataFrame:
    """The `count` strongest cells of every tracer, site kind, direction and measure, without the winner's curse.

    Images are split in two by `seed`: cells are ranked by |mean| on one half (`selection_mean`, `selection_n`, `rank`)
    and every other column is estimated on the other half. A selected cell that the other half lacks has n = 0 and
    nulls. Cells that make the run the donor's in every pair of the first half are not ranked: everything passes there by construction (the
    image before the first layer, the last position after the last), whatever the weights.
    """
    clusters = sorted({trace.cluster for trace in traces})
    order = generator(seed, "strongest cells").permutation(len(clusters))
    chosen = {clusters[index] for index in order[: len(clusters) // 2]}
    halves = [[trace for trace in traces if (trace.cluster in chosen) == first] for first in (True, False)]
    tables = (aggregate_traces(half, minimum_gap=minimum_gap) for half in halves)
    selection, estimate = (table[table["subset"] == subset] for table in tables)
    certain = _becomes_the_donors(halves[0])
    names = selection[[*KEY_COLUMNS, "column_label", "layer"]].itertuples(index=False, name=None)
    open_cells = pd.Series([name not in certain for name in names], index=selection.index, dtype=bool)
    ranked = selection[(selection["n"] > 0) & open_cells].copy()
    ranked["strength"] = ranked["mean"].abs()
    ranked = ranked.sort_values("strength", ascending=False, kind="stable")
    ranked["rank"] = ranked.groupby(list(KEY_COLUMNS), sort=False).cumcount().astype("Int64") + 1
    ranked = ranked[ranked["rank"] <= count].rename(columns={"mean": "selection_mean", "n": "selection_n"})
    picked = ranked[[*CELL_COLUMNS, "rank", "selection_mean", "selection_n"]]
    merged = picked.merge(estimate, on=list(CELL_COLUMNS), how="left")
    merged["n"] = merged["n"].fillna(0)
    return merged.sort_values([*KEY_COLUMNS, "rank"], ignore_index=True)


def _becomes_the_donors(traces: Sequence[PairTrace]) -> set[tuple[str | int, ...]]:
    """The cells (key, column label, layer) whose patch closes the gap between donor and base in every pair, but for rounding."""
    found: set[tuple[str | int, ...]] = set()
    for key, columns in _collect(traces).items():
        for label, cells in columns.items():
            gaps = np.abs(cells.gaps)
            allowed = np.maximum(FLOOR_FACTOR * cells.floors, WHOLE_GAP * gaps)
            closed = np.abs(cells.values - cells.gaps[:, None]) <= allowed[:, None]
            telling = gaps > allowed
            if telling.any():
                found |= {(*key, label, layer) for index, layer in enumerate(cells.layers) if closed[telling, index].all()}
    return found


def random_model_band(models: Sequence[pd.DataFrame], value: str = "normalised") -> pd.DataFrame:
    """The range of `value` over randomly initialised models, per cell: columns of the cell, `band_low`, `band_high`, `models`.

    `models` holds one `aggregate_random_model` table per model. Cells that fewer than `RANDOM_MODELS` models have are
    null. Raises `ValueError` for fewer than `RANDOM_MODELS` tables: fewer models say little about what chance can do.
    """
    if len(models) < RANDOM_MODELS:
        raise ValueError(f"a band needs at least {RANDOM_MODELS} random models, got {len(models)}")
    stacked = pd.concat([frame[[*CELL_COLUMNS, value]] for frame in models], ignore_index=True)
    grouped = stacked.groupby(list(CELL_COLUMNS), sort=False)[value]
    band = grouped.agg(["min", "max", "count"]).reset_index()
    band = band.rename(columns={"min": "band_low", "max": "band_high", "count": "models"})
    band.loc[band["models"] < RANDOM_MODELS, ["band_low", "band_high"]] = pd.NA
    return band.astype({"models": WHOLE})


def beside_own(band: pd.DataFrame, scores: pd.DataFrame, value: str = "normalised") -> pd.DataFrame:
    """The band with the trained model's own values on the same pairs: `own`, `pairs` (how many), and `outside_band`.

    `scores` are trace scores that hold rows of the subset `random_pairs`; rows of other subsets, in either table, are of other pairs and
    left out. Both may have columns `model` and `dataset`. `outside_band` is null where a value is unknown.
    """
    keys = [name for name in ("model", "dataset", *CELL_COLUMNS) if name in band.columns and name in scores.columns]
    near, own = (frame[frame["subset"] == RANDOM_PAIRS] for frame in (band, scores))
    merged = near.merge(own[[*keys, value, "n"]].rename(columns={value: "own", "n": "pairs"}), on=keys, how="left")
    outside = (merged["own"] < merged["band_low"]) | (merged["own"] > merged["band_high"])
    merged["outside_band"] = outside.astype("boolean")
    merged.loc[~merged[["own", "band_low", "band_high"]].notna().all(axis=1), "outside_band"] = pd.NA
    return merged


def with_band(cells: pd.DataFrame, beside: pd.DataFrame) -> pd.DataFrame:
    """`cells` with what `beside_own` says of the same cell: `band_low`, `band_high`, `own`, `pairs`, `outside_band`.

    The comparison is that of `own` on its own pairs: a cell's value on all pairs, or on half of them, is held against nothing.
    """
    keys = [name for name in CELL_COLUMNS if name != "subset"]
    return cells.merge(beside[[*keys, "band_low", "band_high", "own", "pairs", "outside_band"]], on=keys, how="left")


def column_means(effect: TraceEffect) -> dict[str, Array]:
    """The effects by column label, `[layers]` each: a group's own column, or the mean over all positions of a role."""
    values = finite(f"{effect.tracer} values", effect.values)
    if values.shape != (len(effect.layers), len(effect.columns)):
        expected = f"{len(effect.layers)} layers × {len(effect.columns)} columns"
        raise ValueError(f"{effect.tracer} values must be {expected}, got shape {values.shape}")
    labels = effect.columns if effect.column_kind == "group" else effect.roles
    places: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        places.setdefault(label, []).append(index)
    return {label: values[:, indices].mean(axis=1) for label, indices in places.items()}


def _collect(traces: Iterable[PairTrace]) -> dict[Key, dict[str, _Cells]]:
    """Effects by key and column label, in the order of first appearance."""
    parts: dict[Key, dict[str, list[tuple[PairTrace, Array]]]] = {}
    layers: dict[Key, tuple[int, ...]] = {}
    for trace in traces:
        effect = trace.effect
        kind = "group" if effect.column_kind == "group" else "role"
        key = (effect.tracer, effect.stack, effect.site_kind, str(effect.direction), effect.measure, kind)
        if layers.setdefault(key, effect.layers) != effect.layers:
            raise ValueError(f"{'/'.join(key)}: pairs differ in their layers, {layers[key]} and {effect.layers}")
        columns = parts.setdefault(key, {})
        for label, values in column_means(effect).items():
            columns.setdefault(label, []).append((trace, values))
    return {key: {label: _cells(layers[key], found) for label, found in columns.items()} for key, columns in parts.items()}


def _cells(layers: tuple[int, ...], found: Sequence[tuple[PairTrace, Array]]) -> _Cells:
    gaps = [donor_gap(trace.effect) for trace, _ in found]
    return _Cells(
        layers=layers,
        values=np.array([values for _, values in found]),
        # A gap of zero is below every limit, as a gap without meaning must be.
        gaps=np.array([0.0 if gap is None else gap for gap in gaps]),
        clusters=cluster_codes(np.array([trace.cluster for trace, _ in found], dtype=object), len(found))[0],
        flipped=np.array([trace.flipped for trace, _ in found]),
        floors=finite("noise floors", [trace.noise_floor for trace, _ in found]),
    )


def _cell_rows(cells: _Cells, chosen: np.ndarray, minimum_gap: float, oriented: bool) -> list[dict[str, Any]]:
    """One row per layer for the chosen pairs; nulls where there are none."""
    if not chosen.any():
        return [{"layer": layer, "n": 0, "clusters": 0, "n_normalised": 0} for layer in cells.layers]
    values, clusters = cells.values[chosen], cells.clusters[chosen]
    moments = clustered_moments(values, clusters)
    low, high = moments.interval() or (None, None)
    irregular = moments.irregular()
    columns: dict[str, list[float | None] | None] = {
        "mean": optional(moments.mean),
        "standard_error": optional(moments.standard_error),
        "low": optional(low),
        "high": optional(high),
    }
    shares, usable = _shares(values, cells.gaps[chosen], clusters, minimum_gap, oriented)
    floor = FLOOR_FACTOR * float(cells.floors[chosen].max())
    rows = []
    for index, layer in enumerate(cells.layers):
        row: dict[str, Any] = {"layer": layer, "n": moments.n, "clusters": moments.clusters, "n_normalised": usable}
        row |= {name: None if column is None else column[index] for name, column in (columns | shares).items()}
        row["below_noise_floor"] = abs(float(moments.mean[index])) < floor
        row["irregular"] = None if irregular is None else bool(irregular[index])
        rows.append(row)
    return rows


def _shares(
    values: Array, gaps: Array, clusters: np.ndarray, minimum_gap: float, oriented: bool
) -> tuple[dict[str, list[float | None] | None], int]:
    """Ratios of sums with intervals over the pairs with a large enough gap, and how many those are."""
    usable = (np.abs(gaps) >= minimum_gap) & (gaps != 0)
    none: dict[str, list[float | None] | None] = {"normalised": None, "normalised_low": None, "normalised_high": None}
    turn = np.sign(gaps[usable]) if oriented else np.ones(int(usable.sum()))
    if not usable.any() or (turn * gaps[usable]).sum() == 0:
        return none, int(usable.sum())
    ratio = clustered_ratio(values[usable] * turn[:, None], turn * gaps[usable], clusters[usable])
    low, high = ratio.interval() or (None, None)
    shares = {"normalised": ratio.mean, "normalised_low": low, "normalised_high": high}
    return {name: optional(column) for name, column in shares.items()}, int(usable.sum())
