"""Control edits: what the same painting does where it should change no answer.

`repaint` paints the same concept again, so that only the painter's traces remain; `elsewhere` changes as much of the image where
nothing is asked about.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vseam_core.api.interfaces import EditPlan
from vseam_core.api.types import Sample, SceneObject
from vseam_core.editing.checks import region

_SIMILAR = 2.0
"""Another object may be larger or smaller than the edited region by this factor."""
_TRIES = 200


def repaint_plan(plan: EditPlan) -> EditPlan:
    """The plan that paints the source term where it is, with its words in place of the target's in every prompt."""
    return replace(
        plan,
        target_term=plan.source_term,
        prompt=_with_source(plan, plan.prompt),
        region_prompt=_with_source(plan, plan.region_prompt),
        reason="control: the same concept is painted again",
    )


def _with_source(plan: EditPlan, text: str) -> str:
    if not text:
        return text
    pattern = re.compile(rf"\b{re.escape(plan.target_term)}\b", re.IGNORECASE)
    changed, count = pattern.subn(lambda _: plan.source_term, text)
    return changed if count else plan.source_term


def elsewhere(sample: Sample, plan: EditPlan, mask: np.ndarray, seed: int) -> tuple[EditPlan, np.ndarray] | None:
    """The plan and mask of an edit of something not asked about, or None where there is no room for one.

    An annotated object that the question is not about (`Sample.others`) is taken where one has a similar area and lies apart from
    everything asked about; else the mask itself is moved to a random place, or, where it does not fit, a compact region of exactly as many
    pixels is grown from one.
    """
    height, width = mask.shape
    asked = mask | region([thing.box for thing in sample.objects], (width, height))
    generator = np.random.default_rng([seed, int(mask.sum()), width, height])
    other = _similar_object(sample.others, asked, int(mask.sum()))
    if other is not None:
        return _other_plan(plan, other.name, "object", region([other.box], (width, height)))
    for forbidden in (asked, mask):
        for place in (_moved, _grown):
            found = place(mask, forbidden, generator)
            if found is not None:
                return _other_plan(plan, "", "random region", found)
    return None


def _other_plan(plan: EditPlan, name: str, what: str, mask: np.ndarray) -> tuple[EditPlan, np.ndarray]:
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
    attribute = plan.level == "attribute"
    # A new object elsewhere could change the answer; another thing's colour or material cannot.
    target = plan.target_term if attribute else "background"
    words = f"{target} {name or 'surface'}" if attribute else "background"
    about = f"control: a {what} of about the same area that the question does not ask about" + (f" ({name})" if name else "")
    other = replace(plan, source_term=name or "background", target_term=target, prompt=words, region_prompt=words, reason=about)
    return replace(other, boxes=(box,), find="", negative_prompt="", confidence=1.0), mask


def _similar_object(others: Sequence[SceneObject], asked: np.ndarray, area: int) -> SceneObject | None:
    """The object apart from `asked` whose box is closest to `area` pixels, within the factor `_SIMILAR`."""
    size = (asked.shape[1], asked.shape[0])
    found = []
    for thing in others:
        box = region([thing.box], size)
        covered = int(box.sum())
        if area / _SIMILAR <= covered <= area * _SIMILAR and not (box & asked).any():
            found.append((abs(np.log(covered / area)), thing.identifier or thing.name, thing))
    return min(found, key=lambda item: item[:2])[2] if found else None


def _moved(mask: np.ndarray, forbidden: np.ndarray, generator: np.random.Generator) -> np.ndarray | None:
    """The mask moved to a random place where it touches nothing forbidden, or None where none was found."""
    rows, columns = np.nonzero(mask)
    height, width = mask.shape
    high, wide = int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1
    rows, columns = rows - rows.min(), columns - columns.min()
    for _ in range(_TRIES):
        top, left = int(generator.integers(height - high + 1)), int(generator.integers(width - wide + 1))
        if not forbidden[rows + top, columns + left].any():
            moved = np.zeros_like(mask)
            moved[rows + top, columns + left] = True
            return moved
    return None


def _grown(mask: np.ndarray, forbidden: np.ndarray, generator: np.random.Generator) -> np.ndarray | None:
    """The allowed pixels that lie nearest to a random allowed one, as many as the mask has; None where there are too few."""
    rows, columns = np.nonzero(~forbidden)
    area = int(mask.sum())
    if len(rows) < area:
        return None
    start = int(generator.integers(len(rows)))
    distance = (rows - rows[start]) ** 2 + (columns - columns[start]) ** 2
    nearest = np.argsort(distance, kind="stable")[:area]
    grown = np.zeros_like(mask)
    grown[rows[nearest], columns[nearest]] = True
    return grown
