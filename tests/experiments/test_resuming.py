"""A run that is killed and started again: complete, without repeating units and without duplicates."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from vseam_core.store import open_store

COMMAND = [
    sys.executable,
    "-c",
    "from vseam_cli.main import main; main()",
    *("heads", "scan", "--model", "llava-tiny", "--dataset", "scenes/color", "--operation", "zero", "--limit", "40", "-q"),
]


def scanned(database: Path) -> int:
    try:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5) as connection:
            return int(connection.execute("SELECT COUNT(*) FROM head_effects").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def effects(database: Path) -> np.ndarray:
    with open_store(database) as store:
        runs = store.runs(method="head_scan")
        assert len(runs) == 1
        return store.head_effects(int(runs["id"].iloc[0]), measure="logit_diff").values


@pytest.mark.timeout(200)
def test_a_scan_killed_in_the_middle_completes_on_the_next_start(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole.db", tmp_path / "broken.db"
    process = subprocess.Popen([*COMMAND, "--db", str(broken)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path)
    deadline = time.monotonic() + 120
    while scanned(broken) == 0 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = scanned(broken)
    assert kept > 0, "nothing was saved before the kill"
    for database in (broken, whole):
        subprocess.run([*COMMAND, "--db", str(database)], check=True, stdout=subprocess.DEVNULL, cwd=tmp_path)
    assert effects(broken) == pytest.approx(effects(whole), abs=1e-4)
    with sqlite3.connect(broken) as connection:
        duplicates = connection.execute("SELECT COUNT(*) - COUNT(DISTINCT run_id || key) FROM units").fetchone()[0]
    assert duplicates == 0
