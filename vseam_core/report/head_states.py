"""What may be said about a map of heads: resolved or not, which heads pass, and the words where none does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vseam_core.analysis.head_claims import MINIMUM_ANSWERS
from vseam_core.analysis.heads import HeadScores, Sign
from vseam_core.api.types import HeadId

if TYPE_CHECKING:
    from vseam_core.results.study_results import HeadMap, StudyMaterial


@dataclass(frozen=True)
class MapState:
    """What may be said about one side of a map: whether it is shown at all, and the words that go with it."""

    shown: bool
    resolved: bool
    words: str


def map_state(scores: HeadScores, sign: Sign) -> MapState:
    """Whether a map of a sign is shown, and how it is labelled: too few answers, `not resolved at n = …`, or plainly n."""
    n, answers = (scores.n_sampled, "answers") if sign == "positive" else (scores.n_wrong, "wrong answers")
    resolved = scores.resolved_support if sign == "positive" else scores.resolved_wrong
    reliability = scores.reliability_support if sign == "positive" else scores.reliability_wrong
    if n < MINIMUM_ANSWERS:
        return MapState(False, False, f"too few {answers} ({n} < {MINIMUM_ANSWERS})")
    if not resolved or reliability is None:
        return MapState(True, False, f"not resolved at n = {n}")
    return MapState(True, True, f"n = {n}, {f'reliability {reliability:.2f}' if tested(scores, sign) else 'not tested'}")


def tested(scores: HeadScores, sign: Sign) -> bool:
    """Whether the claim of a sign was tested on any head: not where a map has too few images of a gold class."""
    return f"p_{sign}" not in scores.frame or bool(scores.frame[f"p_{sign}"].notna().any())


def passing_heads(scores: HeadScores, sign: Sign) -> np.ndarray:
    """Which heads pass the claim of a sign on a resolved map, bool `[layers, heads]`; negative ones are those confirmed on test images."""
    flags = scores.frame[f"claim_{sign}"].to_numpy(dtype=bool).reshape(scores.shape)
    return flags & map_state(scores, sign).resolved


def claimed_heads(scores: HeadScores, sign: Sign) -> set[str]:
    """The names of the heads that pass the claim of a sign on a resolved map."""
    places = zip(*passing_heads(scores, sign).nonzero(), strict=True)
    return {str(HeadId(int(layer), int(head), scores.stack)) for layer, head in places}


def exploratory(scores: HeadScores | None, heads: Iterable[str], *signs: Sign) -> bool:
    """Whether a set of heads holds one that passes no claim of these signs, so that nothing about it is a finding."""
    if scores is None:
        return False
    return not set(heads) <= {name for sign in signs for name in claimed_heads(scores, sign)}


def nothing_selected(scores: HeadScores, sign: Sign) -> str:
    """Why a map names no head of a sign: not resolved, too few answers, or none passes."""
    state = map_state(scores, sign)
    if not state.shown:
        return state.words
    return (scores.reason_support if sign == "positive" else scores.reason_wrong) or "no head passes"


def primary_maps(material: StudyMaterial) -> dict[tuple[str, str], HeadMap]:
    """The scan that findings rest on, by model and dataset: the first of the study that is not there for parity alone."""
    found: dict[tuple[str, str], HeadMap] = {}
    for scan in sorted(material.heads, key=lambda scan: scan.replacement.parity):
        found.setdefault((scan.model, scan.dataset), scan)
    return found
