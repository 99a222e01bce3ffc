"""`vseam compare` and `vseam eval --method` on the real command line: tables in every form, options, what is refused, its page."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from tests.cli.conftest import Vseam
from vseam_cli.main import vseam as top_group

PAGE = (Path(__file__).parents[2] / "docs" / "compare.md").read_text(encoding="utf-8")
TASK = ("--model", "llava-tiny", "--dataset", "scenes/color", "--split", "hard", "--limit", "12", "--max-new-tokens", "2")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_every_form_of_the_tables_says_the_same_and_eval_finds_the_same_answers(vseam: Vseam) -> None:
    command = (
        "compare",
        *TASK,
        "--choose",
        "6",
        "--timed",
        "0",
        "--methods",
        "none,vcd",
        "--method-option",
        "vcd:alpha=2",
        "--method-option",
    )
    command = (*command, "noise_step=900")
    outcome = vseam(*command, "--json")
    assert outcome.code == 0, outcome.stderr
    (comparison,) = json.loads(outcome.stdout)["comparisons"]
    by_name = {row["method"]: {figure["metric"]: figure["value"] for figure in row["figures"]} for row in comparison["methods"]}
    assert list(by_name) == ["none", "threshold", "vcd"]
    assert comparison["methods"][2]["change"] == "vcd (alpha=2, noise_step=900)"
    tables = vseam(*command, "--csv").stdout.split("\n\n")
    rows = list(csv.DictReader(io.StringIO(tables[0].split("\n", 1)[1])))
    assert [float(row["accuracy"]) for row in rows] == [by_name[row["method"]]["accuracy"] for row in rows]
    assert len(tables) == 2
    assert "| vcd" in vseam(*command, "--markdown").stdout
    assert r"\toprule" in vseam(*command, "--latex").stdout
    options = ("--method", "vcd", "--method-option", "alpha=2", "--method-option", "noise_step=900", "--pool", "test")
    evaluated = vseam("eval", *TASK, *options, "--json")
    (found,) = json.loads(evaluated.stdout)["evaluations"]
    assert (found["made"], found["reused"]) == (0, 12)
    assert next(row["value"] for row in found["metrics"] if row["metric"] == "accuracy") == by_name["vcd"]["accuracy"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--methods", "vdc"), "did you mean 'vcd'"),
        (("--methods", "vcd", "--method-option", "pai:alpha=1"), "'pai' is not among --methods vcd"),
        (("--methods", "vcd", "--method-option", "alpha=-1"), "expected alpha"),
        (("--methods", "none"), "at least one method"),
        (("--methods", "vcd", "--dataset", "scenes/colour"), "unknown dataset"),
    ],
)
def test_what_cannot_be_compared_is_said_in_one_line_before_a_model_is_loaded(vseam: Vseam, given: tuple[str, ...], said: str) -> None:
    outcome = vseam("compare", *TASK, *given)
    assert outcome.code == 2
    assert said in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert not Path("results.db").exists()


def test_a_method_that_a_family_lacks_leaves_the_others_standing(vseam: Vseam) -> None:
    family = ("--model", "instructblip-tiny", "--dataset", "scenes/color", "--limit", "4", "--choose", "4", "--timed", "0")
    outcome = vseam("compare", *family, "--methods", "pai,vcd", "--method-option", "alpha=0.5", "--max-new-tokens", "2", "--json")
    assert outcome.code == 3
    assert outcome.stderr.count("reads no question without its image") == 1
    methods = {row["method"]: row for row in json.loads(outcome.stdout)["comparisons"][0]["methods"]}
    assert methods["pai"]["figures"] == []
    assert methods["vcd"]["run"]
    number = outcome.stderr.rpartition("draw a page by `vseam report ")[2].partition("`")[0]
    drawn = vseam("report", number, "--json")
    assert drawn.code == 0, drawn.stderr
    assert any("Ways to answer" in table["title"] for table in json.loads(drawn.stdout)["tables"])


def test_the_commands_on_the_page_parse_and_its_methods_exist() -> None:
    commands = re.findall(r"^    (vseam .+)$", PAGE, re.MULTILINE)
    assert commands
    for command in commands:
        words = shlex.split(command)[1:]
        if words[0] == "compare":
            outcome = CliRunner().invoke(top_group, [*words, "--help"])
            assert outcome.exit_code == 0, command
    listed = CliRunner().invoke(top_group, ["methods", "--json"])
    names = {item["name"] for item in json.loads(listed.stdout)["methods"]}
    assert {"vcd", "pai", "mitigv/opera"} <= names
