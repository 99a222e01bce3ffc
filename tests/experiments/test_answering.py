"""Each question is encoded and asked once, whatever the roles it plays, and judged by the rule as it is now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.cli.conftest import Vseam, vseam  # noqa: F401
from tests.experiments.conftest import small_study
from vseam_core.analysis.frames import frame_records
from vseam_core.api.types import Sample
from vseam_core.config.study import HeadScan, Method, Sizes
from vseam_core.datasets.images import FileImage
from vseam_core.engine import selfcheck
from vseam_core.experiments.answering import BaselineOptions, run_baseline
from vseam_core.experiments.encoding import NO_COMPETITOR, ask, competitors_of, prepare
from vseam_core.experiments.evaluation import evaluate
from vseam_core.experiments.study.run import run_study
from vseam_core.plugins.discovery import build_plugins
from vseam_core.plugins.hookspecs import hookimpl
from vseam_core.plugins.records import DatasetRecord
from vseam_core.runs.identity import image_digest
from vseam_core.runs.workspace import Workspace, open_workspace
from vseam_plugins.benchmarks.scenes.benchmark import SceneBenchmark
from vseam_plugins.models.hf import HuggingFaceModel

Encoded = Counter[tuple[str, str, tuple[int, ...]]]


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> Encoded:
    """How often each (image, question, answer prefix) was encoded."""
    counts: Encoded = Counter()
    whole = HuggingFaceModel._encode

    def counting(self: Any, template: Any, image: Any, question: str, roles: Any, prefix: Sequence[int]) -> Any:
        counts[image_digest(image), question, tuple(prefix)] += 1
        return whole(self, template, image, question, roles, prefix)

    check = selfcheck.checked_engine

    def uncounted(*given: Any) -> Any:
        # What the check of a model encodes when it is loaded is no question of a dataset.
        before = Counter(counts)
        try:
            return check(*given)
        finally:
            counts.clear()
            counts.update(before)

    monkeypatch.setattr(HuggingFaceModel, "_encode", counting)
    monkeypatch.setattr(selfcheck, "checked_engine", uncounted)
    return counts


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    torch.set_num_threads(1)
    with open_workspace(tmp_path / "results.db", device="cpu") as opened:
        yield opened


def test_a_head_scan_encodes_each_question_once(vseam: Vseam, encoded: Encoded) -> None:  # noqa: F811
    outcome = vseam("heads", "scan", "--model", "llava-tiny", "--dataset", "scenes/color", "--limit", "6", "--device", "cpu")
    assert outcome.code == 0, outcome.stderr
    # 12 questions that are answered, and those of the reference set that are not among them.
    assert 12 < encoded.total() <= 40
    assert set(encoded.values()) == {1}


def test_an_evaluation_encodes_each_question_once_on_each_of_its_images(workspace: Workspace, encoded: Encoded) -> None:
    evaluate(workspace, "llava-tiny", "scenes/color", limit=10, editor="scenes")
    assert (encoded.total(), set(encoded.values())) == (20, {1})


def test_what_a_model_keeps_is_bounded_and_a_prompt_that_was_dropped_is_encoded_again(workspace: Workspace, encoded: Encoded) -> None:
    loaded = workspace.model("llava-tiny")
    samples = list(workspace.benchmark("scenes/color").samples("test", "plain", 4))
    prepared = [prepare(loaded, sample) for sample in samples]
    size = sum(value.nbytes for value in prepared[0].prompt.inputs.values())
    small = replace(loaded, prompts=type(loaded.prompts)(2 * size))
    encoded.clear()
    for sample in (*samples, samples[-1], samples[0]):
        assert prepare(small, sample).prompt.key == prepare(loaded, sample).prompt.key
    assert sorted(encoded.values()) == [1, 1, 1, 2]
    assert len(small.prompts) == 2


def asked_questions(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of the prompts that a model is asked from now on."""
    engine = workspace.model("llava-tiny").engine
    whole, keys = engine.respond, []  # type: ignore[var-annotated]

    def recording(questions: Any, *rest: Any) -> Any:
        keys.extend(question.prompt.key for question in questions)
        return whole(questions, *rest)

    monkeypatch.setattr(engine, "respond", recording)
    return keys


