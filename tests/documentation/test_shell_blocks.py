"""The command lines of a page run in their order, in one folder, as somebody would who follows it in a fresh clone.

Left out is what needs a model, data or a server that is not here, waits for a person, or is a form to fill in.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from .pages import ROOT, Page, pages

EMBEDDED = ("llava-tiny", "instructblip-tiny", "llava-tiny-skewed")
# What a line may hold, and why it is then not run.
LEFT_OUT = {
    r"…|\b(FILE|NAME|KEY|DIR|FOLDER|MODEL|FROM|TO|STUDY|VERB|A B)\b": "a form to fill in",
    r"postgresql://|database\.txt": "a server",
    r"--serve|vseam view|--open": "waits for a person",
    r"vseam zoo (train|teach)|studies/forms": "trains for minutes or longer, or studies what was trained",
    r"(other|old)\.db|report default|edit-verdicts\.json|empty-sofa": "results or images of one's own",
}
# What stands in the place of a line, and what a page that asks for results begins with: a study of a minute, some edits.
SMALLER = {"vseam run": "vseam run --model llava-tiny --dataset scenes/color --limit 6"}
BEFORE = {
    "editing": ["vseam edit --dataset scenes/color --limit 2"],
    "sql": ["vseam heads scan --model llava-tiny --dataset scenes/color --operation zero --limit 6"],
}


def needs_what_is_not_here(line: str) -> str:
    """Why a line is not run, or nothing."""
    for pattern, why in LEFT_OUT.items():
        if re.search(pattern, re.sub(r'"SELECT [^…]*"', "", line)):
            return why
    words = shlex.split(line)
    for option, value in pairwise(words):
        if option == "--model" and value not in EMBEDDED:
            return "another model"
        if option == "--dataset" and not value.startswith(("scenes", "@")):
            return "other data"
        if option in ("--editor", "--planner", "--mask") and value in (
            "powerpaint",
            "inpaint",
            "precomputed",
            "llm",
            "sam",
            "grounded-sam",
        ):
            return "weights or images of one's own"
    if words[1:3] in (["datasets", "check"], ["models", "show"], ["study", "check"], ["plugins", "new"]) and len(words) > 3:
        known = words[3].startswith("scenes") or words[3] in (*EMBEDDED, "llava-1.5-7b", "qwen2.5-vl-3b") or words[1] == "plugins"
        return "" if known else "a file of one's own"
    return "" if words[0] == "vseam" else "no command that is tried here"


def run_lines(page: Page) -> Sequence[str]:
    """What of a page is run."""
    return [SMALLER.get(line, line) for line in page.shell_lines() if not needs_what_is_not_here(line)]


TRIED = [page for page in pages() if run_lines(page)]


def test_most_pages_with_commands_are_tried_and_each_reason_leaves_something_out() -> None:
    assert len(TRIED) >= 12
    assert sum(len(run_lines(page)) for page in TRIED) >= 50
    reasons = {needs_what_is_not_here(line) for page in pages() for line in page.shell_lines()}
    assert reasons >= set(LEFT_OUT.values())


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("page", TRIED, ids=lambda page: page.path.stem)
def test_the_commands_of_a_page_run_in_their_order(page: Page, tmp_path: Path) -> None:
    for name in ("examples", "studies", "registry.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    program = tmp_path / "bin" / "vseam"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom vseam_cli.main import main\nmain()\n", encoding="utf-8")
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}
    for line in (*BEFORE.get(page.path.stem, ()), *run_lines(page)):
        outcome = subprocess.run(line, shell=True, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
        assert outcome.returncode in (0, 3), f"{page.name}: {line}\n{outcome.stderr[-1500:]}"
