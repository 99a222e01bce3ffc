"""A line of the table, and data with known truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LAYERS, HEADS = 6, 8
NULLS = ("normal", "lognormal, tail right", "lognormal, tail left", "mostly zero", "mostly zero, tail right", "mostly zero, tail left")


@dataclass(frozen=True)
class Row:
    """One measured share: of what, where, and among how many simulated cases."""

    procedure: str
    setting: str
    quantity: str
    value: float
    cases: int

    @property
    def error(self) -> float:
        """The standard error of the share."""
        return float(np.sqrt(self.value * (1 - self.value) / self.cases))


def effects_without_mean(kind: str, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """Values of mean zero: normal, lognormal (σ = 1) with its tail to either side, or any of these with 70 % exact zeros."""
    values = random.standard_normal(shape)
    if "tail" in kind:
        values = (np.exp(values) - np.exp(0.5)) * (-1 if "left" in kind else 1)
    return values * (random.random(shape) < 0.3) if "zero" in kind else values


def cluster_sizes(layout: str, images: int) -> np.ndarray:
    """Questions per image."""
    sizes = np.full(images, 3) if layout == "3 each" else np.ones(images, dtype=int)
    if layout == "a fifth hold 8":
        sizes[: images // 5] = 8
    if layout == "one holds half":
        sizes[0] = images - 1
    return sizes
