"""A process that does much work for a long time takes no more memory and no more open files than after its first part."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCANS = """
import gc, json, os, resource, threading

import torch

import vseam
from vseam_core.testing.tiny import TinyModel

torch.set_num_threads(1)
SCANS, AT_ONCE = 1000, 50
CATEGORIES = ("animal", "vehicle", "indoor", "color", "material", "spatial", "action")
model = TinyModel()

def taken():
    gc.collect()
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    files = len(os.listdir("/proc/self/fd"))
    return {"megabytes": pages * resource.getpagesize() / 2**20, "files": files, "threads": threading.active_count()}

for part in range(SCANS // AT_ONCE):
    # A workspace of its own now and then, as many commands in one process would have; within it every scan finds one more sample to do.
    with vseam.open_workspace(f"results-{part}.db") as workspace:
        name = workspace.give_model(model)
        for number in range(AT_ONCE):
            samples = 1 + number // len(CATEGORIES)
            study = vseam.default_study().with_overrides(
                models=[name], datasets=[f"scenes/{CATEGORIES[number % len(CATEGORIES)]}"], heads=[{"operation": "zero"}],
                stages=["scan"], sizes={"score": samples, "hard": 0, "scan_sampled": samples, "scan_wrong": 0}, random_models=0, workers=1,
            )
            vseam.run_study(workspace, study)
    os.unlink(f"results-{part}.db")
    print(json.dumps(taken()), flush=True)
"""


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)  # under one where nothing else runs; a busy machine took more than that for a third
@pytest.mark.skipif(sys.platform != "linux", reason="memory and files are looked up in /proc")
def test_a_thousand_scans_in_one_process_take_no_more_memory_and_no_more_open_files(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SCANS], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    taken = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(taken) == 20
    early, late = taken[4:8], taken[-4:]
    for name in ("files", "threads"):
        assert max(part[name] for part in late) <= max(part[name] for part in early), (name, taken)
    assert min(part["megabytes"] for part in late) <= 1.03 * max(part["megabytes"] for part in early), taken
