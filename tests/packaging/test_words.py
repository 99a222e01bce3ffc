"""Plain words, one for each thing: what is banned stands nowhere in code, messages, help or documentation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from vseam_cli.main import vseam

ROOT = Path(__file__).parents[2]
# The word, and what is said instead.
BANNED = {
    r"\banew\b": "again, recomputed",
    r"\baloud\b": "warn, say so",
    r"\bput out\b": "output",
    r"\bstrangers?\b": "third-party",
    r"\bin vain\b": "unknown name",
    r"pictures?": "image",
}
# Questions of data sets and of people keep their words; so do the glossary, an option's old name, and the key of an edit on disk.
ALLOWED = re.compile(
    r"(?:this|the|that) picture|\(\?:picture\||_PICTURE|\"picture\"|picture \||pictures=|\"pictures\"|not picture", re.IGNORECASE
)
TEXT = (".py", ".pyi", ".md", ".template", ".json", ".toml", ".cff")
PLACES = ("vseam", "vseam_core", "plugins", "cli", "examples", "docs", "studies", "perf")


def lines() -> Iterator[tuple[str, str]]:
    """Every line of the code and the documentation, with its place; checkpoints and data are left out."""
    files = [path for place in PLACES for path in sorted((ROOT / place).rglob("*")) if path.suffix in TEXT]
    for path in [*files, *ROOT.glob("*.md"), *ROOT.glob("*.cff")]:
        if "checkpoints" in path.parts or "build" in path.parts:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            yield f"{path.relative_to(ROOT)}:{number}", line


def commands(command: click.Command, path: tuple[str, ...], context: click.Context) -> Iterator[tuple[str, ...]]:
    """The words of a command and of every one below it."""
    yield path
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from commands(found, (*path, name), context)


@pytest.mark.parametrize("word", BANNED)
def test_a_banned_word_stands_nowhere_in_code_and_documentation(word: str) -> None:
    pattern = re.compile(word, re.IGNORECASE)
    found = [f"{place}: {line.strip()}" for place, line in lines() if pattern.search(ALLOWED.sub("", line))]
    assert found == [], f"say instead: {BANNED[word]}"


def test_no_help_of_any_command_says_a_banned_word() -> None:
    every = list(commands(vseam, (), click.Context(vseam)))
    assert len(every) >= 25
    for words in every:
        text = CliRunner().invoke(vseam, [*words, "--help"]).output
        assert "Usage" in text
        for word in BANNED:
            assert not re.search(word, text, re.IGNORECASE), (words, word)


def test_the_search_would_find_one() -> None:
    assert sum(1 for _ in lines()) > 20_000
    assert not ALLOWED.search("an image that strangers put out anew")
    assert re.search(r"pictures?", ALLOWED.sub("", "the edited Pictures"), re.IGNORECASE)
