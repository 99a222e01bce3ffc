"""One bad sample never stops a run: it is skipped, counted and listed with its reason, and never scored as wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from vseam_core.api.types import Sample
from vseam_core.errors import SampleError
from vseam_core.experiments.answering import BaselineOptions, run_baseline
from vseam_core.experiments.evaluation_sets import evaluation_set
from vseam_core.experiments.tracing import TraceOptions, run_trace
from vseam_core.plugins.discovery import build_plugins
from vseam_core.plugins.hookspecs import hookimpl
from vseam_core.plugins.records import DatasetRecord
from vseam_core.runs.progress import SilentProgress
from vseam_core.runs.workspace import Workspace, open_workspace
from vseam_plugins.benchmarks.scenes.benchmark import SceneBenchmark


@dataclass(frozen=True)
class MissingImage:
    """An image that is not there."""

    def load(self) -> Image.Image:
        raise SampleError("pictures/3.png: no such file")


class BrokenBenchmark(SceneBenchmark):
    """Five questions: the second has no image, the third an empty answer, the fourth an unknown word for an answer."""

    def __init__(self) -> None:
        super().__init__("color")
        self.name = "broken"

    def samples(self, *arguments: Any, **named: Any) -> Iterator[Sample]:
        one, two, three, four, five = super().samples("test", "plain", 5)
        yield one
        yield replace(two, image=MissingImage())
        yield replace(three, answer=" ")
        yield replace(four, answer="zeppelin")
        yield five


class BrokenPlugin:
    """Supplies the broken benchmark."""

    @hookimpl
    def vseam_datasets(self) -> Iterator[DatasetRecord]:
        yield DatasetRecord(name="broken", summary="has bad samples", factory=BrokenBenchmark)


def workspace(tmp_path: Any) -> Workspace:
    return open_workspace(tmp_path / "results.db", plugins=build_plugins(local={"mine": BrokenPlugin()}))


def test_bad_samples_are_skipped_with_their_reason_and_the_others_are_answered(tmp_path: Any) -> None:
    with workspace(tmp_path) as opened:
        outcome = run_baseline(opened, "llava-tiny", "broken", BaselineOptions(limit=5))
        answers = opened.store.baselines(outcome.run)
        assert len(answers) == 2
        assert answers["correct_strict"].all()
        reasons = [skip.reason for skip in outcome.skips]
        assert len(reasons) == 3
        for said in ("no such file", "gold answer is empty", "zeppelin"):
            assert any(said in reason for reason in reasons), said


def test_a_pair_with_a_missing_image_does_not_stop_a_trace(tmp_path: Any) -> None:
    with workspace(tmp_path) as opened:
        outcome = run_trace(opened, "llava-tiny", "broken", TraceOptions("groups", limit=5))
        assert outcome.keys
        assert any("no such file" in skip.reason for skip in outcome.skips)
        assert len(outcome.keys) + len(outcome.skips) == 5


class Listening(SilentProgress):
    """Keeps what would be said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def test_what_an_evaluation_leaves_out_is_said_by_name(tmp_path: Any) -> None:
    with workspace(tmp_path) as opened:
        opened.progress = listening = Listening()
        loaded, benchmark = opened.model("llava-tiny"), opened.benchmark("broken")
        samples = evaluation_set(opened, loaded, benchmark, "test", "plain", 5, None)
        again = evaluation_set(opened, loaded, benchmark, "test", "plain", 5, None)
    assert again is samples
    assert len(samples.clean) == 2
    (said,) = listening.said
    assert all(name in said for name, _ in samples.left_out)
    assert "pictures/3.png: no such file" in said
