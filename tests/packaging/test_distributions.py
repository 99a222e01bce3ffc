"""What is uploaded works: the source distribution builds, tests and documents itself; the wheel runs where nothing else of vseam is."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
BESIDE = ("constraints", "tests", "docs", "examples", "findings", "perf", "studies")
FAST = ("tests/framework", "tests/documentation", "tests/analysis", "tests/packaging/test_words.py")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel that was built from it."""
    root = tmp_path_factory.mktemp("built")
    unwanted = shutil.ignore_patterns(
        ".git", ".venv*", ".*_cache", "build", "site", "*.egg-info", "__pycache__", "reports", "edits", "results.db*"
    )
    shutil.copytree(ROOT, root / "source", ignore=unwanted)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(root / "out"), str(root / "source")]
    outcome = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    assert outcome.returncode == 0, outcome.stderr[-2000:]
    said = [line for line in (outcome.stdout + outcome.stderr).splitlines() if re.search(r"warning|deprecat", line, re.IGNORECASE)]
    # Nothing of ours: patterns that match no file, no byte code where Python is told to write none, a remark about pyproject.toml.
    expected = re.compile(r"no previously-included files|byte-compiling is disabled|_BetaConfiguration|warnings\.warn")
    assert [line for line in said if not expected.search(line)] == []
    return root / "out"


def test_the_source_distribution_holds_what_a_packager_needs(built: Path, tmp_path: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        archive.extractall(tmp_path, filter="data")
    (root,) = tmp_path.iterdir()
    tracked = subprocess.run(["git", "ls-files", *BESIDE], capture_output=True, text=True, cwd=ROOT, check=False).stdout.splitlines()
    missing = [name for name in tracked if (ROOT / name).is_file() and not (root / name).is_file()]
    assert missing == []
    for name in ("CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "constraints.txt", "registry.yaml"):
        assert (root / name).read_bytes() == (ROOT / name).read_bytes()
    assert not list(root.rglob("*.pyc"))


def test_the_fast_part_of_the_tests_passes_in_the_unpacked_source_distribution(built: Path, tmp_path: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (root,) = (tmp_path / "unpacked").iterdir()
    packages = tmp_path / "packages"
    packages.mkdir()
    for folder, package in {"vseam": "vseam", "vseam_core": "vseam_core", "plugins": "vseam_plugins", "cli": "vseam_cli"}.items():
        (packages / package).symlink_to(root / folder)
    environment = {**os.environ, "PYTHONPATH": str(packages)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", *FAST]
    outcome = subprocess.run(command, capture_output=True, text=True, cwd=root, env=environment, check=False)
    assert outcome.returncode == 0, outcome.stdout[-3000:]
    assert int(re.findall(r"(\d+) passed", outcome.stdout)[-1]) >= 300


@pytest.fixture(scope="module")
def environment(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel alone; the libraries that it needs are seen from here, so that nothing is downloaded."""
    home = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    (site,) = home.glob("lib/python*/site-packages")
    (site / "zz_libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")
    install = [home / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall", next(built.glob("*.whl"))]
    subprocess.run(list(map(str, install)), check=True, capture_output=True)
    return home


def ran(environment: Path, folder: Path, *words: str) -> str:
    """What a command of the environment printed, run in an empty folder."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VSEAM"))}
    command = [str(environment / "bin" / words[0]), *words[1:]]
    outcome = subprocess.run(command, capture_output=True, text=True, cwd=folder, env={**clean, "OMP_NUM_THREADS": "1"}, check=False)
    assert outcome.returncode in (0, 3), outcome.stderr[-2000:]
    return outcome.stdout


def test_the_wheel_runs_in_an_environment_of_its_own(environment: Path, tmp_path: Path) -> None:
    where = ran(environment, tmp_path, "python", "-c", "import vseam, vseam_plugins; print(vseam.__file__, vseam_plugins.__file__)")
    assert where.count(str(environment)) == 2
    assert "Verbs:" in ran(environment, tmp_path, "vseam", "--help")
    image = str(ROOT / "examples" / "images" / "dog.png")
    asked = ("explain", "--model", "llava-tiny", "--image", image, "--question", "Is the dog red?", "--json")
    assert json.loads(ran(environment, tmp_path, "vseam", *asked))["schema"] == "vseam.explain/1"
    scan = ("heads", "scan", "--model", "llava-tiny", "--dataset", "scenes/color", "--operation", "zero", "--limit", "6", "--json")
    assert json.loads(ran(environment, tmp_path, "vseam", *scan))["schema"] == "vseam.heads-scan/1"


def test_a_plugin_is_written_installed_and_used_beside_the_wheel(environment: Path, tmp_path: Path) -> None:
    ran(environment, tmp_path, "vseam", "plugins", "new", "mine", "--kind", "head-intervention")
    ran(environment, tmp_path, "python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "./vseam-mine")
    assert "mine-damp" in ran(environment, tmp_path, "vseam", "operations")
    ran(environment, tmp_path, "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "vseam-mine")
