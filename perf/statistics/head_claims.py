"""Size and power of what is claimed about heads."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from perf.statistics.rows import HEADS, LAYERS, NULLS, Row, effects_without_mean
from vseam_core.analysis.confirmation import TestAnswers, confirm_heads, verdicts_of
from vseam_core.analysis.head_claims import smallest_effect
from vseam_core.analysis.heads import HeadScores, score_heads, with_verdicts

TOTAL = LAYERS * HEADS
POSITIVE = "positive head"


def _score(effects: np.ndarray) -> HeadScores:
    """One question per image, half of them with gold yes."""
    n = len(effects)
    effects = effects.reshape(n, LAYERS, HEADS)
    return score_heads(effects, np.ones(n), np.ones(n), np.arange(n) % 2, np.arange(n), measure="logit_diff", seed=0, splits=1)


def false_positives(maps: int) -> Iterator[Row]:
    """Maps without any effect: how many of them name a head (which is the false discovery rate where nothing is true)."""
    for images in (20, 40):
        for kind in NULLS:
            random = np.random.default_rng(5)
            wrong = [bool(_score(effects_without_mean(kind, (images, TOTAL), random)).frame["claim_positive"].any()) for _ in range(maps)]
            yield Row(
                POSITIVE, f"{images} images, {TOTAL} heads without effect: {kind}", "false discovery rate", float(np.mean(wrong)), maps
            )


def one_class_heads(maps: int) -> Iterator[Row]:
    """Heads that act for gold yes only, which the claim is not true of."""
    random = np.random.default_rng(6)
    shares = []
    for _ in range(maps):
        effects = random.standard_normal((20, TOTAL))
        effects[1::2, :5] += 2
        effects[:, 5] += 2
        passes = _score(effects).frame["claim_positive"].to_numpy(dtype=bool)
        shares.append((passes.sum() - passes[5]) / max(1, passes.sum()))
    setting = "20 images, 1 true head, 5 that act for one answer only"
    yield Row(POSITIVE, setting, "false discovery rate", float(np.mean(shares)), maps)


def power(maps: int) -> Iterator[Row]:
    """How often a head with a true effect is named."""
    least = smallest_effect((10, 10), TOTAL)
    assert least is not None
    for images, effect, true in ((20, 1.2, 1), (20, 1.2, 5), (20, least, 1), (40, 1.2, 1), (40, 0.8, 1)):
        random = np.random.default_rng(7)
        found = []
        for _ in range(maps):
            effects = random.standard_normal((images, TOTAL))
            effects[:, :true] += effect
            found.append(_score(effects).frame["claim_positive"].to_numpy(dtype=bool)[:true].mean())
        yield Row(POSITIVE, f"{images} images, effect {effect:.2f} SD, {true} of {TOTAL} heads true", "power", float(np.mean(found)), maps)


def noise_heads(studies: int) -> Iterator[Row]:
    """A whole little world: three heads that carry the answer, one that only adds noise, and one that pushes yes.

    The noise head costs accuracy. It must never be positive; it should become a candidate and be confirmed. Without harm (noise too weak
    to matter) and the head that pushes yes must not be confirmed.
    """
    for noise in (2.0, 0.3):
        random = np.random.default_rng(8)
        counts = dict.fromkeys(("called positive", "candidate", "confirmed negative", "another head confirmed", "true heads found"), 0.0)
        for _ in range(studies):
            frame = noise_study(noise, random).frame
            counts["called positive"] += bool(frame["claim_positive"].iloc[3] or frame["claim_suppressor"].iloc[3])
            counts["candidate"] += frame["verdict"].iloc[3] in ("candidate", "confirmed", "not confirmed")
            confirmed = (frame["verdict"] == "confirmed").to_numpy(dtype=bool)
            counts["confirmed negative"] += bool(confirmed[3])
            counts["another head confirmed"] += bool(np.delete(confirmed, 3).any())
            counts["true heads found"] += frame["claim_positive"].iloc[:3].mean()
        kind = "harmful" if noise > 1 else "harmless"
        for quantity, number in counts.items():
            yield Row(f"{kind} noise head", "60 sampled questions, 40 more wrong answers, 200 test", quantity, number / studies, studies)


def noise_study(noise: float, random: np.random.Generator) -> HeadScores:
    """One study of that world, with verdicts. Head 3 adds noise, head 4 pushes yes, heads 0 to 2 carry the answer."""
    pool, test = (_world(noise, size, random) for size in (600, 200))
    donors = _world(noise, 600, random)
    turned = np.where(random.random(600) < 0.5, 1.0, -1.0)
    replaced = donors.parts.copy()
    replaced[:, :3] *= turned[:, None]
    # A head that pushes yes pushes the other way in terms of a gold answer no, whatever the donor shows.
    replaced[:, 4] = np.abs(donors.parts[:, 4]) * np.where(pool.gold_yes, 1, -1)
    correct = pool.logit_diff > 0
    sampled = np.arange(600) < 60
    kept = sampled.copy()
    kept[np.flatnonzero(~correct & ~sampled)[:40]] = True
    effects = (pool.parts - replaced)[kept].reshape(-1, LAYERS, HEADS)
    arguments = (effects, pool.logit_diff[kept], correct[kept], pool.gold_yes[kept], np.arange(kept.sum()))
    scores = score_heads(*arguments, measure="logit_diff", seed=0, sampled=sampled[kept], splits=1)
    without = {}
    for head in scores.with_verdict("candidate"):
        own = test.parts[:, head.layer * HEADS + head.head]
        for operation, stand_in in (("zero", 0.0), ("dataset_mean", _mean_of(own, test.gold_yes))):
            answers = test.logit_diff - own + stand_in
            without[str(head), operation] = TestAnswers(answers > 0, answers)
    if not without:
        return scores
    base = TestAnswers(test.logit_diff > 0, test.logit_diff)
    return with_verdicts(scores, verdicts_of(confirm_heads(base, without, test.gold_yes, np.arange(200), seed=0)))


class _World:
    def __init__(self, parts: np.ndarray, rest: np.ndarray, gold_yes: np.ndarray):
        self.parts, self.gold_yes, self.logit_diff = parts, gold_yes, parts.sum(axis=1) + rest


def _world(noise: float, size: int, random: np.random.Generator) -> _World:
    gold_yes = np.arange(size) % 2 == 0
    parts = 0.05 * random.standard_normal((size, TOTAL))
    parts[:, :3] = np.abs(1 + 0.4 * random.standard_normal((size, 3)))
    parts[:, 3] = noise * random.standard_normal(size)
    parts[:, 4] = (0.5 + 0.05 * random.standard_normal(size)) * np.where(gold_yes, 1, -1)
    return _World(parts, 0.7 * random.standard_normal(size) - 1.5, gold_yes)


def _mean_of(own: np.ndarray, gold_yes: np.ndarray) -> np.ndarray:
    """A head's mean output, as it counts for either gold answer: its mean in terms of yes against no."""
    turn = np.where(gold_yes, 1.0, -1.0)
    mean: np.ndarray = turn * (turn * own).mean()
    return mean


def suppressor_pair(studies: int) -> Iterator[Row]:
    """A head that writes the answer twice and one that takes it back once: the second is a suppressor."""
    random = np.random.default_rng(9)
    found = []
    for _ in range(studies):
        effects = random.standard_normal((40, TOTAL))
        carried = 1 + 0.4 * random.standard_normal(40)
        effects[:, 0], effects[:, 1] = 2 * carried, -carried
        frame = _score(effects).frame
        found.append(bool(frame["claim_suppressor"].iloc[1]) and not frame["claim_suppressor"].iloc[0])
    yield Row("suppressor", "40 images, −1 copy of a head beside its +2 twin", "found", float(np.mean(found)), studies)
