"""Runs the real command line in this process, in an empty working directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.checked_once import checked_once
from vseam_cli.main import execute


@dataclass(frozen=True)
class Outcome:
    """The exit code of a command and what it wrote."""

    code: int
    stdout: str
    stderr: str


Vseam = Callable[..., Outcome]


@pytest.fixture(scope="session", autouse=True)
def _checked_once() -> Iterator[None]:
    with checked_once():
        yield


@pytest.fixture
def vseam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Vseam:
    """`vseam("models", "--json")` runs that command and returns its outcome."""
    monkeypatch.chdir(tmp_path)
    for name in ("VSEAM_REGISTRY", "VSEAM_PLUGIN", "VSEAM_NO_PLUGIN", "VSEAM_DB", "VSEAM_DEBUG", "VSEAM_LOG_FILE"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str) -> Outcome:
        capsys.readouterr()
        code = execute(list(arguments))
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run
