"""A run that is killed and started again: complete, without repeating units and without duplicates."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from vseam_cli.main import execute
from vseam_core.store import open_store

SCAN = ("heads", "scan", "--model", "llava-tiny", "--dataset", "scenes/color", "--operation", "zero", "--limit", "8", "-q")
# Every unit is saved at once, and the process is killed in the middle of computing the second half of the scan.
DIES = """
import os, signal, sys
import vseam_core.experiments.heads.scan as scan
from vseam_cli.main import execute
from vseam_core.runs import runner

runner.COMMIT_SECONDS = 0.0
compute, scanned = scan.scan_sample, []

def die_later(*arguments, **named):
    scanned.append(1)
    if len(scanned) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return compute(*arguments, **named)

scan.scan_sample = die_later
execute(sys.argv[1:])
"""


def effects(database: Path) -> np.ndarray:
    with open_store(database) as store:
        runs = store.runs(method="head_scan")
        assert len(runs) == 1
        return store.head_effects(int(runs["id"].iloc[0]), measure="logit_diff").values


def units(database: Path, method: str) -> list[tuple[int, str]]:
    """Row id and key of every unit of a method."""
    with closing(sqlite3.connect(database)) as connection:
        query = "SELECT units.id, key FROM units JOIN runs ON runs.id = run_id WHERE method = ? ORDER BY units.id"
        return connection.execute(query, (method,)).fetchall()


def test_a_scan_killed_in_the_middle_completes_on_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    killed = subprocess.run([sys.executable, "-c", DIES, *SCAN, "--db", "broken.db"], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-1000:]
    kept = units(tmp_path / "broken.db", "head_scan")
    assert len(kept) == 4
    for database in ("broken.db", "whole.db"):
        assert execute([*SCAN, "--db", database]) in (0, 3)
    whole = units(tmp_path / "whole.db", "head_scan")
    after = units(tmp_path / "broken.db", "head_scan")
    assert {key for _, key in after} == {key for _, key in whole}
    assert len(after) == len(whole) > len(kept)
    assert after[: len(kept)] == kept  # what was there is as it was, not computed again
    assert (effects(tmp_path / "broken.db") == effects(tmp_path / "whole.db")).all()
