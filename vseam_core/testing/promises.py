"""How a suite says that a promise of an interface is broken."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vseam_core.errors import SampleError, VseamError
from vseam_core.runs.identity import own_options


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


def promise_identified(plugin: Any, not_in_identity: Sequence[str] = ()) -> None:
    """Fail unless name, version and options tell a plugin's results apart from those of every other one.

    A plugin that overrides neither `options()` nor `identity()` is told apart by whatever options it was given. One that does override it
    has to name every option of its constructor there, and to say another thing when a number in it is another one; `not_in_identity` are
    options that change no result (a device), or that it says by another name.
    """
    kind = type(plugin)
    promise(isinstance(plugin.name, str) and plugin.name.strip(), "it has a name")
    promise(type(plugin.version) is int and plugin.version >= 1, f"its version is a whole number from 1 on, not {plugin.version!r}")
    said = own_options(plugin)
    if said is None:
        return
    promise_plain(said, f"what {plugin.name} says of its options")
    for name, parameter in _named_options(kind).items():
        if name in not_in_identity:
            continue
        promise(name in said, f"its option {name!r} is part of what it says of its options, or of the suite's not_in_identity")
        changed = _with_another_number(kind, name, parameter.default)
        promise(changed is None or own_options(changed) != own_options(kind()), f"another {name} is another identity")


def _named_options(kind: type[Any]) -> dict[str, inspect.Parameter]:
    """The options of a plugin's constructor that have names."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: parameter for name, parameter in inspect.signature(kind).parameters.items() if parameter.kind in named}


def _with_another_number(kind: type[Any], name: str, default: object) -> Any:
    """The plugin with an option changed whose default is a number or a switch; None where it is neither, or the change is refused."""
    if not isinstance(default, bool | int | float):
        return None
    try:
        return kind(**{name: not default if isinstance(default, bool) else default * 2 or 1})
    except (VseamError, ValueError, TypeError):
        return None


def promise_plain(options: Mapping[str, Any], what: str) -> None:
    """Fail unless options can be part of a stored identity: plain values under text keys."""
    try:
        text = json.dumps(dict(options), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"broken promise: {what} are plain values (JSON): {error}") from None
    promise(json.loads(text) == json.loads(json.dumps(dict(options))), f"{what} are the same each time")
