"""Writes docs/families.md: what the engine does with a tiny model of every type that the installed library knows.

PYTHONPATH=. python -m tests.engine.families_page > docs/families.md
PYTHONPATH=. .venv-torchvision/bin/python -m tests.engine.families_page --fill docs/families.md

The second table takes a checkpoint folder of each family through three verbs of the command line. `--fill` is for the environment of
`make test-torchvision`: it makes the rows that lack a package, marks them, and names that environment.
"""

from __future__ import annotations

import datetime
import re
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import transformers

from tests.engine.every_type import NOT_BUILT, TYPES, AnyTinyModel
from tests.engine.test_every_type import WITH_IMAGES
from tests.models.checkpoints import build_checkpoint
from tests.models.command_line import VERBS, missing_package, tried
from tests.models.own_recipes import OWN, OWN_BY_TORCHVISION
from tests.models.recipes import BY_TORCHVISION, FURTHER, PIXTRAL
from vseam_core.engine.selfcheck import checked_engine

_ONLY_ANSWERS = "answers, but nothing in it can be traced"
_FILLED_BY = ("torch", "torchvision", "timm")
_MARK = "¹"
_HEAD = """# Families

*For those who choose a model: what can be done with each type of the library, and why the rest cannot.*

Every image-text-to-text type that transformers {version} knows, in a tiny model with random weights and a prompt of text, by the
checks that `vseam doctor` makes; written by `tests/engine/families_page.py` on {date}. *Replay*: exact, only what an edit reaches
is computed. *Full passes*: every run is a forward pass with plain hooks. *Answers*: nothing inside was found that could be
changed. Real weights were not tried here. {made}

| type | runs by | heads | lens | why not more |
|---|---|---|---|---|"""


def row(name: str) -> str:
    """One line of the table."""
    if name in NOT_BUILT:
        return f"| {name} | not built here | | | {NOT_BUILT[name]} |"
    try:
        _, record = checked_engine(AnyTinyModel(name))
    except Exception as error:
        if name in WITH_IMAGES:
            return f"| {name} | tested with images, see [engine.md](engine.md) | | | |"
        return f"| {name} | not built here | | | {_short(f'{type(error).__name__}: {error}')} |"
    said: dict[str, Any] = {one["name"]: one for one in record["capabilities"]}
    by = "answers" if not said["traces"]["holds"] else "replay" if said["replay"]["holds"] else "full passes"
    marks = ["yes" if said[kind]["holds"] else "no" for kind in ("heads", "lens")]
    if by == "full passes" and name in WITH_IMAGES:
        return f"| {name} | tested with images, see [engine.md](engine.md) | | | |"
    reasons = [said[kind]["reason"].split("; a full pass")[0] for kind in ("traces", "replay", "heads", "lens") if said[kind]["reason"]]
    return f"| {name} | {by} | {marks[0]} | {marks[1]} | {_short('; '.join(dict.fromkeys(reasons)))} |"


_FOLDERS = """
## From the command line

`vseam eval`, `trace` (groups and token-wise) and `heads scan` on checkpoint folders in the library's own layout, tiny, with random weights.
LLaVA, ViP-LLaVA, LLaVA-NeXT, LLaVA-OneVision, InternVL, Qwen2-VL, Qwen2.5-VL, Qwen3-VL, PaliGemma, Gemma 3, Idefics3, SmolVLM, Aya Vision,
InstructBLIP, BLIP-2 and Mllama run whole studies so (`tests/models/test_whole_studies.py`). Processors of the last five need torchvision.

| family | eval | trace | heads scan | why not |
|---|---|---|---|---|"""


def folder_row(family: str, said: Mapping[str, str]) -> str:
    """One line of the second table."""
    marks = " | ".join("yes" if not said[verb] else "no" for verb in VERBS)
    reasons = dict.fromkeys(_ONLY_ANSWERS if _ONLY_ANSWERS in text else _short(text) for text in said.values() if text)
    return f"| {family} | {marks} | {'; '.join(reasons)} |"


def tried_row(family: str) -> str:
    """The family's line of the second table; one whose processor needs a package that is not here says so."""
    if missing_package(family):
        return f"| {family} | not run here | | | needs {missing_package(family)} |"
    with tempfile.TemporaryDirectory() as place:
        return folder_row(family, tried(build_checkpoint(family, Path(place) / family), Path(place)))


def filled(page: str) -> str:
    """The page with the rows that lacked a package, made in this environment where it has the package, and marked."""
    lines, marked = [], 0
    for line in page.splitlines():
        name = line.removeprefix("|").partition("|")[0].strip()
        if line.endswith("needs the package timm |"):
            line = row(name)
        elif "| not run here |" in line:
            line = tried_row(name)
        else:
            lines.append(line)
            continue
        made = "not built here" not in line and "not run here" not in line
        marked += made
        lines.append(line.replace(f"| {name} |", f"| {name} {_MARK} |", 1) if made else line)
    text = "\n".join(lines) + "\n"
    if not marked:
        return text
    besides = f"those marked {_MARK} with {_versions(*_FILLED_BY)}\n(`make test-torchvision`)"
    return re.sub(r"(Rows were made with torch [0-9.]+)\.\n", rf"\1, {besides}.\n", text, count=1)


def _versions(*packages: str) -> str:
    return ", ".join(f"{package} {version(package).partition('+')[0]}" for package in packages)


def _short(text: str) -> str:
    return " ".join(text.replace("|", "/").split())[:200]


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    if sys.argv[1:2] == ["--fill"]:
        place = Path(sys.argv[2])
        place.write_text(filled(place.read_text()))
    else:
        made = f"Rows were made with {_versions('torch')}."
        print(_HEAD.format(version=transformers.__version__, date=datetime.date.today().isoformat(), made=made))
        for name in sys.argv[1:] or sorted(TYPES):
            print(row(name), flush=True)
        print(_FOLDERS)
        for family in (*FURTHER, *OWN, *PIXTRAL, *BY_TORCHVISION, *OWN_BY_TORCHVISION):
            print(tried_row(family), flush=True)
