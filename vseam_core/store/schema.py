"""The tables of the results database.

A change here is also a new entry in `migrations.py`. Key columns are NOT NULL: SQLite lets duplicate NULLs through
UNIQUE. JSON is stored as text, arrays as little-endian float32 bytes with their shape beside them.
"""

from __future__ import annotations

from sqlalchemy import (
    CheckConstraint,
    Column,
    Index,
    Integer,
    PrimaryKeyConstraint,
    String,
    Table,
    UniqueConstraint,
)

from vseam_core.store.columns import (
    array,
    count,
    flag,
    number,
    optional_count,
    optional_flag,
    optional_number,
    optional_text,
    reference,
    row_id,
    text,
)
from vseam_core.store.columns import metadata as metadata
from vseam_core.store.evaluation_tables import answers as answers
from vseam_core.store.evaluation_tables import evaluations as evaluations
from vseam_core.store.evaluation_tables import rescalings as rescalings

schema_migrations = Table("schema_migrations", metadata, Column("name", String, primary_key=True), text("applied"))

studies = Table(
    "studies",
    metadata,
    row_id(),
    text("name"),
    text("configuration"),
    text("configuration_hash"),
    text("created"),
    UniqueConstraint("name", "configuration_hash"),
)

runs = Table(
    "runs",
    metadata,
    row_id(),
    Column("identity", String, nullable=False, unique=True),
    text("method"),
    count("method_version"),
    text("model"),
    text("family"),
    text("source"),
    text("weights_hash"),
    text("processor_hash"),
    text("dtype"),
    text("attention"),
    count("layers"),
    count("heads"),
    count("head_dim"),
    text("dataset"),
    text("level"),
    text("category"),
    text("pool"),
    text("split"),
    text("configuration"),
    count("seed"),
    text("device"),
    text("versions"),
    optional_text("trust"),
    text("started"),
    optional_text("finished"),
    Index("runs_by_weights", "weights_hash"),
)

study_runs = Table(
    "study_runs",
    metadata,
    reference("study_id", "studies"),
    reference("run_id", "runs"),
    PrimaryKeyConstraint("study_id", "run_id"),
)

units = Table(
    "units",
    metadata,
    row_id(),
    reference("run_id", "runs"),
    text("key"),
    text("identifier"),
    text("status"),
    text("reason", ""),
    text("details", "{}"),
    text("saved"),
    text("subject", ""),
    flag("superseded", "0"),
    UniqueConstraint("run_id", "key"),
    Index("units_by_subject", "run_id", "subject"),
    CheckConstraint("status IN ('done', 'skipped')"),
)

samples = Table(
    "samples",
    metadata,
    row_id(),
    Column("identifier", String, nullable=False, unique=True),
    text("dataset"),
    text("question_id"),
    text("image_id"),
    text("image"),
    text("question"),
    text("answer"),
    optional_text("competitor"),
    text("level"),
    text("category"),
    text("pool"),
    text("split"),
    text("form"),
    text("roles"),
    text("metadata"),
)

prompt_tokens = Table(
    "prompt_tokens",
    metadata,
    reference("sample_id", "samples"),
    text("model"),
    count("position"),
    count("length"),
    count("token_id"),
    text("token"),
    text("class"),
    text("role"),
    text("prompt_key"),
    PrimaryKeyConstraint("sample_id", "model", "position"),
    CheckConstraint("length >= 1"),
)

edits = Table(
    "edits",
    metadata,
    row_id(),
    Column("identifier", String, nullable=False, unique=True),
    reference("clean_id", "samples", cascade=False),
    reference("corrupt_id", "samples", cascade=False),
    text("editor"),
    text("kind"),
    text("source_term"),
    text("target_term"),
    text("boxes"),
    optional_text("prompt"),
    optional_text("mask"),
    optional_text("image_path"),
    text("checks"),
    *[optional_text(name) for name in ("edit_key", "planner", "mask_provider", "control", "verdict", "reason", "clean_path", "plan")],
    optional_number("confidence"),
    CheckConstraint("kind IN ('edit', 'control')"),
    Index("edits_by_clean", "clean_id"),
    Index("edits_by_corrupt", "corrupt_id"),
)

edit_reviews = Table(
    "edit_reviews",
    metadata,
    row_id(),
    reference("edit_id", "edits"),
    text("reviewer"),
    text("verdict"),
    text("comment"),
    text("reviewed"),
    UniqueConstraint("edit_id", "reviewer"),
)

baselines = Table(
    "baselines",
    metadata,
    row_id(),
    reference("unit_id", "units"),
    reference("sample_id", "samples", cascade=False),
    reference("edit_id", "edits", nullable=True, cascade=False),
    text("pair_role"),
    text("predicted"),
    number("answer_prob"),
    number("prob_sum"),
    number("logit"),
    optional_number("logit_diff"),
    number("sequence_logprob"),
    flag("correct_published"),
    flag("correct_strict"),
    number("score", "0"),
    UniqueConstraint("unit_id", "sample_id", "pair_role"),
    CheckConstraint("pair_role IN ('', 'clean', 'corrupt', 'control')"),
    Index("baselines_by_sample", "sample_id"),
)

