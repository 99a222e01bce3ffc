"""Every page of the site is reached, says whom it is for, and its links, code and commands hold; what is generated is current."""

from __future__ import annotations

import ast
import os
import re
import runpy
import shlex
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import vseam
from vseam_cli.main import vseam as command_line
from vseam_core import errors
from vseam_core.config.study_file import load_study
from vseam_core.plugins.discovery import build_plugins
from vseam_core.plugins.registry import Registry

from .pages import DOCS, ROOT, Page, navigation, pages, site_pages

EVERY = pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
GENERATOR = runpy.run_path(str(DOCS / "make_reference.py"))


def test_navigation_leads_to_every_page_and_to_nothing_else() -> None:
    files = {path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*") if path.suffix in (".md", ".ipynb")}
    assert navigation() == files - {"index"}


@pytest.mark.parametrize("page", site_pages(), ids=lambda page: page.name)
def test_a_page_says_in_its_first_lines_whom_it_is_for(page: Page) -> None:
    title, _, rest = page.text.partition("\n")
    assert title.startswith("# "), title
    assert re.match(r"\*For .*?\.\*\n", rest.lstrip(), re.DOTALL), rest[:120]


@EVERY
def test_links_lead_to_files_and_headings_that_are_there(page: Page) -> None:
    for target, anchor in page.links():
        path = Path(os.path.normpath(page.path.parent / target)) if target else page.path
        assert path.exists(), f"{page.name}: {target}"
        if anchor and path.suffix == ".md":
            assert anchor in Page(path).anchors, f"{page.name}: {target}#{anchor}"


@EVERY
def test_python_on_a_page_can_be_parsed(page: Page) -> None:
    for block in page.blocks:
        if block.language in ("python", "{code-cell}"):
            ast.parse(without_shell(block.text), page.name)


def without_shell(code: str) -> str:
    """A cell without its options and its lines for the shell, which may go on after a backslash."""
    return re.sub(r"^(:[\w-]+:|!|%)(.*\\\n)*.*$", "", code, flags=re.MULTILINE)


def commands(page: Page) -> list[str]:
    """The command lines of vseam on a page, those of executed cells too."""
    cells = [re.sub(r"\\\n\s*", " ", block.text) for block in page.blocks if block.language == "{code-cell}"]
    lines = [line.removeprefix("!") for cell in cells for line in cell.splitlines() if line.startswith("!vseam ")]
    return [line for line in (*page.shell_lines(), *lines) if line.startswith("vseam ")]


@EVERY
def test_commands_on_a_page_exist_and_their_options_too(page: Page) -> None:
    for line in commands(page):
        words = [word for word in shlex.split(line.partition(" > ")[0].replace("…", ""))[1:] if word]
        verb = verb_of(words)
        options = {word.split("=")[0] for word in words if word.startswith("--")}
        assert options <= options_of(tuple(verb)), f"{page.name}: {line}"


_OPTIONS: dict[tuple[str, ...], set[str]] = {}


def options_of(verb: tuple[str, ...]) -> set[str]:
    """The options that the help of a verb lists."""
    if verb not in _OPTIONS:
        shown = CliRunner().invoke(command_line, [*verb, "--help"])
        assert shown.exit_code == 0, verb
        _OPTIONS[verb] = set(re.findall(r"--[a-z-]+", shown.output))
    return _OPTIONS[verb]


def verb_of(words: list[str]) -> list[str]:
    """The verb of a command line, with the verb of its group where one follows."""
    context = click.Context(command_line)
    group = command_line.get_command(context, words[0]) if not words[0].startswith("-") else None
    return words[: 2 if isinstance(group, click.Group) and len(words) > 1 and group.get_command(context, words[1]) else 1 if group else 0]


def test_study_files_on_pages_name_only_what_there_is(tmp_path: Path) -> None:
    registry = Registry(build_plugins())
    sections = [
        (page.name, part) for page in pages() for block in page.blocks if block.language == "yaml" for part in block.text.split("# or\n")
    ]
    studies = [(name, text) for name, text in sections if not re.match(r"(models|datasets):\n", text)]  # that is a registry.yaml
    assert len(studies) >= 6
    for name, text in studies:
        common = "" if "models:" in text else "models: [llava-tiny]\ndatasets: [scenes/color]\n"
        (tmp_path / "study.yaml").write_text(common + text, encoding="utf-8")
        try:
            load_study(tmp_path / "study.yaml", registry)
        except errors.VseamError as error:
            pytest.fail(f"{name}: {error}")


def test_enough_commands_and_links_are_looked_at() -> None:
    assert sum(len(commands(page)) for page in pages()) >= 85
    assert sum(len(list(page.links())) for page in pages()) >= 85


@pytest.mark.parametrize("file", GENERATOR["PAGES"])
def test_a_page_that_is_made_from_the_code_is_current(file: str) -> None:
    make: Callable[[], str] = GENERATOR["PAGES"][file]
    assert (DOCS / "reference" / file).read_text(encoding="utf-8") == make(), "run: python docs/make_reference.py"


def test_every_column_of_the_database_is_described_and_nothing_else_is() -> None:
    tables, words = GENERATOR["columns"](), GENERATOR["described"]()
    assert len(tables) >= 50
    columns = {(table, column) for table, found in tables.items() for column in found}
    missing = [f"{table}.{column}" for table, column in sorted(columns) if not ({column, f"{table}.{column}"} & set(words))]
    assert missing == []
    names = {column for _, column in columns} | {f"{table}.{column}" for table, column in columns}
    assert set(words) - names == set()


def test_the_page_about_python_names_every_public_name() -> None:
    text = (DOCS / "reference" / "api.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\.\. auto\w+:: (\w+)$", text, re.MULTILINE)
    assert sorted(documented) == vseam.__all__


def test_the_page_about_errors_names_every_kind_and_only_messages_that_there_are() -> None:
    text = (DOCS / "faq.md").read_text(encoding="utf-8")
    kinds = [name for name, value in vars(errors).items() if isinstance(value, type) and value.__module__ == errors.__name__]
    assert len(kinds) >= 9
    for name in kinds:
        assert f"`{name}`" in text or f"`vseam.{name}`" in text, name
    source = "\n".join(
        path.read_text(encoding="utf-8") for room in ("vseam_core", "plugins", "cli") for path in (ROOT / room).rglob("*.py")
    )
    rows = re.findall(r"^\| (`.*?`) \|", text.partition("## What every error")[2], re.MULTILINE)
    fragments = [piece for row in rows for message in re.findall(r"`([^`]+)`", row) for piece in re.split(r"'?…'?", message)]
    assert len(fragments) >= 40
    for piece in filter(None, map(str.strip, fragments)):
        assert piece in source, piece
