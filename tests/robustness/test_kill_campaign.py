"""A study that is killed a hundred times leaves the same database and the same report, byte for byte, as one that is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CAMPAIGN = Path(__file__).with_name("kill_campaign.py")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="starts are forks")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_study_killed_fifty_times_leaves_what_an_undisturbed_one_leaves(workers: int, tmp_path: Path) -> None:
    command = [sys.executable, str(CAMPAIGN), str(tmp_path), "--workers", str(workers), "--kills", "50", "--seed", str(workers)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "50 kills in" in done.stdout
    assert "0 differences" in done.stdout.splitlines()[-2]
