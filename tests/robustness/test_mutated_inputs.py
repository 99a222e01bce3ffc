"""Thousands of slightly wrong files: each is understood, or refused in one line; none ends in a traceback.

A failure names the fixture, the kind of mutation and the seed, so that `mutated_bytes(content, seed)` shows the input again.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from vseam_cli.main import execute
from vseam_plugins.models.zoo import checkpoint_path

from .mutations import as_json, mutated_bytes, mutated_value

PROMISED = (0, 2, 3, 130)
"""Done, the user's input, done with skips, interrupted: what a command may end with."""


@dataclass(frozen=True)
class Fixture:
    """A valid file, how its value is written, and the command that reads it."""

    file: str
    value: Any
    write: Callable[[Any], bytes]
    command: tuple[str, ...]


def _lines(records: Any) -> bytes:
    return b"\n".join(map(as_json, records)) if isinstance(records, list) else as_json(records)


def _text(value: Any) -> bytes:
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else as_json(value)


def _yaml(value: Any) -> bytes:
    return yaml.safe_dump(value).encode()


_STUDY = {
    "name": "s",
    "models": ["llava-tiny"],
    "datasets": ["scenes/color"],
    "seed": 1,
    "tracers": ["tokenwise", {"name": "groups", "options": {"directions": ["denoising"]}}],
    "heads": [{"operation": "resample", "options": {"donors": 2}}, {"operation": "patch", "direction": "denoising"}],
    "sizes": {"pairs": 3, "score": 5},
    "rescaling": {"strengths": [0.5], "top_k": [2], "clips": [None]},
    "ablation": {"signs": ["positive"], "operations": ["zero"]},
    "editor": {"name": "scenes"},
    "stages": ["evaluate", "scan"],
}
_REGISTRY = {
    "models": {"mine": {"plugin": "huggingface", "options": {"source": "./x", "dtype": "float16"}, "summary": "m"}},
    "datasets": {"t": {"plugin": "table", "options": {"questions": "q.jsonl", "images": "images"}}},
}
_TABLE = [
    {"image": "0.png", "question": "Is the dog red?", "answer": "yes", "id": "1"},
    {"image": "1.png", "question": "What color?", "answer": "red", "id": 2},
]
_GQA_RECORD = {
    "imageId": "0",
    "question": "Is the dog red?",
    "answer": "yes",
    "fullAnswer": "Yes",
    "types": {"structural": "verify", "semantic": "attr", "detailed": "x"},
    "annotations": {"question": {"3": "1"}, "answer": {}},
    "entailed": ["01"],
}
_GQA_LIST = [{"question_id": "7", "imageId": "0", "question": "Is the dog red?", "answer": "yes", "involved_objects": ["dog"]}]
_GRAPHS = {"0": {"objects": {"1": {"name": "dog", "x": 1, "y": 2, "w": 3, "h": 4, "attributes": ["red"], "relations": []}}}}
_POPE = [{"question_id": number, "image": f"{number}.png", "text": f"Is there a dog {number}?", "label": "yes"} for number in (0, 1)]
_VQA = {"questions": [{"question_id": 1, "image_id": "1", "question": "What?", "answers": [{"answer": "a", "answer_id": 1}] * 10}]}
_STEPS = [{"function": "scene", "inputs": [], "value_inputs": []}, {"function": "exist", "inputs": [0], "value_inputs": []}]
_CLEVR = {"questions": [{"image_filename": "0.png", "question": "Is there a cube?", "answer": "yes", "program": _STEPS}]}
_CSV = 'image,question,answer\n0.png,Is it red?,yes\n1.png,"What, color?",red\n'


def _check(name: str) -> tuple[str, ...]:
    return ("datasets", "check", name, "--images")


