"""Evaluating a model: which samples, resumed, skipped, judged, compared, changed; figures against plain computations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tests.experiments.mixed import HEADS, Mixed
from vseam_core.api.types import Sample
from vseam_core.errors import UnknownNameError, UnsupportedError, VseamError
from vseam_core.evaluation.metrics import METRIC_COLUMNS
from vseam_core.experiments.answering import BaselineOptions, run_baseline
from vseam_core.experiments.evaluation import evaluate
from vseam_core.experiments.selection import Selection, selected_samples, settled
from vseam_core.runs.workspace import Workspace, open_workspace
from vseam_core.store.records import NamedRescaling
from vseam_core.store.scores import sample_set_hash
from vseam_plugins.benchmarks.scenes.benchmark import SceneBenchmark
from vseam_plugins.heads.rescaling import fold_into_weights

FACTORS = {"L0H0": 0.0, "L0H1": -1.0, "L1H2": 3.0, "L2H3": -2.0, "L3H1": 0.1, "L4H1": -1.0}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """One workspace for the tests that only add runs of their own."""
    torch.set_num_threads(1)
    with open_workspace(tmp_path_factory.mktemp("evaluation") / "results.db") as opened:
        opened._benchmarks["mixed"] = Mixed()
        yield opened


def model_answers(workspace: Workspace, samples: Sequence[Sample]) -> list[str]:
    """What the model says, one prompt at a time, without any of the code under test."""
    model = workspace.model("llava-tiny").model
    return [model.generate([model.encode(sample.image.load(), sample.question)], 16)[0] for sample in samples]


def test_answers_scores_and_figures_are_those_of_a_plain_loop(shared: Workspace) -> None:
    benchmark = shared.benchmark("mixed")
    found = evaluate(shared, "llava-tiny", "mixed")
    sound = [sample for sample in benchmark.samples("all") if sample.question_id != "007"]
    texts = model_answers(shared, sound)
    assert found.answers["identifier"].tolist() == [sample.identifier for sample in sound]
    assert found.answers["predicted"].tolist() == texts
    scores = [benchmark.score(sample, text) for sample, text in zip(sound, texts, strict=True)]
    assert 0 < np.mean(scores) < 1, "answers that are all right or all wrong prove nothing"
    assert found.value("accuracy") == pytest.approx(np.mean(scores))
    # CR2 for a mean, straight from its formula.
    images = np.array([sample.image_id for sample in sound])
    residuals = np.array(scores) - np.mean(scores)
    groups = [residuals[images == image] for image in sorted(set(images))]
    variance = sum(group.sum() ** 2 / (1 - len(group) / len(scores)) for group in groups) / len(scores) ** 2
    accuracy = found.metrics.query("metric == 'accuracy' and subset == 'all'").iloc[0]
    assert accuracy["standard_error"] == pytest.approx(np.sqrt(variance))
    assert (accuracy["n"], accuracy["clusters"]) == (29, 15)
    assert found.value("first_letters") == pytest.approx(np.mean([t[:1] == s.answer[:1] for s, t in zip(sound, texts, strict=True)]))
    assert found.value("unknowable") is None
    golds = [sample.answer.lower() for sample in sound]
    assert found.value("majority_baseline") == max(golds.count(gold) for gold in golds) / len(golds)


def test_first_tokens_are_compared_as_a_forward_pass_reads_them(shared: Workspace) -> None:
    found = evaluate(shared, "llava-tiny", "mixed")
    loaded = shared.model("llava-tiny")
    known = {sample.identifier: sample for sample in shared.benchmark("mixed").samples("all")}
    rows = found.answers[found.answers["first_token_correct"].notna()]
    assert len(rows) == 28
    for row in rows.to_dict("records"):
        sample = known[row["identifier"]]
        prompt = loaded.model.encode(sample.image.load(), sample.question)
        ids = loaded.model.answer_ids(prompt, sample.answer, sample.competitor)
        prompt = loaded.model.encode(sample.image.load(), sample.question, (), ids.prefix)
        with torch.no_grad():
            probabilities = loaded.model.module(**loaded.model.collate([prompt])).logits[0, -1].double().softmax(-1)
        gold, other = (float(probabilities[list(part)].sum()) for part in (ids.gold, ids.competitor))
        assert row["gold_probability"] == pytest.approx(gold, rel=1e-4)
        assert row["competitor_probability"] == pytest.approx(other, rel=1e-4)
        assert row["first_token_correct"] == (gold > other)
    assert found.value("first_token_accuracy") == pytest.approx(rows["first_token_correct"].mean())
    differing = (rows["first_token_correct"].astype(bool) != rows["correct"]).sum()
    assert found.value("first_token_disagreements") == differing


def test_an_answer_that_the_vocabulary_lacks_is_judged_by_its_text_alone_and_a_lost_image_is_skipped(shared: Workspace) -> None:
    found = evaluate(shared, "llava-tiny", "mixed")
    row = found.answers[found.answers["identifier"] == "mixed/004"].iloc[0]
    assert row["score"] == 0.3
    assert pd.isna(row["gold_probability"])
    assert "zebra" in row["note"]
    assert [(skip.identifier, skip.reason) for skip in found.skips] == [("mixed/007", "no image: /nowhere/7.png")]


def test_every_category_has_its_own_figures(shared: Workspace) -> None:
    found = evaluate(shared, "llava-tiny", "mixed")
    assert list(found.metrics.columns) == list(METRIC_COLUMNS)
    assert list(dict.fromkeys(found.metrics["subset"])) == ["all", "category color", "category spatial"]
    for category, rows in found.answers.groupby("category"):
        assert found.value("accuracy", f"category {category}") == pytest.approx(rows["score"].mean())


def test_a_smaller_limit_rests_on_the_answers_that_are_there(shared: Workspace) -> None:
    evaluate(shared, "llava-tiny", "mixed")
    part = evaluate(shared, "llava-tiny", "mixed", limit=0.5, offset=10)
    assert (part.made, len(part.answers)) == (0, 15)
    assert part.answers["identifier"].tolist() == [f"mixed/{number:03}" for number in range(10, 25)]
    stored = shared.store.scores("evaluations", part.run, metric="accuracy", subset="all")
    assert set(stored["n"]) == {15, 29}, "figures over other samples stand beside one another"


def test_a_named_rescaling_is_measured_as_the_folded_weights_are(shared: Workspace) -> None:
    loaded = shared.model("llava-tiny")
    info = loaded.model.info
    shared.store.name_rescaling("strong", NamedRescaling("llava-tiny", info.weights_hash, "scenes/color", FACTORS, 0))
    plain = evaluate(shared, "llava-tiny", "mixed")
    found = evaluate(shared, "llava-tiny", "mixed", rescale="strong", compare=plain.run)
    samples = [sample for sample in shared.benchmark("mixed").samples("all") if sample.question_id != "007"]
    with fold_into_weights(loaded.model, FACTORS):
        texts = model_answers(shared, samples)
        scores = loaded.engine.answers(*zip(*[_scored(loaded, s) for s in samples if s.answer != "zebra"], strict=True))
    assert found.answers["predicted"].tolist() == texts
    assert texts != plain.answers["predicted"].tolist(), "a rescaling that changes no text proves nothing"
    given = found.answers["logit_diff"].dropna().tolist()
    assert given == pytest.approx([score.logit_diff for score in scores], rel=1e-3, abs=1e-4)
    gain = found.answers["score"].mean() - plain.answers["score"].mean()
    assert found.value("gain") == pytest.approx(gain)
    assert found.change == "rescaled strong"
    assert found.run != plain.run


def _scored(loaded: Any, sample: Sample) -> tuple[Any, Any]:
    prompt = loaded.model.encode(sample.image.load(), sample.question)
    ids = loaded.model.answer_ids(prompt, sample.answer, sample.competitor)
    return loaded.model.encode(sample.image.load(), sample.question, (), ids.prefix), ids


def test_ablated_heads_are_measured_as_zeroed_weights_are(shared: Workspace) -> None:
    loaded = shared.model("llava-tiny")
    found = evaluate(shared, "llava-tiny", "mixed", ablate=HEADS)
    samples = [sample for sample in shared.benchmark("mixed").samples("all") if sample.question_id != "007"]
    plain = model_answers(shared, samples)
    with fold_into_weights(loaded.model, dict.fromkeys(HEADS, 0.0)):
        texts = model_answers(shared, samples)
    assert found.answers["predicted"].tolist() == texts != plain
    assert found.change == "zero 6 heads"


@pytest.mark.parametrize("operation", ["resample", "dataset_mean", "mean_of_others"])
def test_other_operations_give_answers_of_their_own_run(shared: Workspace, operation: str) -> None:
    found = evaluate(shared, "llava-tiny", "scenes/color", limit=6, ablate=["L4H1", "L5H3"], operation=operation)
    assert found.change == f"{operation} L4H1,L5H3"
    assert len(found.answers) + len(found.skips) == 6


def test_an_operation_that_needs_the_other_image_of_a_pair_is_refused_with_the_reason(shared: Workspace) -> None:
    with pytest.raises(UnsupportedError, match="other image of a pair"):
        evaluate(shared, "llava-tiny", "mixed", ablate=["L4H1"], operation="patch")


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"ablate": ["L9H0"]}, UnknownNameError, "head L9H0 does not exist: the decoder has layers 0 to 5"),
        ({"ablate": ["head4"]}, UnknownNameError, "'head4' names no head"),
        ({"rescale": "nobody"}, UnknownNameError, "no rescaling 'nobody'"),
        ({"rescale": "x", "ablate": ["L0H0"]}, VseamError, "one change at a time"),
        ({"pool": "score"}, VseamError, "no sample in pool score"),
        ({"split": "harder"}, UnknownNameError, "unknown split 'harder'"),
        ({"limit": 1.5}, VseamError, "between 0 and 1"),
        ({"compare": "99"}, VseamError, "no other run with answers of that number"),
    ],
)
def test_what_cannot_be_asked_for_is_said_in_one_line(
    shared: Workspace, given: dict[str, Any], error: type[VseamError], words: str
) -> None:
    with pytest.raises(error) as caught:
        evaluate(shared, "llava-tiny", "mixed", **given)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_rescaling_of_other_weights_is_refused(shared: Workspace) -> None:
    shared.store.name_rescaling("foreign", NamedRescaling("another", "f00", "scenes/color", FACTORS, 0))
    with pytest.raises(VseamError, match="fitted to other weights"):
        evaluate(shared, "llava-tiny", "mixed", rescale="foreign")


def test_runs_without_a_common_sample_cannot_be_compared(shared: Workspace) -> None:
    other = evaluate(shared, "llava-tiny", "scenes/color", limit=3)
    with pytest.raises(VseamError, match="no sample in common"):
        evaluate(shared, "llava-tiny", "mixed", compare=other.run)


def test_pair_accuracy_counts_pairs_that_are_right_on_both_images(shared: Workspace) -> None:
    found = evaluate(shared, "llava-tiny", "scenes/color", split="hard", limit=12, editor="scenes")
    clean = found.answers[found.answers["pair_role"] == "clean"].set_index("identifier")["correct"]
    corrupt = found.answers[found.answers["pair_role"] == "corrupt"]
    assert len(clean) == len(corrupt) == 12
    both = [bool(row["correct"]) and bool(clean[row["clean_identifier"]]) for row in corrupt.to_dict("records")]
    assert found.value("pair_accuracy") == pytest.approx(np.mean(both))
    model, editor = shared.model("llava-tiny").model, shared.editor("scenes")
    for sample, row in zip(shared.benchmark("scenes/color").samples("test", "hard", 12), corrupt.to_dict("records"), strict=True):
        twin = editor.edit(sample, 0).corrupt
        assert row["predicted"] == model.generate([model.encode(twin.image.load(), twin.question)], 16)[0]


def test_a_generated_dataset_is_asked_on_its_test_pool_and_a_finite_one_on_all_pools() -> None:
    scenes, mixed = SceneBenchmark("color"), Mixed()
    assert settled(Selection(), scenes) == Selection("test", "plain", 100, 0)
    assert settled(Selection(), mixed) == Selection("all", "plain", None, 0)
    with pytest.raises(VseamError, match="no end"):
        settled(Selection(limit=0.5), scenes)
    chosen = selected_samples(mixed, settled(Selection(limit=0.1, offset=3), mixed), 0)
    assert [sample.question_id for sample in chosen] == ["003", "004", "005"]
    assert [s.identifier for s in selected_samples(scenes, settled(Selection(limit=2, offset=3), scenes), 5)] == [
        sample.identifier for sample in list(scenes.samples("test", "plain", 5, 5))[3:]
    ]


def test_one_select_lists_models_benchmarks_and_figures(shared: Workspace) -> None:
    from vseam_core.store.query import run_query

    found = evaluate(shared, "llava-tiny", "mixed")
    sql = "SELECT model, dataset, metric, value, standard_error, n, clusters FROM evaluations WHERE run_id = ? AND metric = 'accuracy'"
    _, rows, _ = run_query(shared.store.label, sql.replace("?", str(found.run)) + " AND subset = 'all' ORDER BY n DESC")
    assert rows[0][:3] == ("llava-tiny", "mixed", "accuracy")
    assert rows[0][3] == pytest.approx(found.value("accuracy"))
    assert rows[0][5:] == (29, 15)
    keys = sorted(found.answers["key"].unique().tolist())
    assert len(shared.store.scores("evaluations", found.run, sample_set_hash=sample_set_hash(keys), compared_with=0)) == len(found.metrics)


def test_a_studys_answers_can_be_compared_with(shared: Workspace) -> None:
    stored = run_baseline(shared, "llava-tiny", "scenes/color", BaselineOptions("test", "hard", 12))
    found = evaluate(shared, "llava-tiny", "scenes/color", split="hard", limit=12, ablate=HEADS, compare=stored.run)
    before = shared.store.baselines(stored.run)["correct_strict"].mean()
    assert found.value("gain") == pytest.approx(found.answers["correct"].mean() - before)
    row = found.metrics[found.metrics["metric"] == "gain"].iloc[0]
    assert row["n"] == 12
