"""Synthetic head effects with known truth, shared by the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest


@dataclass(frozen=True)
class Task:
    """The arguments of `score_heads` for one made-up task."""

    effects: np.ndarray
    base: np.ndarray
    correct: np.ndarray
    gold_yes: np.ndarray
    clusters: np.ndarray

    def arguments(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        return self.effects, self.base, self.correct, self.gold_yes, self.clusters


MakeTask = Callable[..., Task]


@pytest.fixture
def make_task() -> MakeTask:
    return planted_task


def planted_task(
    seed: int,
    *,
    images: int = 120,
    per_image: int = 2,
    wrong: float = 0.3,
    shape: tuple[int, int] = (3, 4),
    positive: dict[tuple[int, int], float] | None = None,
    negative: dict[tuple[int, int], float] | None = None,
    pushes_yes: dict[tuple[int, int], float] | None = None,
) -> Task:
    """Noise of unit size, half of it shared by the questions of an image, and planted heads of the given mean effects.

    `positive` heads act on every answer, `negative` ones on wrong answers, `pushes_yes` heads towards Yes whatever the gold
    answer.
    """
    random = np.random.default_rng(seed)
    n = images * per_image
    clusters = np.repeat(np.arange(images), per_image)
    shared = random.normal(size=(images, *shape))[clusters]
    effects = np.sqrt(0.5) * (shared + random.normal(size=(n, *shape)))
    correct = random.random(n) >= wrong
    gold_yes = random.random(n) < 0.5
    for place, size in (positive or {}).items():
        effects[:, *place] += size
    for place, size in (negative or {}).items():
        effects[~correct, *place] -= size
    for place, size in (pushes_yes or {}).items():
        effects[:, *place] += np.where(gold_yes, size, -size)
    base = np.where(correct, 3.0, -2.0) + 0.1 * random.normal(size=n)
    return Task(effects, base, correct, gold_yes, np.array([f"image-{image}" for image in clusters]))
