"""Sets of heads: those that pass a claim, exploratory rankings, and matched random sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from math import comb, prod
from typing import Literal, overload

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from vseam_core.analysis.head_claims import MINIMUM_ANSWERS
from vseam_core.analysis.heads import HeadScores, Sign
from vseam_core.analysis.multiple_testing import FEWEST_SETS
from vseam_core.analysis.statistics import Array, finite, generator
from vseam_core.api.types import HeadId
from vseam_core.errors import counted

SMALLEST_STRATUM = 4
"""Heads of a layer that are exchanged with each other, at least."""


@dataclass(frozen=True)
class HeadSelection(Sequence[HeadId]):
    """Heads in order of strength; it reads like a list. `exploratory`: a ranking without any claim.

    `reason` says why there are fewer than the `requested` heads, and is empty when there are not.
    """

    heads: tuple[HeadId, ...]
    requested: int
    exploratory: bool = False
    reason: str = ""

    @property
    def complete(self) -> bool:
        """Whether there are as many heads as were asked for."""
        return len(self.heads) >= self.requested

    def __len__(self) -> int:
        return len(self.heads)

    @overload
    def __getitem__(self, index: int) -> HeadId: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[HeadId, ...]: ...
    def __getitem__(self, index: int | slice) -> HeadId | tuple[HeadId, ...]:
        return self.heads[index]

    def __iter__(self) -> Iterator[HeadId]:
        return iter(self.heads)


def select_heads(
    scores: HeadScores, sign: Sign, k: int, seed: int, *, exclusive: bool = False, require_resolved: bool = True
) -> HeadSelection:
    """The `k` strongest heads that pass the claim of `sign`; fewer, with a reason, where fewer pass.

    Strongest by the mean effect on all sampled questions (positive) or on wrong answers (negative, confirmed ones only), ties broken
    by `seed`. A map that is
    not resolved gives none unless `require_resolved` is off. `exclusive` takes only heads whose `sign` it is, so that
    no head is in the positive and in the negative selection.
    """
    _check_size(k)
    resolved, reason = _side_state(scores, sign)
    if require_resolved and not resolved:
        return HeadSelection((), k, reason=reason)
    frame = scores.frame
    passing = frame["sign"] == sign if exclusive else frame[f"claim_{sign}"]
    chosen = _strongest(scores, frame[passing.to_numpy(dtype=bool)], column=_claim_column(sign), sign=sign, k=k, seed=seed)
    if len(chosen) < k:
        reason = "; ".join(filter(None, (f"{len(chosen)} of {k} heads pass as {sign}", reason)))
        return HeadSelection(chosen, k, reason=reason)
    return HeadSelection(chosen, k)


def ranked_heads(scores: HeadScores, sign: Sign, k: int, seed: int, *, by: Literal["claims", "published"] = "claims") -> HeadSelection:
    """The `k` heads with the largest effects of `sign`, whether or not they pass a claim: exploratory, never a finding.

    Ranks by the mean effect on all sampled questions or on wrong answers, or by the published `positive` or `negative` score. Heads
    whose score has the wrong sign or is zero are left out; with fewer than `MINIMUM_ANSWERS` such answers there is no
    ranking.
    """
    _check_size(k)
    n = scores.n_sampled if sign == "positive" else scores.n_wrong
    if n < MINIMUM_ANSWERS:
        return HeadSelection((), k, True, _side_state(scores, sign)[1])
    column = _claim_column(sign) if by == "claims" else sign
    direction = -1 if by == "claims" and sign == "negative" else 1
    frame = scores.frame[(direction * scores.frame[column] > 0).fillna(False).to_numpy(dtype=bool)]
    chosen = _strongest(scores, frame, column=column, sign="negative" if direction < 0 else "positive", k=k, seed=seed)
    reason = "" if len(chosen) == k else f"{len(chosen)} of {k} heads have a {sign} score"
    return HeadSelection(chosen, k, True, reason)


@dataclass(frozen=True)
class MatchedSets:
    """Random sets to hold a selected one against: `sets` are distinct and none is the selected one.

    `possible` is how many sets the exchange allows, the selected one among them. With fewer than `FEWEST_SETS` random ones no p-value can
    be 0.05 or less, and `reason` says so.
    """

    sets: tuple[tuple[HeadId, ...], ...]
    possible: int
    reason: str = ""


def matched_random_sets(
    selected: Sequence[HeadId], norms: ArrayLike, count: int, seed: int, exists: NDArray[np.bool_] | None = None
) -> MatchedSets:
    """Up to `count` random sets of the same size, in the same layers and alike in ‖W_O z‖, for a permutation test of `selected`.

    `norms` `[layers, heads]` holds the mean ‖W_O z‖ of each head, `exists` which there are where layers differ (None: all). The heads of
    a layer are put into strata by norm, and those that are selected are exchanged with any others of their stratum, other selected ones
    included: under the null hypothesis that the selected heads are like their stratum, the selected set is one of all sets that this can
    give, and p = (1 + random sets that do at least as much) / (1 + random sets) is exact. (Sets drawn from the heads that are *not*
    selected are no such family, and reject too often.) Strata are as small as still gives `count` sets whatever heads of these layers are
    selected, at most whole layers. Raises `ValueError` for heads outside `norms`.
    """
    array = finite("norms", norms)
    heads = list(selected)
    there = np.ones(array.shape, dtype=bool) if exists is None else exists
    stack = _check_selected(heads, there)
    strata = _strata(heads, array, there, count)
    possible = prod(comb(len(members), len(chosen)) for members, chosen in strata)
    own = frozenset((head.layer, head.head) for head in heads)
    if possible - 1 <= count:
        choices = [list(combinations(members, len(chosen))) for members, chosen in strata]
        found = [frozenset(place for part in parts for place in part) for parts in product(*choices)]
        sets = [places for places in found if places != own]
    else:
        sets = _draw_sets(strata, own, count, generator(seed, "matched random sets"))
    reason = ""
    if len(sets) < FEWEST_SETS:
        reason = f"no p-value: {counted(len(sets), 'distinct set')} beside the selected one, at least {FEWEST_SETS} needed"
    return MatchedSets(tuple(tuple(HeadId(*place, stack) for place in sorted(places)) for places in sets), possible, reason)


def _check_size(k: int) -> None:
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")


def _claim_column(sign: Sign) -> str:
    if sign not in ("positive", "negative"):
        raise ValueError(f"sign must be 'positive' or 'negative', got {sign!r}")
    return "support" if sign == "positive" else "mean_wrong"


def _side_state(scores: HeadScores, sign: Sign) -> tuple[bool, str]:
    _claim_column(sign)
    if sign == "positive":
        return scores.resolved_support, scores.reason_support
    return scores.resolved_wrong, scores.reason_wrong


def _strongest(scores: HeadScores, frame: pd.DataFrame, column: str, sign: Sign, k: int, seed: int) -> tuple[HeadId, ...]:
    values = frame[column].to_numpy(dtype=np.float64)
    tie_break = generator(seed, "ties", column).random(scores.shape)
    places = list(zip(frame["layer"].tolist(), frame["head"].tolist(), strict=True))
    strength = -values if sign == "positive" else values
    order = sorted(range(len(places)), key=lambda index: (strength[index], tie_break[places[index]]))
    return tuple(HeadId(int(places[index][0]), int(places[index][1]), scores.stack) for index in order[:k])


def _check_selected(heads: list[HeadId], exists: NDArray[np.bool_]) -> str:
    layers, width = exists.shape
    inside = [0 <= head.layer < layers and 0 <= head.head < width and bool(exists[head.layer, head.head]) for head in heads]
    outside = [str(head) for head, there in zip(heads, inside, strict=True) if not there]
    if not heads or outside:
        raise ValueError(f"selected heads must lie in {layers} layers × {width} heads: {', '.join(outside) or 'none given'}")
    if len(set(heads)) != len(heads) or len({head.stack for head in heads}) != 1:
        raise ValueError("selected heads must be distinct and of one stack")
    return heads[0].stack


Place = tuple[int, int]
Stratum = tuple[list[Place], list[Place]]
"""Heads that may be exchanged, and those of them that are selected."""


def _strata(heads: Sequence[HeadId], norms: Array, exists: NDArray[np.bool_], count: int) -> list[Stratum]:
    """The strata that hold selected heads."""
    width = norms.shape[1]
    by_layer = Counter(head.layer for head in heads)
    size = SMALLEST_STRATUM
    # Depends on nothing but how many heads each layer gives, as every set of the exchange has to lead to the same strata.
    while size < width and (
        max(by_layer.values()) > size // 2 or prod(comb(size, number) for number in by_layer.values()) - 1 < max(count, FEWEST_SETS)
    ):
        size *= 2
    strata = []
    for layer in by_layer:
        there = np.flatnonzero(exists[layer])
        ranked = there[np.argsort(norms[layer, there], kind="stable")]
        for part in np.array_split(ranked, max(1, len(there) // size)):
            members = [(layer, int(head)) for head in part]
            chosen = [place for place in members if HeadId(*place, heads[0].stack) in heads]
            if chosen:
                strata.append((members, chosen))
    return strata


def _draw_sets(strata: Sequence[Stratum], own: frozenset[Place], count: int, random: np.random.Generator) -> list[frozenset[Place]]:
    """`count` distinct sets at random, none of them the selected one; there are more than that."""
    found: dict[frozenset[Place], None] = {}
    while len(found) < count:
        places = frozenset(
            members[index] for members, chosen in strata for index in random.choice(len(members), len(chosen), replace=False)
        )
        if places != own:
            found.setdefault(places)
    return list(found)


def selected_heads(scores: HeadScores, sign: Sign, k: int, seed: int) -> tuple[tuple[HeadId, ...], bool]:
    """The best heads for ablation and rescaling, and whether they are exploratory (ranked, without passing the claim)."""
    passing = select_heads(scores, sign, k, seed, exclusive=True)
    if passing.heads:
        return tuple(passing.heads), False
    return tuple(ranked_heads(scores, sign, k, seed).heads), True
