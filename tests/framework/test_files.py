"""Files are written whole or not at all, everywhere."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

import vseam_cli
import vseam_core
import vseam_plugins
from vseam_core.files import parse_json, write_atomically

ROOTS = {"vseam_core": vseam_core, "plugins": vseam_plugins, "cli": vseam_cli}
WRITERS = ("write_text", "write_bytes", "savefig", "imsave", "tofile")
ALLOWED = {
    "vseam_core/files.py": "the one place",
    "vseam_core/plugins/scaffold/__init__.py": "writes into a folder beside its place, which is then moved",
    "vseam_core/experiments/rescaling/checkpoint.py": "writes into a folder beside its place, which is then moved",
    "vseam_core/report/figures/drawing.py": "draws into the file that write_atomically opened",
    "plugins/models/zoo/training.py": "appends lines to a log",
}


def bare_writes(text: str) -> Iterator[int]:
    """The lines on which a file is opened for writing, or written by name, with nothing that moves it into its place."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        words = [argument.value for argument in (*node.args, *(item.value for item in node.keywords)) if isinstance(argument, ast.Constant)]
        modes = [word for word in words if isinstance(word, str) and 0 < len(word) <= 3 and set(word) <= set("rwxabt+")]
        if name in WRITERS or (name in ("open", "fdopen") and any(set(mode) & set("wxa+") for mode in modes)):
            yield node.lineno


def test_nothing_writes_over_a_file_in_place() -> None:
    found = []
    for root, package in ROOTS.items():
        folder = Path(next(iter(package.__path__))).resolve()
        for file in sorted(folder.rglob("*.py")):
            place = f"{root}/{file.relative_to(folder).as_posix()}"
            if place not in ALLOWED:
                found += [f"{place}:{line}" for line in bare_writes(file.read_text(encoding="utf-8"))]
    assert found == []


PARSES = {
    "vseam_core/files.py": "the one place",
    "vseam_core/datasets/choices.py": "tries two ways to read a text, and takes it as it is where both fail",
    "vseam_core/huggingface/fingerprints.py": "reads what the tokenizer library writes",
    "vseam_core/runs/experiment.py": "reads what it wrote itself",
    "vseam_core/testing/promises.py": "reads what it wrote itself",
    "vseam_core/testing/methods.py": "reads what it wrote itself",
    "plugins/benchmarks/table.py": "a box in a field, every failure of which is one of its record",
    "plugins/benchmarks/vqa.py": "answers in a field, every failure of which is one of their record",
    "plugins/editors/diffusion/powerpaint.py": "within a context that explains whatever a checkpoint raises",
    "plugins/models/agreement.py": "leaves what is no JSON to the library, which says what is wrong",
    "plugins/models/zoo/card.py": "reads a file of the package",
    "plugins/models/zoo/training.py": "reads the log that it wrote itself",
}


def test_json_of_others_is_read_in_one_place_which_bears_any_depth() -> None:
    found = []
    for root, package in ROOTS.items():
        folder = Path(next(iter(package.__path__))).resolve()
        for file in sorted(folder.rglob("*.py")):
            place = f"{root}/{file.relative_to(folder).as_posix()}"
            if place not in PARSES and "json.load" in file.read_text(encoding="utf-8"):
                found.append(place)
    assert found == []
    with pytest.raises(ValueError, match="nested too deep"):
        parse_json("[" * 100_000)


def test_bare_writes_are_found() -> None:
    lines = ["path.write_text('a')", "open(path, 'w')", "path.open('ab')", "figure.savefig(path)", "path.open(mode='r+')"]
    assert list(bare_writes("\n".join([*lines, "path.open()", "open(path, 'rb')", "file.write('w')"]))) == [1, 2, 3, 4, 5]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "page.html"
    write_atomically(place, "old")

    def stop(file: BinaryIO) -> None:
        file.write(b"half")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        write_atomically(place, stop)
    assert place.read_text() == "old"
    assert os.listdir(place.parent) == ["page.html"]


def test_text_bytes_and_functions_are_written(tmp_path: Path) -> None:
    for content, expected in (("é", "é".encode()), (b"\x00", b"\x00"), (lambda file: file.write(b"by hand"), b"by hand")):
        write_atomically(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == expected


def test_a_pipe_stays_a_pipe_and_a_link_stays_a_link(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", str(tmp_path / "pipe")], stdout=subprocess.PIPE)
    write_atomically(tmp_path / "pipe", "said")
    assert reader.communicate()[0] == b"said"
    assert (tmp_path / "pipe").is_fifo()
    (tmp_path / "link").symlink_to("file")
    write_atomically(tmp_path / "link", "kept")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "kept"


def test_a_process_that_is_killed_while_it_writes_leaves_the_old_file(tmp_path: Path) -> None:
    place = tmp_path / "figure.png"
    place.write_bytes(b"good")
    code = (
        "import os, signal, sys, pathlib\nfrom vseam_core.files import write_atomically\n"
        "def draw(file):\n    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomically(pathlib.Path(sys.argv[1]), draw)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(place)], check=False)
    assert killed.returncode != 0
    assert place.read_bytes() == b"good"
