"""The page on writing plugins: its code works as written, and it names every suite."""

from __future__ import annotations

import re
from pathlib import Path

from vseam_core import testing

PAGE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")


def test_the_code_on_the_page_is_a_suite_that_passes() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    namespace: dict[str, type] = {}
    exec(code, namespace)
    suite = namespace["TestMine"]()
    tests = [name for name in dir(suite) if name.startswith("test_")]
    assert len(tests) >= 4
    for name in tests:
        getattr(suite, name)()


def test_every_suite_is_named() -> None:
    for name in testing.__all__:
        if name.endswith("Conformance"):
            assert f"`{name}`" in PAGE
