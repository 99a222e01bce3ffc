"""Sets of heads: those that pass a claim, exploratory rankings, matched random sets, and curves over growing sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, overload

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from vseam_core.analysis.frames import NUMBER, WHOLE, nullable_frame
from vseam_core.analysis.heads import MINIMUM_ANSWERS, HeadScores, Sign
from vseam_core.analysis.statistics import Array, finite, generator
from vseam_core.api.types import HeadId
from vseam_core.errors import VseamError

ATTEMPTS = 5
LAST_ATTEMPTS = 50
"""Draws per missing set before the neighbourhood of norms is widened, and before sets are repeated."""
FIRST_NEIGHBOURS = 4

CURVE_COLUMNS: dict[str, str] = {
    "size": WHOLE,
    "kept": NUMBER,
    "ablated": NUMBER,
    "faithfulness": NUMBER,
    "completeness": NUMBER,
    "contribution": NUMBER,
}


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

    Strongest by the signed mean on correct (positive) or wrong (negative) answers, ties broken by `seed`. A map that is
    not resolved gives none unless `require_resolved` is off. `exclusive` takes only heads whose `sign` it is, so that
    no head is in the positive and in the negative selection.
    """
    _check_size(k)
    resolved, reason = _side_state(scores, sign)
    if require_resolved and not resolved:
        return HeadSelection((), k, reason=reason)
    frame = scores.frame
    passing = frame["sign"] == sign if exclusive else frame[f"claim_{sign}"]
    chosen = _strongest(scores, frame[passing.to_numpy(dtype=bool)], _claim_column(sign), sign, k, seed)
    if len(chosen) < k:
        reason = "; ".join(filter(None, (f"{len(chosen)} of {k} heads pass as {sign}", reason)))
        return HeadSelection(chosen, k, reason=reason)
    return HeadSelection(chosen, k)


def ranked_heads(scores: HeadScores, sign: Sign, k: int, seed: int, *, by: Literal["claims", "published"] = "claims") -> HeadSelection:
    """The `k` heads with the largest effects of `sign`, whether or not they pass a claim: exploratory, never a finding.

    Ranks by the signed mean on correct or wrong answers, or by the published `positive` or `negative` score. Heads
    whose score has the wrong sign or is zero are left out; with fewer than `MINIMUM_ANSWERS` such answers there is no
    ranking.
    """
    _check_size(k)
    n = scores.n_correct if sign == "positive" else scores.n_wrong
    if n < MINIMUM_ANSWERS:
        return HeadSelection((), k, True, _side_state(scores, sign)[1])
    column = _claim_column(sign) if by == "claims" else sign
    direction = -1 if by == "claims" and sign == "negative" else 1
    frame = scores.frame[(direction * scores.frame[column] > 0).fillna(False).to_numpy(dtype=bool)]
    chosen = _strongest(scores, frame, column, "negative" if direction < 0 else "positive", k, seed)
    reason = "" if len(chosen) == k else f"{len(chosen)} of {k} heads have a {sign} score"
    return HeadSelection(chosen, k, True, reason)


def matched_random_sets(selected: Sequence[HeadId], norms: ArrayLike, count: int, seed: int) -> list[list[HeadId]]:
    """`count` random sets to compare an ablation of `selected` with: same size, same layers, alike in ‖W_O z‖.

    `norms` `[layers, heads]` holds the mean ‖W_O z‖ of each head. Each selected head is replaced by one drawn from the
    heads of its layer that are nearest in norm and not selected: the 4 nearest at first; where these give fewer than
    `count` distinct sets, from more of the layer step by step, and only when the whole layer has been used do sets
    repeat. Where a layer has fewer others than selected heads, the rest come from the nearest layers that have some
    left. Raises `VseamError` when fewer heads are left over than are selected, `ValueError` for heads outside `norms`.
    """
    array = finite("norms", norms)
    heads = list(selected)
    stack = _check_selected(heads, array)
    random = generator(seed, "matched random sets")
    found: dict[frozenset[tuple[int, int]], list[HeadId]] = {}
    widest = array.shape[1]
    for width in range(min(FIRST_NEIGHBOURS, widest), widest + 1):
        attempts = LAST_ATTEMPTS if width == widest else ATTEMPTS
        for _ in range(attempts * (count - len(found))):
            drawn = _matched_set(heads, array, width, random)
            found.setdefault(frozenset(drawn), [HeadId(layer, head, stack) for layer, head in drawn])
            if len(found) >= count:
                return list(found.values())
    sets = list(found.values())
    return sets + [sets[index] for index in random.integers(0, len(sets), count - len(sets))]


