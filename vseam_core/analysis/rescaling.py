"""Head rescaling: the scales, the grid and the choice among settings, and the controls that a gain must beat.

Scales multiply a head's output: 1 leaves it alone. Everything fitted here is fitted on the *choose* pool and reported
on *test*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vseam_core.analysis.heads import HeadScores
from vseam_core.analysis.statistics import Array, Estimate, clustered_mean, finite, generator
from vseam_core.api.types import HeadId

PUBLISHED_RANGE = (0.0, 2.0)
STRENGTHS: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)
TOP_KS: tuple[int, ...] = (1, 2, 4)
CLIPS: tuple[float | None, ...] = (None, 1.0)


@dataclass(frozen=True)
class Setting:
    """One point of the grid: strength λ, heads per sign k, and the largest allowed change |s - 1| (None: unlimited)."""

    strength: float
    top_k: int
    clip: float | None = None


UNCHANGED = Setting(0.0, 0)
"""No rescaling: every choice weighs its settings against this one."""


@dataclass(frozen=True)
class SettingResult:
    """What a setting gave on the choose pool: its accuracy and the size of its change (`scale_change`)."""

    setting: Setting
    accuracy: float
    change: float


@dataclass(frozen=True)
class YesNoBias:
    """A threshold on logit(yes) - logit(no) fitted on the choose pool: yes above it. 0 is the model's own answer."""

    threshold: float
    accuracy: float
    n: int

    def answers(self, scores: ArrayLike) -> np.ndarray:
        """Whether the answer is yes, for `scores` `[n]` = logit(yes) - logit(no)."""
        return finite("scores", scores) > self.threshold

    def evaluate(self, scores: ArrayLike, gold_yes: ArrayLike, clusters: ArrayLike) -> Estimate:
        """Accuracy on other samples (the test pool) with its clustered error."""
        right = self.answers(scores) == np.asarray(gold_yes, dtype=bool)
        return clustered_mean(right.astype(np.float64), clusters)


def published_scales(signed_scores: ArrayLike, strength: float = 1.0) -> Array:
    """The published rescaling s = clip(1 + λ·score, 0, 2) of every head, `[layers, heads]`.

    `signed_scores` are the published signed scores in probability: near 0.003, so that this is nearly no change.
    """
    return np.clip(1 + strength * finite("scores", signed_scores), *PUBLISHED_RANGE)


def scaled_by_rank(
    scores: ArrayLike,
    positive_heads: Sequence[HeadId],
    negative_heads: Sequence[HeadId],
    strength: float,
    clip: float | None = None,
) -> Array:
    """s = 1 + λ·score / max|score| over the given heads, 1 elsewhere, `[layers, heads]`; |s - 1| is at most `clip`.

    `scores` `[layers, heads]` are positive for positive heads and negative for negative ones (`rescaling_scores`).
    Raises `ValueError` for a score of the wrong sign, which would turn a head the wrong way, and for a head in both
    lists.
    """
    values = finite("scores", scores)
    scales = np.ones_like(values)
    contested = set(positive_heads) & set(negative_heads)
    if contested:
        raise ValueError(f"heads in both lists: {', '.join(map(str, sorted(contested)))}")
    signed = [(head, 1) for head in positive_heads] + [(head, -1) for head in negative_heads]
    wrong = [str(head) for head, sign in signed if sign * values[head.layer, head.head] <= 0]
    if wrong:
        raise ValueError(f"scores must be positive for positive and negative for negative heads, not so for {', '.join(wrong)}")
    largest = max((abs(values[head.layer, head.head]) for head, _ in signed), default=1.0)
    for head, _ in signed:
        change = strength * values[head.layer, head.head] / largest
        scales[head.layer, head.head] += change if clip is None else np.clip(change, -clip, clip)
    return scales


def rescaling_scores(scores: HeadScores, positive_heads: Sequence[HeadId], negative_heads: Sequence[HeadId]) -> Array:
    """The scores for `scaled_by_rank`, `[layers, heads]`: mean effect on sampled questions for positive heads, on wrong for negative.

    The mean over all answers would not do for negative heads: it is positive for most of them, since most answers are
    correct. Zero for all other heads.
    """
    result = np.zeros(scores.shape)
    for heads, column in ((positive_heads, "support"), (negative_heads, "mean_wrong")):
        values = scores.map(column)
        for head in heads:
            if values is None:
                raise ValueError(f"{head} is selected, but {column} is unknown")
            result[head.layer, head.head] = values[head.layer, head.head]
    return result


