"""The tables of evaluations: answers, the figures that rest on them, and rescalings that have a name."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Index, Table, UniqueConstraint

from vseam_core.store.columns import (
    TEXT,
    count,
    flag,
    json_object,
    metadata,
    number,
    optional_flag,
    optional_number,
    reference,
    row_id,
    text,
)

answers = Table(
    "stored_answers",
    metadata,
    row_id(),
    reference("unit_id", "units"),
    reference("sample_id", "samples", cascade=False),
    reference("edit_id", "edits", nullable=True, cascade=False),
    text("pair_role"),
    text("predicted"),
    number("score"),
    flag("correct"),
    optional_flag("first_token_correct"),
    optional_number("gold_probability"),
    optional_number("competitor_probability"),
    optional_number("logit_diff"),
    text("note", ""),
    UniqueConstraint("unit_id", "sample_id", "pair_role"),
    CheckConstraint("pair_role IN ('', 'clean', 'corrupt', 'control')"),
    Index("answers_by_sample", "sample_id"),
)

evaluations = Table(
    "stored_evaluations",
    metadata,
    row_id(),
    reference("run_id", "runs"),
    *[text(name) for name in ("model", "dataset", "level", "pool", "split")],
    text("change", ""),
    text("subset"),
    text("metric"),
    optional_number("value"),
    *[optional_number(name) for name in ("standard_error", "low", "high", "p_value")],
    count("n"),
    count("clusters"),
    text("interval", ""),
    text("reason", ""),
    count("compared_with", "0"),
    text("sample_set_hash"),
    UniqueConstraint("run_id", "sample_set_hash", "subset", "metric", "compared_with"),
)

rescalings = Table(
    "rescalings",
    metadata,
    row_id(),
    Column("name", TEXT, nullable=False, unique=True),
    text("model"),
    text("weights_hash"),
    text("dataset"),
    json_object("scales"),
    count("fitted_run"),
    text("saved"),
)
