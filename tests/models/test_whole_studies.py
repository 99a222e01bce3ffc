"""The whole of tracing, head scans and evaluation through the real command line, on checkpoints of every family in their real layout."""

from __future__ import annotations

import importlib.util
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText

from vseam_cli.main import execute
from vseam_core.errors import EXIT_DONE, EXIT_DONE_WITH_SKIPS
from vseam_core.plugins.discovery import build_plugins
from vseam_core.plugins.registry import load_registry
from vseam_plugins.models import hf

from .checkpoints import build_checkpoint

# Families whose image has places, so that regions can be patched.
WITH_REGIONS = (
    "llava", "vipllava", "llava_next", "llava_onevision", "internvl", "qwen2_5_vl", "paligemma", "gemma3", "idefics3", "smolvlm",
    "aya_vision", "qwen2_vl", "qwen3_vl",
)  # fmt: skip
WITHOUT_REGIONS = ("instructblip_llama", "instructblip_t5", "blip2_opt", "blip2_t5", "mllama")
# Nine run by default; each of the rest is nearly like one of them.
SLOW = ("llava", "vipllava", "smolvlm", "qwen2_vl", "instructblip_llama", "paligemma", "aya_vision", "llava_onevision", "blip2_opt")
# Packages that a family's processor needs.
NEEDED = {"smolvlm": "num2words"}
STUDY = """
name: family
models: [{folder}]
datasets: [scenes/color]
stages: [evaluate, trace, scan]
tracers: [tokenwise, groups{more}]
heads:
  - {{operation: resample}}
  - {{operation: mean_of_others, protocol: published}}
donors: 2
random_models: 0
sizes: {{pairs: 2, random_model_pairs: 0, score: 4, hard: 0, scan_sampled: 1, scan_wrong: 1, choose: 2, test: 4, reference: 24}}
"""


@dataclass(frozen=True)
class Finished:
    """What a run left behind."""

    family: str
    code: int
    stderr: str
    folder: Path
    database: Path

    def rows(self, query: str) -> list[Any]:
        with sqlite3.connect(self.database) as connection:
            return connection.execute(query).fetchall()


@pytest.fixture
def finished(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Finished:
    """A study of one family, run by the command line; the drawing of figures has its own tests."""
    family: str = request.param
    if family in NEEDED and importlib.util.find_spec(NEEDED[family]) is None:
        pytest.skip(f"the processor of {family} needs {NEEDED[family]}")
    folder = build_checkpoint(family, tmp_path / family)
    study = tmp_path / "study.yaml"
    study.write_text(STUDY.format(folder=folder, more=", regions" if family in WITH_REGIONS else ""))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vseam_core.report.writer.write_report", lambda *_, **__: [])
    code = execute(["run", str(study), "--db", "results.db", "--device", "cpu", "-q"])
    return Finished(family, code, capsys.readouterr().err, folder, tmp_path / "results.db")


def marked(families: tuple[str, ...]) -> list[Any]:
    return [pytest.param(family, id=family, marks=pytest.mark.slow if family in SLOW else ()) for family in families]


@pytest.mark.parametrize("finished", marked((*WITH_REGIONS, *WITHOUT_REGIONS)), indirect=True)
def test_a_whole_study_of_a_family_fills_the_database(finished: Finished) -> None:
    assert finished.code in (EXIT_DONE, EXIT_DONE_WITH_SKIPS), finished.stderr
    assert "Traceback" not in finished.stderr
    stored = {table: finished.rows(f"SELECT count(*) FROM {table}")[0][0] for table in ("baselines", "trace_effects", "head_effects")}
    assert min(stored.values()) > 0, stored
    # Every sample fits every family; only a method that lacks its positions is refused, with the reason.
    reasons = {row[0] for row in finished.rows("SELECT reason FROM skips")}
    refused = {"group patching needs image positions in the decoder's sequence; this family has none"}
    assert reasons == (refused if finished.family == "mllama" else set())
    tracers = {row[0] for row in finished.rows("SELECT DISTINCT tracer FROM trace_effects")}
    expected = {"tokenwise", "groups", "regions"} if finished.family in WITH_REGIONS else {"tokenwise", "groups"}
    assert tracers == (expected - {"groups"} if finished.family == "mllama" else expected)
    if "groups" in tracers:
        _check_all_groups_together(finished)
    _check_probabilities(finished)


def _check_all_groups_together(finished: Finished) -> None:
    """The residual of every position patched at once, in any layer, must give the other run: the whole difference, exactly."""
    groups = "tracer = 'groups' AND measure = 'logit_diff' AND direction = 'denoising'"
    whole = finished.rows(f"SELECT mean FROM trace_scores WHERE column_label = 'all' AND subset = 'all' AND {groups} ORDER BY layer")
    ((difference,),) = finished.rows(f"SELECT avg(clean - corrupt) FROM trace_effects WHERE {groups} AND site_kind LIKE 'residual%'")
    assert len(whole) >= 2
    # Qwen3-VL reads its image again between the first layers (deepstack): there a patch before them is not the whole difference.
    checked = whole[-1:] if finished.family == "qwen3_vl" else whole
    assert np.array(checked, dtype=float) == pytest.approx(difference, abs=1e-4)
    assert abs(difference) > 1e-3, "an edited image changes the answer's logits"


def _check_probabilities(finished: Finished) -> None:
    """The stored probabilities against one plain forward pass each, of the checkpoint as the library itself loads it."""
    dataset = load_registry(build_plugins()).load_dataset("scenes/color")
    samples = {sample.identifier: sample for pool in ("score", "test") for sample in dataset.samples(pool, "plain", 4)}
    module = AutoModelForImageTextToText.from_pretrained(finished.folder, dtype=torch.float32).eval()
    reader = hf.load("again", str(finished.folder), device="cpu")
    stored = finished.rows(
        "SELECT u.identifier, b.answer_prob FROM baselines b JOIN units u ON u.id = b.unit_id WHERE b.pair_role IN ('', 'clean')"
    )
    compared = 0
    for identifier, probability in stored:
        sample = samples.get(identifier)
        if sample is None:
            continue
        prompt = reader.encode(sample.image.load(), sample.question)
        writings = {sample.answer, sample.answer.lower(), sample.answer.capitalize()}
        gold = [reader.tokenizer.get_vocab()[writing] for writing in writings if writing in reader.tokenizer.get_vocab()]
        with torch.no_grad():
            logits = module(**prompt.inputs).logits[0, -1]
        assert float(logits.softmax(-1)[gold].sum()) == pytest.approx(probability, abs=1e-5)
        compared += 1
    assert compared >= 2
