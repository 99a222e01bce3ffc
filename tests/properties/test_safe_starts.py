"""Where a replayed run may start, for any attention mask: found by trying every start."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from vseam_core.engine.recording import Recording

SIZE = st.shared(st.integers(1, 9), key="size")
MASK = SIZE.flatmap(lambda size: st.lists(st.lists(st.booleans(), min_size=size, max_size=size), min_size=size, max_size=size))
MASKS = st.lists(MASK, min_size=1, max_size=3)


def recording_of(masks: list[list[list[bool]]]) -> Recording:
    """A recording whose layers were called with these masks `[positions, positions]`, as Hugging Face gives them."""
    size = len(masks[0])

    class Prompt:
        def __len__(self) -> int:
            return size

    prompt: Any = Prompt()
    arguments = {layer: {"attention_mask": torch.tensor(mask)[None, None]} for layer, mask in enumerate(masks)}
    return Recording(prompt, frozenset(), arguments=arguments)


@given(MASKS, st.data())
def test_a_safe_start_is_the_last_one_past_which_no_earlier_position_looks(masks: list[list[list[bool]]], data: st.DataObject) -> None:
    size = len(masks[0])
    position = data.draw(st.integers(0, size))
    every = [torch.tensor(mask) for mask in masks]

    def is_safe(start: int) -> bool:
        return not any(bool(mask[:start, start:].any()) for mask in every)

    expected = max(start for start in range(position + 1) if is_safe(start))
    assert recording_of(masks).safe_start(position) == expected


@given(st.integers(1, 12), st.data())
def test_plain_causal_attention_may_start_anywhere(size: int, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, size))
    causal = torch.ones(size, size, dtype=torch.bool).tril().tolist()
    assert recording_of([causal]).safe_start(position) == position
