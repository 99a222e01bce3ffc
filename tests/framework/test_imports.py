"""What an import may cost: registering, listing and help stay light, and the public names are all there."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vseam_core

HEAVY = ("torch", "transformers", "diffusers", "sqlalchemy", "pandas", "scipy", "matplotlib", "sklearn", "numpy", "PIL")


def imported_by(statement: str, folder: Path) -> list[str]:
    """The heavy packages that a fresh Python has imported after a statement."""
    code = f"{statement}\nimport sys\nprint('LOADED', *(name for name in {HEAVY!r} if name in sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, timeout=120, check=True)
    return run.stdout.rpartition("LOADED")[2].split()


@pytest.mark.parametrize(
    "statement",
    [
        "import vseam_core",
        "from vseam_core import VisionLanguageModel, Sample, Site, Benchmark, ModelRecord, hookimpl",
        "from vseam_core import default_study; default_study().expand()",
        "from vseam_core import build_plugins, load_registry; load_registry(build_plugins()).list_models()",
        "from vseam_cli.main import execute; execute(['--help'])",
        "from vseam_cli.main import execute; execute(['--version'])",
        "from vseam_cli.main import execute; execute(['plugins'])",
        "from vseam_cli.main import execute; execute(['models'])",
        "from vseam_cli.main import execute; execute(['datasets', '--json'])",
        "from vseam_cli.main import execute; execute(['editors'])",
        "from vseam_cli.main import execute; execute(['zoo', 'train', '--help'])",
        "from vseam_cli.main import execute; execute(['query', '--help'])",
        "from vseam_cli.main import execute; execute(['db', 'info', '--help'])",
    ],
)
def test_nothing_heavy_is_imported_by(statement: str, tmp_path: Path) -> None:
    assert imported_by(statement, tmp_path) == []


def test_importing_the_command_line_imports_neither_plugins_nor_pydantic(tmp_path: Path) -> None:
    names = ("pydantic", "yaml", "rich", "pluggy", "vseam_plugins")
    code = f"import vseam_cli.main, sys; print([name for name in {names!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=120, check=True)
    assert run.stdout.strip() == "[]"


def test_every_public_name_can_be_imported() -> None:
    missing = [name for name in vseam_core.__all__ if not hasattr(vseam_core, name)]
    assert missing == []
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        vseam_core.nonsense  # noqa: B018


def test_type_checkers_see_the_same_names_as_python() -> None:
    tree = ast.parse(Path(vseam_core.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {(node.module, alias.name) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == {(module, name) for module, names in vseam_core._HOMES.items() for name in names}
