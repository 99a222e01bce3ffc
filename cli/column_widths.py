"""How a table is printed on a terminal that is too narrow for all of it: how wide each column is, and which columns stand together."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST_WORD = 26  # a longer word (a path, a digest) may be folded
BETWEEN_COLUMNS = 3


def column_widths(columns: Sequence[Sequence[str]], room: int) -> list[int]:
    """The width of each column, given its header and cells: what they need, or as much narrower as whole words and numbers allow.

    A number in two pieces is read as another number. So where even whole words don't fit, the widths are more than the `room`
    and the terminal folds whole lines; then cells of a few words are not folded beside that.
    """
    from rich.cells import cell_len

    needed = [max(map(cell_len, texts), default=1) for texts in columns]
    least = list(map(_least_width, columns))
    room -= BETWEEN_COLUMNS * (len(columns) - 1)
    if sum(least) > room:
        return [min(wide, LONGEST_WORD) for wide in needed]
    widths = [min(wide, room) for wide in needed]
    while sum(widths) > room:
        widest = max((index for index in range(len(widths)) if widths[index] > least[index]), key=widths.__getitem__)
        widths[widest] -= 1
    return widths


def column_parts(columns: Sequence[Sequence[str]], leading: int, room: int) -> list[list[int]]:
    """Which columns stand together where the `room` is too narrow for all of them: each part begins with the `leading` ones.

    A part holds as many columns as fit in whole words, and at least one beside the leading ones.
    """
    least = list(map(_least_width, columns))
    first = list(range(min(leading, len(columns))))

    def wide(part: Sequence[int]) -> int:
        return sum(least[index] for index in part) + BETWEEN_COLUMNS * (len(part) - 1)

    parts = [first]
    for index in range(len(first), len(columns)):
        if len(parts[-1]) > len(first) and wide([*parts[-1], index]) > room:
            parts.append(first)
        parts[-1] = [*parts[-1], index]
    return parts


def _least_width(texts: Sequence[str]) -> int:
    from rich.cells import cell_len

    return min(LONGEST_WORD, max((cell_len(word) for text in texts for word in text.split()), default=1))
