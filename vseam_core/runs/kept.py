"""What was computed and may be asked for again: the latest entries, as many as a bound allows."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Kept(Generic[Value]):
    """Values by key, the ones used longest ago dropped first once their sizes together exceed `most`.

    The unit of `most` and of every size is the owner's: bytes, or entries.
    """

    def __init__(self, most: int):
        self._most, self._size = most, 0
        self._entries: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Hashable) -> Value | None:
        """The value kept under a key, or None."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: Hashable, value: Value, size: int = 1) -> None:
        """Keep a value; one that is larger than everything that may be kept is not."""
        self._size -= self._entries.pop(key, (value, 0))[1]
        if size > self._most:
            return
        self._entries[key] = (value, size)
        self._size += size
        while self._size > self._most:
            _, (_, dropped) = self._entries.popitem(last=False)
            self._size -= dropped
