"""Kills a whole study again and again (kill -9) until it is complete, and compares what it left with an undisturbed run.

    python tests/robustness/kill_campaign.py FOLDER --workers 2 --kills 50 --seed 1

Everything slow to import is imported once; each start is a fork. A start is killed at a random moment, with its workers or alone: most some
time after they have stored something new or begun their report, so that every life cycle gets on however slow the machine is, and the
others some time after they were started. Prints the number of kills and of life cycles, and every difference on a line of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import os
import random
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

STUDY = """
name: killed
models: [MODELS]
datasets: [scenes/color, scenes/material]
tracers: [groups]
heads: [{operation: zero}]
rescaling: {strengths: [0.5], top_k: [1]}
ablation: {operations: [zero]}
sizes:
  {pairs: 2, score: 6, hard: 6, scan_sampled: 3, scan_wrong: 2, choose: 3, test: 3, ablation: 2, confirm: 4, random_sets: 3, reference: 4}
workers: WORKERS
"""
MODELS = ("llava-tiny", "instructblip-tiny")
OF_A_START = {"id", "started", "finished", "saved", "created", "applied"}
"""Columns that say when or in which order rows were written."""
PATIENCE = 900.0
FEW_KILLS = 4
_fork = multiprocessing.get_context("fork")


class Forked:
    """A worker that is a fork of this process."""

    def __init__(self, connection: Connection, environment: dict[str, str]):
        self._process = _fork.Process(target=self._serve, args=(connection,))
        self._process.start()

    @staticmethod
    def _serve(connection: Connection) -> None:
        from vseam_core.runs.executors.process import serve

        # The starter's ends of all pipes came along: with them open here, nobody would learn that the starter is gone.
        for number in {int(name) for name in os.listdir("/proc/self/fd")} - {connection.fileno()}:
            with contextlib.suppress(OSError):
                if stat.S_ISSOCK(os.fstat(number).st_mode):
                    os.close(number)
        serve(connection)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("worker", timeout or 0.0)
        return self._process.exitcode


def start(arguments: list[str], folder: Path) -> int:
    """Run a command in a process of its own and a process group of its own; its number."""
    process = os.fork()
    if process:
        os.setpgid(process, process)  # both do it: whoever comes first
        return process
    from vseam_cli.main import execute
    from vseam_core.runs.executors import local

    os.setpgid(0, 0)
    os.chdir(folder)
    with (folder / "said.txt").open("ab") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    # Workers are forked too: what ends them, and what they write, is the same, and nothing is imported again.
    local.start_process = Forked
    code = execute(arguments)
    sys.stdout.flush()
    os._exit(code)


def ended(process: int, seconds: float, until: Callable[[], bool] = lambda: False) -> int | None:
    """The exit code of a process that ends in time and before something has happened; None for one that does not."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not until():
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    return None


def progress(folder: Path) -> tuple[int, int]:
    """How many units are stored, and how many reports are there or being written."""
    with contextlib.suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{folder / 'results.db'}?mode=ro", uri=True)) as connection:
        (units,) = connection.execute("SELECT COUNT(*) FROM units").fetchone()
        return units, len(list(folder.glob("reports/*")))
    return 0, 0


def life_cycle(arguments: list[str], folder: Path, window: float, chance: random.Random, most: int) -> int:
    """Start a command until it is done, killing it at most so many times; how often it was killed."""
    kills = 0
    while True:
        before, process = progress(folder), start(arguments, folder)
        alone, patient, moment = chance.random() < 0.5, chance.random() < 0.7, chance.uniform(0, window)
        code = None
        if kills >= most or patient:
            code = ended(process, PATIENCE, lambda before=before, last=kills >= most: not last and progress(folder) != before)
        if code is None:
            code = ended(process, moment)
        if code is None:
            (os.kill if alone else os.killpg)(process, signal.SIGKILL)
            os.waitpid(process, 0)
            kills += 1
        elif code in (0, 3):
            return kills
        else:
            raise SystemExit(f"a start ended with {code}: {(folder / 'said.txt').read_text()[-2000:]}")


