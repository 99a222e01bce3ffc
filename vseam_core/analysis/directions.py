"""Directions in activations: the difference of two classes' means and a logistic probe, fitted on some images, tried on others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vseam_core.analysis.statistics import Array, finite, generator

KINDS = ("difference", "probe", "random")
PENALTY = 1.0


@dataclass(frozen=True, eq=False)
class Direction:
    """A direction `vector` `[width]`, which adds up to the difference of the classes' means in length, and its `threshold` on x · vector.

    What lies above the threshold is taken for the first class (`yes`).
    """

    kind: str
    vector: Array
    threshold: float

    def accuracy(self, values: ArrayLike, labels: ArrayLike) -> float:
        """The share of `values` `[n, width]` on the right side; `labels` are true for the first class."""
        return float((self.sides(values) == np.asarray(labels, dtype=bool)).mean())

    def sides(self, values: ArrayLike) -> NDArray[np.bool_]:
        """Which of `values` `[n, width]` are taken for the first class."""
        above: NDArray[np.bool_] = np.asarray(values, dtype=np.float64) @ self.vector > self.threshold
        return above


def fitted_directions(values: ArrayLike, labels: ArrayLike, seed: int) -> list[Direction]:
    """One of each of `KINDS` from activations `[n, width]`: all as long as the difference of the means, so that they can be compared.

    `random` is the control: drawn evenly over all directions, with the best threshold that these values allow. Raises `ValueError` where a
    class has no values, or both have the same mean.
    """
    array, flags = finite("activations", values), np.asarray(labels, dtype=bool)
    if array.ndim != 2 or flags.shape != array.shape[:1] or flags.all() or not flags.any():
        raise ValueError("directions need activations [n, width] of both classes")
    means = array[flags].mean(axis=0), array[~flags].mean(axis=0)
    difference = means[0] - means[1]
    length = float(np.linalg.norm(difference))
    if not length > 0:
        raise ValueError("both classes have the same mean: there is no direction between them")
    weights, intercept = logistic_probe(array, flags)
    size = float(np.linalg.norm(weights))
    found = [Direction("difference", difference, float(difference @ (means[0] + means[1]) / 2))]
    if size > 0:
        scale = length / size
        found.append(Direction("probe", scale * weights, -scale * intercept))
    drawn: Array = np.asarray(generator(seed, "random direction").normal(size=array.shape[1]))
    drawn = drawn * (length / float(np.linalg.norm(drawn)))
    return [*found, Direction("random", drawn, best_threshold(array @ drawn, flags))]


def logistic_probe(values: ArrayLike, labels: ArrayLike, penalty: float = PENALTY) -> tuple[Array, float]:
    """Weights and intercept of L2-regularised logistic regression: the least ½|w|² + penalty · Σ log(1 + exp(-y (w·x + b))).

    That is scikit-learn's `LogisticRegression(C=penalty)`; values are taken as they are, and the intercept is not penalised.
    """
    from scipy.optimize import minimize

    array, flags = finite("activations", values), np.asarray(labels, dtype=bool)
    signs = np.where(flags, 1.0, -1.0)

    def loss(point: Array) -> tuple[float, Array]:
        weights, intercept = point[:-1], point[-1]
        margins = signs * (array @ weights + intercept)
        # log(1 + e^-m) without overflow, and its slope.
        value = 0.5 * weights @ weights + penalty * np.logaddexp(0.0, -margins).sum()
        slope = -penalty * signs * np.exp(-np.logaddexp(0.0, margins))
        return float(value), np.append(weights + array.T @ slope, slope.sum())

    found = minimize(
        loss, np.zeros(array.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 2000, "ftol": 1e-14, "gtol": 1e-8}
    )
    return found.x[:-1], float(found.x[-1])


def best_threshold(projections: ArrayLike, labels: NDArray[np.bool_]) -> float:
    """The threshold between two neighbouring projections that puts most of them on the right side."""
    given = np.asarray(projections, dtype=np.float64)
    order = np.sort(given)
    between = np.concatenate([[order[0] - 1.0], (order[1:] + order[:-1]) / 2])
    right = [((given > threshold) == labels).mean() for threshold in between]
    return float(between[int(np.argmax(right))])