FIXTURES: dict[str, Fixture] = {
    "study": Fixture("study.yaml", _STUDY, _yaml, ("study", "check", "study.yaml")),
    "registry": Fixture("other.yaml", _REGISTRY, _yaml, ("--registry", "other.yaml", "datasets")),
    "table lines": Fixture("q.jsonl", _TABLE, _lines, _check("lines")),
    "table list": Fixture("q.json", _TABLE, as_json, _check("list")),
    "table csv": Fixture("q.csv", _CSV, _text, _check("csv")),
    "gqa": Fixture("g.json", {"01": _GQA_RECORD}, as_json, _check("gqa-official")),
    "gqa subset": Fixture("gl.json", _GQA_LIST, as_json, _check("gqa-list")),
    "scene graphs": Fixture("graphs.json", _GRAPHS, as_json, _check("gqa-official")),
    "pope": Fixture("p.json", _POPE, _lines, _check("pope-lines")),
    "vqa": Fixture("v.json", _VQA, as_json, _check("vqa-list")),
    "clevr": Fixture("c.json", _CLEVR, as_json, _check("clevr-list")),
}
_NAMES = {
    "lines": ("table", "q.jsonl", {}),
    "list": ("table", "q.json", {}),
    "csv": ("table", "q.csv", {}),
    "gqa-official": ("gqa", "g.json", {"scene_graphs": "graphs.json"}),
    "gqa-list": ("gqa", "gl.json", {}),
    "pope-lines": ("pope/random", "p.json", {}),
    "vqa-list": ("vqav2", "v.json", {}),
    "clevr-list": ("clevr", "c.json", {}),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with every fixture in its valid form; nothing beside it may appear or change."""
    here = tmp_path / "work"
    (here / "images").mkdir(parents=True)
    monkeypatch.chdir(here)
    for name in [name for name in os.environ if name.startswith("VSEAM_")]:
        monkeypatch.delenv(name)
    for number in range(2):
        Image.new("RGB", (32, 24), (number * 90, 50, 20)).save(here / "images" / f"{number}.png")
    for fixture in FIXTURES.values():
        (here / fixture.file).write_bytes(fixture.write(fixture.value))
    entries = {
        name: {"plugin": plugin, "options": {"questions": file, "images": "images", **more}}
        for name, (plugin, file, more) in _NAMES.items()
    }
    (here / "registry.yaml").write_text(yaml.safe_dump({"datasets": entries}))
    yield here
    assert [path.name for path in tmp_path.iterdir()] == ["work"]


def ended(arguments: Sequence[str]) -> tuple[int | str, str]:
    """The exit code of a command in this process and the end of what it said, or what it raised."""
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        try:
            code: int | str = execute(arguments)
        except BaseException as error:  # whatever escapes is what this test looks for
            code = f"raised {type(error).__name__}"
    return code, said.getvalue()[-300:]


def unkept(folder: Path, fixture: Fixture, seeds: Sequence[int]) -> list[str]:
    """The mutations that ended otherwise than promised, one line each."""
    path, valid = folder / fixture.file, fixture.write(fixture.value)
    broken = []
    for seed in seeds:
        for kind, content in (("bytes", mutated_bytes(valid, seed)), ("value", fixture.write(mutated_value(fixture.value, seed)))):
            path.write_bytes(content)
            code, said = ended(fixture.command)
            if code not in PROMISED:
                broken.append(f"{fixture.file}, mutated {kind}, seed {seed}: {code}: {' '.join(said.split())[-200:]}")
    path.write_bytes(valid)
    return broken


@pytest.mark.parametrize("name", FIXTURES)
def test_the_valid_file_is_taken(name: str, folder: Path) -> None:
    code, said = ended(FIXTURES[name].command)
    assert code in (0, 3), said


@pytest.mark.parametrize("name", FIXTURES)
def test_a_slightly_wrong_file_is_understood_or_refused_in_one_line(name: str, folder: Path) -> None:
    assert unkept(folder, FIXTURES[name], range(45)) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", FIXTURES)
def test_ten_thousand_slightly_wrong_files(name: str, folder: Path) -> None:
    assert unkept(folder, FIXTURES[name], range(45, 600)) == []


CHECKPOINT_FILES = ("config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")


def _checkpoint_mutations(content: bytes, name: str, seed: int) -> list[bytes]:
    """A file of a checkpoint mutated by bytes and by value; of the weights, only their header."""
    if name != "model.safetensors":
        return [mutated_bytes(content, seed), as_json(mutated_value(json.loads(content), seed))]
    (length,) = struct.unpack("<Q", content[:8])
    header, rest = content[8 : 8 + length], content[8 + length :]
    headers = [mutated_bytes(header, seed), as_json(mutated_value(json.loads(header), seed))]
    return [struct.pack("<Q", len(changed)) + changed + rest for changed in headers]


def _unkept_checkpoints(folder: Path, seeds: Sequence[int], *commands: tuple[str, ...]) -> list[str]:
    source = checkpoint_path("llava-tiny")
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir()
    valid = {path.name: path.read_bytes() for path in source.iterdir() if path.is_file()}
    for name, content in valid.items():
        (checkpoint / name).write_bytes(content)
    broken = []
    for name in CHECKPOINT_FILES:
        for seed in seeds:
            for number, content in enumerate(_checkpoint_mutations(valid[name], name, seed)):
                (checkpoint / name).write_bytes(content)
                for command in commands:
                    code, said = ended(command)
                    if code not in PROMISED:
                        broken.append(f"{name}, mutation {number}, seed {seed}: {code}: {' '.join(said.split())[-200:]}")
        (checkpoint / name).write_bytes(valid[name])
    return broken


def test_a_slightly_wrong_checkpoint_is_described_or_refused_in_one_line(folder: Path) -> None:
    assert _unkept_checkpoints(folder, range(12), ("models", "show", "./checkpoint")) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_slightly_wrong_checkpoint_answers_or_is_refused_in_one_line(folder: Path) -> None:
    asked = ("eval", "--model", "./checkpoint", "--dataset", "scenes/color", "--limit", "1", "--db", ":memory:")
    assert _unkept_checkpoints(folder, range(20), asked) == []


ARGUMENTS = (
    ("eval", "--model", "llava-tiny", "--dataset", "scenes/color", "--limit", "9" * 20),
    ("eval", "--model", "llava-tiny", "--dataset", "scenes/color", "--batch-size", "²"),
    ("heads", "scan", "--model", "llava-tiny", "--dataset", "scenes/color", "--seed", "9" * 20),
    ("trace", "--model", "llava-tiny", "--dataset", "scenes/color", "--limit", "9" * 20),
    ("query", "SELECT 1", "--limit", "9" * 20),
    ("query", "SELECT '\udcff'"),
    ("eval", "--model", "\udcff", "--dataset", "scenes/color"),
    ("eval", "--model", "llava-tiny", "--dataset", "a\x00b"),
    ("eval", "--model", "llava-tiny", "--dataset", "scenes/color", "--memory-budget", "nan"),
)


@pytest.mark.parametrize(
    "arguments", ARGUMENTS, ids=lambda arguments: " ".join(arguments[-2:]).encode("ascii", "backslashreplace").decode()
)
def test_an_argument_that_cannot_be_meant_is_refused_in_one_line(arguments: tuple[str, ...], folder: Path) -> None:
    code, said = ended(arguments)
    assert (code, said.count("\n")) == (2, 1), said
