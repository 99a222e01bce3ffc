"""The folders of reports: what a killed process left of a draft goes, what another one is writing stays."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from vseam_core.report.folders import add_folder


def page(folder: Path) -> list[Path]:
    (folder / "index.html").write_text("<p>", encoding="utf-8")
    return [folder / "index.html"]


@pytest.fixture(scope="module")
def ended() -> int:
    """The number of a process that is gone."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_drafts_of_dead_processes_of_this_machine_go_and_others_stay(tmp_path: Path, ended: int) -> None:
    dead, alive, elsewhere = (
        tmp_path / f".study.{host}.{process}.part"
        for host, process in ((platform.node(), ended), (platform.node(), os.getppid()), ("another-machine", ended))
    )
    for draft in (dead, alive, elsewhere):
        draft.mkdir()
        (draft / "half.png").write_bytes(b"")
    (written,) = add_folder(tmp_path, "study", {"title": "study"}, page)
    assert written == tmp_path / "study-1" / "index.html"
    assert not dead.exists()
    assert alive.is_dir()
    assert elsewhere.is_dir()