trace_axes = Table(
    "trace_axes",
    metadata,
    row_id(),
    Column("digest", String, nullable=False, unique=True),
    text("layers"),
    text("column_kind"),
    text("columns"),
    text("roles"),
    CheckConstraint("column_kind IN ('position', 'group')"),
)

trace_effects = Table(
    "trace_effects",
    metadata,
    row_id(),
    reference("unit_id", "units"),
    reference("edit_id", "edits", cascade=False),
    text("tracer"),
    text("stack"),
    text("site_kind"),
    text("direction"),
    text("measure"),
    reference("axes_id", "trace_axes", cascade=False),
    *array(),
    number("clean"),
    number("corrupt"),
    UniqueConstraint("unit_id", "edit_id", "tracer", "stack", "site_kind", "direction", "measure", "axes_id"),
    CheckConstraint("direction IN ('denoising', 'noising', 'clean', 'corrupt')"),
)

head_effects = Table(
    "head_effects",
    metadata,
    row_id(),
    reference("unit_id", "units"),
    reference("sample_id", "samples", cascade=False),
    text("operation"),
    text("positions"),
    text("measure"),
    text("stack"),
    *array(),
    number("base"),
    optional_text("measured"),
    UniqueConstraint("unit_id", "sample_id", "operation", "positions", "measure", "stack"),
)

ablations = Table(
    "ablations",
    metadata,
    row_id(),
    reference("unit_id", "units"),
    text("condition"),
    text("sign"),
    text("operation"),
    count("size"),
    count("trial"),
    text("heads"),
    count("n"),
    number("accuracy"),
    number("mean_probability"),
    number("mean_logit_diff"),
    number("accuracy_drop"),
    optional_number("pair_accuracy"),
    UniqueConstraint("unit_id", "condition", "sign", "operation", "size", "trial"),
)

modulations = Table(
    "modulations",
    metadata,
    row_id(),
    reference("unit_id", "units"),
    count("ordinal"),
    text("recipe"),
    text("role"),
    text("scales"),
    number("strength"),
    count("top_k"),
    optional_number("clip"),
    text("chosen_on"),
    text("evaluated_on"),
    count("n"),
    number("accuracy"),
    number("base_accuracy"),
    number("gain"),
    optional_number("gain_error"),
    optional_number("p_value"),
    optional_number("pair_accuracy"),
    UniqueConstraint("unit_id", "ordinal"),
)

skips = Table(
    "skips",
    metadata,
    row_id(),
    reference("unit_id", "units"),
    text("identifier"),
    text("reason"),
    UniqueConstraint("unit_id", "identifier"),
)

head_scores = Table(
    "head_scores",
    metadata,
    row_id(),
    reference("run_id", "runs"),
    *[text(name) for name in ("model", "dataset", "category", "level")],
    *[text(name) for name in ("pool", "operation", "positions", "measure", "stack")],
    count("layer"),
    count("head"),
    count("n"),
    count("n_correct"),
    count("n_wrong"),
    *[optional_number(name) for name in ("positive", "negative", "signed")],
    *[optional_number(f"{name}_correct") for name in ("mean", "se", "low", "high")],
    *[optional_number(name) for name in ("mean_correct_yes", "mean_correct_no", "p_positive", "q_positive")],
    *[optional_number(f"{name}_wrong") for name in ("mean", "se", "low", "high")],
    *[optional_number(name) for name in ("mean_wrong_yes", "mean_wrong_no", "p_negative", "q_negative")],
    optional_flag("claim_positive"),
    optional_flag("claim_negative"),
    text("sign"),
    flag("resolved"),
    optional_flag("below_noise_floor"),
    optional_number("reliability_correct"),
    optional_number("reliability_wrong"),
    text("reason", ""),
    text("sample_set_hash"),
    UniqueConstraint("run_id", "pool", "operation", "positions", "measure", "stack", "layer", "head"),
    CheckConstraint("sign IN ('positive', 'negative', 'none')"),
)

screenings = Table(
    "screenings",
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
    "trace_scores",
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
    optional_flag("below_noise_floor"),
    text("sample_set_hash"),
    UniqueConstraint(
        *("run_id", "tracer", "stack", "site_kind", "direction", "measure", "column_kind"),
        *("layer", "column_label", "subset"),
    ),
)

shared_head_tests = Table(
    "shared_head_tests",
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
    *[optional_number(name) for name in ("p_value", "q_value")],
    text("null_name", ""),
    count("n_a"),
    count("n_b"),
    text("status"),
    text("reason", ""),
    text("sample_set_hash"),
    UniqueConstraint(*("model", "pool", "operation", "positions", "measure", "stack", "task_a", "task_b", "sign", "k", "null_name")),
)

head_set_sizes = Table("head_set_sizes", metadata, Column("k", Integer, primary_key=True, autoincrement=False))

HEAD_SET_SIZES: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 8, 10, 16, 20, 32, 50, 64, 100, 128)
