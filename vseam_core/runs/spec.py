"""What one unit of work hands to the store: plain records, written in one transaction.

A unit is computed in memory first and saved whole, so a run that is killed leaves either all of a unit or nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from vseam_core.api.types import HeadEffect, ModelInfo, Pair, Sample, TraceEffect

if TYPE_CHECKING:
    from vseam_core.api.prompts import EncodedPrompt


@dataclass(frozen=True)
class RunSpec:
    """One method on one model × dataset. Equal identities are one run, whatever the limit, device or batch size.

    `configuration` holds the parts of the experiment (`Experiment.open`): every plugin with its version and options, every setting that
    changes the result. `dataset` is the registered name, with `pool` and `split` beside it.
    """

    method: str
    method_version: int
    model: ModelInfo
    dataset: str
    level: str
    category: str
    pool: str
    split: str
    configuration: Mapping[str, Any]
    seed: int = 0


@dataclass(frozen=True)
class Baseline:
    """One model answer on one image, without any intervention.

    `correct_published`: argmax in the answer's ids; `correct_strict`: the greedy answer judged by the benchmark's official rule, which
    gives it `score`.
    `answer_prob` is p[A[0]], `prob_sum` and `logit` sum p and average logits over A; `sequence_logprob` is of the whole answer.
    `pair_role` is "" for a plain sample, "clean" or "corrupt" for an image of a pair, "control" for a control edit.
    """

    sample: Sample
    predicted: str
    answer_prob: float
    prob_sum: float
    logit: float
    logit_diff: float | None
    sequence_logprob: float
    correct_published: bool
    correct_strict: bool
    score: float
    pair_role: Literal["", "clean", "corrupt", "control"] = ""


@dataclass(frozen=True)
class Answer:
    """One answer of an evaluation: the greedy text, what the official rule gives it, and what the first token says.

    `gold_probability` and `competitor_probability` are the masses of both answers' surface variants where they first differ,
    `logit_diff` the log of their ratio, `first_token_correct` whether gold has more. They are None where a competitor is unknown or the
    vocabulary cannot tell the two apart; `note` says which. `pair_role` is as in `Baseline`.
    """

    sample: Sample
    predicted: str
    score: float
    correct: bool
    first_token_correct: bool | None = None
    gold_probability: float | None = None
    competitor_probability: float | None = None
    logit_diff: float | None = None
    note: str = ""
    pair_role: Literal["", "clean", "corrupt", "control"] = ""


@dataclass(frozen=True)
class Ablation:
    """One condition: a set of heads replaced on the test pool. `trial` numbers the random sets, -1 is the selected set.

    `condition` is `selected`, `random`, `cumulative` (top 1…k) or `faithfulness` (everything but the set). `drop` is
    base minus ablated accuracy, with its error over images and its 95 % interval (no error where no answer changed);
    `pair_accuracy` is null without pairs.
    """

    condition: str
    sign: str
    operation: str
    size: int
    trial: int
    heads: tuple[str, ...]
    n: int
    accuracy: float
    mean_probability: float
    mean_logit_diff: float
    drop: float
    drop_error: float | None = None
    drop_low: float | None = None
    drop_high: float | None = None
    pair_accuracy: float | None = None


@dataclass(frozen=True)
class FittedRescaling:
    """A head rescaling evaluated once: its scales, how it was chosen, where it was measured and what came out."""

    recipe: str
    role: str
    scales: Mapping[str, float]
    strength: float
    top_k: int
    clip: float | None
    chosen_on: str
    evaluated_on: str
    n: int
    accuracy: float
    base_accuracy: float
    gain: float
    gain_error: float | None
    p_value: float | None
    gain_low: float | None = None
    gain_high: float | None = None
    pair_accuracy: float | None = None


@dataclass(frozen=True)
class UnitResult:
    """Everything that one finished (or skipped) unit leaves behind.

    `key` is the unit's identity (a hash of everything that changes its result); `identifier` names the sample or condition
    for people; `subject` is what the unit is about (`Unit.subject`; empty: the identifier). Saving a unit that holds NaN or
    infinity turns it into a skip that names the sample.
    """

    key: str
    identifier: str
    status: Literal["done", "skipped"] = "done"
    reason: str = ""
    samples: tuple[Sample, ...] = ()
    prompts: tuple[tuple[Sample, EncodedPrompt], ...] = ()
    pairs: tuple[Pair, ...] = ()
    baselines: tuple[Baseline, ...] = ()
    answers: tuple[Answer, ...] = ()
    trace_effects: tuple[tuple[Pair, TraceEffect], ...] = ()
    head_effects: tuple[tuple[Sample, HeadEffect], ...] = ()
    ablations: tuple[Ablation, ...] = ()
    modulations: tuple[FittedRescaling, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    subject: str = ""
