from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from vseam_core.analysis.frames import frame_records
from vseam_core.analysis.statistics import clustered_mean
from vseam_core.api.interfaces import Benchmark
from vseam_core.api.types import Answered, Pair, Sample
from vseam_core.evaluation.accuracy import accuracy_estimate
from vseam_core.evaluation.metrics import Judged, metric_table
from vseam_core.evaluation.summary import SUMMARY_COLUMNS, summarise


class Plain(Benchmark):
    """Has no figures of its own."""

    name, level, category = "plain", "attribute", "color"

    def samples(self, *given: Any, **named: Any) -> Iterator[Sample]:
        return iter(())

    def judge(self, sample: Sample, answer: str) -> bool:
        return answer.lower() == sample.answer.lower()


class NoImage:
    def load(self) -> Any:
        raise AssertionError("nothing here needs an image")


def sample(identifier: str, answer: str, image: str, **changes: Any) -> Sample:
    settings: dict[str, Any] = {"category": "color", "split": "plain", "form": "yes_no"} | changes
    return Sample(
        identifier=identifier,
        dataset="scenes/color",
        question_id=identifier,
        image_id=image,
        image=NoImage(),
        question="Is the dog red?",
        answer=answer,
        competitor=None,
        level="attribute",
        pool="test",
        **settings,
    )


class Row(NamedTuple):
    """An answer as the store gives it back."""

    sample: Sample
    predicted: str
    role: str = ""

    @property
    def right(self) -> bool:
        return self.predicted.lower() == self.sample.answer.lower()


def baseline_frame(rows: Sequence[Row], pairs: Sequence[Pair] = ()) -> pd.DataFrame:
    clean_of = {pair.corrupt.identifier: pair.clean.identifier for pair in pairs}
    names = ("category", "split", "identifier", "image_id", "form", "answer")
    return pd.DataFrame(
        {name: getattr(row.sample, name) for name in names}
        | {"model": "tiny", "predicted": row.predicted, "pair_role": row.role, "correct": row.right, "score": float(row.right)}
        | {"clean_identifier": clean_of.get(row.sample.identifier) if row.role == "corrupt" else None}
        for row in rows
    )


def answers(seed: int, images: int = 40, per_image: int = 3, accuracy: float = 0.8, **changes: Any) -> list[Row]:
    random = np.random.default_rng(seed)
    rows = []
    for index in range(images * per_image):
        gold = "Yes" if random.random() < 0.6 else "No"
        said = gold if random.random() < accuracy else {"Yes": "No", "No": "Yes"}[gold]
        rows.append(Row(sample(f"{changes}/{index}", gold, f"image-{index // per_image}", **changes), said))
    return rows


def test_each_group_has_its_accuracy_with_the_clustered_error_and_the_yes_metrics() -> None:
    rows = answers(0) + answers(1, accuracy=0.6, split="hard")
    frame = summarise(baseline_frame(rows))
    assert list(frame.columns) == ["model", "category", "split", *SUMMARY_COLUMNS]
    for row in frame_records(frame):
        part = [entry for entry in rows if entry.sample.split == row["split"]]
        right = [entry.predicted == entry.sample.answer for entry in part]
        estimate = clustered_mean(np.array(right, dtype=float), [entry.sample.image_id for entry in part])
        assert (row["n"], row["clusters"], row["model"], row["category"]) == (120, 40, "tiny", "color")
        assert [row[name] for name in ("accuracy", "standard_error", "low", "high")] == pytest.approx(
            [estimate.mean, estimate.standard_error, estimate.low, estimate.high]
        )
        hits = sum(entry.predicted == "Yes" == entry.sample.answer for entry in part)
        said, gold = (sum(text == "Yes" for text in texts) for texts in zip(*[(e.predicted, e.sample.answer) for e in part], strict=True))
        assert row["precision"] == pytest.approx(hits / said)
        assert row["recall"] == pytest.approx(hits / gold)
        assert row["f1"] == pytest.approx(2 / (said / hits + gold / hits))
        assert row["yes_ratio"] == pytest.approx(said / 120)
        assert row["gold_yes_ratio"] == pytest.approx(gold / 120)
        assert (row["majority_answer"], row["majority_baseline"]) == ("Yes", pytest.approx(gold / 120))


def test_precision_recall_and_f1_equal_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rows = answers(2)
    (row,) = frame_records(summarise(baseline_frame(rows)))
    gold, said = [e.sample.answer for e in rows], [e.predicted for e in rows]
    expected = metrics.precision_recall_fscore_support(gold, said, pos_label="Yes", average="binary")
    assert (row["precision"], row["recall"], row["f1"]) == pytest.approx(expected[:3])


def paired_rows() -> tuple[list[Row], list[Pair]]:
    """20 pairs: clean always right; corrupt right in 8 of them, in the others still the clean answer."""
    rows, pairs = [], []
    for index in range(20):
        clean = sample(f"q{index}", "Yes", f"image-{index}")
        corrupt = sample(f"q{index}/edit", "No", f"image-{index}")
        control = sample(f"q{index}/control", "Yes", f"image-{index}")
        pairs.append(Pair(clean, corrupt, (), "scenes", "red", "blue"))
        pairs.append(Pair(clean, control, (), "scenes", "red", "blue", kind="control"))
        rows += [Row(clean, "Yes", "clean"), Row(corrupt, "No" if index < 8 else "Yes", "corrupt")]
        rows.append(Row(control, "No", "control"))
    return rows, pairs


def test_pair_accuracy_counts_pairs_right_on_both_images_and_is_not_fooled_by_always_yes() -> None:
    rows, pairs = paired_rows()
    (row,) = frame_records(summarise(baseline_frame(rows, pairs)))
    assert (row["n"], row["accuracy"], row["majority_baseline"], row["yes_ratio"]) == (20, 1.0, 1.0, 1.0)
    assert (row["n_pairs"], row["pair_accuracy"]) == (20, 0.4)
    assert row["pair_low"] < 0.4 < row["pair_high"]


