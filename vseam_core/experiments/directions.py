"""Directions between yes and no at one site of every layer: fitted on the pairs of the choose pool, tried on those of the test pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from vseam_core.analysis.directions import Direction, fitted_directions
from vseam_core.api.interventions import SiteKind
from vseam_core.api.types import Pool, Skip
from vseam_core.config.defaults import EDITOR
from vseam_core.config.editor_settings import EditorChoice
from vseam_core.errors import SampleError, UnsupportedError, VseamError
from vseam_core.evaluation.accuracy import accuracy_estimate
from vseam_core.experiments.encoding import prepare_pair
from vseam_core.runs.experiment import Experiment
from vseam_core.runs.runner import Unit
from vseam_core.runs.spec import UnitResult
from vseam_core.runs.workspace import Workspace

EXPERIMENT = Experiment("directions", version=2)
FITTED_ON: Pool = "choose"
TRIED_ON: Pool = "test"
DirectionSite = Literal["residual_after", "attention_output", "mlp_output"]


@dataclass(frozen=True)
class DirectionOptions:
    """At which site, and how many pairs of each pool. Activations are those of the last position, where the answer is given."""

    site: DirectionSite = "residual_after"
    editor: EditorChoice | str = EDITOR
    split: str = "plain"
    limit: int | None = 100


@dataclass(frozen=True, eq=False)
class FittedDirections:
    """What was fitted: `rows`, one for each layer and kind, with both accuracies, and `vectors` by name (`L3.difference`)."""

    run: int
    rows: list[dict[str, Any]]
    vectors: dict[str, np.ndarray]
    about: dict[str, Any]
    skips: list[Skip]


@dataclass(frozen=True, eq=False)
class _Examples:
    """Activations `[n, layers, width]`, true for yes, and the images that they are of."""

    values: np.ndarray
    labels: np.ndarray
    images: list[str]
    samples: list[str]
    skips: list[Skip]


def fit_directions(workspace: Workspace, model: str, dataset: str, options: DirectionOptions, study: int | None = None) -> FittedDirections:
    """Fit on one pool, try on another, and store the accuracies (table `direction_scores`).

    Pools share no image. Raises `UnsupportedError` for questions that are not answered by yes and no, and `VseamError` where a pool has too
    few pairs.
    """
    parts = {"site": options.site, "editor": workspace.editor_component(options.editor)}
    opened = EXPERIMENT.open(workspace, model, dataset, pool=TRIED_ON, split=options.split, parts=parts, study=study)
    fit, held_out = (_examples(workspace, model, dataset, options, pool) for pool in (FITTED_ON, TRIED_ON))
    if shared := set(fit.images) & set(held_out.images):
        raise VseamError(f"{dataset}: image {min(shared)} is in the pools {FITTED_ON} and {TRIED_ON}, so that nothing would be held out")
    rows, vectors = [], {}
    for layer in range(fit.values.shape[1]):
        for direction in fitted_directions(fit.values[:, layer], fit.labels, workspace.seed + layer):
            vectors[f"L{layer}.{direction.kind}"] = direction.vector
            rows.append(_row(layer, direction, fit, held_out))
    key = opened.key(of="accuracies", samples=[*fit.samples, *held_out.samples])
    unit = Unit(key, dataset, None)
    opened.run_units([unit], lambda _: [UnitResult(key, dataset, details={"directions": rows})], f"{model} directions on {dataset}")
    workspace.store.replace_scores("direction_scores", opened.run, pd.DataFrame(rows).assign(site=options.site), [key])
    info = opened.loaded.model.info
    about = {
        "model": model,
        "weights_hash": info.weights_hash,
        "dataset": dataset,
        "site": options.site,
        "stack": opened.loaded.engine.shape.stack,
        "classes": ["yes", "no"],
        "seed": workspace.seed,
    }
    return FittedDirections(opened.run, rows, vectors, about, [*fit.skips, *held_out.skips])


def _row(layer: int, direction: Direction, fit: _Examples, held_out: _Examples) -> dict[str, Any]:
    right = direction.sides(held_out.values[:, layer]) == held_out.labels
    estimate = accuracy_estimate(right.astype(np.float64), np.array(held_out.images))
    # Where one of the two images of every pair is right the images do not differ, and their spread says nothing.
    ends = (None, None) if estimate.low == estimate.high else (estimate.low, estimate.high)
    return {
        "layer": layer,
        "kind": direction.kind,
        "fitted": direction.accuracy(fit.values[:, layer], fit.labels),
        "held_out": estimate.mean,
        "low": ends[0],
        "high": ends[1],
        "norm": float(np.linalg.norm(direction.vector)),
        "n_fitted": len(fit.labels),
        "n_held_out": len(held_out.labels),
        "images": len(set(held_out.images)),
    }


def _examples(workspace: Workspace, model: str, dataset: str, options: DirectionOptions, pool: Pool) -> _Examples:
    """What the site holds at the last position for both images of every pair of a pool."""
    loaded, benchmark, editor = workspace.model(model), workspace.benchmark(dataset), workspace.editor(options.editor)
    kind: SiteKind = options.site
    sites = [(layer, kind) for layer in range(loaded.engine.shape.layers)]
    values: list[np.ndarray] = []
    labels: list[bool] = []
    images: list[str] = []
    used: list[str] = []
    skips: list[Skip] = []
    for sample in benchmark.samples(pool, options.split, options.limit, workspace.seed):
        if sample.form != "yes_no":
            raise UnsupportedError(f"{dataset}: directions lie between yes and no, and its questions are open")
        try:
            prepared = prepare_pair(loaded, editor.edit(sample, workspace.seed))
        except (SampleError, UnsupportedError) as error:
            skips.append(Skip(sample.identifier, str(error)))
            continue
        for one in (prepared.clean, prepared.corrupt):
            held = loaded.engine.activations(one.prompt, sites)
            values.append(np.stack([held[site][-1].float().cpu().numpy() for site in sites]))
            labels.append(one.sample.answer.strip().lower() == "yes")
            images.append(sample.image_id)
            used.append(one.prompt.key)
    if len(set(labels)) < 2:
        raise VseamError(f"{dataset}: pool {pool} has no pairs with both answers to find a direction between")
    return _Examples(np.stack(values).astype(np.float64), np.array(labels), images, used, skips)


def summary(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows as a table shows them: a line for each layer, each kind's held-out accuracy beside the others."""
    layers = sorted({int(row["layer"]) for row in rows})
    lines = []
    for layer in layers:
        here = {str(row["kind"]): row for row in rows if row["layer"] == layer}
        first = next(iter(here.values()))
        counts = {name: first[name] for name in ("norm", "n_fitted", "n_held_out", "images")}
        lines.append({"layer": layer, **{kind: row["held_out"] for kind, row in here.items()}, **counts})
    return lines
