"""`vseam doctor` and `--memory-budget`, as a user meets them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models import builders

Vseam = Callable[..., Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return builders.build_llava(tmp_path_factory.mktemp("doctor") / "llava", seed=5)


def test_doctor_says_that_an_embedded_model_can_be_trusted(vseam: Vseam) -> None:
    outcome = vseam("doctor", "--model", "llava-tiny", "--no-drift")
    assert outcome.code == 0
    assert "llava-tiny: sdpa, float32, cpu, 6 layers × 8 heads" in outcome.stdout
    assert outcome.stdout.count(" ok") == 8
    assert "computes" in outcome.stdout
    assert "% of the prompt again" in outcome.stdout


def test_doctor_measures_the_drift_of_formats_and_attentions(vseam: Vseam, folder: Path) -> None:
    outcome = vseam("doctor", "--model", str(folder), "--device", "cpu", "--json")
    assert outcome.code == 0
    envelope = json.loads(outcome.stdout)
    assert envelope["schema"] == "vseam.doctor/1"
    (found,) = envelope["models"]
    assert found["trust"]["engine"] == "ReplayEngine"
    for name in ("logits_error", "replay_error", "packed_error", "edit_error", "noise_floor", "batch_error", "padded_error"):
        assert not found["trust"][name] > 1e-4, name
    errors = {(entry["attention"], entry["dtype"]): entry["error"] for entry in found["drift"]}
    assert set(errors) == {(attention, dtype) for attention in ("eager", "sdpa") for dtype in ("float32", "bfloat16", "float16")}
    assert all(math.isfinite(error) for error in errors.values())
    for attention in ("eager", "sdpa"):
        assert 0 < errors[attention, "float32"] < errors[attention, "float16"] < errors[attention, "bfloat16"]


def test_doctor_leaves_the_model_as_it_was(vseam: Vseam, folder: Path) -> None:
    first = json.loads(vseam("doctor", "--model", str(folder), "--device", "cpu", "--json").stdout)
    again = json.loads(vseam("doctor", "--model", str(folder), "--device", "cpu", "--json").stdout)
    assert first == again


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["doctor"], "name a model"),
        (["doctor", "--model", "llava-tyni"], "did you mean 'llava-tiny'"),
        (["doctor", "--model", "llava-tiny", "--memory-budget", "lots"], "'lots' is no size"),
        (["doctor", "--model", "llava-tiny", "--no-drift", "--memory-budget", "40KB"], "raise --memory-budget"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(vseam: Vseam, arguments: list[str], said: str) -> None:
    outcome = vseam(*arguments)
    assert outcome.code == 2
    assert said in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_a_trace_within_a_small_memory_budget_gives_the_numbers_of_a_wide_one(vseam: Vseam) -> None:
    command = ["trace", "--model", "llava-tiny", "--dataset", "scenes/color", "--tracer", "groups", "--limit", "2", "--json"]
    wide = vseam(*command, "--db", "wide.db")
    small = vseam(*command, "--db", "small.db", "--memory-budget", "8MB")
    assert wide.code == small.code == 0
    query = ["query", "SELECT mean FROM trace_scores ORDER BY site_kind, direction, measure, layer, column_label, subset", "--json"]
    before, after = (json.loads(vseam(*query, "--db", f"{name}.db").stdout)["rows"] for name in ("wide", "small"))
    assert len(before) == len(after) > 100
    for one, other in zip(before, after, strict=True):
        assert list(other.values() if isinstance(other, dict) else other) == pytest.approx(
            list(one.values() if isinstance(one, dict) else one), abs=1e-4
        )


def test_a_registry_entry_chooses_the_number_format(vseam: Vseam, folder: Path) -> None:
    Path("registry.yaml").write_text(
        f"models:\n  half:\n    plugin: llava\n    options: {{source: {folder}, dtype: bfloat16}}\n", encoding="utf-8"
    )
    outcome = vseam("doctor", "--model", "half", "--device", "cpu", "--no-drift", "--json")
    assert outcome.code == 0, outcome.stderr
    trust = json.loads(outcome.stdout)["models"][0]["trust"]
    assert trust["dtype"] == "bfloat16"
    assert trust["noise_floor"] <= 0.25
