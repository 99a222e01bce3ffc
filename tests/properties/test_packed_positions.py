"""Packed activations against the obvious: a dictionary of what each run holds at each position."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from vseam_core.engine.layout import Layout, padded

POSITIONS = st.lists(st.integers(0, 30), unique=True).map(sorted)
HELD = st.one_of(POSITIONS.map(tuple), st.tuples(st.integers(0, 20), st.integers(0, 10)).map(lambda pair: range(pair[0], sum(pair))))
SPANS = st.dictionaries(st.integers(0, 6), HELD, max_size=5).map(lambda held: list(held.items()))


def value_of(row: int, position: int) -> int:
    return 1000 * row + position


def packed(spans: list[tuple[int, tuple[int, ...] | range]]) -> torch.Tensor:
    return torch.tensor([value_of(row, position) for row, positions in spans for position in positions], dtype=torch.long)


@given(SPANS)
def test_every_token_stands_for_the_position_of_its_run(spans: list[tuple[int, tuple[int, ...] | range]]) -> None:
    layout, values = Layout(spans), packed(spans)
    assert layout.tokens == len(values)
    assert layout.positions().tolist() == [position for _, positions in spans for position in positions]
    for row, positions in spans:
        span = layout.span(row)
        assert (span is None) == (len(positions) == 0)
        if span is not None:
            assert values[span.offset : span.offset + len(positions)].tolist() == [value_of(row, position) for position in positions]


@given(SPANS, st.integers(0, 6), st.none() | st.lists(st.integers(0, 30), unique=True))
def test_a_selection_is_the_asked_positions_that_the_run_holds(
    spans: list[tuple[int, tuple[int, ...] | range]], row: int, asked: list[int] | None
) -> None:
    held = list(dict(spans).get(row, ()))
    expected = held if asked is None else [position for position in asked if position in held]
    selection = Layout(spans).select(row, asked)
    if not expected:
        assert selection is None
        return
    assert selection is not None
    assert packed(spans)[selection.tokens].tolist() == [value_of(row, position) for position in expected]
    assert torch.arange(100)[selection.positions].tolist() == expected
    given_positions = torch.tensor(held if asked is None else asked)
    chosen = given_positions if asked is None else given_positions[selection.chosen]
    assert chosen.tolist() == expected


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 4), st.sampled_from(["left", "right"]))
def test_the_pads_of_a_plain_batch_belong_to_no_run(lengths: list[int], spare: int, side: str) -> None:
    width = max(lengths) + spare
    layout = Layout.of_batch(lengths, width, side=side)
    batch = torch.full((len(lengths), width), -1)
    for row, length in enumerate(lengths):
        first = width - length if side == "left" else 0
        batch[row, first : first + length] = torch.tensor([value_of(row, position) for position in range(length)])
    for row, length in enumerate(lengths):
        selection = layout.select(row, None)
        assert selection is not None
        assert batch.reshape(-1)[selection.tokens].tolist() == [value_of(row, position) for position in range(length)]


@given(SPANS.filter(lambda spans: any(len(positions) for _, positions in spans)))
def test_a_rectangle_of_spans_holds_each_runs_values_and_marks_what_is_padding(spans: list[tuple[int, tuple[int, ...] | range]]) -> None:
    layout, values = Layout(spans), packed(spans)
    found = padded(layout.spans, torch.device("cpu"))
    rectangle = found.of(values)
    for index, span in enumerate(layout.spans):
        expected = [value_of(span.row, position) for position in span.positions]
        assert rectangle[index][found.real[index]].tolist() == expected
        assert found.positions[index][found.real[index]].tolist() == list(span.positions)
        assert set(rectangle[index][~found.real[index]].tolist()) <= {expected[0]}
    assert found.full == bool(found.real.all())
