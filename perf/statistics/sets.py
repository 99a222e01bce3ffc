"""Size and power of what is said about sets of heads: matched random sets, shared heads, levels, random models."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from perf.statistics.rows import HEADS, LAYERS, Row
from vseam_core.analysis.head_sets import matched_random_sets
from vseam_core.analysis.shared import importance_p_values_of, level_test, overlap_null
from vseam_core.api.types import HeadId

LAYOUTS = ((2,), (3,), (4,), (1, 1), (2, 1), (2, 2), (3, 1), (1, 1, 1), (2, 1, 1), (1, 1, 1, 1))
LEVELS = ("object", "object", "object", "attribute", "attribute", "relation", "relation")


def random_sets(cases: int) -> Iterator[Row]:
    """Heads picked at random, whose effects are skewed and go with their norms: how often they beat their matched sets."""
    for layout in LAYOUTS:
        random = np.random.default_rng(10)
        rejected = []
        for seed in range(cases):
            own = np.exp(random.standard_normal((LAYERS, HEADS)))
            norms = own * np.exp(0.5 * random.standard_normal((LAYERS, HEADS)))
            heads = [HeadId(layer, int(head)) for layer, size in enumerate(layout) for head in random.choice(HEADS, size, replace=False)]
            drawn = matched_random_sets(heads, norms, 199, seed=seed).sets
            effects = np.array([sum(own[head.layer, head.head] for head in chosen) for chosen in (heads, *drawn)])
            rejected.append(np.mean(effects >= effects[0] - 1e-12) <= 0.05)
        named = " + ".join(map(str, layout))
        yield Row("matched random sets", f"{named} heads by layer, layers of {HEADS}", "size at 5 %", float(np.mean(rejected)), cases)


def shared(studies: int) -> Iterator[Row]:
    """Seven tasks whose heads differ in importance in general and share nothing beside it."""
    for spread in (0.0, 0.5, 1.0, 2.0):
        random = np.random.default_rng(11)
        layer, importance = [], []
        for _ in range(studies):
            general = spread * random.standard_normal(LAYERS * HEADS)
            maps = general + random.standard_normal((7, LAYERS * HEADS))
            tops = [[HeadId(int(place) // HEADS, int(place) % HEADS) for place in np.argsort(-values)[:4]] for values in maps]
            for one, two in combinations(tops, 2):
                layer.append(overlap_null(one, two, [HEADS] * LAYERS)[len(set(one) & set(two)) :].sum() <= 0.05)
            importance += [p <= 0.05 for p in importance_p_values_of(maps, 4, seed=0, permutations=199).values()]
        setting = f"7 tasks, general importance of heads with SD {spread:g}"
        yield Row("shared heads, permuted within layers", setting, "pairs with p ≤ 0.05", float(np.mean(layer)), len(layer))
        yield Row("shared heads, importance kept", setting, "pairs with p ≤ 0.05", float(np.mean(importance)), len(importance))


def levels(studies: int) -> Iterator[Row]:
    """The level test on tasks without and with a component of their level."""
    for strength, quantity in ((0.0, "size at 5 %"), (1.0, "power")):
        random = np.random.default_rng(12)
        found = []
        for _ in range(studies):
            of_level = {level: strength * random.standard_normal(LAYERS * HEADS) for level in LEVELS}
            maps = np.stack([of_level[level] for level in LEVELS]) + random.standard_normal((1, LAYERS * HEADS))
            maps = maps + random.standard_normal(maps.shape)
            tops = [set(np.argsort(-values)[:4].tolist()) for values in maps]
            similarity = np.array([[float(len(one & two)) for two in tops] for one in tops])
            np.fill_diagonal(similarity, 0)
            p_value = level_test(similarity, LEVELS, seed=0).p_value
            found.append(p_value is not None and p_value <= 0.05)
        yield Row("level test", f"7 tasks in levels of 3, 2, 2; level component {strength:g} SD", quantity, float(np.mean(found)), studies)


def random_models(cases: int) -> Iterator[Row]:
    """How often one more random model leaves the range of the others."""
    for models in (5, 19, 39):
        values = np.random.default_rng(13).standard_normal((cases, models + 1))
        outside = (values[:, 0] > values[:, 1:].max(axis=1)) | (values[:, 0] < values[:, 1:].min(axis=1))
        above = values[:, 0] > values[:, 1:].max(axis=1)
        yield Row("range of random models", f"{models} models", "outside by chance", float(outside.mean()), cases)
        yield Row("range of random models", f"{models} models", "above by chance", float(above.mean()), cases)
