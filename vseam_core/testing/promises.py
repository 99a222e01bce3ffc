"""How a suite says that a promise of an interface is broken."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from vseam_core.errors import SampleError, VseamError


def promise(kept: object, what: str) -> None:
    """Fail with `what` was promised, unless it is kept. Raises `AssertionError`."""
    if not kept:
        raise AssertionError(f"broken promise: {what}")


def promise_refusal(call: Callable[[], object], what: str, kind: type[VseamError] = SampleError) -> None:
    """Fail unless `call` raises an error of that kind, of one line."""
    try:
        call()
    except kind as error:
        promise("\n" not in str(error) and str(error).strip(), f"{what}: the reason is one line")
        return
    except Exception as error:
        raise AssertionError(f"broken promise: {what}: expected {kind.__name__}, got {type(error).__name__}: {error}") from error
    raise AssertionError(f"broken promise: {what}: expected {kind.__name__}, nothing was raised")


def promise_plain(options: Mapping[str, Any], what: str) -> None:
    """Fail unless options can be part of a stored identity: plain values under text keys."""
    try:
        text = json.dumps(dict(options), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"broken promise: {what} are plain values (JSON): {error}") from None
    promise(json.loads(text) == json.loads(json.dumps(dict(options))), f"{what} are the same each time")
