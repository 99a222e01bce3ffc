"""Copies of the embedded LLaVA with heads planted in them whose part in the answers is known by construction."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from scipy.linalg import eigh

from vseam_core.analysis.heads import HeadScores
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.api.types import HeadId
from vseam_core.config.study import Positions
from vseam_core.experiments.answering import BaselineOptions, run_baseline
from vseam_core.experiments.encoding import Prepared, encode_sample, prepare
from vseam_core.experiments.heads.confirming import ConfirmationOptions, confirm_candidates
from vseam_core.experiments.heads.samples import choose_samples
from vseam_core.experiments.heads.scan import run_scan
from vseam_core.experiments.heads.scanning import ScanOptions
from vseam_core.results.scoring import aggregate_head_run
from vseam_core.runs.workspace import LoadedModel, Workspace
from vseam_plugins.models.zoo import checkpoint_path

MODEL = "llava-tiny"
WEIGHTS = "model.safetensors"
HEADS, HEAD_DIM = 8, 16
# `noise_direction` of L3H6 on 48 questions about colours (`outputs_of(workspace, "scenes/color", 12)`), which takes seconds to find.
NOISE_OF_L3H6 = (
    -0.357, 0.0397, 0.4383, -1.1396, 0.6665, 0.3566, 0.9651, -0.5489,
    -0.2055, 0.1118, -0.5371, -0.0777, 0.4255, -0.8966, -1.3328, -0.8369
)  # fmt: skip

Edit = Callable[[dict[str, torch.Tensor]], None]
"""Changes weights, by their names in the file."""


@dataclass(frozen=True, eq=False)
class Outputs:
    """Head outputs (W_O's input) `[samples, layers, heads, head_dim]`, float64: at the prompt's `last` position and `after` the answer.

    `kinds` `[samples]` are pool, split and gold answer.
    """

    last: np.ndarray
    after: np.ndarray
    kinds: np.ndarray

    def means(self, head: HeadId) -> np.ndarray:
        """What a head outputs at the prompt's end on average, `[kinds, head_dim]`."""
        own = self.last[:, head.layer, head.head]
        return np.stack([own[self.kinds == kind].mean(axis=0) for kind in np.unique(self.kinds)])

    def push_direction(self, head: HeadId) -> np.ndarray:
        """The r whose product with the head's mean is 1 under every kind alike: with it a head says the same whatever the image shows."""
        means = self.means(head)
        found: np.ndarray = np.linalg.lstsq(means, np.ones(len(means)), rcond=1e-3)[0]
        return found

    def noise_direction(self, head: HeadId) -> np.ndarray:
        """The r along which the head varies most for what it holds of the answer (its means by kind), scaled to SD 1.

        And for what it holds after the answer, where noise would keep the model from ending it.
        """
        own, after, means = self.last[:, head.layer, head.head], self.after[:, head.layer, head.head], self.means(head)
        within = own - means[np.searchsorted(np.unique(self.kinds), self.kinds)]
        covariance = within.T @ within / len(own)
        small = 1e-3 * np.trace(covariance) / HEAD_DIM * np.eye(HEAD_DIM)
        unwanted = means.T @ means / len(means) + 4 * after.T @ after / len(after)
        direction: np.ndarray = eigh(covariance, unwanted + small)[1][:, -1]
        return direction / np.sqrt(direction @ covariance @ direction)


def outputs_of(workspace: Workspace, dataset: str, count: int = 40) -> Outputs:
    """The head outputs of the model as it is on `count` questions of every pool and split."""
    loaded, benchmark = workspace.model(MODEL), workspace.benchmark(dataset)
    last, after, kinds = [], [], []
    for pool, split in product(("score", "test"), ("plain", "hard")):
        for sample in benchmark.samples(pool, split, count, workspace.seed):
            asked = prepare(loaded, sample)
            answered = encode_sample(loaded, sample, loaded.model.answer_tokens(asked.free, sample.answer))
            last.append(_at_the_end(loaded, asked.prompt))
            after.append(_at_the_end(loaded, answered.prompt))
            kinds.append(f"{pool} {split} {sample.answer.lower()}")
    return Outputs(np.stack(last), np.stack(after), np.array(kinds))


def _at_the_end(loaded: LoadedModel, prompt: EncodedPrompt) -> np.ndarray:
    sites = [(layer, "head_output") for layer in range(loaded.engine.shape.layers)]
    found = loaded.engine.activations(prompt, sites)
    return np.stack([found[site].double().numpy()[-1].reshape(HEADS, HEAD_DIM) for site in sites])


def recorded_noise() -> np.ndarray:
    """A W_O with which L3H6 writes noise between yes and no, from the checkpoint's file and its recorded `noise_direction` alone."""
    weights = load_file(checkpoint_path(MODEL) / WEIGHTS)
    words = json.loads((checkpoint_path(MODEL) / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    rows, gain = (weights[f"language_model.{name}.weight"].double() for name in ("lm_head", "model.norm"))
    yes, no = (rows[[words[word], words[word.lower()]]].mean(0) for word in ("Yes", "No"))
    direction = ((yes - no) * gain).numpy()
    return np.outer(direction / np.linalg.norm(direction), NOISE_OF_L3H6)


def yes_minus_no(workspace: Workspace, asked: Prepared) -> np.ndarray:
    """The unit direction of the last residual that raises yes against no: the difference of their unembeddings, with the norm's gain."""
    module = workspace.model(MODEL).model.module
    rows, gain = module.lm_head.weight, module.model.language_model.norm.weight
    sides = {asked.sample.answer.lower(): asked.answer.gold, "": asked.answer.competitor}
    yes, no = (sides.get("yes") or sides[""]), (sides.get("no") or sides[""])
    with torch.no_grad():
        direction = ((rows[list(yes)].mean(0) - rows[list(no)].mean(0)) * gain).double().numpy()
    return direction / np.linalg.norm(direction)


def strength_of_harm(workspace: Workspace, head: HeadId, matrix: np.ndarray, asked: Sequence[Prepared], harm: float) -> float | None:
    """The least factor of a rough grid with which `matrix` as W_O costs that much accuracy, against a W_O of zero; None: none."""
    loaded = workspace.model(MODEL)
    weight = loaded.model.module.model.language_model.layers[head.layer].self_attn.o_proj.weight
    own = slice(head.head * HEAD_DIM, (head.head + 1) * HEAD_DIM)
    before = weight[:, own].detach().clone()

    def accuracy(strength: float) -> float:
        with torch.no_grad():
            weight[:, own] = torch.tensor(strength * matrix, dtype=torch.float32)
        values = loaded.engine.answers([one.prompt for one in asked], [one.answer for one in asked])
        return float(np.mean([value.logit_diff > 0 for value in values]))

    try:
        without = accuracy(0.0)
        return next((float(strength) for strength in np.geomspace(25, 160, 9) if without - accuracy(strength) >= harm), None)
    finally:
        with torch.no_grad():
            weight[:, own] = before


def write_into(head: HeadId, matrix: np.ndarray) -> Edit:
    """Sets a head's W_O, `[hidden, head_dim]`."""

    def edit(weights: dict[str, torch.Tensor]) -> None:
        part(weights, "o_proj", head)[:] = torch.tensor(matrix, dtype=torch.float32)

    return edit


def copy_head(source: HeadId, target: HeadId, kept: float, copied: float) -> Edit:
    """Makes `target` a twin of `source`, of the same layer: it writes `copied` times what that wrote, and `source` `kept` times."""

    def edit(weights: dict[str, torch.Tensor]) -> None:
        for name in ("q_proj", "k_proj", "v_proj"):
            part(weights, name, target)[:] = part(weights, name, source)
        written = part(weights, "o_proj", source).clone()
        part(weights, "o_proj", source)[:] = kept * written
        part(weights, "o_proj", target)[:] = copied * written

    return edit


def part(weights: dict[str, torch.Tensor], name: str, head: HeadId) -> torch.Tensor:
    """A head's part of a projection: columns of the output projection, rows of the others."""
    matrix = weights[f"language_model.model.layers.{head.layer}.self_attn.{name}.weight"]
    own = slice(head.head * HEAD_DIM, (head.head + 1) * HEAD_DIM)
    return matrix[:, own] if name == "o_proj" else matrix[own]


def planted(folder: Path, *edits: Edit) -> str:
    """A copy of the checkpoint with changed weights, as the name of a model."""
    shutil.copytree(checkpoint_path(MODEL), folder)
    weights = {name: tensor.float() for name, tensor in load_file(folder / WEIGHTS).items()}
    for edit in edits:
        edit(weights)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    return str(folder)


@dataclass(frozen=True)
class Sizes:
    """How many questions are answered (plain, hard), scanned (drawn, wrong ones), and asked to confirm candidates; donors per question.

    `operation` is what heads are replaced by in the scan, `positions` where: with dataset means, which bring no noise of their own, fewer
    questions tell as much, and a scan of the last position costs a fraction.
    """

    plain: int = 40
    hard: int = 120
    sampled: int = 40
    wrong: int = 40
    confirm: int = 160
    donors: int = 1
    reference: int = 32
    operation: str = "resample"
    positions: Positions = "all"


def claims(workspace: Workspace, model: str, dataset: str, sizes: Sizes) -> HeadScores:
    """What a study claims about the heads of a model: answers, scan, scores, candidates tried on test images."""
    asked = (("plain", sizes.plain), ("hard", sizes.hard))
    outcomes = [run_baseline(workspace, model, dataset, BaselineOptions("score", split, limit)) for split, limit in asked if limit]
    baselines = pd.concat([workspace.store.baselines(outcome.run) for outcome in outcomes])
    drawn = choose_samples(baselines, "plain", sizes.sampled, sizes.wrong).sampled
    options = ScanOptions(
        operation=sizes.operation,
        positions=sizes.positions,
        sampled=sizes.sampled,
        wrong=sizes.wrong,
        donors=sizes.donors if sizes.operation == "resample" else None,
        reference_size=sizes.reference,
    )
    outcome = run_scan(workspace, model, dataset, options, baselines)
    scores = aggregate_head_run(workspace, outcome, workspace.model(model).trust["noise_floor"] or 0.0, drawn)["logit_diff"].scores
    confirmation = ConfirmationOptions("hard", sizes.confirm, sizes.positions, sizes.reference)
    return confirm_candidates(workspace, model, dataset, confirmation, scores).scores
