"""Writes the reference pages that are made from the code: `python docs/make_reference.py`. A test holds the pages to be current.

Study file and registry from their pydantic models, the database from its tables with the words of reference/columns.yaml.
"""

from __future__ import annotations

import inspect
import sqlite3
import tempfile
import types
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from vseam_core.config.numbers import LARGEST_WHOLE_NUMBER

HERE = Path(__file__).parent / "reference"
GENERATED = "<!-- Generated: python docs/make_reference.py -->"


def words_of(annotation: Any) -> str:
    """A type in words: `text`, `list of text`, `one of a, b`."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return words_of(inner[0])
    if origin is Literal:
        return "one of " + ", ".join(f"`{value}`" for value in inner)
    if origin in (Union, types.UnionType):
        return " or ".join("nothing" if part is type(None) else words_of(part) for part in inner)
    if origin is list:
        return f"list of {words_of(inner[0])}"
    if origin is dict:
        return "mapping"
    names = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return names.get(annotation) or f"section [{section_name(annotation)}](#{anchor(annotation)})"


def section_name(model: type[BaseModel]) -> str:
    """What a section's heading says."""
    return model.__name__.lstrip("_")


def anchor(model: type[BaseModel]) -> str:
    """The anchor of a section's heading."""
    return section_name(model).lower()


def default_of(field: FieldInfo) -> str:
    """The default as the file would say it."""
    if field.is_required():
        return "has to be given"
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined or value is None:
        return ""
    plain = _plain(value)
    if plain in ({}, ""):
        return ""
    text = yaml.safe_dump(plain, default_flow_style=True, width=1000, allow_unicode=True).strip().removesuffix("\n...")
    return f"`{text}`"


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return {name: _plain(inner) for name, inner in value.model_dump(exclude_defaults=True).items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def models_below(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A model and those of its fields, each once, in the order in which they are named."""
    seen: list[type[BaseModel]] = []
    waiting = [model]
    while waiting:
        current = waiting.pop(0)
        if current in seen:
            continue
        seen.append(current)
        yield current
        waiting += [part for field in current.model_fields.values() for part in _models_in(field.annotation)]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def fields_table(model: type[BaseModel]) -> str:
    """What a section is for, and its fields."""
    rows = ["| field | what it takes | default |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        what = words_of(field.annotation)
        bounds = [
            f"{sign} {getattr(item, key)}"
            for item in field.metadata
            for key, sign in _BOUNDS
            if getattr(item, key, LARGEST_WHOLE_NUMBER) not in (None, LARGEST_WHOLE_NUMBER)
        ]
        if bounds:
            what = f"{what}, {' and '.join(bounds)}"
        rows.append(f"| `{name}` | {what} | {default_of(field)} |")
    about = inspect.getdoc(model) or ""
    about = "" if about == inspect.getdoc(BaseModel) else about
    return f"## {section_name(model)}\n\n{about}\n\n" + "\n".join(rows)


_BOUNDS = (("ge", "at least"), ("le", "at most"))


def study_page() -> str:
    """The fields of study files and of registry.yaml."""
    from vseam_core.config.study import Study
    from vseam_core.plugins.registry_yaml import _Entry, _Sections

    intro = (
        "# Study file and registry.yaml\n\n*For those who write a study file or give names to models and datasets: every field.*\n\n"
        "A study file says models × datasets × methods; `vseam study check FILE` says whether it can be run. Numbers can be at most "
        "2^53; a field that is not listed here is refused with its line. `studies/large.yaml` is a whole one."
    )
    registry = (
        "# registry.yaml\n\n`models` and `datasets` hold names, each with an entry. It is read from the working directory, or from "
        "`--registry FILE`. It can never switch on remote code, pickles or import paths.\n"
    )
    study = [fields_table(model) for model in models_below(Study)]
    entries = fields_table(_Sections).replace("## Sections", "## The file"), fields_table(_Entry)
    registry = registry.replace("# registry.yaml", "## registry.yaml")
    return "\n\n".join([GENERATED, intro, *study, registry.strip(), *(part.replace("## ", "### ") for part in entries)]) + "\n"


def columns() -> dict[str, list[str]]:
    """The columns of each table and view, as a database of this version has them."""
    from vseam_core.store import open_store

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "results.db"
        open_store(file).close()
        with closing(sqlite3.connect(file)) as connection:
            found = connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'")
            names = sorted(name for (name,) in found)
            return {name: [row[1] for row in connection.execute(f"PRAGMA table_info({name})")] for name in names}


def described() -> dict[str, tuple[str, str]]:
    """Column or table.column → words and unit."""
    found = yaml.safe_load((HERE / "columns.yaml").read_text(encoding="utf-8"))
    return {name: (text.partition(" | ")[0], text.partition(" | ")[2]) for name, text in found.items()}


def database_page() -> str:
    """Every column of the database with its unit."""
    from vseam_core.store.schema import metadata

    words, tables = described(), columns()
    parts = [
        GENERATED,
        "# Every column of the database",
        "*For those who ask the database with SQL and want to know what a column holds, and in which unit.*",
        "[Asking the results database](../sql.md) says what a row of each table is, and has the statements that are asked most; this "
        "page is the list. Tables called `stored_X` hold everything, the view `X` with the same columns what is "
        "current. *Of the measure*: nats for `logit_diff` and `logprob`, a probability for the others.",
    ]
    stored = set(metadata.tables)
    for name in sorted(tables, key=lambda name: name.removeprefix("stored_")):
        if f"stored_{name}" in tables:
            continue  # a view with the columns of its table
        twin = name.removeprefix("stored_")
        title = f"`{twin}`, `{name}`" if twin != name else f"`{name}`" if name in stored else f"View `{name}`"
        rows = ["| column | what it is | unit |", "|---|---|---|"]
        rows += [
            "| `{}` | {} | {} |".format(column, *words.get(f"{name}.{column}", words.get(column, ("", "")))) for column in tables[name]
        ]
        parts.append(f"## {title}\n\n" + "\n".join(rows))
    return "\n\n".join(parts) + "\n"


PAGES = {"study-file.md": study_page, "database.md": database_page}

if __name__ == "__main__":
    for file, make in PAGES.items():
        (HERE / file).write_text(make(), encoding="utf-8")