def test_a_scan_and_a_trace_store_answers_without_asking_again(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = asked_questions(workspace, monkeypatch)
    sizes = Sizes(pairs=3, score=12, hard=4, scan_sampled=10, scan_wrong=2, reference=4, test=4)
    study = small_study(
        stages=["evaluate", "trace", "scan"],
        datasets=["scenes/color"],
        tracers=[Method(name="groups")],
        heads=[HeadScan(operation="zero"), HeadScan(operation="mean_of_others")],
        sizes=sizes,
        random_models=0,
    )
    run_study(workspace, study)
    assert len(asked) == len(set(asked))
    store = workspace.store
    rows = store.baselines(method=["baseline", "trace", "head_scan"])
    assert set(rows["method"]) == {"baseline", "trace", "head_scan"}
    # One sample has one answer, whoever stored it.
    values = rows.groupby("identifier")[["predicted", "answer_prob", "sequence_logprob"]].nunique()
    assert (values == 1).all().all()


class Rule(SceneBenchmark):
    """Scenes whose rule can be another one: right is what the model says, or what it does not say."""

    name: str
    strict = True

    def __init__(self) -> None:
        super().__init__("color")
        self.name = "ruled"

    def judge(self, sample: Sample, answer: str) -> bool:
        right = super().judge(sample, answer)
        return right if self.strict else not right


class RulePlugin:
    """Supplies the benchmark."""

    @hookimpl
    def vseam_datasets(self) -> Iterator[DatasetRecord]:
        yield DatasetRecord(name="ruled", summary="has a rule that changes", factory=Rule)


def ruled_study(database: Path) -> tuple[Any, dict[str, Any]]:
    """A study on the database as it is: its results, and the stored verdicts by method."""
    sizes = Sizes(pairs=3, score=14, hard=4, scan_sampled=6, scan_wrong=4, reference=4, test=6)
    study = small_study(
        stages=["evaluate", "trace", "scan"],
        datasets=["ruled"],
        tracers=[Method(name="groups")],
        heads=[HeadScan(operation="zero")],
        sizes=sizes,
        random_models=0,
    )
    with open_workspace(database, plugins=build_plugins(local={"mine": RulePlugin()}), device="cpu") as opened:
        found = run_study(opened, study)
        frame = opened.store.baselines()
        verdicts = {str(method): rows for method, rows in frame.groupby("method")}
        return found, verdicts


@pytest.fixture(scope="module")
def ruled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, dict[str, Any]]]:
    """A study by one rule, the same database by another rule, and a fresh database by that other rule."""
    folder = tmp_path_factory.mktemp("ruled")
    found = {"before": ruled_study(folder / "results.db")}
    Rule.strict = False
    try:
        found["after"] = ruled_study(folder / "results.db")
        found["fresh"] = ruled_study(folder / "fresh.db")
    finally:
        Rule.strict = True
    return found


def test_a_corrected_rule_judges_the_stored_answers_of_a_study_again(ruled: dict[str, tuple[Any, dict[str, Any]]]) -> None:
    accuracy = {name: {row["split"]: row for row in frame_records(found.accuracy)} for name, (found, _) in ruled.items()}
    for split in ("plain", "hard"):
        old, new, wanted = (accuracy[name][split] for name in ("before", "after", "fresh"))
        assert new["accuracy"] == pytest.approx(1 - old["accuracy"])
        for name in ("n", "accuracy", "standard_error", "pair_accuracy", "n_pairs"):
            assert new[name] == pytest.approx(wanted[name]), name
    verdicts = {
        name: {method: rows.set_index(["identifier", "pair_role"])["correct_strict"] for method, rows in by_method.items()}
        for name, (_, by_method) in ruled.items()
    }
    for method, wanted_rows in verdicts["fresh"].items():
        assert verdicts["after"][method].loc[wanted_rows.index].tolist() == wanted_rows.tolist(), method
    before, after = verdicts["before"]["trace"], verdicts["after"]["trace"]
    assert (before != after.loc[before.index]).all()


def test_a_corrected_rule_divides_a_scan_into_right_and_wrong_as_a_fresh_scan_does(ruled: dict[str, tuple[Any, dict[str, Any]]]) -> None:
    ours, wanted = (ruled[name][0].heads[0].claims.frame for name in ("after", "fresh"))
    assert ours["n_correct"].tolist() == wanted["n_correct"].tolist()
    for name in ("signed", "mean_correct", "mean_wrong"):
        np.testing.assert_allclose(ours[name].to_numpy(float), wanted[name].to_numpy(float), atol=1e-5, err_msg=name)


