"""A study that is killed a hundred times, in four parts, leaves the database and the report, byte for byte, of one that is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CAMPAIGN = Path(__file__).with_name("kill_campaign.py")


KILLS = 25


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="starts are forks")
@pytest.mark.parametrize(("workers", "seed"), [(1, 1), (1, 2), (2, 3), (2, 4)])
def test_a_study_that_is_killed_again_and_again_leaves_what_an_undisturbed_one_leaves(workers: int, seed: int, tmp_path: Path) -> None:
    command = [sys.executable, str(CAMPAIGN), str(tmp_path), "--workers", str(workers), "--kills", str(KILLS), "--seed", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert f"{KILLS} kills in" in done.stdout
    assert "0 differences" in done.stdout.splitlines()[-2]
