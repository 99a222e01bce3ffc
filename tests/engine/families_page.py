"""Writes docs/families.md: what the engine does with a tiny model of every type that the installed library knows.

PYTHONPATH=. python -m tests.engine.families_page > docs/families.md

The second table takes a checkpoint folder of each family through three verbs of the command line. In the environment of
`make test-torchvision` nothing is left out for a missing package.
"""

from __future__ import annotations

import datetime
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers

from tests.engine.every_type import NOT_BUILT, TYPES, AnyTinyModel
from tests.engine.test_every_type import WITH_IMAGES
from tests.models.checkpoints import build_checkpoint
from tests.models.command_line import VERBS, missing_package, tried
from tests.models.recipes import BY_TORCHVISION, FURTHER, PIXTRAL
from vseam_core.engine.selfcheck import checked_engine

_REASONS = ("answers, but nothing in it can be traced", "the answer 'Yes' cannot be written in this model's vocabulary")
_HEAD = """# Families

*For those who choose a model: what can be done with each type of the library, and why the rest cannot.*

Every image-text-to-text type that transformers {version} knows, in a tiny model with random weights and a prompt of text, by the
checks that `vseam doctor` makes; written by `tests/engine/families_page.py` on {date}. *Replay*: exact, only what an edit reaches
is computed. *Full passes*: every run is a forward pass with plain hooks. *Answers*: nothing inside was found that could be
changed. Real weights were not tried here.

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
InstructBLIP, BLIP-2 and Mllama run whole studies so (`tests/models/test_whole_studies.py`). The last five need torchvision
(`make test-torchvision`).

| family | eval | trace | heads scan | why not |
|---|---|---|---|---|"""


def folder_row(family: str, said: Mapping[str, str]) -> str:
    """One line of the second table."""
    marks = " | ".join("yes" if not said[verb] else "no" for verb in VERBS)
    reasons = dict.fromkeys(known for text in said.values() for known in _REASONS if known in text)
    return f"| {family} | {marks} | {'; '.join(reasons)} |"


def folder_rows() -> Iterator[str]:
    """The whole second table; families whose processor needs a package that is not here say so."""
    for family in (*FURTHER, *PIXTRAL, *BY_TORCHVISION):
        if missing_package(family):
            yield f"| {family} | not run here | | | needs {missing_package(family)} |"
            continue
        with tempfile.TemporaryDirectory() as place:
            yield folder_row(family, tried(build_checkpoint(family, Path(place) / family), Path(place)))


def _short(text: str) -> str:
    return " ".join(text.replace("|", "/").split())[:200]


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    print(_HEAD.format(version=transformers.__version__, date=datetime.date.today().isoformat()))
    for name in sys.argv[1:] or sorted(TYPES):
        print(row(name), flush=True)
    print(_FOLDERS)
    for line in folder_rows():
        print(line, flush=True)
