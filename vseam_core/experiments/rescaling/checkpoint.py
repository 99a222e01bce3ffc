"""A fitted head rescaling as a checkpoint folder of its own: the same answers without any hook, wherever it is loaded."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vseam_core.config.defaults import RESCALING
from vseam_core.errors import VseamError
from vseam_core.runs.workspace import Workspace
from vseam_core.store.records import NamedRescaling

if TYPE_CHECKING:
    import pandas as pd

RECORD_FILE = "rescaling.json"
FITTED = "fitted"


def fitted_scales(modulations: pd.DataFrame, model: str, dataset: str, role: str = FITTED) -> dict[str, float]:
    """The factors by head name of a model on a dataset, from the rows of `StudyMaterial.modulations`.

    `role`: `fitted`, those that were chosen on the choose pool, or `published`, those of the published recipe, which nothing chose.
    Raises `VseamError` where there are none, or leaving every head alone was the best choice.
    """
    chosen = _rows_of(modulations, model, dataset, role)
    if not len(chosen):
        none = "no rescaling was fitted" if role == FITTED else f"there is no {role} rescaling"
        raise VseamError(f"{model} on {dataset}: {none}, since no head could be ranked; scan more answers (--limit)")
    scales = dict(chosen.iloc[0]["scales"])
    if not scales:
        raise VseamError(
            f"{model} on {dataset}: no rescaling of the grid beat leaving all heads alone on the choose pool, so none is saved; "
            "--save-role published saves that of the published recipe"
        )
    return scales


def _rows_of(modulations: pd.DataFrame, model: str, dataset: str, role: str) -> pd.DataFrame:
    if not len(modulations):
        return modulations
    return modulations[(modulations["model"] == model) & (modulations["dataset"] == dataset) & (modulations["role"] == role)]


def name_rescaling(workspace: Workspace, name: str, modulations: pd.DataFrame, model: str, dataset: str, role: str = FITTED) -> None:
    """Keep the factors of a model on a dataset in the store under a name; `role` is as for `fitted_scales`.

    Raises `VseamError` as `fitted_scales` does, for a name that would be taken for the number of a run, and for one that is taken.
    """
    if not name.strip() or name.split(":")[0].isdigit():
        raise VseamError(f"--save-as {name!r}: a name must not be a number, which would be a run's")
    scales = fitted_scales(modulations, model, dataset, role)
    here = _rows_of(modulations, model, dataset, role)
    run = int(here.iloc[0]["run_id"]) if "run_id" in here else 0
    weights = workspace.model(model).model.info.weights_hash
    workspace.store.name_rescaling(name, NamedRescaling(model, weights, dataset, scales, run))


def require_free_folder(folder: Path) -> None:
    """Raise `VseamError` unless a checkpoint can be written at `folder`: it is not there yet, or empty."""
    if folder.is_dir():
        if any(folder.iterdir()):
            raise VseamError(f"{folder}: the folder is not empty; name a new one for the checkpoint")
    elif folder.exists():
        raise VseamError(f"{folder}: there is a file of that name; name a new folder for the checkpoint")


def save_rescaled_model(workspace: Workspace, model_name: str, scales: Mapping[str, float], folder: Path, fitted_on: str = "") -> Path:
    """Write a model whose heads are multiplied by `scales` ("L3H5" → factor) to a new checkpoint folder.

    The factors go into the columns of the output projections, which equals scaling the heads at all positions. The folder holds
    weights, processor and `rescaling.json` (what was scaled, and the weights it started from), or nothing at all if anything
    fails. Raises `VseamError` for a folder that is not empty, `UnsupportedError` for weights that cannot be multiplied.
    """
    require_free_folder(folder)
    loaded = workspace.model(model_name)
    intervention = workspace.plugins.head_intervention(RESCALING, factors=scales)
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        with intervention.folded(loaded.model):
            loaded.model.save(made)
        info = loaded.model.info
        record = {"model": model_name, "weights_hash": info.weights_hash, "fitted_on": fitted_on, "scales": dict(scales)}
        (made / RECORD_FILE).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        made.chmod(0o755)  # a temporary folder is for its owner only
        made.replace(folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return folder
