"""An image file replaced under its name: eval and run show each sample once, as it is now, and again when the file comes back."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Vseam, vseam  # noqa: F401
from vseam_core.api.types import Sample
from vseam_plugins.benchmarks.scenes.benchmark import SceneBenchmark

SIZE = 26
REGISTRY = """
datasets:
  own:
    plugin: table
    options: {questions: own.csv, images: images, level: attribute, category: color}
"""
STUDY = """
name: own
models: [llava-tiny]
datasets: [own]
stages: [evaluate, scan]
heads: [{operation: zero}]
sizes: {score: 30, hard: 30, scan_sampled: 4, scan_wrong: 2, test: 30, reference: 4}
"""


@dataclass(frozen=True)
class Own:
    """A dataset in the working directory, and the command line in front of it."""

    command: Vseam
    samples: Sequence[Sample]

    def show(self, images: Sequence[int]) -> None:
        """Put the image of sample `images[n]` under the name of image n."""
        for number, source in enumerate(images):
            file = Path(f"images/{number}.png")
            if file.exists():
                file.unlink()
            self.samples[source].image.load().save(file)

    def json(self, *arguments: str) -> dict[str, Any]:
        """What a command prints as JSON."""
        outcome = self.command(*arguments, "--json")
        assert outcome.code == 0, outcome.stderr
        data: dict[str, Any] = json.loads(outcome.stdout)
        return data

    def rows(self, sql: str, database: str) -> list[list[Any]]:
        """The rows of a query."""
        outcome = self.command("query", sql, "--db", database, "--json")
        assert outcome.code == 0, outcome.stderr
        rows: list[list[Any]] = json.loads(outcome.stdout)["rows"]
        return rows

    def evaluated(self, database: str) -> list[dict[str, Any]]:
        """The figures of `vseam eval`."""
        (found,) = self.json("eval", "--model", "llava-tiny", "--dataset", "own", "--db", database)["evaluations"]
        metrics: list[dict[str, Any]] = found["metrics"]
        return metrics


@pytest.fixture
def own(vseam: Vseam) -> Own:  # noqa: F811
    samples = list(SceneBenchmark("color").samples("test", "hard", SIZE))
    Path("images").mkdir()
    Path("registry.yaml").write_text(REGISTRY)
    Path("study.yaml").write_text(STUDY)
    with open("own.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "image", "question", "answer"])
        table.writerows([n, f"{n}.png", sample.question, sample.answer.lower()] for n, sample in enumerate(samples))
    return Own(vseam, samples)


AS_THEY_ARE = list(range(SIZE))
# Every third image is another question's.
REPLACED = [(n + 5) % SIZE if n % 3 == 0 else n for n in range(SIZE)]
ANSWERS = "SELECT samples.identifier, predicted, score FROM answers JOIN samples ON samples.id = answers.sample_id ORDER BY 1"
EVALUATIONS = "SELECT subset, metric, value, n FROM evaluations ORDER BY 1, 2, 4"


def test_an_evaluation_shows_each_question_once_and_as_it_is_now(own: Own) -> None:
    own.show(AS_THEY_ARE)
    before = own.evaluated("results.db")
    first = own.rows(ANSWERS, "results.db")
    own.show(REPLACED)
    after, fresh = own.evaluated("results.db"), own.evaluated("fresh.db")
    assert after == fresh != before
    for sql in (ANSWERS, EVALUATIONS):
        assert own.rows(sql, "results.db") == own.rows(sql, "fresh.db")
    assert len(own.rows(ANSWERS, "results.db")) == SIZE
    own.show(AS_THEY_ARE)
    (again,) = own.json("eval", "--model", "llava-tiny", "--dataset", "own")["evaluations"]
    assert (again["made"], again["reused"]) == (0, SIZE)
    assert again["metrics"] == before
    assert own.rows(ANSWERS, "results.db") == first


BASELINES = """
SELECT runs.method, samples.pool, samples.identifier, predicted, correct_strict FROM baselines
JOIN units ON units.id = baselines.unit_id JOIN runs ON runs.id = units.run_id JOIN samples ON samples.id = baselines.sample_id
ORDER BY 1, 2, 3
"""
HEADS = "SELECT layer, head, n_correct, n_wrong, ROUND(mean_correct, 4), ROUND(signed, 4) FROM head_scores ORDER BY measure, 1, 2"


def test_a_study_shows_each_question_once_and_as_it_is_now(own: Own) -> None:
    own.show(AS_THEY_ARE)
    own.json("run", "study.yaml", "--db", "results.db")
    before = own.rows(BASELINES, "results.db")
    own.show(REPLACED)
    shown = [own.json("run", "study.yaml", "--db", database) for database in ("results.db", "fresh.db")]
    now = own.rows(BASELINES, "results.db")
    baselines = [row for row in now if row[0] == "baseline"]
    assert len(baselines) == len({row[2] for row in baselines})
    assert baselines == [row for row in own.rows(BASELINES, "fresh.db") if row[0] == "baseline"]
    assert now != before
    assert own.rows(HEADS, "results.db") == own.rows(HEADS, "fresh.db")
    accuracy, wanted = ([table for table in found["tables"] if table["title"].startswith("Accuracy")] for found in shown)
    assert len(accuracy) == 1
    assert accuracy == wanted
