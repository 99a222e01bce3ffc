"""`vseam eval` on the real command line: tables, JSON, files, comparing, changed heads, what is refused; and its documentation."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from tests.cli.conftest import Vseam
from tests.cli.test_saving_models import study_that_fits
from vseam_cli.main import vseam as top_group

PAGE = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
EVAL = ("eval", "--model", "llava-tiny", "--dataset", "scenes/color", "--split", "hard", "--limit", "12")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def figures(stdout: str) -> dict[str, dict[str, Any]]:
    (found,) = json.loads(stdout)["evaluations"]
    return {row["metric"]: row for row in found["metrics"] if row["subset"] == "all"}


def test_the_files_the_tables_and_the_database_say_the_same(vseam: Vseam) -> None:
    outcome = vseam(*EVAL, "--log-samples", "answers.jsonl", "--output", "figures.json", "--batch-size", "5", "--json")
    assert outcome.code == 0, outcome.stderr
    envelope = json.loads(outcome.stdout)
    assert envelope["schema"] == "vseam.eval/1"
    assert json.loads(Path("figures.json").read_text()) == envelope
    lines = [json.loads(line) for line in Path("answers.jsonl").read_text().splitlines()]
    assert len(lines) == 12
    assert sum(line["score"] for line in lines) / 12 == pytest.approx(figures(outcome.stdout)["accuracy"]["value"])
    assert {"question", "answer", "predicted", "first_token_correct", "gold_probability", "image_id"} <= set(lines[0])
    table = vseam(*EVAL)
    assert "llava-tiny on scenes/color (pool test, split hard; run 1)" in table.stdout
    assert "0 answered now, 12 before" in table.stderr
    query = vseam("query", "SELECT value FROM evaluations WHERE metric = 'accuracy'", "--json")
    assert json.loads(query.stdout)["rows"] == [[figures(outcome.stdout)["accuracy"]["value"]]]


def test_ablated_heads_are_compared_with_the_last_run(vseam: Vseam) -> None:
    plain = figures(vseam(*EVAL, "--json").stdout)
    outcome = vseam(*EVAL, "--ablate", "L0H0,L0H1,L1H2", "--ablate", "L2H3", "--compare", "last", "--json")
    changed = figures(outcome.stdout)
    assert changed["gain"]["value"] == pytest.approx(changed["accuracy"]["value"] - plain["accuracy"]["value"])
    assert changed["gain"]["n"] == 12
    assert json.loads(outcome.stdout)["evaluations"][0]["change"] == "zero L0H0,L0H1,L1H2,L2H3"


def test_a_rescaling_that_was_saved_under_a_name_is_measured_by_it(vseam: Vseam, monkeypatch: pytest.MonkeyPatch) -> None:
    with study_that_fits(monkeypatch, {"L1H2": 0.5, "L4H5": 1.5}):
        saved = vseam("heads", "rescale", "--model", "llava-tiny", "--dataset", "scenes/color", "--save-as", "colours")
    assert "the rescaling of 2 heads is called colours" in saved.stderr
    outcome = vseam(*EVAL, "--rescale", "colours", "--json")
    assert outcome.code == 0, outcome.stderr
    assert json.loads(outcome.stdout)["evaluations"][0]["change"] == "rescaled colours"
    with study_that_fits(monkeypatch, {"L1H2": 0.6}):
        again = vseam("heads", "rescale", "--model", "llava-tiny", "--dataset", "scenes/color", "--save-as", "colours")
    assert again.code == 2
    assert "another rescaling is called 'colours'" in again.stderr


def test_a_lost_image_is_listed_and_the_exit_code_says_so(vseam: Vseam) -> None:
    rows = ["question,answer,image", "Is the red cat there?,Yes,here.png", "Is the red dog there?,No,gone.png"]
    Path("table.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    from PIL import Image

    Image.new("RGB", (48, 48), "red").save("here.png")
    Path("registry.yaml").write_text("datasets:\n  mine: {plugin: table, options: {questions: table.csv, images: .}}\n", encoding="utf-8")
    outcome = vseam("eval", "--model", "llava-tiny", "--dataset", "mine", "--log-samples", "a.jsonl", "--json")
    assert outcome.code == 3, outcome.stderr
    (found,) = json.loads(outcome.stdout)["evaluations"]
    assert found["pool"] == "all"
    assert len(found["skips"]) == 1
    assert "gone.png" in json.dumps(found["skips"])
    assert "run 1: 2 asked, 1 of them skipped;" in outcome.stderr
    assert [("skipped" in json.loads(line)) for line in Path("a.jsonl").read_text().splitlines()] == [False, True]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--limit", "0"), "expected a number of samples such as 200, or a share"),
        (("--limit", "101%"), "expected a number of samples such as 200, or a share"),
        (("--limit", "0.5"), "its samples have no end"),
        (("--batch-size", "many"), "expected auto, or a number of prompts"),
        (("--with", "zero"), "give --ablate too"),
        (("--ablate", "L0"), "names no head"),
        (("--log-samples", "no/such/folder.jsonl"), "its folder does not exist"),
        (("--compare", "7"), "no other run with answers of that number"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(vseam: Vseam, options: tuple[str, ...], words: str) -> None:
    outcome = vseam("eval", "--model", "llava-tiny", "--dataset", "scenes/color", *options)
    assert outcome.code == 2
    assert words in " ".join(outcome.stderr.split())
    assert "Traceback" not in outcome.stderr


def test_the_table_of_a_changed_model_fits_80_columns_and_says_what_its_limits_are(vseam: Vseam) -> None:
    vseam(*EVAL)
    shown = vseam(*EVAL, "--ablate", "L0H0", "--compare", "last").stdout
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80, shown
    assert lines[1].split() == ["metric", "value", "95", "%", "p", "n"]
    assert re.search(r"^gain +\S+ +(\S+ to \S+|–) +\S+ +12$", shown, re.MULTILINE), shown
    assert re.search(r"^95 % of accuracy.*: \S", shown, re.MULTILINE), shown
    assert "majority_baseline: always '" in shown
    rows = list(csv.DictReader(vseam(*EVAL, "--csv").stdout.splitlines()[1:]))
    assert {"metric", "value", "standard_error", "low", "high", "n", "clusters", "interval", "reason"} <= set(rows[0])


def test_every_command_on_the_page_exists_with_its_options() -> None:
    commands = re.findall(r"^    (vseam .*)$", PAGE, re.MULTILINE)
    assert len(commands) >= 5
    for command in commands:
        words = shlex.split(command)[1:]
        verb = words[:2] if words[0] == "heads" else words[:1]
        shown = CliRunner().invoke(top_group, [*verb, "--help"]).output
        assert {word for word in words if word.startswith("--")} <= set(re.findall(r"--[a-z-]+", shown)), command


def test_the_python_on_the_page_runs_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    match = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert match is not None
    exec(compile(match.group(1), "evaluation.md", "exec"), {})
    assert "standard_error" in capsys.readouterr().out
