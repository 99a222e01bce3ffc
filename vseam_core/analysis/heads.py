"""Scores of attention heads from the effects of replacing them one at a time, and which heads pass a claim.

Two protocols stand side by side in one table and are never mixed. The columns `positive`, `negative` and `signed` are
the published V-SEAM formulas (EMNLP 2025); no significance is claimed on them. All other columns are the claims
protocol, whose tests are in `head_claims` and whose meaning, size and power are in docs/statistics.md:

- `support` is the mean effect over all sampled questions, gold yes and gold no weighing alike: positive heads and suppressors are
  claimed on it. Means on correct and on wrong answers stand beside it as descriptions.
- `verdict` is about negative heads: `untested`, `none`, `candidate` (passes on the score pool), then `confirmed` or `not confirmed`
  (`with_verdicts`, from test images). Only confirmed heads have `claim_negative` and the sign `negative`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from vseam_core.analysis.frames import FLAG, NUMBER, TEXT, WHOLE, nullable_frame, optional
from vseam_core.analysis.head_claims import (
    FLOOR_FACTOR,
    FOUND_IN,
    MINIMUM_ANSWERS,
    MINIMUM_RELIABILITY,
    SPLITS,
    Claim,
    Flags,
    MeanMap,
    Samples,
    mean_map,
    mean_over,
    negative_claim,
    sampled_claims,
    smallest_effect,
)
from vseam_core.analysis.statistics import Array, cluster_codes, finite
from vseam_core.api.types import HeadId

Sign = Literal["positive", "negative"]
Verdict = Literal["untested", "none", "candidate", "confirmed", "not confirmed"]

CLAIM_MEASURES: tuple[str, ...] = ("logit_diff", "logprob")

HEAD_COLUMNS: dict[str, str] = {
    "stack": TEXT,
    **dict.fromkeys(("layer", "head", "n", "n_sampled", "n_correct", "n_wrong"), WHOLE),
    **dict.fromkeys(("positive", "negative", "signed"), NUMBER),
    **dict.fromkeys(("support", "se_support", "low_support", "high_support", "support_yes", "support_no"), NUMBER),
    **dict.fromkeys(("p_positive", "q_positive", "p_suppressor", "q_suppressor"), NUMBER),
    **dict.fromkeys(("mean_correct", "se_correct", "low_correct", "high_correct", "mean_correct_yes", "mean_correct_no"), NUMBER),
    **dict.fromkeys(("mean_wrong", "se_wrong", "low_wrong", "high_wrong", "mean_wrong_yes", "mean_wrong_no"), NUMBER),
    **dict.fromkeys(("p_negative", "q_negative"), NUMBER),
    **dict.fromkeys(("claim_positive", "claim_suppressor", "claim_negative"), FLAG),
    "verdict": TEXT,
    "sign": TEXT,
    "resolved": FLAG,
    **dict.fromkeys(("reliability_support", "reliability_support_rest", "reliability_correct"), NUMBER),
    **dict.fromkeys(("reliability_wrong", "reliability_wrong_rest"), NUMBER),
    **dict.fromkeys(("irregular_support", "irregular_wrong", "below_noise_floor"), FLAG),
    "reason": TEXT,
}


ABSENT = "its layer has no head of this number"
"""The reason in the row of a head that there is not: layers of a model may differ in heads."""


@dataclass(frozen=True, eq=False)
class HeadScores:
    """The scores of all heads of one stack on one task: a row per head in `frame` (columns `HEAD_COLUMNS`, nulls instead of NaN).

    A map (`support` over the sampled questions, `wrong` over the wrong answers) is resolved when its split-half reliability over images
    reaches `MINIMUM_RELIABILITY`; otherwise its reason says why, as it does where nothing can be tested or nothing passes.
    `base_correct` and `base_wrong` are the mean measure without any replacement, to hold effects against.
    """

    frame: pd.DataFrame
    measure: str
    stack: str
    shape: tuple[int, int]
    n: int
    n_sampled: int
    n_correct: int
    n_wrong: int
    base_correct: float | None
    base_wrong: float | None
    reliability_support: float | None
    reliability_wrong: float | None
    resolved_support: bool
    resolved_wrong: bool
    reason_support: str
    reason_wrong: str

    @property
    def exists(self) -> NDArray[np.bool_]:
        """Which heads the model has, bool `[layers, heads]`: all, where its layers do not differ."""
        return np.asarray(self.frame["reason"].fillna("") != ABSENT, dtype=bool).reshape(self.shape)

    def map(self, column: str) -> Array | None:
        """A column as `[layers, heads]`, NaN for heads that were not measured, or None where it is null throughout."""
        values = self.frame[column]
        return None if values.isna().all() else values.to_numpy(dtype=np.float64, na_value=np.nan).reshape(self.shape)

    def with_verdict(self, verdict: Verdict) -> list[HeadId]:
        """The heads with a verdict, those that raise wrong answers most first."""
        rows = self.frame[self.frame["verdict"] == verdict].sort_values("mean_wrong", kind="stable")
        return [HeadId(int(layer), int(head), self.stack) for layer, head in zip(rows["layer"], rows["head"], strict=True)]


def with_verdicts(scores: HeadScores, verdicts: Mapping[HeadId, Verdict]) -> HeadScores:
    """The same scores after candidates were tried on test images: their verdicts, and what follows from them."""
    frame = scores.frame.copy()
    for head, verdict in verdicts.items():
        row = (frame["layer"] == head.layer) & (frame["head"] == head.head)
        frame.loc[row, "verdict"] = verdict
        frame.loc[row, "claim_negative"] = verdict == "confirmed"
        if verdict == "confirmed":
            frame.loc[row & (frame["sign"] == "none"), "resolved"] = scores.resolved_wrong
            frame.loc[row & (frame["sign"] == "none"), "sign"] = "negative"
    confirmed = int((frame["verdict"] == "confirmed").sum())
    tried = sum(verdict in ("confirmed", "not confirmed") for verdict in verdicts.values())
    reason = scores.reason_wrong if confirmed or not tried else f"{tried} candidates, none confirmed on test images"
    return replace(scores, frame=frame, reason_wrong=reason)


def score_heads(
    effects: ArrayLike,
    base: ArrayLike,
    correct: ArrayLike,
    gold_yes: ArrayLike | None,
    clusters: ArrayLike,
    *,
    measure: str,
    seed: int,
    sampled: ArrayLike | None = None,
    stack: str = "decoder",
    splits: int = SPLITS,
    noise_floor: float = 0.0,
    family: int | None = None,
) -> HeadScores:
    """Scores every head from `effects` `[n, layers, heads]`, the measure without minus with the head replaced.

    `base` `[n]` is the measure without replacement, `correct` `[n]` whether the baseline answer was right, `gold_yes`
    `[n]` whether the gold answer is yes (None for open questions: the claims then rest on all samples as one class),
    `clusters` `[n]` the images. `sampled` `[n]` flags the samples that were drawn without a look at the answer (None: all): positive
    heads and suppressors are claimed on those alone. Published formulas: positive = mean over correct of max(0, effect),
    negative = mean over wrong of max(0, -effect), signed = mean over all; they are the published scores when `measure` is
    `published_prob` and `correct` is `correct_published`. On measures outside `CLAIM_MEASURES` no p-values are given. A
    head whose mean stays below 3 × `noise_floor` passes no claim. `family` is the number of heads that these were
    chosen from, where it is larger: q-values hold over all of them. Raises `ValueError` for NaN, infinity or arrays that do not
    belong together.
    """
    samples = _checked(effects, base, correct=correct, gold=gold_yes, sampled=sampled, clusters=clusters)
    right, wrong = samples.correct, ~samples.correct
    maps = {
        "support": mean_map(samples, samples.sampled, seed, splits, balanced=True),
        "correct": mean_map(samples, right, seed, splits),
        "wrong": mean_map(samples, wrong, seed, splits),
    }
    claims = _claims(samples, maps, measure, FLOOR_FACTOR * noise_floor, family)
    reasons = _reasons(samples, maps, claims, family)
    values = np.asarray(base, dtype=np.float64)
    return HeadScores(
        frame=_frame(samples, maps, claims=claims, reasons=reasons, stack=stack, least=FLOOR_FACTOR * noise_floor),
        measure=measure,
        stack=stack,
        shape=(samples.effects.shape[1], samples.effects.shape[2]),
        n=len(right),
        base_correct=float(values[right].mean()) if right.any() else None,
        base_wrong=float(values[wrong].mean()) if wrong.any() else None,
        **_of_maps(maps, reasons),
    )


def _of_maps(maps: Mapping[str, MeanMap], reasons: Mapping[str, str]) -> dict[str, Any]:
    """What scores say of their maps, by their fields."""
    found: dict[str, Any] = {"n_sampled": maps["support"].n, "n_correct": maps["correct"].n, "n_wrong": maps["wrong"].n}
    for name in ("support", "wrong"):
        of_one = {"reliability": maps[name].reliability, "resolved": maps[name].resolved, "reason": reasons[name]}
        found |= {f"{field}_{name}": value for field, value in of_one.items()}
    return found


def _checked(
    effects: ArrayLike, base: ArrayLike, correct: ArrayLike, gold: ArrayLike | None, sampled: ArrayLike | None, clusters: ArrayLike
) -> Samples:
    array, values = finite("effects", effects), finite("base", base)
    if array.ndim != 3:
        raise ValueError(f"effects must be [n, layers, heads], got shape {array.shape}")
    right = _flags("correct", correct)
    golden = None if gold is None else _flags("gold_yes", gold)
    drawn = np.ones(len(array), dtype=bool) if sampled is None else _flags("sampled", sampled)
    if any(part is not None and part.shape != array.shape[:1] for part in (values, right, golden, drawn)):
        raise ValueError(f"base, correct, gold_yes and sampled must have one entry for each of {len(array)} samples")
    return Samples(array, right, golden, drawn, cluster_codes(clusters, len(array))[0])


def _flags(name: str, values: ArrayLike) -> Flags:
    array = finite(name, values)
    if not np.isin(array, (0, 1)).all():
        raise ValueError(f"{name} must be true or false for every sample")
    return array.astype(bool)


def _claims(samples: Samples, maps: Mapping[str, MeanMap], measure: str, least: float, family: int | None) -> dict[str, Claim]:
    """The claims by name; a published measure claims nothing."""
    none = np.zeros(samples.effects.shape[1:], dtype=bool)
    if measure not in CLAIM_MEASURES:
        nothing = Claim(none, reason=f"{measure} is a published measure: nothing is claimed on it")
        return dict.fromkeys(("positive", "suppressor", "negative"), nothing)
    large = [none if found.mean is None else np.asarray(np.abs(found.mean) >= least) for found in (maps["support"], maps["wrong"])]
    positive, suppressor = sampled_claims(samples, family, large[0])
    return {"positive": positive, "suppressor": suppressor, "negative": negative_claim(samples, family, large[1])}


def _reasons(samples: Samples, maps: Mapping[str, MeanMap], claims: Mapping[str, Claim], family: int | None) -> dict[str, str]:
    """What a reader has to know about each map: not resolved, not tested, or that nothing passes and what would have."""
    reasons = {}
    for name, claim, answers in (("support", "positive", "answers"), ("wrong", "negative", "wrong answers")):
        found, said = maps[name], [claims[claim].reason]
        if found.n < MINIMUM_ANSWERS:
            said = [f"too few {answers} ({found.n} < {MINIMUM_ANSWERS})"]
        elif not found.resolved:
            said.insert(0, _unresolved(found.reliability, found.n, answers))
        if claims[claim].p_value is not None and not claims[claim].passes.any():
            rows = samples.sampled if name == "support" else ~samples.correct
            images = tuple(count for part in samples.classes(rows).values() if (count := samples.images(part)) >= 1)
            effect = smallest_effect(images, max(family or 0, samples.effects[0].size))
            if effect is not None:
                percent = f"{100 * FOUND_IN:.0f} %"
                said.append(
                    f"no head passes: {' + '.join(map(str, images))} images find an effect of {effect:.2f} SD in {percent} of cases"
                )
        reasons[name] = "; ".join(filter(None, said))
    return reasons


def _unresolved(reliability: float | None, n: int, answers: str) -> str:
    shown = "cannot be computed" if reliability is None else f"{_below(reliability)} < {MINIMUM_RELIABILITY}"
    return f"{answers} not resolved at n = {n}: split-half reliability {shown}"


def _below(reliability: float) -> str:
    """Two decimals, or as many more as it takes not to look like the limit itself."""
    text = f"{reliability:.2f}"
    return text if float(text) < MINIMUM_RELIABILITY else f"{reliability:.4f}"


def _frame(
    samples: Samples, maps: Mapping[str, MeanMap], claims: Mapping[str, Claim], reasons: Mapping[str, str], stack: str, least: float
) -> pd.DataFrame:
    """One row per head, in the order of layers and heads."""
    effects, correct = samples.effects, samples.correct
    _, layers, heads = effects.shape
    total = layers * heads
    published = {
        "positive": mean_over(np.maximum(0, effects), correct) if correct.any() else None,
        "negative": mean_over(np.maximum(0, -effects), ~correct) if not correct.all() else None,
        "signed": effects.mean(axis=0) if len(effects) else None,
    }
    columns: dict[str, Any] = {name: optional(values) for name, values in published.items()}
    for name, found in maps.items():
        mean = "support" if name == "support" else f"mean_{name}"
        columns |= {mean: optional(found.mean), f"se_{name}": optional(found.standard_error)}
        columns |= {f"low_{name}": optional(found.low), f"high_{name}": optional(found.high)}
        columns |= {f"{mean}_yes": optional(found.mean_yes), f"{mean}_no": optional(found.mean_no)}
        columns[f"reliability_{name}"] = [found.reliability] * total
        if name != "correct":
            columns[f"reliability_{name}_rest"] = [found.reliability_rest] * total
            columns[f"irregular_{name}"] = None if found.irregular is None else found.irregular.ravel().tolist()
    for name, claim in claims.items():
        columns |= {f"p_{name}": optional(claim.p_value), f"q_{name}": optional(claim.q_value)}
    columns |= {f"claim_{name}": claims[name].passes.ravel().tolist() for name in ("positive", "suppressor")}
    columns["claim_negative"] = [False] * total
    candidates = claims["negative"].passes.ravel()
    tested = claims["negative"].p_value is not None
    columns["verdict"] = ["candidate" if flag else "none" if tested else "untested" for flag in candidates]
    columns["sign"] = ["positive" if flag else "none" for flag in claims["positive"].passes.ravel()]
    rows = []
    for index in range(total):
        row = {name: None if values is None else values[index] for name, values in columns.items()}
        row |= {"stack": stack, "layer": index // heads, "head": index % heads, "resolved": maps["support"].resolved}
        row |= {"n": len(effects), "n_sampled": maps["support"].n, "n_correct": maps["correct"].n, "n_wrong": maps["wrong"].n}
        known = [abs(value) for name in ("support", "mean_wrong") if (value := row[name]) is not None]
        row["below_noise_floor"] = max(known, default=0.0) < least
        row["reason"] = "; ".join(dict.fromkeys(filter(None, (reasons["support"], reasons["wrong"]))))
        rows.append(row)
    return nullable_frame(rows, HEAD_COLUMNS)
