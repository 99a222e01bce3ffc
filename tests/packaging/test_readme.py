"""The README is a promise: its Python runs as written, its study file is valid, its commands exist and parse."""

from __future__ import annotations

import re
import shlex
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


def commands() -> list[str]:
    pages = [README, *(page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").glob("*.md")))]
    pages = [re.sub(r"\\\n\s*", " ", page) for page in pages]  # long commands go on after a backslash
    indented = [line for page in pages for line in re.findall(r"^    (vseam [^\n]*)$", page, re.MULTILINE)]
    fenced = [
        line for page in pages for block in re.findall(r"^```\w*\n(.*?)^```", page, re.MULTILINE | re.DOTALL) for line in block.splitlines()
    ]
    lines = [*indented, *(line for line in fenced if line.startswith("vseam "))]
    return [re.sub(r"\s+#.*$", "", line).strip() for line in lines]


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


def test_every_command_of_the_readme_and_of_the_pages_exists_and_its_options_too() -> None:
    found = commands()
    assert len(found) >= 30
    for command in found:
        words = shlex.split(command)[1:]
        verb = verb_of(words)
        options = [word.split("=")[0] for word in words if word.startswith("--")]
        assert execute([*verb, "--help"]) == 0, command
        assert help_of(verb).issuperset(options), command


def verb_of(words: list[str]) -> list[str]:
    """The verb of a command line, with the verb of its group where one follows."""
    import click

    from vseam_cli.main import vseam

    context = click.Context(vseam)
    command = vseam.get_command(context, words[0])
    group = isinstance(command, click.Group) and len(words) > 1 and command.get_command(context, words[1]) is not None
    return words[: 2 if group else 1]


def help_of(verb: list[str]) -> set[str]:
    from click.testing import CliRunner

    from vseam_cli.main import vseam

    return set(re.findall(r"--[a-z-]+", CliRunner().invoke(vseam, [*verb, "--help"]).output))