def cumulative_measures(kept: ArrayLike, ablated: ArrayLike, *, full: float, floor: float, minimum_range: float = 0.01) -> pd.DataFrame:
    """Faithfulness, completeness and contribution of growing sets (top 1 … k), one row per size, columns `CURVE_COLUMNS`.

    `kept` `[k]` is the accuracy with only the top heads (all others replaced), `ablated` `[k]` with the top heads
    replaced, `full` that of the whole model and `floor` that with every head replaced. faithfulness = (kept - floor) /
    (full - floor): how much survives with only these heads. completeness = (full - ablated) / (full - floor): how much
    is lost without them, 1 where nothing outside the set carries the task (1 minus the complement's faithfulness, Marks
    et al. 2024). contribution = what the last head added: accuracy lost by replacing it too; a set is minimal when each
    of its heads contributes (Wang et al. 2023). Ratios are null where full - floor is below `minimum_range`.
    """
    only, without = finite("kept", kept), finite("ablated", ablated)
    if only.ndim != 1 or only.shape != without.shape:
        raise ValueError(f"kept and ablated must be one accuracy per size, got shapes {only.shape} and {without.shape}")
    whole, empty = float(finite("full", full)), float(finite("floor", floor))
    span = whole - empty
    before = np.concatenate([[whole], without[:-1]])
    rows = []
    for size, (one, other, previous) in enumerate(zip(only, without, before, strict=True), start=1):
        row: dict[str, float | int | None] = {"size": size, "kept": one, "ablated": other, "contribution": previous - other}
        row["faithfulness"] = (one - empty) / span if span >= minimum_range else None
        row["completeness"] = (whole - other) / span if span >= minimum_range else None
        rows.append(row)
    return nullable_frame(rows, CURVE_COLUMNS)


def smallest_faithful_size(curve: pd.DataFrame, level: float = 0.9) -> int | None:
    """The size from which on faithfulness never falls below `level` again, or None where it does not reach it."""
    faithful = (curve["faithfulness"] >= level).fillna(False).to_numpy(dtype=bool)
    if not len(faithful) or not faithful[-1]:
        return None
    below = np.flatnonzero(~faithful)
    return int(curve["size"].iloc[below[-1] + 1 if len(below) else 0])


def _check_size(k: int) -> None:
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")


def _claim_column(sign: Sign) -> str:
    if sign not in ("positive", "negative"):
        raise ValueError(f"sign must be 'positive' or 'negative', got {sign!r}")
    return "mean_correct" if sign == "positive" else "mean_wrong"


def _side_state(scores: HeadScores, sign: Sign) -> tuple[bool, str]:
    _claim_column(sign)
    if sign == "positive":
        return scores.resolved_correct, scores.reason_correct
    return scores.resolved_wrong, scores.reason_wrong


def _strongest(scores: HeadScores, frame: pd.DataFrame, column: str, sign: Sign, k: int, seed: int) -> tuple[HeadId, ...]:
    values = frame[column].to_numpy(dtype=np.float64)
    tie_break = generator(seed, "ties", column).random(scores.shape)
    places = list(zip(frame["layer"].tolist(), frame["head"].tolist(), strict=True))
    strength = -values if sign == "positive" else values
    order = sorted(range(len(places)), key=lambda index: (strength[index], tie_break[places[index]]))
    return tuple(HeadId(int(places[index][0]), int(places[index][1]), scores.stack) for index in order[:k])


def _check_selected(heads: list[HeadId], norms: Array) -> str:
    layers, width = norms.shape
    outside = [str(head) for head in heads if not (0 <= head.layer < layers and 0 <= head.head < width)]
    if not heads or outside:
        raise ValueError(f"selected heads must lie in {layers} layers × {width} heads: {', '.join(outside) or 'none given'}")
    if len(set(heads)) != len(heads) or len({head.stack for head in heads}) != 1:
        raise ValueError("selected heads must be distinct and of one stack")
    if 2 * len(heads) > norms.size:
        raise VseamError(
            f"no random sets to compare with: {len(heads)} of {norms.size} heads are selected; choose at most {norms.size // 2}"
        )
    return heads[0].stack


def _matched_set(selected: list[HeadId], norms: Array, width: int, random: np.random.Generator) -> list[tuple[int, int]]:
    """One set: selected heads in random order, so that no head always has the first choice."""
    taken = {(head.layer, head.head) for head in selected}
    drawn = []
    for index in random.permutation(len(selected)):
        head = selected[index]
        candidates = _candidates(head, norms, taken)[:width]
        choice = candidates[random.integers(len(candidates))]
        taken.add(choice)
        drawn.append(choice)
    return sorted(drawn)


def _candidates(head: HeadId, norms: Array, taken: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """Free heads of the nearest layer that has any, nearest in norm first."""
    for distance in range(norms.shape[0]):
        layers = sorted({layer for layer in (head.layer - distance, head.layer + distance) if 0 <= layer < norms.shape[0]})
        free = [(layer, other) for layer in layers for other in range(norms.shape[1]) if (layer, other) not in taken]
        if free:
            return sorted(free, key=lambda place: abs(norms[place] - norms[head.layer, head.head]))
    raise AssertionError("more heads were selected than are left over")
