"""The listing verbs, with good, broken and clashing third-party plugins installed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Vseam = Callable[..., Any]
Install = Callable[..., Path]

GOOD = """
from vseam_core.plugins.hookspecs import hookimpl
from vseam_core.plugins.records import ModelRecord

@hookimpl
def vseam_models():
    yield ModelRecord(name="acme-2b", summary="a model", factory="acme_missing:load", source="acme/vlm")
"""
CLASHING = GOOD.replace("acme-2b", "llava-tiny")
COMMAND = """
import click
from vseam_core.plugins.hookspecs import hookimpl
from vseam_core.plugins.records import CommandRecord

@click.command()
def acme():
    click.echo("hello from acme")

@hookimpl
def vseam_commands():
    yield CommandRecord(name=NAME, summary="say hello", factory=FACTORY)
"""


def test_plugins_lists_what_each_supplies(vseam: Vseam) -> None:
    outcome = vseam("plugins")
    assert outcome.code == 0
    line = next(line for line in outcome.stdout.splitlines() if line.startswith("tracers"))
    assert "attention_maps, gaze, groups, knockout, lens, paths, regions, tokenwise" in line


def test_plugins_shows_broken_ones_with_their_reason_and_still_succeeds(vseam: Vseam, install: Install) -> None:
    install("acme-vlm", acme="import acme_missing")
    outcome = vseam("plugins")
    assert outcome.code == 0
    assert "broken acme from acme-vlm: ModuleNotFoundError: No module named 'acme_missing'" in outcome.stdout
    assert json.loads(vseam("plugins", "--json").stdout)["broken"][0]["distribution"] == "acme-vlm"


def test_plugins_shows_a_wrong_interface_number(vseam: Vseam, install: Install) -> None:
    install("acme-vlm", acme="PLUGIN_API = 7")
    assert "broken acme from acme-vlm: made for plugin API 7, this vseam has 1" in vseam("plugins").stdout


def test_a_clash_is_shown_and_breaks_no_listing(vseam: Vseam, install: Install) -> None:
    install("acme-vlm", acme=CLASHING)
    assert "clash: model 'llava-tiny' is claimed by vseam (plugin models) and acme-vlm (plugin acme)" in vseam("plugins").stdout
    listed = {item["name"]: item for item in json.loads(vseam("models", "--json").stdout)["models"]}
    assert "acme-vlm" in listed["llava-tiny"]["problem"]
    assert listed["instructblip-tiny"]["problem"] is None
    assert vseam("datasets").code == 0


def test_a_plugin_can_be_left_out_or_be_the_only_one(vseam: Vseam, install: Install) -> None:
    install("acme-vlm", acme=GOOD)
    assert "acme-2b" in vseam("models").stdout
    assert "acme-2b" not in vseam("--no-plugin", "acme", "models").stdout
    only = json.loads(vseam("--plugin", "acme", "models", "--json").stdout)
    assert [item["name"] for item in only["models"]] == ["acme-2b"]


def test_plugins_are_selected_by_the_environment_too(vseam: Vseam, install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("acme-vlm", acme=GOOD)
    monkeypatch.setenv("VSEAM_NO_PLUGIN", "acme models")
    assert json.loads(vseam("models", "--json").stdout)["models"] == []


def test_an_unknown_plugin_is_the_users_error(vseam: Vseam) -> None:
    outcome = vseam("--plugin", "trcers", "models")
    assert (outcome.code, outcome.stdout) == (2, "")
    assert "unknown plugin 'trcers'; did you mean 'tracers'" in outcome.stderr


@pytest.mark.parametrize("verb", ["plugins", "models", "datasets", "editors", "tracers", "operations"])
def test_json_is_one_envelope_alone(vseam: Vseam, verb: str) -> None:
    outcome = vseam(verb, "--json")
    envelope = json.loads(outcome.stdout)
    assert envelope["schema"] == f"vseam.{verb}/1"
    assert envelope[verb]
    assert outcome.stderr == ""


def test_operations_are_the_names_that_head_verbs_take(vseam: Vseam) -> None:
    listed = {item["name"]: item["summary"] for item in json.loads(vseam("operations", "--json").stdout)["operations"]}
    assert {"resample", "mean_of_others", "zero", "dataset_mean", "patch", "scale"} <= set(listed)
    assert all(listed.values())
    assert listed["patch"] in " ".join(vseam("operations").stdout.split())


def test_names_of_the_registry_file_are_listed_with_their_line(vseam: Vseam) -> None:
    Path("registry.yaml").write_text("models:\n  mine: {plugin: llava, options: {source: org/name}, summary: my own}\n")
    entry = next(item for item in json.loads(vseam("models", "--json").stdout)["models"] if item["name"] == "mine")
    assert (entry["origin"], entry["source"], entry["summary"]) == ("registry.yaml:2", "org/name", "my own")


def test_the_registry_option_wins_over_the_working_directory(vseam: Vseam) -> None:
    Path("registry.yaml").write_text("models: [broken")
    Path("other.yaml").write_text("models: {theirs: {plugin: llava, options: {source: a/b}}}")
    assert "theirs" in vseam("--registry", "other.yaml", "models").stdout
    outcome = vseam("models")
    assert outcome.code == 2
    assert outcome.stderr.startswith("vseam: registry.yaml:1: not valid YAML")


def test_a_plugin_adds_a_verb(vseam: Vseam, install: Install) -> None:
    install("acme-vlm", acme=COMMAND.replace("NAME", "'acme'").replace("FACTORY", "acme"))
    assert any(line.split() == ["acme", "say", "hello"] for line in vseam("--help").stdout.splitlines())
    assert vseam("acme").stdout.strip() == "hello from acme"
    assert "unknown verb 'acme'" in vseam("--no-plugin", "acme", "acme").stderr


def test_a_plugin_cannot_replace_a_built_in_verb(vseam: Vseam, install: Install) -> None:
    install("acme-vlm", acme=COMMAND.replace("NAME", "'models'").replace("FACTORY", "acme"))
    assert "llava-tiny" in vseam("models").stdout


def test_an_unknown_verb_mentions_plugins_that_are_broken(vseam: Vseam, install: Install) -> None:
    install("acme-vlm", acme="import acme_missing")
    outcome = vseam("acme")
    assert outcome.code == 2
    assert "broken acme from acme-vlm" in outcome.stderr
    assert outcome.stderr.count("\n") == 1
