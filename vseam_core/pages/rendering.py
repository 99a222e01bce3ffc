"""Renders a page from a jinja2 template: style, script and data inlined, escaping on, and a policy that forbids everything remote.

A page is one file that works from disk. Its data lies in `<script type="application/json">` elements, which no browser runs; its one
script is made of ES modules that are written once and joined here (`joined_modules`), so that there is no build step.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from markupsafe import Markup

_IMPORT = re.compile(r"^import\s+(?:\{[^}]*\}\s+from\s+)?[\"']\./(?P<file>[\w-]+\.js)[\"'];?[ \t]*\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|class|let) (?P<name>[\w$]+))", re.MULTILINE)
_CLOSING = re.compile(r"</(?:script|style)|<!--", re.IGNORECASE)


@dataclass(frozen=True)
class _Block:
    name: str
    text: Markup


def render(
    package: str,
    template: str,
    *,
    title: str,
    style: str,
    script: str = "",
    blocks: Mapping[str, Any] | None = None,
    connect: bool = False,
    **context: Any,
) -> str:
    """The HTML of a template of `package` (folder `assets`), which extends `base.html`.

    `style` and `script` are inlined and allowed by their hashes; `blocks` become data elements by their id. `connect` lets the script
    ask the server that served the page, and nobody else. Everything in `context` is escaped.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    loaders = [PackageLoader(name, "assets") for name in dict.fromkeys((package, "vseam_core.pages"))]
    environment = Environment(
        loader=ChoiceLoader(loaders), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(template).render(
        title=title,
        policy=_policy(style, script, connect),
        style=_inlined(style),
        script=_inlined(script),
        blocks=[_Block(name, json_text(value)) for name, value in (blocks or {}).items()],
        **context,
    )


def json_text(value: object) -> Markup:
    """JSON that no browser can take for the end or the beginning of an element. Raises `ValueError` for NaN and infinity."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e").replace("\u2028", "\\u2028"))


def asset(package: str, name: str) -> str:
    """A text file of a package's folder `assets`."""
    return resources.files(package).joinpath("assets", name).read_text(encoding="utf-8")


def joined_modules(package: str, entry: str) -> str:
    """The ES modules that `entry` imports, each once and after those that it imports itself, as one module.

    Each keeps a scope of its own and hands out what it exports; modules import names as they are (`import {a, b} from "./other.js"`), so
    exported names must differ. Raises `ValueError` for two that do not, and for modules that import one another in a ring.
    """
    done: dict[str, str] = {}
    owners: dict[str, str] = {}

    def add(name: str, above: Sequence[str]) -> None:
        if name in above:
            raise ValueError(f"modules import one another in a ring: {' → '.join([*above, name])}")
        if name in done:
            return
        text = asset(package, name)
        for match in _IMPORT.finditer(text):
            add(match["file"], [*above, name])
        exported = [match["name"] for match in _EXPORT.finditer(text)]
        for word in exported:
            if owners.setdefault(word, name) != name:
                raise ValueError(f"{name} and {owners[word]} both export {word}")
        body = _EXPORT.sub("", _IMPORT.sub("", text))
        done[name] = f"const {{ {', '.join(exported)} }} = (() => {{\n{body}\nreturn {{ {', '.join(exported)} }};\n}})();"

    add(entry, [])
    return "\n".join(done.values())


def _inlined(text: str) -> Markup:
    if _CLOSING.search(text):
        raise ValueError("an inlined style or script may hold neither the end of its element nor the beginning of a comment")
    return Markup(text)


def _policy(style: str, script: str, connect: bool) -> str:
    rules = {
        "default-src": "'none'",
        "img-src": "data: blob:",
        "style-src": _hash(style),
        "script-src": _hash(script) if script else "'none'",
        "connect-src": "'self'" if connect else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
