"""On a full disk every command that writes ends in one line that says so: nothing is half written, and what was there can be read.

The disk is a small file system in memory, mounted for one process alone.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MOUNT = ["unshare", "--map-root-user", "--mount", "sh", "-c", 'mount -t tmpfs -o size=6m tmpfs "$1" && cd "$1" && shift && exec "$@"', "sh"]
FULL = "No space left on device"

# Fills the disk after a database, an edit and a page are there; prints what each further write led to.
WRITES = """
import contextlib, io, json, logging, os, sys
from pathlib import Path

from PIL import Image
from tests.report.conftest import made_study
from tests.store.builders import head_unit, run_spec
from vseam_cli.main import execute
from vseam_core.editing.folder import EditFolder
from vseam_core.files import write_atomically
from vseam_core.report.writer import add_report
from vseam_core.store import open_store

found = {}

def said(name, *arguments):
    errors, printed = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(printed):
        code = execute(arguments)
    found[name] = [code, errors.getvalue(), printed.getvalue()]

def raised(name, work):
    try:
        work()
        found[name] = None
    except Exception as error:
        found[name] = [type(error).__name__, str(error)]

def everything():
    files = [path for path in Path().rglob("*") if path.is_file() and not path.name.startswith(("results.db", "filler"))]
    return {str(path): path.read_bytes() for path in files}

def images(shade):
    return {name: Image.effect_noise((300, 300), shade).convert("RGB") for name in ("clean", "image", "mask")}

study = made_study(("llava-tiny",), ("color",), pairs=4)
store = open_store("results.db")
run = store.ensure_run(run_spec())
store.save(run, [head_unit(number) for number in range(20)])
folder = EditFolder("edits")
folder.save("noise", "one", "1" * 64, images(10), {})
write_atomically(Path("page.html"), "good")
before = everything()
with open("filler", "wb", buffering=0) as filler, contextlib.suppress(OSError):
    while True:
        filler.write(b"x" * 512)

raised("store", lambda: store.save(run, [head_unit(number) for number in range(20, 3000)]))
raised("report", lambda: add_report(study, Path("reports")))
raised("edit", lambda: folder.save("noise", "two", "2" * 64, images(90), {}))
raised("page", lambda: write_atomically(Path("page.html"), "new" * 9999))
said("plugin", "plugins", "new", "mine", "--kind", "tracer")
said("log", "--log-file", "log.txt", "-vv", "tracers")
found["other files"] = sorted(name for name, content in everything().items() if before.get(name) != content and name != "log.txt")
found["read"] = len(store.head_effects(run, measure="logit_diff"))
store.close()
said("info", "db", "info")
said("check", "db", "check")
said("query", "query", "SELECT COUNT(*) FROM units")
os.unlink("filler")
with open_store("results.db") as again:
    again.save(run, [head_unit(number) for number in range(20, 40)])
    found["afterwards"] = len(again.head_effects(run, measure="logit_diff"))
print(json.dumps(found))
"""


def mountable(place: Path) -> bool:
    return bool(shutil.which("unshare")) and subprocess.run([*MOUNT, str(place), "true"], capture_output=True, check=False).returncode == 0


def test_a_full_disk_is_said_in_one_line_and_nothing_is_half_written(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    if not mountable(tmp_path):
        pytest.skip("no file system can be mounted here")
    code = f"import sys; sys.path.append({str(pytestconfig.rootpath)!r})\n{WRITES}"
    done = subprocess.run([*MOUNT, str(tmp_path), sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["store"][0] in ("StoreError", "NothingBesideError")
    assert "the disk is full; everything saved before is kept" in found["store"][1]
    assert found["report"][0] == "VseamError"
    assert FULL in found["report"][1]
    for name in ("edit", "page"):
        assert found[name][0] == "OSError"
        assert FULL in found[name][1]
    code, errors, _ = found["plugin"]
    assert (code, errors.count("\n")) == (2, 1), errors
    assert "no space left on the disk" in errors
    code, errors, _ = found["log"]
    assert code in (0, 2), errors
    assert "Traceback" not in errors
    assert found["other files"] == []
    assert found["read"] == 20
    for name in ("info", "check", "query"):
        code, errors, _ = found[name]
        assert code == 0, errors
    assert "20" in found["query"][2]
    assert found["afterwards"] == 40


def test_a_result_that_no_longer_fits_is_said_in_one_line(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no device that is always full")
    done = subprocess.run(["sh", "-c", f"{sys.executable} -m vseam tracers > /dev/full"], cwd=tmp_path, capture_output=True, check=False)
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1), done.stderr
    assert b"no space left" in done.stderr
