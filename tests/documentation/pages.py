"""The pages of the site as the tests see them: their text, their links, their code, and where navigation leads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FENCE = re.compile(r"^(`{3,})(\{[\w-]+\}|\w*)([^\n]*)\n(.*?)^\1\s*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\((?!https?:|mailto:)([^)#\s]*)(#[^)\s]*)?\)")
FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: the word behind the fence (`python`, `{code-cell}`), and what is in it."""

    language: str
    text: str


@dataclass(frozen=True)
class Page:
    """A Markdown file; `name` is its path below the repository."""

    path: Path

    @property
    def name(self) -> str:
        """The path below the repository."""
        return self.path.relative_to(ROOT).as_posix()

    @cached_property
    def text(self) -> str:
        """The whole file without front matter and comments."""
        return COMMENT.sub("", FRONT_MATTER.sub("", self.path.read_text(encoding="utf-8"))).lstrip()

    @cached_property
    def prose(self) -> str:
        """The text without its fenced and indented blocks."""
        return re.sub(r"^ {4}.*$", "", FENCE.sub("", self.text), flags=re.MULTILINE)

    @cached_property
    def blocks(self) -> list[Block]:
        """The fenced blocks in their order."""
        return [Block(match[2], match[4]) for match in FENCE.finditer(self.text)]

    @cached_property
    def anchors(self) -> set[str]:
        """The anchors of its headings, as GitHub and MyST make them."""
        headings = re.findall(r"^#{1,6} (.*)$", FENCE.sub("", self.text), re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading).lower()).strip().replace(" ", "-") for heading in headings}

    def links(self) -> Iterator[tuple[str, str]]:
        """Target and anchor of each link that stays in the repository."""
        for target, anchor in LINK.findall(self.prose):
            yield target, anchor.removeprefix("#")

    def shell_lines(self) -> list[str]:
        """Command lines, indented or in a fence, without remarks; one that goes on after a backslash is one."""
        text = re.sub(r"\\\n\s*", " ", self.text)
        fenced = [line for match in FENCE.finditer(text) if match[2] in ("", "bash", "console", "shell") for line in match[4].splitlines()]
        indented = re.findall(r"^ {4,7}((?:vseam|pip|export|cd) .*)$", FENCE.sub("", text), re.MULTILINE)
        lines = [*indented, *(line for line in fenced if line.startswith(("vseam ", "pip ", "export ")))]
        return [re.sub(r"\s+#.*$", "", line).strip() for line in lines]


def pages() -> list[Page]:
    """Every page of the site, and the files at the top that are pages too."""
    top = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/vseam-smolvlm/README.md")]
    return [Page(path) for path in (*top, *sorted(DOCS.rglob("*.md")))]


def site_pages() -> list[Page]:
    """The pages below docs/ that hold their own text (some only point to a file at the top)."""
    return [page for page in pages() if page.path.is_relative_to(DOCS) and not page.text.startswith("The page is [")]


def navigation() -> set[str]:
    """What the front page's tables of contents name, without endings."""
    front = Page(DOCS / "index.md")
    trees = [block.text for block in front.blocks if block.language == "{toctree}"]
    return {line.strip() for tree in trees for line in tree.splitlines() if line.strip() and not line.startswith(":")}
