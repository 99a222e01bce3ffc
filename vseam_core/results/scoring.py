"""From the stored effects of one run to its scores: recomputed from the effects, stored with a hash of the sample set."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vseam_core.analysis.heads import HeadScores
from vseam_core.analysis.screening import score_verified_heads
from vseam_core.analysis.traces import PairTrace, aggregate_random_model, aggregate_traces
from vseam_core.api.interventions import TOP_TOKEN
from vseam_core.runs.runner import Outcome
from vseam_core.runs.workspace import Workspace

ESTIMATE = "logit_diff_estimate"
"""The measure of effects that a screening estimated instead of running them."""
_CORRECTNESS = {"logit_diff": "correct_strict", "published_prob": "correct_published"}
"""The measures that heads are scored by, and when an answer is right: claims go by the benchmark's rule."""

if TYPE_CHECKING:
    import pandas as pd

    from vseam_core.store.records import HeadEffectSet, TraceRecord


def pair_traces(records: Sequence[TraceRecord], noise_floor: float) -> list[PairTrace]:
    """Stored trace effects with their flags; the noise floor is in nats and holds for `logit_diff` alone."""
    return [
        PairTrace(
            effect=record.effect,
            cluster=record.image_id,
            clean_right=bool(record.clean_correct),
            corrupt_flipped=bool(record.corrupt_correct),
            noise_floor=noise_floor if record.effect.measure == "logit_diff" else 0.0,
            sample=record.identifier,
        )
        for record in records
    ]


def read_traces(workspace: Workspace, outcome: Outcome, noise_floor: float) -> list[PairTrace]:
    """The stored effects of a trace run's finished pairs, with their flags; ids of tokens are not among them, they have no mean."""
    records = workspace.store.trace_effects(outcome.run, outcome.keys)
    return pair_traces([record for record in records if record.effect.measure != TOP_TOKEN], noise_floor)


def aggregate_trace_run(
    workspace: Workspace, outcome: Outcome, traces: Sequence[PairTrace], random_pairs: Collection[str] = ()
) -> pd.DataFrame:
    """The trace scores of one run over its finished pairs (`read_traces`); stored.

    `random_pairs` names the samples that random models are traced on: the scores on these pairs alone stand beside the others.
    """
    frame = aggregate_traces(traces)
    same = [trace for trace in traces if trace.sample in random_pairs]
    if same:
        import pandas as pd

        frame = pd.concat([frame, aggregate_random_model(same)], ignore_index=True)
    workspace.store.replace_scores("trace_scores", outcome.run, frame, outcome.keys)
    return frame


@dataclass(frozen=True, eq=False)
class ScoredHeads:
    """The head scores of one scan by one measure, the effects they came from, and which samples were drawn whatever the answer."""

    scores: HeadScores
    effects: HeadEffectSet
    outcome: Outcome
    sampled: np.ndarray


def aggregate_head_run(
    workspace: Workspace, outcome: Outcome, noise_floor: float, sampled: Collection[str] | None = None
) -> dict[str, ScoredHeads]:
    """The head scores of one run by measure: claims on `logit_diff`, the published formulas on `published_prob`; stored.

    `sampled` names the samples that were drawn without a look at the answer (None: all), on which positive heads are claimed.
    """
    import pandas as pd

    scored, frames = {}, []
    exists: np.ndarray | None = None
    found = workspace.store.head_effects_by_measure(outcome.run, tuple(_CORRECTNESS), keys=outcome.keys)
    for measure, effects in found.items():
        correctness = _CORRECTNESS[measure]
        if exists is None:
            exists = existing_heads(workspace, outcome, effects)
        floor = noise_floor if measure == "logit_diff" else 0.0
        scores = score_effects(
            effects, measure, correctness=correctness, seed=workspace.seed, noise_floor=floor, sampled=sampled, exists=exists
        )
        scored[measure] = ScoredHeads(scores, effects, outcome, sampled_flags(effects, sampled))
        frames.append(_as_stored(scores, effects))
    if frames:
        workspace.store.replace_scores("head_scores", outcome.run, pd.concat(frames), outcome.keys)
    return scored


def existing_heads(workspace: Workspace, outcome: Outcome, effects: HeadEffectSet) -> np.ndarray:
    """Which heads the model of a scan has, bool `[layers, heads]`: those that were estimated, where it was a screening, else all run."""
    run = ~np.isnan(effects.values).all(axis=0)
    estimates = effects if run.all() else workspace.store.head_effects(outcome.run, measure=ESTIMATE, keys=outcome.keys)
    return np.asarray(~np.isnan(estimates.values).all(axis=0) if len(estimates) else run, dtype=bool)


def store_accuracy(workspace: Workspace, baselines: pd.DataFrame) -> pd.DataFrame:
    """The accuracy of one model on one dataset by split, with its errors; stored. `baselines` are rows as `summarise` reads them."""
    from vseam_core.evaluation.summary import summarise

    frame = summarise(baselines, by=("model", "dataset", "category", "level", "pool", "split"))
    workspace.store.replace_scores("accuracies", None, frame, baselines["key"])
    return frame


def store_verdicts(workspace: Workspace, scored: ScoredHeads) -> None:
    """Put the scores of a scan in the place of its stored ones, after its candidates were tried on test images."""
    frame = _as_stored(scored.scores, scored.effects)
    workspace.store.replace_scores("head_scores", scored.outcome.run, frame, scored.outcome.keys)


def _as_stored(scores: HeadScores, effects: HeadEffectSet) -> pd.DataFrame:
    """The table of scores with what its effects have in common."""
    frame = scores.frame.assign(measure=scores.measure, pool=one_pool(effects.samples["pool"].unique()))
    for column in ("operation", "positions"):
        frame[column] = effects.samples[column].iloc[0]
    return frame


def one_pool(pools: Iterable[str]) -> str:
    """The pool of some samples: `all` where they are of several (and where there are none: nothing was left out)."""
    found = list(dict.fromkeys(pools))
    return str(found[0]) if len(found) == 1 else "all"


def score_effects(
    effects: HeadEffectSet,
    measure: str,
    correctness: str,
    seed: int,
    noise_floor: float,
    sampled: Collection[str] | None = None,
    exists: np.ndarray | None = None,
) -> HeadScores:
    """`score_verified_heads` on stored effects; open questions have no gold classes yes and no."""
    samples = effects.samples
    yes_no = bool((samples["form"] == "yes_no").all())
    return score_verified_heads(
        effects.values,
        effects.base,
        samples[correctness].to_numpy(dtype=bool),
        (samples["answer"].str.lower() == "yes").to_numpy() if yes_no else None,
        effects.images,
        measure=measure,
        seed=seed,
        stack=str(samples["stack"].iloc[0]),
        noise_floor=noise_floor,
        sampled=sampled_flags(effects, sampled),
        exists=exists,
    )


def sampled_flags(effects: HeadEffectSet, sampled: Collection[str] | None) -> np.ndarray:
    """Whether each scanned sample was drawn without a look at its answer, bool `[n]`; None: all were."""
    names = effects.samples["identifier"]
    return np.ones(len(names), dtype=bool) if sampled is None else names.isin(list(sampled)).to_numpy(dtype=bool)


def correct_flags(effects: HeadEffectSet) -> np.ndarray:
    """Whether each scanned sample was answered right, bool `[n]`."""
    return effects.samples["correct_strict"].to_numpy(dtype=bool)
