"""The hook reference: every example runs, and the page in docs/ is the generated one."""

from __future__ import annotations

import types
from pathlib import Path

import pytest

from vseam_core.plugins import hookspecs
from vseam_core.plugins.discovery import HOOK_RECORDS, build_plugins
from vseam_core.plugins.reference import example_of, render

PAGE = Path(__file__).parents[2] / "docs" / "hooks.md"


def test_every_specification_has_a_record_type() -> None:
    specified = {name for name, value in vars(hookspecs).items() if hasattr(value, "vseam_spec")}
    assert specified == set(HOOK_RECORDS)


@pytest.mark.parametrize("hook", sorted(HOOK_RECORDS))
def test_the_example_of_a_hook_is_a_working_plugin(hook: str) -> None:
    plugin = types.ModuleType("example")
    exec(example_of(getattr(hookspecs, hook)), plugin.__dict__)
    plugins = build_plugins(select=["example"], local={"example": plugin})
    assert plugins.broken == ()
    (loaded,) = plugins.loaded
    assert [type(record) for record in loaded.records] == [HOOK_RECORDS[hook]]


def test_the_page_in_docs_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run: python -m vseam_core.plugins.reference > docs/hooks.md"