def rescaling_grid(
    strengths: Sequence[float] = STRENGTHS, top_ks: Sequence[int] = TOP_KS, clips: Sequence[float | None] = CLIPS
) -> list[Setting]:
    """Every setting that differs from the others: a clip that λ never reaches is the same as none and left out."""
    settings = []
    for strength, top_k, clip in product(strengths, top_ks, clips):
        setting = Setting(strength, top_k, None if clip is None or clip >= abs(strength) else clip)
        if setting not in settings:
            settings.append(setting)
    return settings


def scale_change(scales: ArrayLike) -> float:
    """How much a rescaling changes: the root of the summed squares of s - 1 over heads."""
    return float(np.linalg.norm(finite("scales", scales) - 1))


def choose(results: Sequence[SettingResult]) -> SettingResult:
    """The setting with the highest accuracy on the choose pool.

    Ties go to the smallest change, then to fewer heads, then to the smaller strength, then to the tighter clip: of
    equals the one that does least. Pass `UNCHANGED` among the results to let no rescaling win. Raises `ValueError` for
    no results or NaN.
    """
    if not results:
        raise ValueError("there is no setting to choose from")
    accuracies = finite("accuracies", [result.accuracy for result in results])
    changes = finite("changes", [result.change for result in results])
    best = [index for index in range(len(results)) if accuracies[index] >= accuracies.max() - 1e-12]

    def cost(index: int) -> tuple[float, int, float, float]:
        setting = results[index].setting
        return round(changes[index], 12), setting.top_k, abs(setting.strength), np.inf if setting.clip is None else setting.clip

    return results[min(best, key=cost)]


def shuffled_within_layers(scales: ArrayLike, count: int, seed: int, exists: NDArray[np.bool_] | None = None) -> Array:
    """A control: the same scales dealt to other heads of the same layer, `[count, layers, heads]`.

    `exists` `[layers, heads]` says which heads there are, where layers differ (None: all); only they are dealt to. A shuffle may leave a
    layer as it was by chance, as any permutation test allows.
    """
    values = finite("scales", scales)
    random = generator(seed, "shuffled within layers")
    dealt = np.array(np.broadcast_to(values, (count, *values.shape)))
    if exists is None or exists.all():
        return random.permuted(dealt, axis=2)
    for layer, there in enumerate(exists):
        dealt[:, layer, there] = random.permuted(dealt[:, layer, there], axis=1)
    return dealt


def fit_yes_no_bias(scores: ArrayLike, gold_yes: ArrayLike) -> YesNoBias:
    """The threshold on `scores` `[n]` = logit(yes) - logit(no) with the highest accuracy, found among all of them.

    Accuracy changes only at scores, so every interval between neighbouring scores is tried. Of equals the one nearest
    to 0 wins; the threshold is 0 where 0 lies in the best interval, else the interval's middle (half a unit beyond the
    outermost score). Raises `ValueError` for no samples or NaN.
    """
    values, gold = finite("scores", scores), np.asarray(gold_yes, dtype=bool)
    if not len(values) or values.shape != gold.shape:
        raise ValueError(f"scores and gold_yes must be one entry per sample, got shapes {values.shape} and {gold.shape}")
    levels, places = np.unique(values, return_inverse=True)
    yes = np.bincount(places, weights=gold, minlength=len(levels))
    no = np.bincount(places, weights=~gold, minlength=len(levels))
    # Interval i holds thresholds above the i lowest levels: those are answered no, all others yes.
    right = np.concatenate([[0], np.cumsum(no)]) + yes.sum() - np.concatenate([[0], np.cumsum(yes)])
    starts, ends = np.concatenate([[-np.inf], levels]), np.concatenate([levels, [np.inf]])
    middle = (np.concatenate([[levels[0] - 1], levels]) + np.concatenate([levels, [levels[-1] + 1]])) / 2
    # The middle of two neighbouring floats can be the upper one, which would fall out of the interval.
    thresholds = np.where((starts <= 0) & (ends > 0), 0.0, np.where(middle < ends, middle, starts))
    best = np.flatnonzero(right == right.max())
    threshold = float(thresholds[best[np.argmin(np.abs(thresholds[best]))]])
    return YesNoBias(threshold, float(right.max() / len(values)), len(values))
