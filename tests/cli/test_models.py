"""`vseam models show`, and the loading options that every verb with a model takes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vseam_plugins.models.catalogue import CATALOGUE

Vseam = Callable[..., Any]


def shown(vseam: Vseam, *arguments: str) -> dict[str, Any]:
    outcome = vseam("models", "show", *arguments, "--json")
    assert outcome.code == 0, outcome.stderr
    envelope = json.loads(outcome.stdout)
    assert envelope["schema"] == "vseam.models-show/1"
    found: dict[str, Any] = envelope["model"]
    return found


def test_an_embedded_model_is_here_with_its_architecture(vseam: Vseam) -> None:
    found = shown(vseam, "llava-tiny")
    assert found["here"] is True
    assert (found["files"]["layers"], found["files"]["heads"], found["files"]["head_dim"]) == (6, 8, 16)
    assert found["files"]["image_positions"] == 36
    assert found["files"]["regions"] is True
    assert found["files"]["template"].startswith("USER: <image>\n{question}")
    assert found["memory_bytes"]["float32"] == 4 * found["parameters"]


def test_the_parameter_count_is_what_the_weights_add_up_to(vseam: Vseam) -> None:
    from vseam_core.plugins.discovery import build_plugins
    from vseam_core.plugins.registry import load_registry

    model = load_registry(build_plugins()).load_model("llava-tiny", device="cpu")
    assert shown(vseam, "llava-tiny")["parameters"] == sum(tensor.numel() for tensor in model.module.state_dict().values())


def test_a_published_model_that_is_not_here_says_what_it_needs(vseam: Vseam, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = shown(vseam, "gemma3-4b")
    assert (found["here"], found["gated"], found["licence"]) == (False, True, "Gemma Terms of Use")
    assert found["memory_bytes"]["float16"] == 2 * found["parameters"]
    text = vseam("models", "show", "gemma3-4b").stdout
    assert "not in the hub's local cache" in text
    assert "log in" in text


def test_a_folder_that_is_broken_is_described_as_such(vseam: Vseam) -> None:
    Path("broken").mkdir()
    found = shown(vseam, "./broken")
    assert found["here"] is False
    assert "lacks its configuration" in found["files"]["problem"]
    outcome = vseam("models", "show", "./nowhere")
    assert (outcome.code, outcome.stdout) == (2, "")
    assert "expected a checkpoint folder there" in outcome.stderr


def test_every_published_model_has_a_licence_a_size_and_a_loader() -> None:
    names = [entry.name for entry in CATALOGUE]
    assert len(names) == len(set(names)) >= 25
    assert all(entry.source.count("/") == 1 for entry in CATALOGUE)
    assert all(entry.parameters is None or 1e8 < entry.parameters < 2e10 for entry in CATALOGUE)


def test_models_still_lists(vseam: Vseam) -> None:
    assert "qwen2.5-vl-7b" in vseam("models").stdout
    assert {"llava-tiny", "smolvlm-256m"} <= {item["name"] for item in json.loads(vseam("models", "--json").stdout)["models"]}


def evaluate(vseam: Vseam, *options: str) -> Any:
    return vseam("eval", "--model", "llava-tiny", "--dataset", "scenes/color", "--limit", "2", "-q", *options)


def test_number_format_and_attention_reach_the_stored_run(vseam: Vseam) -> None:
    assert evaluate(vseam, "--dtype", "bfloat16", "--attention", "eager").code == 0
    assert evaluate(vseam, "--model-option", "dtype=float16").code == 0
    assert evaluate(vseam, "--model-option", "llava-tiny:dtype=float64").code == 0
    with sqlite3.connect("results.db") as connection:
        rows = connection.execute("SELECT DISTINCT dtype, attention, length(weights_hash) FROM runs ORDER BY id").fetchall()
    assert [row[:2] for row in rows] == [("bfloat16", "eager"), ("float16", "sdpa"), ("float64", "sdpa")]
    assert {row[2] for row in rows} == {64}


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("dtype", "expected KEY=VALUE or MODEL:KEY=VALUE"),
        ("=3", "expected KEY=VALUE"),
        ("dytpe=float16", "unknown option 'dytpe'; did you mean 'dtype'"),
        ("llava-tony:dtype=float16", "no such --model here; did you mean 'llava-tiny'"),
        ("max_memory={0: ", "the value is no YAML"),
        ("dtype=float17", "unknown dtype 'float17'"),
    ],
)
def test_a_model_option_that_makes_no_sense_is_one_line(vseam: Vseam, option: str, expected: str) -> None:
    outcome = evaluate(vseam, "--model-option", option)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert expected in outcome.stderr
    assert outcome.stderr.count("\n") == 1


@pytest.mark.parametrize("option", ["allow_pickle", "trust_remote_code"])
def test_what_can_run_code_is_refused_in_a_file_and_taken_on_the_command_line(vseam: Vseam, option: str) -> None:
    assert evaluate(vseam, "--model-option", f"{option}=true").code == 0
    Path("registry.yaml").write_text(f"models:\n  mine: {{plugin: llava, options: {{source: a/b, {option}: true}}}}\n")
    outcome = vseam("models")
    assert outcome.code == 2
    assert "a file may not set this" in outcome.stderr
