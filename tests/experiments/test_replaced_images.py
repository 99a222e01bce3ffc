"""An image that is replaced under its name: what users ask afterwards shows each question once, as it is now."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from vseam_core.api.interfaces import Benchmark
from vseam_core.api.types import PoolChoice, Sample
from vseam_core.experiments.answering import BaselineOptions, run_baseline
from vseam_core.experiments.evaluation import evaluate
from vseam_core.runs.workspace import Workspace, open_workspace
from vseam_core.store.query import run_query
from vseam_plugins.benchmarks.scenes.benchmark import SceneBenchmark

PAGE = (Path(__file__).parents[2] / "docs" / "sql.md").read_text(encoding="utf-8")
RECIPES = re.findall(r"```sql\n(.*?)```", PAGE, flags=re.DOTALL)


@dataclass(frozen=True)
class Held:
    """An image in memory."""

    image: Any

    def load(self) -> Image.Image:
        return self.image


class Replaced(Benchmark):
    """Sixteen questions whose images can be replaced while their names stay."""

    name, level, category = "replaced", "attribute", "replaced"

    def __init__(self) -> None:
        samples = list(SceneBenchmark("color").samples("test", "plain", 16))
        self.asked = [
            replace(sample, identifier=f"replaced/{number}", dataset="replaced", image=Held(sample.image.load()))
            for number, sample in enumerate(samples)
        ]

    def samples(self, pool: PoolChoice, split: str = "plain", limit: int | None = None, seed: int = 0) -> Iterator[Sample]:
        yield from self.asked[:limit]

    def judge(self, sample: Sample, answer: str) -> bool:
        return answer.strip().lower() == sample.answer.lower()

    def replace_images(self) -> None:
        """The first six questions are asked about the image of the next one."""
        others = [self.asked[(number + 1) % 16].image for number in range(6)]
        self.asked[:6] = [replace(sample, image=image) for sample, image in zip(self.asked, others, strict=False)]


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    torch.set_num_threads(1)
    with open_workspace(tmp_path / "results.db") as opened:
        opened._benchmarks["replaced"] = Replaced()
        yield opened


def accuracy_of_a_plain_loop(workspace: Workspace, samples: Sequence[Sample]) -> float:
    model = workspace.model("llava-tiny").model
    texts = [model.generate([model.encode(sample.image.load(), sample.question)], 16)[0] for sample in samples]
    return sum(text.strip().lower() == sample.answer.lower() for text, sample in zip(texts, samples, strict=True)) / len(samples)


def rows(workspace: Workspace, sql: str) -> list[dict[str, Any]]:
    columns, found, _ = run_query(workspace.store.label, sql)
    return [dict(zip(columns, row, strict=True)) for row in found]


def recipe(word: str) -> str:
    (found,) = [sql for sql in RECIPES if word in sql]
    return found


def test_an_evaluation_shows_each_question_once_and_the_present_figure(workspace: Workspace) -> None:
    benchmark: Any = workspace.benchmark("replaced")
    before = list(benchmark.asked)
    first = evaluate(workspace, "llava-tiny", "replaced")
    benchmark.replace_images()
    second = evaluate(workspace, "llava-tiny", "replaced")
    expected = accuracy_of_a_plain_loop(workspace, benchmark.asked)
    assert (first.run, second.made) == (second.run, 6)
    assert first.value("accuracy") == accuracy_of_a_plain_loop(workspace, before) != expected
    assert rows(workspace, "SELECT COUNT(*) AS n, COUNT(DISTINCT sample_id) AS samples FROM answers") == [{"n": 16, "samples": 16}]
    assert rows(workspace, "SELECT AVG(correct) AS accuracy FROM latest_answers") == [{"accuracy": expected}]
    asked = "SELECT subset, metric, value FROM evaluations"
    for sql in (asked, recipe("compared_with = 0")):
        values = [row["value"] for row in rows(workspace, sql) if (row["metric"], row["subset"]) == ("accuracy", "all")]
        assert values == [expected]
    benchmark.asked[:] = before
    third = evaluate(workspace, "llava-tiny", "replaced")
    assert (third.made, third.value("accuracy")) == (0, first.value("accuracy"))
    assert rows(workspace, "SELECT AVG(correct) AS accuracy FROM answers") == [{"accuracy": first.value("accuracy")}]


def test_a_figure_over_images_that_were_replaced_is_not_shown_until_it_is_computed_again(workspace: Workspace) -> None:
    benchmark: Any = workspace.benchmark("replaced")
    evaluate(workspace, "llava-tiny", "replaced")
    benchmark.replace_images()
    part = evaluate(workspace, "llava-tiny", "replaced", limit=8)
    shown = rows(workspace, "SELECT n, value FROM latest_evaluations WHERE metric = 'accuracy' AND subset = 'all'")
    assert shown == [{"n": 8, "value": part.value("accuracy")}]


def test_the_accuracy_recipe_gives_the_present_value_of_a_studys_answers(workspace: Workspace) -> None:
    benchmark: Any = workspace.benchmark("replaced")
    for _ in range(2):
        run_baseline(workspace, "llava-tiny", "replaced", BaselineOptions())
        benchmark.replace_images()
    run_baseline(workspace, "llava-tiny", "replaced", BaselineOptions())
    (row,) = rows(workspace, recipe("FROM latest_baselines"))
    assert (row["n"], row["accuracy"]) == (16, accuracy_of_a_plain_loop(workspace, benchmark.asked))
