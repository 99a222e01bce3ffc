"""How Sphinx makes the site of docs/: `make docs` writes it to site/, warnings are errors.

Pages are Markdown and read well in the repository too. Commands and the API are read from the code; tutorials are executed.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = "vseam"
version = release = _PROJECT["version"]
author = "The vseam authors"
copyright = "The vseam authors, Apache License 2.0"
html_title = f"vseam {release}"
html_theme = "furo"
html_show_sphinx = False
html_copy_source = False
html_show_search_summary = False  # a page from disk may not read others; what is found is listed all the same
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = [("search.js", {"defer": "defer"})]  # after Sphinx's own, which it mends
exclude_patterns: list[str] = []

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx_click", "sphinx_copybutton"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4

# Tutorials: each in a folder of its own that is thrown away, on one thread; what has not changed is taken from the cache.
nb_execution_mode = os.environ.get("VSEAM_DOCS_EXECUTE", "cache")
nb_execution_cache_path = str(ROOT / "build" / "tutorials")
nb_execution_in_temp = True
os.environ["COLUMNS"] = "106"  # what commands in a tutorial take for the width of their terminal
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # for `!vseam`
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True
suppress_warnings = ["misc.highlighting_failure"]  # Pygments knows no `!` line that goes on after a backslash; it is coloured all the same
# The tables that a result shows without a kernel: the interactive view needs one, and its scripts would be fetched from elsewhere.
nb_ipywidgets_js: dict[str, dict[str, str]] = {}
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]

# Pages that are written at the top of the repository, where everyone looks for them.
_FROM_THE_TOP = {"contributing": "CONTRIBUTING.md", "changelog": "CHANGELOG.md", "example-plugin": "examples/vseam-smolvlm/README.md"}
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")

# Docstrings: `word` is code, and the order is that of the source.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
autodoc_preserve_defaults = True


def _examples(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """An indented block of a docstring is code: reStructuredText takes it for a quotation unless `::` stands before it."""
    made: list[str] = []
    for index, line in enumerate(lines):
        begins = line.startswith("    ") and (index == 0 or not lines[index - 1].strip())
        inside = any(before.startswith("    ") for before in made[-2:]) if made else False
        if begins and not inside:
            made += [".. code-block:: python", ""]
        made.append(line)
    lines[:] = made


def _page_of(app: Any, name: str, source: list[str]) -> None:
    """A page that only points to a file at the top becomes that file; links that leave docs/ lead to the pages of what they name."""
    home = Path("docs") / f"{name}.md"
    if name in _FROM_THE_TOP:
        home = Path(_FROM_THE_TOP[name])
        source[0] = (ROOT / home).read_text(encoding="utf-8")
    depth = "../" * name.count("/")

    def led(match: re.Match[str]) -> str:
        words, target, anchor = match.groups()
        path = os.path.normpath(home.parent / target)
        if path.startswith("docs/"):
            return f"[{words}]({depth}{path.removeprefix('docs/')}{anchor or ''})"
        page = {file: f"{page}.md" for page, file in _FROM_THE_TOP.items()}.get(path)
        return f"[{words}]({depth}{page}{anchor or ''})" if page else words

    source[0] = _LINK.sub(led, source[0])


def _without_widgets(app: Any, name: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """What interactive views hold is nothing to a page that shows their tables, and large."""
    state = "application/vnd.jupyter.widget-state+json"
    context["script_files"] = [file for file in context["script_files"] if getattr(file, "attributes", {}).get("type") != state]


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("html-page-context", _without_widgets)
    app.connect("autodoc-process-docstring", _examples)
    app.connect("source-read", _page_of)
