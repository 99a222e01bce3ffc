"""The README is a promise: its Python runs as written, its study file is valid. (Commands of all pages: tests/documentation.)"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import torch

from vseam_cli.main import execute
from vseam_plugins.models.zoo import checkpoint_path
from vseam_plugins.models.zoo.card import read_priors

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SCENES_PAGE = (ROOT / "docs" / "scenes.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    match = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert match is not None
    return match.group(1)


def test_the_python_runs_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    exec(compile(block("python"), "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "accuracy" in printed
    assert (tmp_path / "results.db").is_file()


def test_the_study_file_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(block("yaml"), encoding="utf-8")
    assert execute(["study", "check", "study.yaml"]) == 0


def test_the_page_on_scenes_states_what_the_card_of_the_skewed_model_measured() -> None:
    priors = read_priors(checkpoint_path("llava-tiny-skewed"))
    assert priors
    for prior in priors:
        asked = "usual" if prior.usual else "unusual"
        share = "" if prior.usual or not prior.wrong else f" {prior.prior / prior.wrong:.0%} ({prior.prior} of {prior.wrong})"
        row = f"| `{prior.model}` | {prior.split} | {asked} | {prior.wrong / prior.asked:.1%} |{share} |"
        assert row.replace("%", " %") in SCENES_PAGE, row


def test_the_large_study_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert execute(["study", "check", str(Path(__file__).parents[2] / "studies" / "large.yaml")]) == 0


def test_every_extra_that_a_user_can_install_is_in_the_readme_with_what_it_costs() -> None:
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"])
    rows = re.findall(r"^\| ((?:`[\w-]+`(?:, )?)+) \| ([\d, ]+) \|", README, re.MULTILINE)
    named = {name: cost for names, costs in rows for name, cost in zip(re.findall(r"`([\w-]+)`", names), costs.split(", "), strict=True)}
    assert set(named) == extras - {"dev"}
    assert all(int(cost) > 0 for cost in named.values())
