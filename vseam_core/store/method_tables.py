"""The tables of what further methods found: ways to answer beside one another, directions, screened paths, readings beside effects."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Table, UniqueConstraint

from vseam_core.store.columns import count, metadata, optional_count, optional_number, reference, row_id, text

_OF_RUN = ("model", "dataset", "category", "level")


def _tested(name: str) -> list[str]:
    """The columns of a gain: its value with both ends of its interval, p, and p corrected for all methods of the comparison."""
    return [name, f"{name}_low", f"{name}_high", f"{name}_p", f"{name}_q"]


comparisons = Table(
    "stored_comparisons",
    metadata,
    row_id(),
    reference("run_id", "runs"),
    *[text(name) for name in (*_OF_RUN, "split", "method")],
    text("change", ""),
    count("tried"),
    *[optional_number(name) for name in ("chosen_accuracy", "accuracy", "accuracy_low", "accuracy_high")],
    *[optional_number(name) for name in (*_tested("gain"), "f1", "yes_ratio")],
    *[optional_number(name) for name in _tested("gain_over_threshold")],
    *[optional_number(name) for name in ("own_threshold", "own_threshold_accuracy", *_tested("own_threshold_gain"))],
    *[optional_number(name) for name in ("seconds_per_answer", "forward_passes_per_answer")],
    count("n_choose"),
    count("n"),
    count("skips"),
    text("reason", ""),
    text("sample_set_hash"),
    UniqueConstraint("run_id", "method"),
)

direction_scores = Table(
    "stored_direction_scores",
    metadata,
    row_id(),
    reference("run_id", "runs"),
    *[text(name) for name in (*_OF_RUN, "site")],
    count("layer"),
    text("kind"),
    *[optional_number(name) for name in ("fitted", "held_out", "low", "high", "norm")],
    *[count(name) for name in ("n_fitted", "n_held_out", "images")],
    text("sample_set_hash"),
    UniqueConstraint("run_id", "layer", "kind"),
)

path_screenings = Table(
    "stored_path_screenings",
    metadata,
    row_id(),
    reference("run_id", "runs"),
    *[text(name) for name in (*_OF_RUN, "direction", "positions")],
    *[count(name) for name in ("n", "estimated", "top", "random", "integrated_steps")],
    *[optional_number(name) for name in ("rank_correlation", "rank_top", "rank_random", "scale")],
    optional_count("strongest"),
    *[optional_number(name) for name in ("threshold", "recall", "recall_low", "recall_high")],
    text("sample_set_hash"),
    UniqueConstraint("run_id"),
)

screened_paths = Table(
    "stored_screened_paths",
    metadata,
    row_id(),
    reference("run_id", "runs"),
    *[text(name) for name in (*_OF_RUN, "sender", "receiver", "part")],
    *[optional_number(name) for name in ("estimate", "mean", "low", "high")],
    *[optional_number(name) for name in ("share", "share_low", "share_high")],
    count("n"),
    optional_count("images"),
    text("sample_set_hash"),
    UniqueConstraint("run_id", "sender", "receiver"),
    CheckConstraint("part IN ('top', 'random')"),
)

reading_tests = Table(
    "stored_reading_tests",
    metadata,
    row_id(),
    reference("run_id", "runs"),
    *[text(name) for name in (*_OF_RUN, "tracer", "site_kind", "reading", "operation", "effect")],
    *[optional_number(name) for name in ("rank_correlation", "low", "high", "p_value")],
    *[count(name) for name in ("heads", "n_readings", "n_effects", "images")],
    text("sample_set_hash"),
    UniqueConstraint("run_id", "site_kind", "operation", "effect"),
    CheckConstraint("effect IN ('signed', 'size')"),
)

METHOD_TABLES: tuple[Table, ...] = (comparisons, direction_scores, path_screenings, screened_paths, reading_tests)

SLICES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("comparisons", "direction_scores", "path_screenings", "screened_paths"), ("run_id",)),
    "reading_tests": ("run_id", "operation"),
}
"""What is replaced together, by the name of the table's view."""
