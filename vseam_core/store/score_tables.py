"""The tables of aggregates, what they rest on, and the set sizes that heads are compared at."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Index, Integer, PrimaryKeyConstraint, Table, UniqueConstraint

from vseam_core.store.columns import (
    TEXT,
    count,
    flag,
    metadata,
    optional_count,
    optional_flag,
    optional_number,
    reference,
    row_id,
    text,
)

sample_sets = Table("sample_sets", metadata, row_id(), Column("hash", TEXT, nullable=False, unique=True))

sample_set_units = Table(
    "sample_set_units",
    metadata,
    reference("sample_set_id", "sample_sets"),
    reference("unit_id", "units"),
    PrimaryKeyConstraint("sample_set_id", "unit_id"),
    Index("sample_sets_by_unit", "unit_id"),
)

head_scores = Table(
    "stored_head_scores",
    metadata,
    row_id(),
    reference("run_id", "runs"),
    *[text(name) for name in ("model", "dataset", "category", "level")],
    *[text(name) for name in ("pool", "operation", "positions", "measure", "stack")],
    count("layer"),
    count("head"),
    count("n"),
    count("n_sampled", "0"),
    count("n_correct"),
    count("n_wrong"),
    *[optional_number(name) for name in ("positive", "negative", "signed")],
    *[optional_number(name) for name in ("support", "se_support", "low_support", "high_support", "support_yes", "support_no")],
    *[optional_number(name) for name in ("p_suppressor", "q_suppressor")],
    *[optional_number(f"{name}_correct") for name in ("mean", "se", "low", "high")],
    *[optional_number(name) for name in ("mean_correct_yes", "mean_correct_no", "p_positive", "q_positive")],
    *[optional_number(f"{name}_wrong") for name in ("mean", "se", "low", "high")],
    *[optional_number(name) for name in ("mean_wrong_yes", "mean_wrong_no", "p_negative", "q_negative")],
    optional_flag("claim_positive"),
    optional_flag("claim_suppressor"),
    optional_flag("claim_negative"),
    text("verdict", "untested"),
    text("sign"),
    flag("resolved"),
    optional_flag("below_noise_floor"),
    *[optional_flag(name) for name in ("irregular_support", "irregular_wrong")],
    optional_number("reliability_correct"),
    *[optional_number(name) for name in ("reliability_support", "reliability_support_rest")],
    *[optional_number(name) for name in ("reliability_wrong", "reliability_wrong_rest")],
    text("reason", ""),
    text("sample_set_hash"),
    UniqueConstraint("run_id", "pool", "operation", "positions", "measure", "stack", "layer", "head"),
    CheckConstraint("sign IN ('positive', 'negative', 'none')"),
)

screenings = Table(
    "stored_screenings",
    metadata,
    row_id(),
    reference("run_id", "runs"),
    *[text(name) for name in ("model", "dataset", "category", "level")],
    *[text(name) for name in ("pool", "operation", "positions", "measure", "stack")],
    text("subset"),
    *[count(name) for name in ("n", "heads", "top", "random", "integrated_steps")],
    *[optional_number(name) for name in ("rank_correlation", "rank_top", "rank_random", "scale")],
    count("strongest"),
    *[optional_number(name) for name in ("threshold", "recall", "recall_low", "recall_high")],
    text("vanished"),
    text("reason", ""),
    text("sample_set_hash"),
    UniqueConstraint("run_id", "operation", "positions", "measure", "stack", "subset"),
    CheckConstraint("subset IN ('correct', 'wrong')"),
)

trace_scores = Table(
    "stored_trace_scores",
    metadata,
    row_id(),
    reference("run_id", "runs"),
    *[text(name) for name in ("model", "dataset", "category", "level")],
    *[text(name) for name in ("tracer", "stack", "site_kind", "direction", "measure")],
    text("column_kind", "group"),
    count("layer"),
    text("column_label"),
    text("subset"),
    count("n"),
    optional_count("clusters"),
    *[optional_number(name) for name in ("mean", "standard_error", "low", "high")],
    *[optional_number(name) for name in ("normalised", "normalised_low", "normalised_high")],
    optional_count("n_normalised"),
    *[optional_flag(name) for name in ("below_noise_floor", "irregular")],
    text("sample_set_hash"),
    UniqueConstraint(
        *("run_id", "tracer", "stack", "site_kind", "direction", "measure", "column_kind"),
        *("layer", "column_label", "subset"),
    ),
)

shared_head_tests = Table(
    "stored_shared_head_tests",
    metadata,
    row_id(),
    reference("run_id", "runs", nullable=True),
    text("model"),
    *[text(name, "") for name in ("pool", "operation", "positions", "measure", "stack")],
    text("task_a"),
    text("task_b"),
    text("level_a"),
    text("level_b"),
    text("sign"),
    count("k"),
    *[optional_number(name) for name in ("overlap", "expected", "jaccard", "rank_correlation", "ceiling")],
    *[optional_number(name) for name in ("p_value", "q_value", "p_importance")],
    text("null_name", ""),
    count("n_a"),
    count("n_b"),
    text("status"),
    text("reason", ""),
    text("sample_set_hash"),
    *[optional_number(name) for name in ("ceiling_a", "ceiling_b")],
    UniqueConstraint(*("model", "pool", "operation", "positions", "measure", "stack", "task_a", "task_b", "sign", "k", "null_name")),
)

head_set_sizes = Table("head_set_sizes", metadata, Column("k", Integer, primary_key=True, autoincrement=False))

HEAD_SET_SIZES: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 8, 10, 16, 20, 32, 50, 64, 100, 128)
