"""Heads shared between tasks: overlaps against chance and against a task's own ceiling, and the test of the level claim."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from vseam_core.analysis.heads import Sign
from vseam_core.analysis.shared import LevelTest, level_test_of, shared_heads, split_half_ceiling
from vseam_core.results.scoring import ScoredHeads, correct_flags
from vseam_core.runs.workspace import Workspace
from vseam_core.store.scores import replace_tables

if TYPE_CHECKING:
    import pandas as pd


def share_heads(
    workspace: Workspace,
    model: str,
    tasks: Mapping[str, ScoredHeads],
    levels: Mapping[str, str],
    categories: Mapping[str, str],
    sign: Sign,
    k: int,
    seed: int,
) -> tuple[pd.DataFrame, LevelTest]:
    """Every pair of tasks' shared heads at `k`, and whether tasks of one level share more than others; both stored."""
    import pandas as pd

    ceilings = {
        name: split_half_ceiling(
            _of_existing_heads(task),
            task.sampled if sign == "positive" else ~correct_flags(task.effects),
            task.effects.images,
            sign=sign,
            k=k,
            seed=seed,
        )
        for name, task in tasks.items()
    }
    frame = shared_heads({name: task.scores for name, task in tasks.items()}, sign=sign, k=k, seed=seed, ceilings=ceilings)
    test = level_test_of(frame, levels, categories, seed=seed)
    samples = next(iter(tasks.values())).effects.samples
    row = asdict(test) | {"model": model, "pool": "score", "measure": "logit_diff", "sign": sign, "k": k}
    row |= {column: samples[column].iloc[0] for column in ("operation", "positions")}
    tables = {"shared_head_tests": _as_stored(frame, model, tasks, levels), "level_tests": pd.DataFrame([row])}
    keys = [key for task in tasks.values() for key in task.effects.samples["key"].to_numpy(dtype=object)]
    with workspace.store.transaction() as connection:
        replace_tables(connection, None, tables, keys, runs=[task.outcome.run for task in tasks.values()])
    return frame.assign(model=model), test


def _of_existing_heads(task: ScoredHeads) -> np.ndarray:
    """The effects of a task, `[n, layers, heads]`; where layers differ in heads, all that there are as one layer."""
    exists = task.scores.exists
    return task.effects.values if exists.all() else task.effects.values[:, exists][:, None]


def _as_stored(frame: pd.DataFrame, model: str, tasks: Mapping[str, ScoredHeads], levels: Mapping[str, str]) -> pd.DataFrame:
    """The table as the store names its columns."""
    samples = next(iter(tasks.values())).effects.samples
    side = "n_sampled" if frame["sign"].iloc[0] == "positive" else "n_wrong"
    counts = {name: getattr(task.scores, side) for name, task in tasks.items()}
    names = {"first": "task_a", "second": "task_b", "expected_overlap": "expected", "null": "null_name"}
    names |= {"ceiling_first": "ceiling_a", "ceiling_second": "ceiling_b"}
    stored = frame.rename(columns=names)
    stored = stored.assign(
        model=model,
        pool="score",
        measure="logit_diff",
        level_a=stored["task_a"].map(levels),
        level_b=stored["task_b"].map(levels),
        n_a=stored["task_a"].map(counts),
        n_b=stored["task_b"].map(counts),
        status=stored["overlap"].isna().map({True: "unresolved", False: "tested"}),
    )
    for column in ("operation", "positions", "stack"):
        stored[column] = samples[column].iloc[0]
    return stored.drop(columns=["heads"])
