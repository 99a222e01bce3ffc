"""Coverage of intervals and size of the sign-flip test."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from perf.statistics.rows import Row, cluster_sizes, effects_without_mean
from vseam_core.analysis.statistics import cluster_sign_flip, clustered_moments
from vseam_core.evaluation.accuracy import accuracy_estimate

LAYOUTS = ("1 each", "3 each", "a fifth hold 8", "one holds half")
SIZES = (10, 15, 20, 40)


def coverage(cases: int) -> Iterator[Row]:
    """CR2 intervals with Bell–McCaffrey degrees, over layouts, numbers of images and correlations within an image."""
    for layout in LAYOUTS:
        for images in SIZES:
            random = np.random.default_rng(1)
            clusters = np.repeat(np.arange(images), cluster_sizes(layout, images))
            for shared in (0.0, 0.3) if layout != "1 each" else (0.0,):
                noise = random.standard_normal((len(clusters), cases))
                values = np.sqrt(1 - shared) * noise + np.sqrt(shared) * random.standard_normal((images, cases))[clusters]
                setting = f"{images} images, questions: {layout}, correlation {shared:g}"
                yield Row("t interval, normal", setting, "coverage of 95 %", _covered(values, clusters), cases)


def skewed_coverage(cases: int) -> Iterator[Row]:
    """The same for data that a t interval is not made for, and how many of these cells are flagged."""
    for kind in ("lognormal, tail right", "mostly zero, tail right", "normal"):
        for images in SIZES:
            values = effects_without_mean(kind, (images, cases), np.random.default_rng(2))
            clusters = np.arange(images)
            flags = clustered_moments(values, clusters).irregular()
            assert flags is not None
            if kind != "normal":
                yield Row(f"t interval, {kind}", f"{images} images", "coverage of 95 %", _covered(values, clusters), cases)
            yield Row(f"t interval, {kind}", f"{images} images", "cells flagged", float(flags.mean()), cases)


def _covered(values: np.ndarray, clusters: np.ndarray) -> float:
    interval = clustered_moments(values, clusters).interval()
    assert interval is not None
    return float(np.mean((interval[0] <= 0) & (interval[1] >= 0)))


def sign_flips(cases: int) -> Iterator[Row]:
    """The test of gains: whole images change sign."""
    for shift, quantity in ((0.0, "size at 5 %"), (0.5, "power at 0.5 SD")):
        random = np.random.default_rng(3)
        values = random.standard_normal((cases, 20, 2)) + random.standard_normal((cases, 20, 1)) + shift * np.sqrt(2)
        found = [cluster_sign_flip(part.ravel(), np.repeat(np.arange(20), 2), seed=0, permutations=499).p_value <= 0.05 for part in values]
        yield Row("sign flips of images", "20 images, 2 questions each", quantity, float(np.mean(found)), cases)


def all_right(cases: int) -> Iterator[Row]:
    """Accuracies near 1, where all answers are often right and the spread would say ± 0."""
    for images in (10, 20, 40):
        for accuracy in (0.97, 0.9):
            random = np.random.default_rng(4)
            covered = []
            for answers in random.random((cases, images)) < accuracy:
                estimate = accuracy_estimate(answers, np.arange(images))
                covered.append(estimate.low <= accuracy <= estimate.high)  # type: ignore[operator]
            yield Row("accuracy interval", f"{images} images, {accuracy:.0%} right", "coverage of 95 %", float(np.mean(covered)), cases)