def content(path: Path) -> dict[str, Counter[str]]:
    """Every row of every table with the rows that it refers to in the place of their numbers; how often each is there."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        connection.row_factory = sqlite3.Row
        names = [row["name"] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        references = {name: connection.execute(f"PRAGMA foreign_key_list({name})").fetchall() for name in names}
        meanings: dict[str, dict[int, str]] = {}

        def meaning_of(table: str) -> dict[int, str]:
            if table not in meanings:
                meanings[table] = {number: row for number, row in rows(table) if number is not None}
            return meanings[table]

        def rows(table: str) -> Iterator[tuple[int | None, str]]:
            targets = {row["from"]: row["table"] for row in references[table]}
            for row in connection.execute(f"SELECT * FROM {table}"):
                values = {name: row[name] for name in tuple(row.keys()) if name not in OF_A_START}
                for name, target in targets.items():
                    values[name] = meaning_of(target)[values[name]] if values[name] is not None else None
                text = repr(sorted(values.items()))
                number = row["id"] if "id" in tuple(row.keys()) else None
                yield number, hashlib.sha256(text.encode()).hexdigest() if number is not None else text

        return {name: Counter(text for _, text in rows(name)) for name in names}


_MOMENT = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.+]+")
_RUN_NUMBER = re.compile(rb'("run":|run_id = |\{"id":(?=[0-9]+,"method"))([0-9]+)')


def report(folder: Path) -> dict[str, bytes]:
    """The files of a report, without when it and its runs were made; runs by what identifies them in the place of their numbers.

    Workers open runs in turn, so that their numbers are chance.
    """
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    about = json.loads(files["report.json"])
    del about["made"]
    with closing(sqlite3.connect(folder.parent.parent / "results.db")) as connection:
        identities = {number: identity.encode() for number, identity in connection.execute("SELECT id, identity FROM runs")}
    page = _MOMENT.sub(b"then", files["index.html"])
    page = _RUN_NUMBER.sub(lambda found: found[1] + identities[int(found[2])], page)
    return {**files, "report.json": json.dumps(about).encode(), "index.html": page}


def differences(whole: Path, broken: Path) -> Iterator[str]:
    """What a study that was killed left otherwise than one that was not."""
    expected, found = content(whole / "results.db"), content(broken / "results.db")
    for table in expected.keys() | found.keys():
        if expected.get(table) != found.get(table):
            missing, added = (expected[table] - found[table]).total(), (found[table] - expected[table]).total()
            yield f"table {table}: {missing} rows are missing, {added} are others"
    wanted = report(whole / "reports" / "killed-1")
    reports = sorted(path for path in (broken / "reports").glob("killed-*") if path.is_dir())
    if not reports:
        yield "no report"
    for folder in reports:
        files = report(folder)
        yield from (
            f"{folder.name}/{name} is another" for name in sorted(wanted.keys() | files.keys()) if wanted.get(name) != files.get(name)
        )
    listed = (broken / "reports" / "index.html").read_text()
    yield from (f"{folder.name} is not listed" for folder in reports if folder.name not in listed)
    yield from (f"{path} is half written" for path in (broken / "reports").glob("killed-*/*.part"))


def main() -> None:
    """One campaign; the exit code says whether anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    import matplotlib.pyplot  # noqa: F401 (imported before the forks)
    import pandas  # noqa: F401
    import torch
    import transformers  # noqa: F401

    import vseam_core.experiments.study.run
    import vseam_core.report.writer  # noqa: F401

    torch.set_num_threads(1)
    chance, kills, cycles, found = random.Random(given.seed), 0, 0, []
    arguments = ["run", "study.yaml"]

    def fresh(name: str) -> Path:
        folder = given.folder / name
        folder.mkdir(parents=True)
        (folder / "study.yaml").write_text(
            STUDY.replace("WORKERS", str(given.workers)).replace("MODELS", ", ".join(MODELS[: given.workers]))
        )
        return folder

    whole = fresh("whole")
    began = time.monotonic()
    life_cycle(arguments, whole, 0.0, chance, most=0)
    seconds = time.monotonic() - began
    print(f"the whole study takes {seconds:.1f} s", flush=True)
    window = seconds / 6
    while kills < given.kills:
        cycles += 1
        folder = fresh(f"cycle-{cycles}")
        killed = life_cycle(arguments, folder, window, chance, most=given.kills - kills)
        kills += killed
        # The machine is faster than it was: most kills came too late.
        window = window / 2 if killed < FEW_KILLS else window
        found += [f"seed {given.seed}, life cycle {cycles}: {line}" for line in differences(whole, folder)]
        print(f"{kills} kills in {cycles} life cycles, {len(found)} differences", flush=True)
    print("\n".join(found))
    sys.exit(int(bool(found)))


if __name__ == "__main__":
    main()
