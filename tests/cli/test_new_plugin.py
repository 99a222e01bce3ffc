"""`vseam plugins new`: what it writes and refuses. That the package works as written is shown by `packaging/test_example_plugin.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from vseam_cli.main import execute
from vseam_core.plugins.scaffold import KINDS


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
