"""Evaluates many sets of changed heads on the same samples: what ablation curves and rescaling grids have in common."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from vseam_core.api.interfaces import Benchmark, Editor
from vseam_core.api.interventions import AnswerValues
from vseam_core.api.types import Pair, Pool, Sample
from vseam_core.engine.base import Engine
from vseam_core.errors import SampleError, UnsupportedError, VseamError
from vseam_core.experiments.encoding import Prepared, prepare, prepare_pair
from vseam_core.experiments.heads.changes import Change
from vseam_core.runs.workspace import LoadedModel, Workspace


@dataclass(frozen=True, eq=False)
class EvaluationSet:
    """Prepared samples of one pool and split, each with its edited twin where it has one, and the names of those left out."""

    name: str
    clean: tuple[Prepared, ...]
    corrupt: tuple[Prepared | None, ...]
    left_out: tuple[tuple[str, str], ...] = ()

    @property
    def clusters(self) -> list[str]:
        """The image of each sample: what standard errors are clustered by."""
        return [prepared.sample.image_id for prepared in self.clean]

    @property
    def identity(self) -> list[str]:
        """What the set contributes to the identity of a unit."""
        keys = [prepared.prompt.key + prepared.sample.answer for prepared in self.clean]
        return keys + [prepared.prompt.key if prepared else "" for prepared in self.corrupt]


def evaluation_set(
    workspace: Workspace,
    loaded: LoadedModel,
    benchmark: Benchmark,
    pool: Pool,
    split: str,
    limit: int,
    editor: Editor | None,
) -> EvaluationSet:
    """The first `limit` samples of a pool, with edited twins if an editor is given; prepared once and kept by the workspace."""

    def make() -> EvaluationSet:
        samples = benchmark.samples(pool, split, limit, workspace.seed)
        prepared = _prepare_set(f"{benchmark.name}/{pool}/{split}", loaded, samples, editor, workspace.seed)
        _say_what_is_left_out(workspace, prepared)
        return prepared

    return workspace.kept(("evaluation set", loaded.model.info, benchmark.name, pool, split, limit, editor), make)


def _say_what_is_left_out(workspace: Workspace, prepared: EvaluationSet) -> None:
    """Raises `VseamError` where no sample is left."""
    if not prepared.left_out:
        return
    identifier, reason = prepared.left_out[0]
    if not prepared.clean:
        raise VseamError(f"{prepared.name}: none of its {len(prepared.left_out)} samples can be used, such as {identifier}: {reason}")
    names = ", ".join(name for name, _ in prepared.left_out)
    workspace.progress.note(f"{prepared.name}: left out of ablation and rescaling: {names} ({reason})")


def _prepare_set(name: str, loaded: LoadedModel, samples: Iterable[Sample], editor: Editor | None, seed: int) -> EvaluationSet:
    """Broken samples are left out by name."""
    clean: list[Prepared] = []
    corrupt: list[Prepared | None] = []
    left_out: list[tuple[str, str]] = []
    for sample in samples:
        try:
            pair = _edited(editor, sample, seed)
            if pair is None:
                clean.append(prepare(loaded, sample))
                corrupt.append(None)
            else:
                prepared = prepare_pair(loaded, pair)
                clean.append(prepared.clean)
                corrupt.append(prepared.corrupt)
        except (SampleError, UnsupportedError) as error:
            left_out.append((sample.identifier, str(error)))
    return EvaluationSet(name, tuple(clean), tuple(corrupt), tuple(left_out))


def _edited(editor: Editor | None, sample: Sample, seed: int) -> Pair | None:
    """The sample's pair; one that cannot be edited is measured on its own image only."""
    try:
        return editor.edit(sample, seed) if editor else None
    except SampleError:
        return None


_SAMPLES_AT_ONCE = 32


@dataclass(frozen=True, eq=False)
class Answers:
    """The answers of one condition on an evaluation set, sample by sample.

    `correct` bool `[samples]`, `probability` of the gold answer, `logit_diff`, and `pair_correct` (right on clean and on corrupt;
    NaN for a sample without a twin), all float64. An intervention with several variants (resampling donors) is averaged over them.
    """

    correct: np.ndarray
    probability: np.ndarray
    logit_diff: np.ndarray
    pair_correct: np.ndarray

    @property
    def accuracy(self) -> float:
        return float(self.correct.mean())

    @property
    def pair_accuracy(self) -> float | None:
        known = self.pair_correct[~np.isnan(self.pair_correct)]
        return float(known.mean()) if len(known) else None


def evaluate_conditions(engine: Engine, conditions: Sequence[Change], samples: EvaluationSet) -> list[Answers]:
    """The answers under every change. All runs on some samples go to the engine together, so that it can share among them."""
    members = [
        (side, index, prepared)
        for side, prompts in enumerate((samples.clean, samples.corrupt))
        for index, prepared in enumerate(prompts)
        if prepared is not None
    ]
    shape = (2, len(conditions), len(samples.clean))
    correct, probability, difference = (np.full(shape, np.nan) for _ in range(3))
    for start in range(0, len(members), _SAMPLES_AT_ONCE):
        part = members[start : start + _SAMPLES_AT_ONCE]
        groups = [[condition.runs(prepared) for condition in conditions] for _, _, prepared in part]
        results = iter(engine.run([run for of_sample in groups for group in of_sample for run in group]))
        for (side, index, prepared), of_sample in zip(part, groups, strict=True):
            for row, group in enumerate(of_sample):
                values = [next(results).answer for _ in group]
                correct[side, row, index] = np.mean([_is_correct(value, prepared) for value in values])
                probability[side, row, index] = np.mean([math.exp(value.logprob) for value in values])
                difference[side, row, index] = np.mean([value.logit_diff for value in values])
    return [
        Answers(correct[0, row], probability[0, row], difference[0, row], correct[0, row] * correct[1, row])
        for row in range(len(conditions))
    ]


def _is_correct(value: AnswerValues, prepared: Prepared) -> bool:
    """Whether the most likely token begins the gold answer."""
    return value.top in prepared.answer.gold
