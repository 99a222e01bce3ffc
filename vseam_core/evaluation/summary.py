"""The figures of many evaluations beside one another: one row per model, category and split, by the same rules as each one's own.

Five of the paper's seven GQA subsets contain only "Yes" answers, where a model that always says yes is always right.
Pair accuracy is not fooled by that: it counts pairs answered right on the clean and right, the other answer, on the
corrupt image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from vseam_core.analysis.frames import NUMBER, TEXT, WHOLE, nullable_frame
from vseam_core.evaluation.metrics import majority, mean_figure, pair_figures, yes_no_figures

GROUPS: tuple[str, ...] = ("model", "category", "split")

SUMMARY_COLUMNS: dict[str, str] = {
    "n": WHOLE,
    "clusters": WHOLE,
    "accuracy": NUMBER,
    "standard_error": NUMBER,
    "low": NUMBER,
    "high": NUMBER,
    "n_pairs": WHOLE,
    "pair_accuracy": NUMBER,
    "pair_standard_error": NUMBER,
    "pair_low": NUMBER,
    "pair_high": NUMBER,
    "yes_ratio": NUMBER,
    "gold_yes_ratio": NUMBER,
    "majority_answer": TEXT,
    "majority_baseline": NUMBER,
    "precision": NUMBER,
    "recall": NUMBER,
    "f1": NUMBER,
    "reason": TEXT,
}
_ERRORS = ("standard_error", "low", "high")


def summarise(frame: pd.DataFrame, by: Sequence[str] = GROUPS, seed: int = 0) -> pd.DataFrame:
    """One row per group of `by`: accuracy (the mean official score) and its clustered error; columns `by`, then `SUMMARY_COLUMNS`.

    `frame` has a row per answer, with the columns model, identifier, image_id, form, pair_role, clean_identifier (of answers on corrupt
    images), answer, predicted, score and correct. Counts plain and clean samples, each once. `yes_ratio`, `precision`, `recall` and `f1`
    (positive = yes) rest on the yes/no questions and are null without any, or where nothing was divided by. Pairs whose clean answer is
    missing are left out. Raises `ValueError` where a verdict or a name is null.
    """
    for column in ("score", "correct", "image_id", "identifier", "pair_role"):
        if frame[column].isna().any():
            raise ValueError(f"column {column!r} has nulls; samples that could not be answered are skips, not rows")
    questions = frame[frame["pair_role"].isin(("", "clean"))].drop_duplicates(["model", "identifier"])
    corrupt = frame[(frame["pair_role"] == "corrupt") & frame["clean_identifier"].notna()]
    groups = dict(list(corrupt.groupby(list(by), sort=False)))
    rows = []
    for name, part in questions.groupby(list(by), sort=False):
        rows.append(dict(zip(by, name, strict=True)) | _summary(part, groups.get(name, corrupt.iloc[:0]), seed))
    return nullable_frame(rows, {**dict.fromkeys(by, TEXT), **SUMMARY_COLUMNS})


def _summary(questions: pd.DataFrame, corrupt: pd.DataFrame, seed: int) -> dict[str, Any]:
    accuracy = mean_figure("", "accuracy", questions["score"].astype(float), questions["image_id"])
    row = {name: accuracy[name] for name in ("n", "clusters", "reason", *_ERRORS)} | {"accuracy": accuracy["value"], "n_pairs": 0}
    for pairs in pair_figures("", questions, corrupt):
        row |= {"n_pairs": pairs["n"], "pair_accuracy": pairs["value"], **{f"pair_{name}": pairs[name] for name in _ERRORS}}
    answer, share = majority(questions["answer"])
    row |= {"majority_answer": answer, "majority_baseline": share}
    return row | {figure["metric"]: figure["value"] for figure in yes_no_figures("", questions, seed)}
