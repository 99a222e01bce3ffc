"""A run that is told to stop, or whose starter is killed, ends at once with everything finished kept; streams may be closed or narrow."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

PATIENCE = 120.0

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")


def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Whether a condition became true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def children(process: int) -> list[int]:
    return [int(name) for name in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


# The command line itself with one more verb, whose two workers work without end. They use no model, so the library that they tell how many
# threads to use need not be the whole one.
FILES = {
    "torch.py": "class cuda:\n    device_count = staticmethod(lambda: 0)\n\ndef set_num_threads(count): pass\n",
    "waiting.py": """
import os, pathlib, time
import click
from vseam_core.runs.executors.base import Task
from vseam_core.runs.executors.graph import run_tasks
from vseam_core.runs.executors.local import LocalExecutor
from vseam_core.runs.progress import SilentProgress
from vseam_core.runs.workspace import Opening

def work(workspace, name):
    pathlib.Path(name).write_text(str(os.getpid()))
    time.sleep(600)

@click.command()
def wait():
    run_tasks(LocalExecutor(2), Opening("results.db"), [Task(name, work, (name,)) for name in ("first", "second")], SilentProgress())
""",
    "script.py": """
import signal
from vseam_cli import main

# A shell starts what runs in its background deaf to Ctrl-C; this test may be there.
signal.signal(signal.SIGINT, signal.default_int_handler)
print("top level", flush=True)
main.VERBS["wait"] = ("waiting:wait", "Wait.")
main.main()
""",
}


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A plain script without a main guard, with two workers at work."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "script.py", "wait"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        marks = [tmp_path / "first", tmp_path / "second"]
        assert until(lambda: all(mark.exists() for mark in marks) or process.poll() is not None)
        assert process.poll() is None
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_stop_ends_a_command_and_its_workers(number: signal.Signals, running: subprocess.Popen[bytes]) -> None:
    workers = children(running.pid)
    running.send_signal(number)
    printed, said = running.communicate(timeout=PATIENCE)
    assert (running.returncode, said.decode().strip()) == (130, "stopped; run the same command again to resume")
    assert printed == b"top level\n"  # no worker ran the script once more
    assert until(lambda: not any(map(alive, workers)), 10)


def test_workers_end_when_the_process_that_started_them_is_killed(running: subprocess.Popen[bytes], tmp_path: Path) -> None:
    workers = [int((tmp_path / name).read_text()) for name in ("first", "second")]
    assert all(map(alive, workers))
    running.kill()
    assert until(lambda: not any(map(alive, workers)), 5)


STUDY = """
models: [llava-tiny, instructblip-tiny]
datasets: [scenes/color, scenes/material]
tracers: [tokenwise]
workers: 2
sizes: {pairs: 200, score: 200, hard: 0}
stages: [evaluate, trace]
"""


def units(database: Path) -> int:
    """How many units are stored so far."""
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT COUNT(*) FROM units").fetchone()[0])
    except sqlite3.Error:
        return 0


@pytest.mark.slow
def test_a_study_of_two_models_side_by_side_that_is_stopped_keeps_what_is_finished(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(STUDY)
    command = [sys.executable, "-m", "vseam", "run", "study.yaml"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert until(lambda: units(tmp_path / "results.db") > 0 or process.poll() is not None)
        workers = children(process.pid)
        process.terminate()
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert said.decode().strip().endswith("run the same command again to resume")
    assert until(lambda: not any(map(alive, workers)), 10)
    assert units(tmp_path / "results.db") > 0


def shell(line: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = ["sh", "-c", line.replace("vseam", f"{sys.executable} -m vseam", 1)]
    return subprocess.run(command, cwd=folder, capture_output=True, timeout=PATIENCE, env={**os.environ, **environment}, check=False)


def test_a_closed_standard_output_is_said_in_one_line(tmp_path: Path) -> None:
    done = shell("vseam editors >&-", tmp_path)
    assert (done.returncode, done.stderr.decode()) == (2, "vseam: standard output is closed: the result could not be printed\n")


def test_a_character_that_the_encoding_lacks_is_written_as_its_number(tmp_path: Path) -> None:
    from vseam_core.store import open_store

    open_store(tmp_path / "results.db").close()
    done = shell("vseam query \"SELECT '\u72d7 \u00d7' AS word\"", tmp_path, PYTHONIOENCODING="latin-1")
    assert done.returncode == 0
    assert done.stdout.decode("latin-1").split()[-2:] == ["\\u72d7", "\u00d7"]


SCRIPT = """
import vseam

print("top level", flush=True)
with vseam.open_workspace("results.db") as workspace:
    study = vseam.default_study().with_overrides(
        models=["llava-tiny", "instructblip-tiny"], datasets=["scenes/color"], stages=["evaluate"], limit=2, random_models=0
    )
    print(len(vseam.run_study(workspace, study).accuracy) > 0)
"""


@pytest.mark.slow
def test_a_plain_script_that_runs_a_study_of_two_models_side_by_side_is_run_once(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout) == (0, "top level\nTrue\n"), done.stderr
