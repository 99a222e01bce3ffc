"""What the tests of wrong plugins share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


def assert_broken(suite: Any, make: Callable[[], Any], test: str, message: str = "", **members: Any) -> None:
    """The named test of the suite fails with the message; the plugin is otherwise what `make` returns."""
    instance = type("TestIt", (suite,), {"make": lambda self: make(), **members})()
    with pytest.raises(AssertionError, match=message or "broken promise"):
        getattr(instance, test)()
