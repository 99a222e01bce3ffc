"""Options of the form `[OWNER:]NAME=VALUE`, read from the command line."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import click

# A path with fields in braces is text, where YAML would see a mapping that goes wrong.
_PATTERN = re.compile(r"\{[A-Za-z_]\w*\}.*")


def named_values(texts: Sequence[str], expected: str, context: click.Context, parameter: click.Parameter) -> Iterator[tuple[str, str, Any]]:
    """Owner ("" where none is named), name and value of each `[OWNER:]NAME=VALUE`; a name may be given once per owner."""
    seen = set()
    for text in texts:
        left, equals, right = text.partition("=")
        owner, _, name = left.rpartition(":")
        if not equals or not name.isidentifier():
            raise click.BadParameter(f"{text!r}: expected {expected}", context, parameter)
        if left in seen:
            raise click.BadParameter(f"{left} is given twice", context, parameter)
        seen.add(left)
        try:
            yield owner, name, plain_value(right)
        except ValueError as error:
            raise click.BadParameter(f"{text!r:.200}: {error}", context, parameter) from None


def plain_value(text: str) -> Any:
    """A value as YAML reads it, so that `true`, numbers and `{0: 20GB, cpu: 60GB}` can be written; `{image}.png` is a pattern, so text.

    Raises ValueError that says what was expected.
    """
    import yaml

    if _PATTERN.fullmatch(text):
        return text
    try:
        found = yaml.safe_load(text)
        plain = _is_plain(found)
    except (yaml.YAMLError, ValueError, RecursionError):  # an alias may stand for what it is in
        raise ValueError("the value is no YAML") from None
    if not plain:
        raise ValueError("expected text, a number, true, false, null or a list; quote dates")
    return found


def _is_plain(value: Any) -> bool:
    """Whether a value is one that JSON has too: no date, no binary, no NaN, no key that is not text or a number."""
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str | int) and _is_plain(inner) for key, inner in value.items())
    return value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
