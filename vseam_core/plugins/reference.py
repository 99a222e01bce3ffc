"""Writes the reference of hooks and records from their docstrings: `python -m vseam_core.plugins.reference > docs/hooks.md`."""

from __future__ import annotations

import dataclasses
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

from vseam_core.plugins import hookspecs
from vseam_core.plugins.discovery import HOOK_RECORDS
from vseam_core.plugins.records import PluginRecord

_HEADER = "<!-- Generated: python -m vseam_core.plugins.reference > docs/hooks.md -->"
_FOR_WHOM = "*For those who write a plugin: what it may supply.*"


def example_of(hook: Callable[..., Any]) -> str:
    """The example in a hook's docstring, as Python source. Raises ValueError for a hook without one."""
    _, found, example = (inspect.getdoc(hook) or "").partition("Example::\n")
    if not found:
        raise ValueError(f"hook {hook.__name__} has no example")
    return textwrap.dedent(example).strip() + "\n"


def render() -> str:
    """The whole page as Markdown."""
    hooks = [getattr(hookspecs, name) for name in HOOK_RECORDS]
    parts = [_HEADER, "# Hooks for plugins", _FOR_WHOM, inspect.getdoc(hookspecs) or "", _common_fields()]
    parts += [_section(hook, HOOK_RECORDS[hook.__name__]) for hook in hooks]
    return "\n\n".join(parts) + "\n"


def _section(hook: Callable[..., Any], record: type[PluginRecord]) -> str:
    prose = (inspect.getdoc(hook) or "").partition("Example::")[0].strip()
    own = [field.name for field in dataclasses.fields(record) if field.name not in _field_names(PluginRecord)]
    more = f" beside the common fields it has {', '.join(f'`{name}`' for name in own)}." if own else ""
    about = f"It yields `{record.__name__}`;{more}" if own else f"It yields `{record.__name__}`."
    described = inspect.getdoc(record) or ""
    return f"## `{hook.__name__}`\n\n{prose}\n\n{about}\n\n{described}\n\n```python\n{example_of(hook)}```"


def _common_fields() -> str:
    names = ", ".join(f"`{name}`" for name in _field_names(PluginRecord))
    return f"## Every record\n\nFields: {names}.\n\n{inspect.getdoc(PluginRecord)}"


def _field_names(record: type[PluginRecord]) -> list[str]:
    return [field.name for field in dataclasses.fields(record)]


if __name__ == "__main__":
    print(render(), end="")
