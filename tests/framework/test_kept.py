"""What is kept for the next time: bounded, the least used dropped first."""

from __future__ import annotations

import numpy as np

from vseam_core.runs.kept import Kept


def test_what_was_used_longest_ago_is_dropped_first() -> None:
    kept: Kept[int] = Kept(3)
    for number in range(3):
        kept.put(number, number * 10)
    assert kept.get(0) == 0
    kept.put(3, 30)
    assert [kept.get(number) for number in range(4)] == [0, None, 20, 30]


def test_sizes_together_never_exceed_the_bound() -> None:
    kept: Kept[int] = Kept(100)
    sizes: dict[int, int] = {}
    for number, size in enumerate(np.random.default_rng(0).integers(0, 70, 200).tolist()):
        key = number % 17
        kept.put(key, number, size)
        sizes[key] = size
        held = [sizes[key] for key in sizes if kept.get(key) is not None]
        assert sum(held) <= 100
        assert len(held) == len(kept)


def test_an_entry_larger_than_the_bound_is_not_kept_and_replaces_nothing_else() -> None:
    kept: Kept[str] = Kept(10)
    kept.put("small", "a", 4)
    kept.put("large", "b", 11)
    assert kept.get("small") == "a"
    assert kept.get("large") is None
    kept.put("small", "c", 11)
    assert kept.get("small") is None, "an old value must not stand in for the new one"
