"""Screening of heads by gradient estimates: which heads to run exactly, how well the estimates agreed, scores of the verified ones.

The best heads by their estimates are run exactly, and beside them a random sample of the rest: without it nobody could say what
the screening missed. Whatever is said about all heads weighs the random sample up to the heads that it stands for; the best
heads alone would make any estimate look good, or, since they differ little among themselves, bad.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from vseam_core.analysis.frames import NUMBER, TEXT, WHOLE, nullable_frame
from vseam_core.analysis.head_claims import FLOOR_FACTOR
from vseam_core.analysis.heads import ABSENT, HEAD_COLUMNS, HeadScores, score_heads
from vseam_core.analysis.statistics import Array, finite, generator
from vseam_core.api.types import HeadId

LEAST_TOP, LEAST_RANDOM = 8, 3
FEWEST_RANKED = 3
"""Heads below which a rank correlation says nothing."""
MATTERS, VANISHES = 0.1, 0.1
"""A gradient vanishes where the estimate is below a tenth of an effect that is at least a tenth of the largest."""
CONFIDENCE = 0.95

SCREENING_COLUMNS: dict[str, str] = {
    "subset": TEXT,
    "n": WHOLE,
    "heads": WHOLE,
    "top": WHOLE,
    "random": WHOLE,
    "rank_correlation": NUMBER,
    "rank_top": NUMBER,
    "rank_random": NUMBER,
    "scale": NUMBER,
    "strongest": WHOLE,
    "threshold": NUMBER,
    "recall": NUMBER,
    "recall_low": NUMBER,
    "recall_high": NUMBER,
    "vanished": TEXT,
    "reason": TEXT,
}


@dataclass(frozen=True, eq=False)
class HeadChoice:
    """The heads to run exactly: `top` and `random`, both bool `[layers, heads]` without overlap."""

    top: NDArray[np.bool_]
    random: NDArray[np.bool_]

    @property
    def verified(self) -> NDArray[np.bool_]:
        """Both together."""
        return self.top | self.random


def default_top(heads: int) -> int:
    """How many heads are verified by default: one in 40, at least 8.

    Verifying is what a screening costs: a tenth of the heads would take at least a ninth of the exact scan's time, random ones
    included, and up to twice that where the best heads lie in early layers.
    """
    return min(heads, max(LEAST_TOP, heads // 40))


def random_beside(top: int, rest: int) -> int:
    """How many of the `rest` of the heads are verified beside the `top` ones: a tenth as many, at least 3."""
    return min(rest, max(LEAST_RANDOM, -(-top // 10)))


def choose_heads(estimates: Mapping[str, ArrayLike], top: int, seed: int) -> HeadChoice:
    """The `top` heads by |mean estimate|, and at random a tenth as many (at least 3) of the others, drawn with `seed`.

    `estimates` holds a map of means `[layers, heads]` for each subset of samples (correct and wrong answers), NaN where layers differ and
    there is no such head; the subsets' rankings give a head in turn until there are `top`. Raises `ValueError` for infinity, no maps, or
    maps of several shapes.
    """
    given = {name: np.asarray(values, dtype=np.float64) for name, values in estimates.items()}
    if not given or len({values.shape for values in given.values()}) != 1 or top < 1:
        raise ValueError("choosing heads takes at least one map of estimates, all of one shape, and a positive number of heads")
    shape = next(iter(given.values())).shape
    there = np.flatnonzero(~np.isnan(list(given.values())).all(axis=0))
    maps = [np.abs(finite(name, values.ravel()[there])) for name, values in given.items()]
    in_turn = np.stack([there[np.argsort(-values, kind="stable")] for values in maps], axis=1).ravel()
    chosen = list(dict.fromkeys(in_turn.tolist()))[: min(top, len(there))]
    rest = np.setdiff1d(there, chosen)
    count = random_beside(len(chosen), len(rest))
    drawn = generator(seed, "screening").choice(rest, count, replace=False) if count else rest
    flags = np.zeros((2, np.prod(shape, dtype=int)), dtype=bool)
    flags[0, chosen], flags[1, drawn] = True, True
    return HeadChoice(flags[0].reshape(shape), flags[1].reshape(shape))


def agreement(estimates: ArrayLike, exact: ArrayLike, choice: HeadChoice, *, noise_floor: float = 0.0) -> dict[str, Any]:
    """How mean estimates `[layers, heads]` agreed with mean exact effects (NaN outside `choice`): a row of `SCREENING_COLUMNS`.

    `rank_correlation` is Spearman's over all heads, the random ones weighing as many as they stand for; `rank_top` and `rank_random`
    are those within each part (None below 3 heads). `scale` is Σ|estimate| / Σ|exact|: below 1 gradients understate effects.

    Recall asks for the `strongest` heads, a quarter as many as were screened: of all heads whose |exact effect| reaches that of the
    `strongest`-th verified one (`threshold`), the share that is among the top. Heads that the screening left out are counted in
    the random sample and weighed up; `recall_low` and `recall_high` are 95 % limits, exact for a sample without replacement from so
    many heads (hypergeometric Clopper–Pearson). `vanished` names the verified heads whose effect is at least 3 × `noise_floor` and a
    tenth of the largest, but whose estimate is below a tenth of it: there the gradient vanishes (saturation).
    """
    verified = choice.verified
    array = np.asarray(estimates, dtype=np.float64)
    guess, truth = finite("estimates", array[verified]), finite("exact effects", np.asarray(exact)[verified])
    drawn = choice.random[verified]
    # NaN is no head, where layers differ.
    there = ~np.isnan(array)
    rest = int((there & ~choice.top).sum())
    weights = np.where(drawn, rest / max(1, int(drawn.sum())), 1.0)
    enough = int(drawn.sum()) >= FEWEST_RANKED or rest == 0
    total = float(np.abs(truth).sum())
    row: dict[str, Any] = {"heads": int(there.sum()), "top": int(choice.top.sum()), "random": int(drawn.sum())}
    row["rank_correlation"] = weighted_rank_correlation(guess, truth, weights) if enough else None
    for name, part in (("rank_top", ~drawn), ("rank_random", drawn)):
        row[name] = weighted_rank_correlation(guess[part], truth[part], np.ones(int(part.sum())))
    row["scale"] = float(np.abs(guess).sum()) / total if total else None
    return row | _recall(np.abs(truth), drawn, rest) | _vanished(guess, truth, np.argwhere(verified), noise_floor)


def _recall(size: Array, drawn: NDArray[np.bool_], rest: int) -> dict[str, Any]:
    strongest = max(1, int((~drawn).sum()) // 4)
    threshold = float(np.sort(size)[-strongest])
    row: dict[str, Any] = {"strongest": strongest, "threshold": threshold}
    if not threshold > 0:
        return row
    found, missed, sampled = (int(np.count_nonzero(part)) for part in (size[~drawn] >= threshold, size[drawn] >= threshold, drawn))
    if rest and not sampled:
        return row
    fewest, most = _missed_limits(missed, sampled, rest)
    expected = rest * missed / sampled if sampled else 0.0
    names = (("recall", expected), ("recall_low", most), ("recall_high", fewest))
    return row | {name: found / (found + count) if found + count else None for name, count in names}


def _missed_limits(missed: int, sampled: int, rest: int) -> tuple[int, int]:
    """The fewest and the most heads among `rest` that may reach the threshold when `missed` of `sampled` drawn ones do."""
    if not rest:
        return 0, 0
    from scipy import stats  # a second of importing, for screenings only

    counts = np.arange(missed, rest - (sampled - missed) + 1)
    tail = (1 - CONFIDENCE) / 2
    as_few = stats.hypergeom.cdf(missed, rest, counts, sampled) >= tail
    as_many = stats.hypergeom.sf(missed - 1, rest, counts, sampled) >= tail
    return int(counts[as_many].min()), int(counts[as_few].max())


def _vanished(guess: Array, truth: Array, places: NDArray[np.intp], noise_floor: float) -> dict[str, Any]:
    size = np.abs(truth)
    matters = (size >= FLOOR_FACTOR * noise_floor) & (size >= MATTERS * size.max(initial=0.0)) & (size > 0)
    heads = places[matters & (np.abs(guess) < VANISHES * size)]
    named = [str(HeadId(int(layer), int(head))) for layer, head in heads]
    layers = sorted({int(layer) for layer, _ in heads})
    where = f"layer{'s' if len(layers) > 1 else ''} {', '.join(map(str, layers))}"
    reason = f"saturation: gradients vanish for {len(named)} of {int(matters.sum())} heads that matter, {where}" if named else ""
    return {"vanished": " ".join(named), "reason": reason}


def weighted_rank_correlation(first: ArrayLike, second: ArrayLike, weights: ArrayLike) -> float | None:
    """Spearman's correlation where each entry stands for `weights` entries of the population: Pearson's of weighted midranks.

    With equal weights it is the ordinary one. None below 3 entries or where one side is constant.
    """
    one, two, weight = finite("first", first), finite("second", second), finite("weights", weights)
    if len(one) < FEWEST_RANKED or np.ptp(one) == 0 or np.ptp(two) == 0:
        return None
    ranks = [_weighted_midranks(values, weight) for values in (one, two)]
    covariance = np.cov(np.stack(ranks), aweights=weight)
    return float(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))


def _weighted_midranks(values: Array, weights: Array) -> Array:
    below = values[:, None] > values[None]
    equal = values[:, None] == values[None]
    return (below * weights).sum(axis=1) + (equal * weights).sum(axis=1) / 2


def score_verified_heads(
    effects: ArrayLike, *arguments: ArrayLike | None, exists: NDArray[np.bool_] | None = None, **settings: Any
) -> HeadScores:
    """`score_heads` where only some heads were run: `effects` `[n, layers, heads]` is NaN for the heads that were not.

    `exists` `[layers, heads]` says which heads there are (None: all); the others are no candidates.

    Only verified heads are tested, and only they can pass. Their q-values hold over all heads, those that were screened out counting
    as candidates too: they were chosen by estimates on the same samples, so that a correction over the chosen ones alone would be too
    small.
    Rows of the others are null and say why. Raises `ValueError` where a head was run on some samples only.
    """
    array = np.asarray(effects, dtype=np.float64)
    known = ~np.isnan(array)
    verified: NDArray[np.bool_] = np.asarray(known.any(axis=0))
    if (known != verified).any():
        raise ValueError("a head must be measured on every sample or on none")
    if verified.all():
        return score_heads(array, *arguments, **settings)  # type: ignore[arg-type]
    there = np.ones_like(verified) if exists is None else np.asarray(exists, dtype=bool)
    family = None if (verified == there).all() else int(there.sum())
    scores = score_heads(array[:, verified][:, None], *arguments, family=family, **settings)  # type: ignore[arg-type]
    return replace(scores, frame=_placed(scores, verified, there), shape=verified.shape)


def _placed(scores: HeadScores, verified: NDArray[np.bool_], there: NDArray[np.bool_]) -> pd.DataFrame:
    """The rows of the verified heads at their layers and heads, null rows for all others."""
    common = {"stack": scores.stack, "n": scores.n, "n_correct": scores.n_correct, "n_wrong": scores.n_wrong, "sign": "none"}
    common |= {"n_sampled": scores.n_sampled, "verdict": "untested", "resolved": False}
    common |= dict.fromkeys(("claim_positive", "claim_suppressor", "claim_negative"), False)
    left_out = f"not run exactly: its estimate is not among those of the {int(verified.sum())} verified heads"
    places = [
        {**common, "layer": int(layer), "head": int(head), "reason": left_out if there[layer, head] else ABSENT}
        for layer, head in np.argwhere(~verified)
    ]
    layers, heads = np.nonzero(verified)
    placed = scores.frame.assign(
        layer=pd.array(layers, dtype=HEAD_COLUMNS["layer"]),  # type: ignore[call-overload]
        head=pd.array(heads, dtype=HEAD_COLUMNS["head"]),  # type: ignore[call-overload]
    )
    return pd.concat([placed, nullable_frame(places, HEAD_COLUMNS)]).sort_values(["layer", "head"], ignore_index=True)