def test_an_image_replaced_under_its_name_is_encoded_again_by_the_same_model(workspace: Workspace, tmp_path: Path) -> None:
    loaded = workspace.model("llava-tiny")
    first, second = list(workspace.benchmark("scenes/color").samples("test", "plain", 2))
    file = tmp_path / "image.png"
    first.image.load().save(file)
    sample = replace(first, image=FileImage(file))
    before = prepare(loaded, sample)
    assert before.prompt.key == prepare(loaded, first).prompt.key
    assert prepare(loaded, sample).prompt is before.prompt
    second.image.load().save(file)
    after = prepare(loaded, sample)
    assert after.prompt.key == prepare(loaded, replace(second, question=first.question, roles=first.roles)).prompt.key
    assert after.prompt.key != before.prompt.key


class Anonymous:
    """An image that cannot say what it is without being looked at."""

    def __init__(self, grey: int) -> None:
        self.grey = grey

    def load(self) -> Image.Image:
        return Image.new("RGB", (120, 120), (self.grey, self.grey, self.grey))


def test_an_image_that_has_no_stamp_is_known_by_its_pixels(workspace: Workspace, encoded: Encoded) -> None:
    loaded = workspace.model("llava-tiny")
    encoded.clear()
    one = replace(next(workspace.benchmark("scenes/color").samples("test")), image=Anonymous(10))
    keys = [prepare(loaded, replace(one, image=Anonymous(grey))).prompt.key for grey in (10, 10, 20)]
    assert keys[0] == keys[1] != keys[2]
    assert encoded.total() == 2


def test_yes_no_questions_are_held_against_the_other_word_and_open_ones_need_a_competitor(workspace: Workspace) -> None:
    loaded = workspace.model("llava-tiny")
    sample = replace(next(workspace.benchmark("scenes/color").samples("test")), answer="yes", competitor=None)
    assert competitors_of(sample) == ("No",)
    assert ask(loaded, sample).answer.competitor == prepare(loaded, replace(sample, competitor="No")).answer.competitor
    alone = ask(loaded, replace(sample, form="open"))
    assert alone.answer.gold
    assert (alone.answer.competitor, alone.note) == ((), NO_COMPETITOR)


def test_a_baseline_is_what_plain_passes_of_the_model_give(workspace: Workspace) -> None:
    outcome = run_baseline(workspace, "llava-tiny", "scenes/color", BaselineOptions("test", "hard", 12, "scenes"))
    rows = workspace.store.baselines(outcome.run)
    loaded, editor = workspace.model("llava-tiny"), workspace.editor("scenes")
    checked = 0
    for sample in workspace.benchmark("scenes/color").samples("test", "hard", 12):
        edited, control = editor.edit(sample, 0).corrupt, editor.control(sample, 0)
        assert control is not None
        for one, role in ((sample, "clean"), (edited, "corrupt"), (control.corrupt, "control")):
            (row,) = rows[(rows["identifier"] == one.identifier) & (rows["pair_role"] == role)].to_dict("records")
            prompt = loaded.model.encode(one.image.load(), one.question)
            ids = loaded.model.answer_ids(prompt, one.answer, one.competitor)
            with torch.no_grad():
                logits = loaded.model.module(**loaded.model.collate([prompt])).logits[0, -1].double()
            log_probabilities = logits.log_softmax(-1)
            gold, other = (float(log_probabilities[list(part)].logsumexp(0)) for part in (ids.gold, ids.competitor))
            (token,) = ids.published
            assert row["predicted"] == loaded.model.generate([prompt], 16)[0]
            assert row["logit_diff"] == pytest.approx(gold - other, abs=1e-4)
            assert row["answer_prob"] == row["prob_sum"] == pytest.approx(float(log_probabilities[token].exp()), abs=1e-5)
            assert row["logit"] == pytest.approx(float(logits[token]), abs=1e-4)
            assert row["sequence_logprob"] == pytest.approx(float(log_probabilities[token]), abs=1e-4)
            assert row["correct_published"] == (int(logits.argmax()) in ids.published)
            assert row["correct_strict"] == (row["predicted"].lower() == one.answer.lower())
            checked += 1
    assert checked == len(rows) == 36
