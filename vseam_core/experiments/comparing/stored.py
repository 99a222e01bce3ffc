"""A comparison in the database: one row for each method, refused ones too, so that its table can be drawn and asked for again."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from vseam_core.experiments.comparing.comparison import Compared, Comparison
from vseam_core.runs.experiment import Experiment
from vseam_core.runs.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd


EXPERIMENT = Experiment("comparison", version=1)
_ENDS = {"low": "low", "high": "high", "p_value": "p", "q_value": "q"}
_TESTED = ("gain", "gain_over_threshold", "own_threshold_gain")
_PLAIN = ("f1", "yes_ratio", "own_threshold", "own_threshold_accuracy", "seconds_per_answer", "forward_passes_per_answer")


def store_comparison(workspace: Workspace, found: Comparison, parts: Mapping[str, Any], keys: Collection[str], study: int | None) -> int:
    """Put a comparison in the place of an earlier one of the same methods; the number of its run.

    It rests on the units `keys`, which are answers of other runs: once one is superseded, it is no longer shown.
    """
    opened = EXPERIMENT.open(workspace, found.model, found.dataset, pool="test", split=found.split, parts=parts, study=study)
    about: dict[str, Any] = {"run_id": opened.run, "model": found.model, "dataset": found.dataset, "split": found.split}
    about |= {"category": opened.benchmark.category, "level": opened.benchmark.level}
    workspace.store.replace_scores("comparisons", None, comparison_rows(found).assign(**about), keys)
    workspace.store.finish_run(opened.run)
    return opened.run


def comparison_rows(found: Comparison) -> pd.DataFrame:
    """The methods of a comparison as the table `comparisons` holds them."""
    import pandas as pd

    rows = [_row(row) | {"n_choose": found.n_choose, "n": found.n_test} for row in found.rows]
    if rows and found.threshold_reason:
        rows[0]["reason"] = f"no threshold beside the methods: {found.threshold_reason}"
    return pd.DataFrame(rows)


def _row(row: Compared) -> dict[str, Any]:
    values = {name: row.figures.get(name, {}).get("value") for name in (*_PLAIN, *_TESTED, "accuracy")}
    for name in _TESTED:
        values |= {f"{name}_{end}": row.figures.get(name, {}).get(column) for column, end in _ENDS.items()}
    values |= {f"accuracy_{end}": row.figures.get("accuracy", {}).get(end) for end in ("low", "high")}
    reason = row.refused or row.figures.get("own_threshold_accuracy", {}).get("reason") or ""
    about = {"method": row.method, "change": row.change, "tried": row.tried, "chosen_accuracy": row.chosen_accuracy, "skips": row.skips}
    return {**about, **values, "reason": reason}
