"""The tables of the results database.

A change here is also a new entry in `migrations.py`. What a unit leaves behind lies in tables called `stored_…`, superseded or not; the
view of the same name without `stored_` (`views.py`) shows what is current. Key columns are NOT NULL: SQLite lets duplicate NULLs through
UNIQUE. JSON is stored as text, arrays as little-endian float32 bytes with their shape beside them.
"""

from __future__ import annotations

from sqlalchemy import (
    CheckConstraint,
    Column,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
)
from sqlalchemy import text as sql_text

from vseam_core.store.columns import (
    TEXT,
    array,
    count,
    flag,
    json_list,
    json_object,
    number,
    optional_count,
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
from vseam_core.store.finding_tables import TEST_TABLES as TEST_TABLES
from vseam_core.store.method_tables import METHOD_TABLES as METHOD_TABLES
from vseam_core.store.score_tables import HEAD_SET_SIZES as HEAD_SET_SIZES
from vseam_core.store.score_tables import head_scores as head_scores
from vseam_core.store.score_tables import head_set_sizes as head_set_sizes
from vseam_core.store.score_tables import sample_set_units as sample_set_units
from vseam_core.store.score_tables import sample_sets as sample_sets
from vseam_core.store.score_tables import screenings as screenings
from vseam_core.store.score_tables import shared_head_tests as shared_head_tests
from vseam_core.store.score_tables import trace_scores as trace_scores

schema_migrations = Table("schema_migrations", metadata, Column("name", TEXT, primary_key=True), text("applied"))

studies = Table(
    "studies",
    metadata,
    row_id(),
    text("name"),
    json_object("configuration"),
    text("configuration_hash"),
    text("created"),
    UniqueConstraint("name", "configuration_hash"),
)

runs = Table(
    "runs",
    metadata,
    row_id(),
    Column("identity", TEXT, nullable=False, unique=True),
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
    json_object("configuration"),
    count("seed"),
    text("device"),
    json_object("versions"),
    json_object("trust", nullable=True),
    json_object("presentation", nullable=True),
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
    json_object("details", "{}"),
    text("saved"),
    text("subject", ""),
    flag("superseded", "0"),
    UniqueConstraint("run_id", "key"),
    Index("units_by_subject", "run_id", "subject"),
    # Few units are superseded: finding them, and the aggregates that rest on them, is then cheap.
    Index("units_superseded", "id", sqlite_where=sql_text("superseded"), postgresql_where=sql_text("superseded")),
    CheckConstraint("status IN ('done', 'skipped')"),
)

samples = Table(
    "samples",
    metadata,
    row_id(),
    Column("identifier", TEXT, nullable=False, unique=True),
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
    json_list("roles"),
    json_object("metadata"),
    optional_text("thumbnail"),
    *[optional_count(name) for name in ("image_width", "image_height")],
)

thumbnails = Table(
    "thumbnails",
    metadata,
    row_id(),
    Column("digest", TEXT, nullable=False, unique=True),
    text("format"),
    Column("data", LargeBinary, nullable=False),
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
    Column("identifier", TEXT, nullable=False, unique=True),
    reference("clean_id", "samples", cascade=False),
    reference("corrupt_id", "samples", cascade=False),
    text("editor"),
    text("kind"),
    text("source_term"),
    text("target_term"),
    json_list("boxes"),
    optional_text("prompt"),
    optional_text("mask"),
    optional_text("image_path"),
    json_object("checks"),
    *[optional_text(name) for name in ("edit_key", "planner", "mask_provider", "control", "verdict", "reason", "clean_path")],
    json_object("plan", nullable=True),
    optional_number("confidence"),
    optional_text("mask_thumbnail"),
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
    "stored_baselines",
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
    Column("digest", TEXT, nullable=False, unique=True),
    json_list("layers"),
    text("column_kind"),
    json_list("columns"),
    json_list("roles"),
    CheckConstraint("column_kind IN ('position', 'group')"),
)

trace_effects = Table(
    "stored_trace_effects",
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
    "stored_head_effects",
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
    json_object("measured", nullable=True),
    UniqueConstraint("unit_id", "sample_id", "operation", "positions", "measure", "stack"),
)

ablations = Table(
    "stored_ablations",
    metadata,
    row_id(),
    reference("unit_id", "units"),
    text("condition"),
    text("sign"),
    text("operation"),
    count("size"),
    count("trial"),
    json_list("heads"),
    count("n"),
    number("accuracy"),
    number("mean_probability"),
    number("mean_logit_diff"),
    number("accuracy_drop"),
    *[optional_number(name) for name in ("drop_error", "drop_low", "drop_high")],
    optional_number("pair_accuracy"),
    UniqueConstraint("unit_id", "condition", "sign", "operation", "size", "trial"),
)

modulations = Table(
    "stored_modulations",
    metadata,
    row_id(),
    reference("unit_id", "units"),
    count("ordinal"),
    text("recipe"),
    text("role"),
    json_object("scales"),
    number("strength"),
    count("top_k"),
    optional_number("clip"),
    text("chosen_on"),
    text("evaluated_on"),
    count("n"),
    number("accuracy"),
    number("base_accuracy"),
    number("gain"),
    *[optional_number(name) for name in ("gain_error", "gain_low", "gain_high")],
    optional_number("p_value"),
    optional_number("pair_accuracy"),
    UniqueConstraint("unit_id", "ordinal"),
)

skips = Table(
    "stored_skips",
    metadata,
    row_id(),
    reference("unit_id", "units"),
    text("identifier"),
    text("reason"),
    UniqueConstraint("unit_id", "identifier"),
)
