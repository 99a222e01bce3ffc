"""What the page Start shows is what its commands print: word by word, and the numbers as near as another processor may come."""

from __future__ import annotations

import math
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from .pages import DOCS, ROOT, Page

PAGE = Page(DOCS / "start.md")
NUMBER = re.compile(r"(?<![\w.])[−+-]?\d+(?:\.\d+)?")
# Rounding of the last digit that is shown, and float32 on another processor.
RELATIVE, ABSOLUTE = 0.03, 0.02


def shown(language: str = "text") -> list[list[str]]:
    """What the page shows of each command's output: sentences, each in one line."""
    blocks = [block.text for block in PAGE.blocks if block.language == language]
    return [re.sub(r"\n +", " ", text).strip().splitlines() for text in blocks]


def commands() -> list[str]:
    """The page's commands of vseam, in their order."""
    return [line for line in PAGE.shell_lines() if line.startswith("vseam ")]


def printed(command: str, folder: Path) -> list[str]:
    """The lines that a command prints on stdout, run in a folder that has the examples."""
    (folder / "examples").symlink_to(ROOT / "examples")
    words = [sys.executable, "-m", "vseam", *shlex.split(command)[1:]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    outcome = subprocess.run(words, capture_output=True, text=True, cwd=folder, env=environment, timeout=1500, check=False)
    assert outcome.returncode == 0, outcome.stderr[-2000:]
    return outcome.stdout.splitlines()


def same(one: str, other: str) -> bool:
    """Whether two sentences have the same words and nearly the same numbers."""
    if NUMBER.sub("#", one) != NUMBER.sub("#", other):
        return False
    pairs = zip(*([float(text.replace("−", "-")) for text in NUMBER.findall(words)] for words in (one, other)), strict=True)
    return all(math.isclose(first, second, rel_tol=RELATIVE, abs_tol=ABSOLUTE) for first, second in pairs)


def assert_shown(sentences: list[str], lines: list[str]) -> None:
    missing = [sentence for sentence in sentences if not any(same(sentence, line) for line in lines)]
    assert missing == [], "\n".join(lines)


def test_the_page_shows_what_each_of_its_commands_prints() -> None:
    assert [command.split()[1] for command in commands()] == ["explain", "run"]
    assert [len(sentences) >= 4 for sentences in shown()] == [True, True]


def test_another_number_or_another_word_is_another_sentence() -> None:
    assert same("L1H2 (+11.51 nats), q = 0.0086", "L1H2 (+11.52 nats), q = 0.0087")
    assert not same("L1H2 (+11.51 nats)", "L1H2 (+12.51 nats)")
    assert not same("L1H2 (+11.51 nats)", "L1H3 (+11.51 nats)")
    assert not same("9 nats", "−9 nats")


def test_the_explanation_on_the_page_is_what_is_printed(tmp_path: Path) -> None:
    assert_shown(shown()[0], printed(commands()[0], tmp_path))


@pytest.mark.slow  # two minutes: a whole study
@pytest.mark.timeout(1800)
def test_the_findings_on_the_page_are_those_of_its_study(tmp_path: Path) -> None:
    assert_shown(shown()[1], printed(commands()[1], tmp_path))
