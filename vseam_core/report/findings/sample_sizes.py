"""How many samples would resolve what these could not, as far as what was measured says."""

from __future__ import annotations

import math

from vseam_core.analysis.head_claims import MINIMUM_ANSWERS, MINIMUM_RELIABILITY, smallest_effect
from vseam_core.analysis.heads import HeadScores, Sign

MOST = 1_000_000


def samples_for_reliability(n: int, reliability: float | None, wanted: float = MINIMUM_RELIABILITY) -> int | None:
    """How many samples a map needs to reach a split-half reliability, if the lengthened map behaves as these halves do.

    The Spearman-Brown formula (Spearman 1910, Brown 1910): n × wanted (1 − r) / (r (1 − wanted)). None for r ≤ 0, which no number mends.
    """
    if reliability is None or reliability <= 0 or n <= 0:
        return None
    return max(n, math.ceil(n * wanted * (1 - reliability) / (reliability * (1 - wanted)) - 1e-9))


def images_for_strongest(scores: HeadScores, sign: Sign) -> int | None:
    """How many images of each gold class would let the strongest head pass in most cases (`FOUND_IN`), were its effect as measured.

    Its effect has to show in both gold classes, so the smaller of the two counts. The strongest of many is overestimated: this is the
    least that it takes. None without such an effect, or where the scan had as many images already (it failed by chance).
    """
    mean, side, n = ("support", "support", scores.n_sampled) if sign == "positive" else ("mean_wrong", "wrong", scores.n_wrong)
    rows = scores.frame[[f"{mean}_yes", f"{mean}_no", f"se_{side}"]].dropna()
    rows = rows[rows[f"se_{side}"] > 0]
    if rows.empty or n < MINIMUM_ANSWERS:
        return None
    both = (1 if sign == "positive" else -1) * rows[[f"{mean}_yes", f"{mean}_no"]]
    effect = float((both.min(axis=1) / (rows[f"se_{side}"] * math.sqrt(n))).max())
    if effect <= 0:
        return None
    family = scores.shape[0] * scores.shape[1]

    def enough(images: int) -> bool:
        found = smallest_effect((images, images), family)
        return found is not None and found <= effect

    high = MINIMUM_ANSWERS
    while not enough(high):
        high *= 2
        if high > MOST:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high if 2 * high > n else None
