"""How wide each column of a table is on a terminal that is too narrow for all of it."""

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
    least = [min(LONGEST_WORD, max((cell_len(word) for text in texts for word in text.split()), default=1)) for texts in columns]
    room -= BETWEEN_COLUMNS * (len(columns) - 1)
    if sum(least) > room:
        return [min(wide, LONGEST_WORD) for wide in needed]
    widths = [min(wide, room) for wide in needed]
    while sum(widths) > room:
        widest = max((index for index in range(len(widths)) if widths[index] > least[index]), key=widths.__getitem__)
        widths[widest] -= 1
    return widths
