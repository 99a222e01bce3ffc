"""The tables of what was tested: candidates on test images, ablations beside random sets, levels; and of summaries beside them."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Table, UniqueConstraint

from vseam_core.store.columns import (
    count,
    flag,
    metadata,
    optional_count,
    optional_flag,
    optional_number,
    optional_text,
    reference,
    row_id,
    text,
)

_OF_RUN = ("model", "dataset", "category", "level")
_SCAN = ("pool", "operation", "positions", "measure")
_CELL = ("tracer", "stack", "site_kind", "direction", "measure", "column_kind")

head_confirmations = Table(
    "stored_head_confirmations",
    metadata,
    row_id(),
    reference("run_id", "runs"),
    *[text(name) for name in (*_OF_RUN, "stack")],
    count("layer"),
    count("head"),
    text("operation"),
    count("n"),
    count("clusters"),
    *[optional_number(name) for name in ("accuracy", "gain", "gain_error", "gain_low", "gain_high", "p_value")],
    *[optional_number(name) for name in ("gain_without_shift", "p_without_shift")],
    text("verdict"),
    text("reason", ""),
    text("sample_set_hash"),
    UniqueConstraint("run_id", "stack", "layer", "head"),
    CheckConstraint("verdict IN ('candidate', 'confirmed', 'not confirmed')"),
)

ablation_tests = Table(
    "stored_ablation_tests",
    metadata,
    row_id(),
    reference("run_id", "runs"),
    *[text(name) for name in (*_OF_RUN, "split", "sign", "operation", "heads", "measure")],
    count("n"),
    *[optional_number(name) for name in ("base", "effect", "effect_error", "mean_random", "p_value")],
    *[optional_number(name) for name in ("nats", "mean_random_nats", "p_nats")],
    count("sets"),
    text("reason", ""),
    text("sample_set_hash"),
    UniqueConstraint("run_id", "sign", "operation"),
)

level_tests = Table(
    "stored_level_tests",
    metadata,
    row_id(),
    reference("run_id", "runs", nullable=True),
    text("model"),
    *[text(name) for name in _SCAN],
    text("sign"),
    count("k"),
    count("tasks"),
    *[optional_number(name) for name in ("within", "across", "difference", "p_value")],
    count("groupings"),
    flag("exact"),
    text("reason", ""),
    text("sample_set_hash"),
    UniqueConstraint("model", *_SCAN, "sign", "k"),
)

random_bands = Table(
    "stored_random_bands",
    metadata,
    row_id(),
    reference("run_id", "runs", nullable=True),
    *[text(name) for name in (*_OF_RUN, *_CELL)],
    count("layer"),
    text("column_label"),
    text("subset"),
    *[optional_number(name) for name in ("band_low", "band_high")],
    count("models"),
    text("sample_set_hash"),
    UniqueConstraint("model", "dataset", *_CELL, "layer", "column_label", "subset"),
)

strongest_cells = Table(
    "stored_strongest_cells",
    metadata,
    row_id(),
    reference("run_id", "runs"),
    *[text(name) for name in (*_OF_RUN, *_CELL)],
    count("layer"),
    text("column_label"),
    text("subset"),
    count("rank"),
    count("selection_n"),
    optional_number("selection_mean"),
    count("n"),
    optional_count("clusters"),
    *[optional_number(name) for name in ("mean", "standard_error", "low", "high")],
    *[optional_number(name) for name in ("normalised", "normalised_low", "normalised_high")],
    optional_count("n_normalised"),
    *[optional_flag(name) for name in ("below_noise_floor", "irregular")],
    text("sample_set_hash"),
    UniqueConstraint("run_id", *_CELL, "rank"),
)

accuracies = Table(
    "stored_accuracies",
    metadata,
    row_id(),
    reference("run_id", "runs", nullable=True),
    *[text(name) for name in (*_OF_RUN, "pool", "split")],
    count("n"),
    count("clusters"),
    *[optional_number(name) for name in ("accuracy", "standard_error", "low", "high")],
    count("n_pairs"),
    *[optional_number(name) for name in ("pair_accuracy", "pair_standard_error", "pair_low", "pair_high")],
    *[optional_number(name) for name in ("yes_ratio", "gold_yes_ratio")],
    optional_text("majority_answer"),
    *[optional_number(name) for name in ("majority_baseline", "precision", "recall", "f1")],
    text("reason", ""),
    text("sample_set_hash"),
    UniqueConstraint("model", "dataset", "pool", "split"),
)

TEST_TABLES: tuple[Table, ...] = (head_confirmations, ablation_tests, level_tests, random_bands, strongest_cells, accuracies)

SLICES: dict[str, tuple[str, ...]] = {
    "head_confirmations": ("run_id",),
    "ablation_tests": ("run_id", "sign", "operation"),
    "level_tests": ("model", *_SCAN, "sign", "k"),
    "random_bands": ("model", "dataset", "tracer"),
    "strongest_cells": ("run_id", *_CELL),
    "accuracies": ("model", "dataset", "pool", "split"),
}
"""What is replaced together, by the name of the table's view."""
