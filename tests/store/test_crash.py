"""A writer that is killed (kill -9) leaves whole units only, and the file opens again at once."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from vseam_core.store import open_store

from .builders import head_unit, run_spec, trace_unit

PREPARE = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from sqlalchemy import event
from builders import head_unit, run_spec, trace_unit
from vseam_core.store import open_store
store = open_store(sys.argv[2])
run = store.ensure_run(run_spec())
"""

DIES_IN_MID_SAVE = """
store.save(run, [head_unit(number) for number in range(3)])
def die(connection, cursor, statement, parameters, context, executemany):
    if statement.startswith("INSERT INTO " + sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
engine = store._database.engine
event.listen(engine, "after_cursor_execute", die)
store.save(run, [head_unit(0, value=9.0), trace_unit(7), *[head_unit(number) for number in range(3, 400)]])
"""

WRITES_UNTIL_KILLED = """
for number in range(100000):
    store.save(run, [head_unit(number), trace_unit(number)])
    print(number, flush=True)
"""


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PREPARE + code, str(Path(__file__).parent), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def check_whole(path: Path) -> None:
    """Every unit has all of its rows and every row has a unit."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        query = "SELECT DISTINCT (SELECT COUNT(*) FROM {} WHERE unit_id = units.id) FROM units WHERE key LIKE 'key-%' = {}"
        for table, is_head_unit, expected in (
            ("head_effects", 1, 2),
            ("baselines", 1, 1),
            ("trace_effects", 0, 2),
            ("baselines", 0, 2),
        ):
            counts = {row[0] for row in connection.execute(query.format(table, is_head_unit))}
            assert counts <= {expected}


def test_a_writer_killed_in_mid_save_leaves_nothing_of_that_save(tmp_path: Path) -> None:
    tables = ("units", "stored_head_effects")
    children = [start(DIES_IN_MID_SAVE, str(tmp_path / f"{table}.db"), table) for table in tables]
    for table, child in zip(tables, children, strict=True):
        path = tmp_path / f"{table}.db"
        _, errors = child.communicate(timeout=60)
        assert child.returncode == -signal.SIGKILL, errors
        with open_store(path, create=False) as store:
            run = store.ensure_run(run_spec())
            assert set(store.unit_statuses(run)) == {"key-0", "key-1", "key-2"}
            assert store.head_effects(run, measure="logit_diff").values[0, 0, 0] == 0.5
            store.save(run, [head_unit(0, value=9.0), trace_unit(7)])
            assert store.head_effects(run, measure="logit_diff").values[0, 0, 0] == 9.0
        check_whole(path)


def test_a_writer_killed_at_any_moment_leaves_what_it_reported_and_at_most_one_save_more(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    for _ in range(2):
        child = start(WRITES_UNTIL_KILLED, str(path))
        assert child.stdout is not None
        reported = [int(child.stdout.readline()) for _ in range(4)]
        time.sleep(0.013)
        os.kill(child.pid, signal.SIGKILL)
        rest, _ = child.communicate(timeout=60)
        reported += [int(line) for line in rest.splitlines() if line.strip()]
        with open_store(path, create=False) as store:
            run = store.ensure_run(run_spec())
            saved = {int(key.rsplit("-", 1)[1]) for key in store.unit_statuses(run)}
        assert set(reported) <= saved
        check_whole(path)
