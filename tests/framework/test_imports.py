"""What an import may cost: registering, listing and help stay light, and the public names are all there."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import vseam
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
        "import vseam",
        "from vseam import VisionLanguageModel, Sample, Site, Benchmark, ModelRecord, hookimpl",
        "from vseam import default_study; default_study().expand()",
        "from vseam import build_plugins, load_registry; load_registry(build_plugins()).list_models()",
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
    assert {"open_workspace", "run_study", "evaluate", "VisionLanguageModel", "hookimpl"} <= set(vseam.__all__)
    missing = [name for name in vseam.__all__ if not hasattr(vseam, name)]
    assert missing == []
    assert set(vseam.__all__) <= set(dir(vseam))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        vseam.nonsense  # noqa: B018


def test_the_framework_below_has_no_second_list_of_the_public_names() -> None:
    assert [name for name in vseam.__all__ if name in vars(vseam_core)] == []


def test_python_dash_m_vseam_is_the_command_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vseam", "--version"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=True)
    assert run.stdout == f"vseam {vseam.__version__}\n"


def test_every_room_of_the_core_has_its_floor_in_the_contract_about_imports() -> None:
    root = Path(__file__).parents[2]
    contracts = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["name"].startswith("the rooms of the core"))
    named = {module for layer in layers for module in re.split(r" [|:] ", layer)}
    rooms = {path.parent for path in (root / "vseam_core").glob("*/__init__.py")}
    assert len(rooms) >= 14
    for room in rooms:
        name = f"vseam_core.{room.name}"
        modules = {f"{name}.{path.stem}" for path in room.glob("*.py") if path.stem != "__init__"}
        assert name in named or modules <= named, name


@pytest.mark.parametrize("name", vseam.__all__)
def test_a_public_name_says_what_it_is_for_and_so_do_its_methods(name: str) -> None:
    value = getattr(vseam, name)
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        return
    members = [member for key, member in vars(value).items() if not key.startswith("_")] if inspect.isclass(value) else []
    own = [member.fget if isinstance(member, property) else member for member in members]
    for described in (value, *(member for member in own if inspect.isfunction(member))):
        text = inspect.getdoc(described) or ""
        assert text.partition("\n\n")[0].rstrip().endswith("."), described
