"""`vseam plugins new`: the package that it writes works as written. Its own tests are run by `packaging/test_example_plugin.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vseam_cli.main import execute
from vseam_core.plugins.scaffold import KINDS


def test_the_skeleton_is_installed_listed_and_traces(tmp_path: Path) -> None:
    assert execute(["plugins", "new", "my-own", "--output", str(tmp_path)]) == 0
    root, site = tmp_path / "vseam-my-own", tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", str(site), str(root)]
    subprocess.run(install, check=True, capture_output=True, cwd=tmp_path)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]), "OMP_NUM_THREADS": "1"}
    settings = {"capture_output": True, "text": True, "env": environment}
    command = [sys.executable, "-c", "from vseam_cli.main import main; main()", "plugins"]
    listed = subprocess.run(command, check=True, cwd=tmp_path, **settings)
    for name in ("my-own/colours", "my-own-invert", "my-own-windows", "my-own-damp", "my-own-grey"):
        assert name in listed.stdout
    command = [sys.executable, "-c", "from vseam_cli.main import main; main()", "trace", "--model", "llava-tiny", "--limit", "3", "--json"]
    traced = subprocess.run([*command, "--dataset", "scenes/color", "--tracer", "my-own-windows"], check=True, cwd=tmp_path, **settings)
    found = json.loads(traced.stdout)
    assert [table["title"].split(":")[0] for table in found["tables"]] == ["Strongest cells of my-own-windows"]
    assert [Path(file).name for file in found["figures"]] == [
        "my-own-windows_llava-tiny.png",
        "my-own-windows_llava-tiny.svg",
        "index.html",
    ]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_one_kind_alone_is_a_package_too(kind: str, tmp_path: Path) -> None:
    assert execute(["plugins", "new", "one", "--kind", kind, "--output", str(tmp_path)]) == 0
    for file in (tmp_path / "vseam-one").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        compile(text, str(file), "exec")
        assert "$" not in text
    plugin = (tmp_path / "vseam-one" / "vseam_one" / "plugin.py").read_text(encoding="utf-8")
    assert plugin.count("@hookimpl") == 1


@pytest.mark.parametrize("name", ["My-Plugin", "../evil", "a b", "", "x--y", "é"])
def test_other_names_are_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["plugins", "new", name, "--output", str(tmp_path)]) == 2
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err.count("\n") == 1


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "vseam-mine").mkdir()
    assert execute(["plugins", "new", "mine", "--output", str(tmp_path)]) == 2
    assert "nothing is overwritten" in capsys.readouterr().err
    assert list((tmp_path / "vseam-mine").iterdir()) == []
