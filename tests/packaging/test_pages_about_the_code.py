"""The pages about the code name what is there: every function of the architecture page, every file of a recipe."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
ROOMS = "|".join(path.name for path in (ROOT / "vseam_core").iterdir() if path.is_dir() and (path / "__init__.py").is_file())
NAMES = sorted(set(re.findall(rf"`((?:{ROOMS}|vseam_cli)\.[\w.]+)`", ARCHITECTURE)))
RECIPES = re.findall(r"^### (.*?) \((\d+) files\)\n(.*?)(?=^##)", CONTRIBUTING, re.MULTILINE | re.DOTALL)


def found(name: str) -> object:
    """What a dotted name stands for, below `vseam_core` where it begins with a room."""
    parts = name.split(".") if name.startswith("vseam_cli") else ["vseam_core", *name.split(".")]
    value: object = importlib.import_module(".".join(parts[:2]))
    for index, part in enumerate(parts[2:], 2):
        value = getattr(value, part) if hasattr(value, part) else importlib.import_module(".".join(parts[: index + 1]))
    return value


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_the_architecture_page_is_in_the_code(name: str) -> None:
    assert found(name) is not None


def test_the_architecture_page_names_the_whole_way_and_every_room() -> None:
    assert len(NAMES) >= 30
    for room in ROOMS.split("|"):
        assert f"`{room}/" in ARCHITECTURE, room
    for file in (ROOT / "vseam_core").glob("[!_]*.py"):
        assert f"`{file.stem}`" in ARCHITECTURE, file


@pytest.mark.parametrize(("title", "count", "steps"), RECIPES)
def test_a_recipe_counts_its_files_and_names_only_files_that_exist(title: str, count: str, steps: str) -> None:
    numbered = re.findall(r"^\d+\. `([^`]+)`", steps, re.MULTILINE)
    assert len(numbered) == int(count), title
    for path in re.findall(r"`([\w/]+\.(?:py|md))`", steps):
        if "NAME" in path:
            assert (ROOT / path).parent.is_dir(), path
        elif "/" in path or path.isupper():
            assert (ROOT / path).is_file(), path


def test_there_is_a_recipe_for_each_kind_of_addition() -> None:
    kinds = [title for title, _, _ in RECIPES]
    assert kinds == ["A model family", "A head operation", "A tracer", "A generation method", "A benchmark", "A figure", "A stored column"]
