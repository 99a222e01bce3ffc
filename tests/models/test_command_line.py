"""`vseam eval`, `trace` and `heads scan` on checkpoint folders of every family whose processor can be built here.

Two run by default (one whose `generate` hands no logits processor on, one whose `generate` changes the prompt); the others in
`make test-all`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, BlipForQuestionAnswering

from tests.models.checkpoints import build_checkpoint
from tests.models.command_line import DATABASE, FAMILIES, missing_package, tried
from vseam_core.plugins.discovery import build_plugins
from vseam_core.plugins.registry import load_registry
from vseam_plugins.models import hf

BY_DEFAULT = ("janus", "blip")
# Each of the rest is nearly like one that whole studies run by default.
FURTHER = tuple(family for family in FAMILIES if family not in BY_DEFAULT)


def test_there_are_more_than_thirty_families_to_run_on_folders() -> None:
    assert len([family for family in FAMILIES if not missing_package(family)]) > 30


@pytest.mark.parametrize("family", [*BY_DEFAULT, *(pytest.param(family, marks=pytest.mark.slow) for family in FURTHER)])
def test_each_verb_does_its_work_or_says_in_one_line_why_not(family: str, tmp_path: Path) -> None:
    if missing_package(family):
        pytest.skip(f"the processor of {family} needs {missing_package(family)}")
    folder = build_checkpoint(family, tmp_path / family)
    said = tried(folder, tmp_path)
    assert set(said.values()) == {""}
    stored = {table: count(tmp_path, table) for table in ("answers", "trace_effects", "head_effects")}
    assert all(number > 0 for number in stored.values()), stored
    assert_answers_are_the_librarys(folder, tmp_path)


def count(place: Path, table: str) -> int:
    with sqlite3.connect(place / DATABASE) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def assert_answers_are_the_librarys(folder: Path, place: Path) -> None:
    """The stored probability of each answer against one plain forward pass of the checkpoint as the library itself loads it."""
    samples = {
        sample.identifier: sample for sample in load_registry(build_plugins()).load_dataset("scenes/color").samples("test", "plain", 2)
    }
    reader = hf.load("again", str(folder), device="cpu")
    with sqlite3.connect(place / DATABASE) as connection:
        stored = connection.execute("SELECT units.identifier, gold_probability FROM answers JOIN units ON units.id = unit_id").fetchall()
    assert {identifier for identifier, _ in stored} == set(samples)
    logits_of = library(folder)
    # An answer that stands in a decoder of its own has no space before it.
    before = "" if reader.encode(Image.new("RGB", (32, 32)), "Is it?").inputs.keys() >= {"input_ids", "decoder_input_ids"} else " "
    for identifier, probability in stored:
        sample = samples[identifier]
        prompt = reader.encode(sample.image.load(), sample.question)
        forms = {sample.answer, sample.answer.lower(), sample.answer.capitalize()}
        written = [reader.tokenizer(f"{before}{form}", add_special_tokens=False).input_ids for form in forms]
        gold = list({ids[0] for ids in written if len(ids) == 1 and ids[0] != reader.tokenizer.unk_token_id})
        assert gold
        logits = logits_of(reader.collate([prompt]))
        assert float(logits.softmax(-1)[gold].sum()) == pytest.approx(probability, abs=1e-5)


def library(folder: Path) -> Callable[[dict[str, torch.Tensor]], torch.Tensor]:
    """The last logits of a batch of one as the class that the folder's config.json names computes them."""
    kept: list[torch.Tensor] = []
    if json.loads((folder / "config.json").read_text())["architectures"] == ["BlipForQuestionAnswering"]:
        module: Any = BlipForQuestionAnswering.from_pretrained(folder, dtype=torch.float32).eval()
        # This class computes logits and returns none.
        module.text_decoder.register_forward_hook(lambda _, args, output: kept.append(output.logits[0, -1]))
    else:
        module = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
        module.register_forward_hook(lambda _, args, output: kept.append(output.logits[0, -1]))

    def logits_of(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        with torch.no_grad():
            module(**batch, **({} if isinstance(module, BlipForQuestionAnswering) else {"use_cache": False}))
        return kept[-1]

    return logits_of
