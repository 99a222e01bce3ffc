"""Every tutorial is executed, cell by cell in a folder of its own, on the embedded models; its own assertions hold."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from .pages import DOCS, Page

TUTORIALS = [Page(path) for path in sorted((DOCS / "tutorials").glob("*.md"))]
BY_NAME = pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.path.stem)


def script_of(page: Page) -> str:
    """The cells of a page as one script; a line for the shell has to end with 0, or with 3 (done, with samples skipped)."""
    parts = ["import subprocess", "import matplotlib", "matplotlib.use('Agg')", SHELL]
    for number, block in enumerate(cells(page), 1):
        code = re.sub(r"\\\n\s*", " ", re.sub(r"^:[\w-]+:.*\n", "", block, flags=re.MULTILINE))
        parts += [f"# cell {number}", re.sub(r"^!(.*)$", lambda match: f"shell({match[1]!r})", code, flags=re.MULTILINE)]
    return "\n".join(parts)


SHELL = """
def shell(command):
    code = subprocess.run(command, shell=True).returncode
    assert code in (0, 3), f"{command}: exit code {code}"
"""


def cells(page: Page) -> list[str]:
    """The code of each cell."""
    return [block.text for block in page.blocks if block.language == "{code-cell}"]


@BY_NAME
def test_a_tutorial_has_cells_that_make_a_script(page: Page) -> None:
    assert len(cells(page)) >= 6
    compile(script_of(page), page.name, "exec")


def test_there_are_five_tutorials() -> None:
    assert len(TUTORIALS) == 5


@pytest.mark.slow
@pytest.mark.timeout(1800)
@BY_NAME
def test_a_tutorial_runs_from_its_first_cell_to_its_last(page: Page, tmp_path: Path) -> None:
    script = tmp_path / "cells.py"
    script.write_text(script_of(page), encoding="utf-8")
    folder = tmp_path / "work"
    folder.mkdir()
    outcome = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=folder, check=False)
    assert outcome.returncode == 0, outcome.stdout[-2000:] + outcome.stderr[-2000:]
