"""What is installed is what is in the tree: packages are listed by hand, so a forgotten one would only show at a user's."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOMES = {"vseam_core": "vseam_core", "plugins": "vseam_plugins", "cli": "vseam_cli"}


def files_of_the_tree() -> set[str]:
    found = set()
    for folder, package in HOMES.items():
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                found.add("/".join((package, *path.relative_to(ROOT / folder).parts)))
    return found


@pytest.mark.timeout(120)
def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(tmp_path: Path) -> None:
    copy = tmp_path / "source"
    unwanted = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", "reports", "results.db*")
    shutil.copytree(ROOT, copy, ignore=unwanted)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "out"), str(copy)]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    (wheel,) = (tmp_path / "out").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == files_of_the_tree()
    assert any(name.endswith("llava-tiny/model.safetensors") for name in packed)
