"""`--json`: every envelope keeps to `cli/schemas.json`, which is part of the package."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from vseam_core.testing.images import Noise

from .conftest import Vseam

SCHEMAS: dict[str, Any] = json.loads((files("vseam_cli") / "schemas.json").read_text(encoding="utf-8"))
NAMES: list[str] = SCHEMAS["properties"]["schema"]["enum"]
VALIDATOR = Draft202012Validator(SCHEMAS)
CLI = Path(__file__).parents[2] / "cli"
TASK = ("--model", "llava-tiny", "--dataset", "scenes/color", "--limit", "2")
# One command for each envelope, in an order in which each finds what it needs.
COMMANDS: dict[str, tuple[str, ...]] = {
    "plugins": ("plugins",),
    "plugins-new": ("plugins", "new", "mine"),
    "models": ("models",),
    "datasets": ("datasets",),
    "editors": ("editors",),
    "planners": ("planners",),
    "masks": ("masks",),
    "tracers": ("tracers",),
    "operations": ("operations",),
    "methods": ("methods",),
    "models-show": ("models", "show", "llava-tiny"),
    "dataset-check": ("datasets", "check", "scenes/color", "--limit", "20"),
    "study": ("study", "check", "study.yaml"),
    "study-plan": ("study", "plan", "study.yaml", "--workers", "4"),
    "doctor": ("doctor", "--model", "llava-tiny", "--no-drift"),
    "explain": ("explain", "--model", "llava-tiny", "--image", "scene.png", "--question", "Is the cup red?", "--noise"),
    "edit": ("edit", "--dataset", "scenes/color", "--limit", "2"),
    "edit-review": ("edit", "review"),
    "eval": ("eval", *TASK),
    "compare": ("compare", *TASK, "--choose", "2", "--timed", "1", "--methods", "vcd", "--method-option", "alpha=1"),
    "trace": ("trace", *TASK, "--tracer", "groups"),
    "paths": ("paths", *TASK, "--from", "L1H2"),
    "gaze": ("gaze", *TASK, "--looks-only"),
    "directions-fit": ("directions", "fit", *TASK[:4], "--limit", "4", "--out", "directions.safetensors"),
    "directions-apply": ("directions", "apply", "directions.safetensors", *TASK, "--layer", "3"),
    "heads-scan": ("heads", "scan", *TASK),
    "heads-ablate": ("heads", "ablate", *TASK),
    "heads-rescale": ("heads", "rescale", *TASK),
    "heads-shared": ("heads", "shared", *TASK, "--dataset", "scenes/material"),
    "run": ("run", "study.yaml"),
    "report": ("report",),
    "report-compare": ("report", "--compare", "heads-scan", "heads-shared"),
    "query": ("query", "SELECT model, seed, finished FROM runs"),
    "db-info": ("db", "info"),
    "db-check": ("db", "check"),
    "db-migrate": ("db", "migrate"),
    "db-copy": ("db", "copy", "results.db", "other.db"),
    "db-export": ("db", "export", "--csv-files", "tables"),
}
STUDY = "models: [llava-tiny]\ndatasets: [scenes/color]\nstages: [evaluate]\nsizes: {score: 4, test: 4}\n"


def test_the_schemas_are_valid_and_every_one_is_made_by_a_command() -> None:
    Draft202012Validator.check_schema(SCHEMAS)
    assert sorted(NAMES) == sorted(f"vseam.{name}/1" for name in COMMANDS)


def test_no_envelope_of_the_command_line_is_without_a_schema() -> None:
    written = {name for file in CLI.glob("*.py") for name in re.findall(r'"([a-z-]+/\d+)"', file.read_text(encoding="utf-8"))}
    assert len(written) > 15
    assert sorted(name for name in written if f"vseam.{name}" not in NAMES) == []


@pytest.mark.timeout(300)
def test_what_every_command_prints_keeps_to_its_schema(vseam: Vseam, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(STUDY, encoding="utf-8")
    Noise(0).load().save(tmp_path / "scene.png")
    for name, words in COMMANDS.items():
        outcome = vseam(*words, "--json")
        assert outcome.code in (0, 3), (words, outcome.stderr)
        envelope = json.loads(outcome.stdout)
        assert envelope["schema"] == f"vseam.{name}/1"
        problems = [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(envelope)]
        assert problems == [], words


@pytest.mark.parametrize("name", COMMANDS)
def test_an_envelope_that_lacks_its_fields_is_refused(name: str) -> None:
    assert not VALIDATOR.is_valid({"schema": f"vseam.{name}/1"})
