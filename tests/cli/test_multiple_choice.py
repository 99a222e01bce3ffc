"""`vseam eval` on multiple choice questions: asked in their own words, judged by the rule that `--judge` names, nothing asked twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.cli.conftest import Vseam
from vseam_core.plugins.aliased_benchmark import RegisteredBenchmark
from vseam_plugins.benchmarks.table import TableBenchmark

COLOURS = ("red", "green", "blue", "yellow")
EVAL = ("eval", "--model", "llava-tiny", "--dataset", "squares", "--json")


@pytest.fixture(autouse=True)
def _squares(vseam: Vseam) -> None:
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for number, colour in enumerate(COLOURS):
        Image.new("RGB", (64, 64), colour).save(f"{number}.png")
        rows.append({"image": f"{number}.png", "question": "what color is the square ?", "options": list(COLOURS), "answer": number})
    Path("squares.json").write_text(json.dumps(rows))
    Path("registry.yaml").write_text("datasets: {squares: {plugin: table, options: {questions: squares.json}}}\n")


def test_options_are_asked_and_answers_judged_again_by_another_rule(vseam: Vseam) -> None:
    checked = vseam("datasets", "check", "squares", "--images", "--json")
    assert (checked.code, json.loads(checked.stdout)["samples"]) == (0, 4), checked.stderr
    first = vseam(*EVAL, "--log-samples", "answers.jsonl")
    assert first.code == 0, first.stderr
    lines = [json.loads(line) for line in Path("answers.jsonl").read_text().splitlines()]
    assert [line["answer"] for line in lines] == list("ABCD")
    assert lines[0]["question"].endswith("\nA. red\nB. green\nC. blue\nD. yellow")
    for line in lines:
        named = [letter for letter, colour in zip("ABCD", COLOURS, strict=True) if colour in line["predicted"].split()]
        assert line["correct"] is (named == [line["answer"]]), line
    again = vseam(*EVAL, "--judge", "strict")
    assert "0 answered now, 4 before" in again.stderr
    figures = {row["metric"]: row["value"] for row in json.loads(again.stdout)["evaluations"][0]["metrics"]}
    assert (figures["accuracy"], figures["unparsed"]) == (0, 4), "this model answers in words, which are no bare letters"


@pytest.mark.parametrize(
    ("dataset", "rule", "expected"),
    [
        ("squares", "vlmkit", "unknown rule 'vlmkit' of judge; did you mean 'vlmevalkit'?"),
        ("scenes/color", "strict", "has no option 'judge'"),
    ],
)
def test_a_rule_that_a_dataset_does_not_have_is_one_line(vseam: Vseam, dataset: str, rule: str, expected: str) -> None:
    outcome = vseam("eval", "--model", "llava-tiny", "--dataset", dataset, "--judge", rule)
    assert outcome.code == 2
    assert expected in outcome.stderr
    assert outcome.stderr.strip().count("\n") == 0


def test_a_dataset_under_another_name_is_asked_in_the_words_of_its_benchmark_unless_it_says_others() -> None:
    inner = TableBenchmark(questions="squares.json")
    (own,) = {sample.instruction for sample in RegisteredBenchmark(inner, "mine").samples("all")}
    assert own == "{question}\nAnswer with the option's letter from the given choices directly."
    (other,) = {sample.instruction for sample in RegisteredBenchmark(inner, "mine", "{question} Letter:").samples("all")}
    assert other == "{question} Letter:"