def test_a_pair_is_wrong_when_either_of_its_answers_is() -> None:
    rows, pairs = paired_rows()
    rows[0] = Row(rows[0].sample, "No", "clean")
    (row,) = frame_records(summarise(baseline_frame(rows, pairs)))
    assert (row["accuracy"], row["pair_accuracy"]) == (19 / 20, 7 / 20)


def test_pairs_without_their_clean_answer_are_left_out() -> None:
    rows, pairs = paired_rows()
    (row,) = frame_records(summarise(baseline_frame(rows[3:], pairs)))
    assert (row["n"], row["n_pairs"]) == (19, 19)
    (row,) = frame_records(summarise(baseline_frame(rows)))
    assert (row["n_pairs"], row["pair_accuracy"]) == (0, None)


def test_a_sample_answered_alone_and_as_the_clean_image_of_a_pair_counts_once() -> None:
    rows, pairs = paired_rows()
    alone = [Row(row.sample, row.predicted) for row in rows if row.role == "clean"]
    (row,) = frame_records(summarise(baseline_frame(rows + alone, pairs)))
    assert (row["n"], row["n_pairs"]) == (20, 20)


def test_yes_is_recognised_in_any_case_and_with_a_full_stop() -> None:
    rows = [Row(sample(str(index), "Yes", str(index)), text) for index, text in enumerate(["yes", "YES.", " Yes ", "yesterday"])]
    (row,) = frame_records(summarise(baseline_frame(rows)))
    assert row["yes_ratio"] == 0.75


def test_nothing_divided_by_gives_null_and_open_questions_have_no_yes_metrics() -> None:
    never = [Row(sample(str(index), "No", str(index)), "No") for index in range(12)]
    (row,) = frame_records(summarise(baseline_frame(never)))
    assert (row["precision"], row["recall"], row["f1"], row["yes_ratio"]) == (None, None, None, 0.0)
    open_questions = [Row(sample(str(index), "red", str(index), form="open"), "red") for index in range(12)]
    (row,) = frame_records(summarise(baseline_frame(open_questions)))
    assert (row["yes_ratio"], row["gold_yes_ratio"], row["majority_answer"]) == (None, None, "red")


def test_a_perfect_score_gets_an_exact_interval_instead_of_none_at_all() -> None:
    estimate = accuracy_estimate([True] * 60, np.arange(60) // 2)
    assert estimate.mean == estimate.high == 1.0
    # Clopper-Pearson for 30 of 30 images: 0.025^(1/30).
    assert estimate.low == pytest.approx(0.025 ** (1 / 30))
    assert estimate.reason == "all right: exact binomial interval over 30 images"


def test_intervals_stay_between_zero_and_one() -> None:
    estimate = accuracy_estimate([True] * 29 + [False], np.arange(30))
    assert estimate.high == 1.0
    assert estimate.low is not None
    assert 0.85 < estimate.low < 29 / 30


def test_accuracy_intervals_cover_the_true_accuracy_in_about_95_of_100_cases() -> None:
    # 1,000 runs of 60 images with two alike questions each: three standard errors of the coverage are 2 %, and a t interval of a
    # proportion is known to be up to 1 % short here.
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        easy = np.repeat(random.random(60) < 0.5, 2)
        estimate = accuracy_estimate(random.random(120) < np.where(easy, 0.95, 0.65), np.arange(120) // 2)
        assert estimate.low is not None
        assert estimate.high is not None
        covered += estimate.low <= 0.8 <= estimate.high
    assert 0.92 <= covered / 1000 <= 0.975


def test_groups_other_than_the_usual_can_be_asked_for() -> None:
    frame = baseline_frame(answers(7) + answers(8, category="animal"))
    assert summarise(frame, by=("model",))["n"].tolist() == [240]
    assert summarise(frame, by=("category",))["category"].tolist() == ["color", "animal"]


def test_answers_without_a_verdict_raise() -> None:
    for column in ("correct", "score"):
        holes = baseline_frame(answers(9)).astype(object)
        holes.loc[3, column] = None
        with pytest.raises(ValueError, match=f"'{column}' has nulls"):
            summarise(holes)


def test_accuracy_is_the_mean_of_what_the_official_rule_gives_and_pairs_are_right_or_wrong() -> None:
    rows, pairs = paired_rows()
    frame = baseline_frame(rows, pairs)
    frame["score"] = np.where(frame["pair_role"] == "clean", 0.3, 1.0)
    (row,) = frame_records(summarise(frame))
    assert (row["accuracy"], row["pair_accuracy"]) == (pytest.approx(0.3), 0.4)


def test_one_summary_says_what_an_evaluation_of_each_group_says() -> None:
    rows = answers(10) + answers(11, accuracy=0.6, split="hard")
    frame = baseline_frame(rows).assign(first_token_correct=None)
    summary = {row["split"]: row for row in frame_records(summarise(frame))}
    for split, part in frame.groupby("split"):
        asked = [Answered(row.sample, row.predicted) for row in rows if row.sample.split == split]
        metrics = metric_table(Judged(part, asked, part.iloc[:0]), Plain(), seed=0)
        figures = {row["metric"]: row for row in frame_records(metrics)}
        for name in ("accuracy", "yes_ratio", "gold_yes_ratio", "majority_baseline", "precision", "recall", "f1"):
            assert summary[str(split)][name] == figures[name]["value"], name
        for name in ("standard_error", "low", "high", "n", "clusters"):
            assert summary[str(split)][name] == figures["accuracy"][name], name
