"""What is installed is what is in the tree, and a user's type checker sees its types.

Packages are listed by hand, so a forgotten one would only show at a user's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pluggy
import pytest

ROOT = Path(__file__).parents[2]
HOMES = {"vseam": "vseam", "vseam_core": "vseam_core", "plugins": "vseam_plugins", "cli": "vseam_cli"}
# What a user writes, and the type that mypy must find for each expression: `Any` would mean that the wheel's types are not seen.
SCRIPT = """
import vseam

with vseam.open_workspace("results.db") as workspace:
    study = vseam.default_study().with_overrides(models=["llava-tiny"], limit=20)
    reveal_type(workspace)
    reveal_type(study)
    reveal_type(vseam.run_study(workspace, study))
    reveal_type(vseam.evaluate("llava-tiny", "scenes/color", workspace=workspace))


class Mine(vseam.Tracer):
    name = "mine"


@vseam.hookimpl
def vseam_tracers() -> list[vseam.TracerRecord]:
    return [vseam.TracerRecord(name="mine", summary="a tracer", factory=Mine)]


reveal_type(vseam.HeadId(1, 2).layer)
reveal_type(vseam.__version__)
"""
TYPES = ("Workspace", "Study", "StudyMaterial", "EvaluationResult", "int", "str")


def files_of_the_tree() -> set[str]:
    found = set()
    for folder, package in HOMES.items():
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                found.add("/".join((package, *path.relative_to(ROOT / folder).parts)))
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("wheel")
    unwanted = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", "reports", "results.db*")
    shutil.copytree(ROOT, root / "source", ignore=unwanted)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(root / "out"), str(root / "source")]
    subprocess.run(command, check=True, capture_output=True, cwd=root)
    (built,) = (root / "out").glob("*.whl")
    return built


@pytest.mark.timeout(120)
def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == files_of_the_tree()
    assert any(name.endswith("llava-tiny/model.safetensors") for name in packed)
    assert {f"{package}/py.typed" for package in HOMES.values()} <= packed


@pytest.mark.timeout(300)
def test_a_strict_type_checker_sees_the_types_of_the_installed_wheel(wheel: Path, tmp_path: Path) -> None:
    # An environment of vseam and pluggy (whose decorator a plugin uses) alone: leaving torch out keeps the check short.
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    (site,) = environment.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    shutil.copytree(Path(pluggy.__file__).parent, site / "pluggy")
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MYPY"))}
    python = str(environment / "bin" / "python")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--python-executable={python}", "script.py"]
    outcome = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=variables, check=False)
    revealed = [line.partition("Revealed type is ")[2].strip('"') for line in outcome.stdout.splitlines() if "Revealed type" in line]
    assert len(revealed) == len(TYPES), outcome.stdout
    for found, expected in zip(revealed, TYPES, strict=True):
        assert found.rpartition(".")[2] == expected
    assert "error:" not in outcome.stdout, outcome.stdout
