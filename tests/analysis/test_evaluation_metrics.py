"""Figures of an evaluation against hand counts, scikit-learn, and a bootstrap written as plainly as it can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import precision_recall_fscore_support

from vseam_core.analysis.bootstrap import resampling_weights
from vseam_core.analysis.statistics import cluster_sign_flip, clustered_difference, generator
from vseam_core.api.interfaces import Benchmark
from vseam_core.api.types import Answered, Sample
from vseam_core.evaluation.metrics import DRAWS, Judged, comparison_table, metric_table

IMAGES = 20


class Rule(Benchmark):
    """Exact match, with no figures of its own unless a function gives them."""

    name, level, category = "rule", "object", "rule"

    def __init__(self, figures: Any = None) -> None:
        self._figures = figures

    def samples(self, pool: Any, split: str = "plain", limit: int | None = None, seed: int = 0) -> Any:
        raise AssertionError("figures ask for no samples")

    def judge(self, sample: Sample, answer: str) -> bool:
        return answer.lower() == sample.answer.lower()

    def metrics(self, answered: Sequence[Answered]) -> Mapping[str, float | None]:
        return self._figures(answered) if self._figures else {}


def judged(golds: Sequence[str], said: Sequence[str], images: Sequence[str], form: str = "yes_no", category: str = "c") -> Judged:
    samples = [
        Sample(f"r/{i}", "rule", str(i), image, None, "q", gold, None, "object", category, "test", form=form)  # type: ignore[arg-type]
        for i, (gold, image) in enumerate(zip(golds, images, strict=True))
    ]
    rows = [
        {
            **{name: getattr(sample, name) for name in ("identifier", "image_id", "category", "form", "answer")},
            **{"predicted": text, "correct": text.lower() == sample.answer.lower()},
            **{"score": float(text.lower() == sample.answer.lower()), "first_token_correct": None, "clean_identifier": None},
        }
        for sample, text in zip(samples, said, strict=True)
    ]
    frame = pd.DataFrame(rows)
    return Judged(frame, [Answered(sample, text) for sample, text in zip(samples, said, strict=True)], frame.iloc[:0])


def noisy(seed: int = 0, n: int = 120) -> Judged:
    """Yes/no answers, right three times in four, six questions to an image of uneven difficulty."""
    random = np.random.default_rng(seed)
    golds = random.choice(["yes", "no"], n)
    images = [str(index * IMAGES // n) for index in range(n)]
    wrong = random.random(n) < np.array([0.05 + 0.02 * int(image) for image in images])
    flip = {"yes": "No", "no": "Yes"}
    said = [flip[gold] if bad else gold.capitalize() for gold, bad in zip(golds, wrong, strict=True)]
    return judged(list(golds), said, images)


def rows_of(table: pd.DataFrame, subset: str = "all") -> dict[str, dict[str, Any]]:
    return {row["metric"]: row for row in table[table["subset"] == subset].to_dict("records")}


def test_ratios_of_yes_are_scikit_learns() -> None:
    sample = noisy()
    found = rows_of(metric_table(sample, Rule(), 0))
    gold, said = sample.questions["answer"] == "yes", sample.questions["predicted"] == "Yes"
    precision, recall, f1, _ = precision_recall_fscore_support(gold, said, average="binary")
    assert [found[name]["value"] for name in ("precision", "recall", "f1")] == pytest.approx([precision, recall, f1])
    assert found["yes_ratio"]["value"] == pytest.approx(said.mean())
    assert found["gold_yes_ratio"]["value"] == pytest.approx(gold.mean())
    assert found["accuracy"]["value"] == pytest.approx((gold == said).mean())
    assert found["majority_baseline"]["value"] == pytest.approx(max(gold.mean(), 1 - gold.mean()))


def slow_bootstrap(sample: Judged, purpose: str) -> list[float]:
    """F1 of the same draws, each gathered image by image and counted answer by answer."""
    by_image: dict[str, list[Answered]] = {}
    for each in sample.answered:
        by_image.setdefault(each.sample.image_id, []).append(each)
    names = sorted(by_image)
    values = []
    for weights in resampling_weights(generator(3, purpose), len(names), DRAWS):
        values.append(
            f1_of([each for name, times in zip(names, weights, strict=True) for _ in range(int(times)) for each in by_image[name]])
        )
    return values


def f1_of(answered: Sequence[Answered]) -> float:
    said = [each.text == "Yes" for each in answered]
    gold = [each.sample.answer == "yes" for each in answered]
    hits = sum(a and b for a, b in zip(said, gold, strict=True))
    precision, recall = hits / sum(said), hits / sum(gold)
    return 2 * precision * recall / (precision + recall)


def test_the_interval_of_f1_is_that_of_a_plain_bootstrap_over_images() -> None:
    sample = noisy()
    found = rows_of(metric_table(sample, Rule(), 3))["f1"]
    values = slow_bootstrap(sample, "yes and no")
    assert (found["low"], found["high"]) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))
    assert found["standard_error"] == pytest.approx(np.std(values, ddof=1))
    assert found["low"] < found["value"] < found["high"]


def test_an_official_figure_is_bootstrapped_over_the_same_whole_images() -> None:
    sample = noisy(n=60)
    found = rows_of(metric_table(sample, Rule(lambda answered: {"f1": f1_of(answered)}), 3))["f1"]
    values = slow_bootstrap(sample, "official figures")
    assert (found["low"], found["high"]) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))
    assert found["interval"] == f"cluster bootstrap, {DRAWS} draws"


def test_a_image_that_is_drawn_twice_counts_as_two_images() -> None:
    seen: list[tuple[int, int, int]] = []

    def pictures(answered: Sequence[Answered]) -> Mapping[str, float | None]:
        by_image: dict[str, list[bool]] = {}
        for each in answered:
            by_image.setdefault(each.sample.image_id, []).append(each.text.lower() == each.sample.answer)
        seen.append((len(by_image), len({each.sample.identifier for each in answered}), len(answered)))
        return {"both_right": sum(map(all, by_image.values())) / len(by_image)}

    sample = noisy(n=2 * IMAGES)
    found = rows_of(metric_table(sample, Rule(pictures), 0))["both_right"]
    assert seen == [(IMAGES, 2 * IMAGES, 2 * IMAGES)] * len(seen)
    assert len(seen) > DRAWS
    right = sample.questions.groupby("image_id")["correct"].all().to_numpy(dtype=float)
    assert found["value"] == pytest.approx(right.mean())
    # A share of images has the binomial's spread.
    assert found["standard_error"] == pytest.approx(np.sqrt(right.mean() * (1 - right.mean()) / IMAGES), rel=0.1)


def test_an_official_figure_stands_in_the_place_of_our_own_of_that_name() -> None:
    found = metric_table(noisy(), Rule(lambda answered: {"yes_ratio": 0.25, "unparsed": 7.0}), 0)
    names = found["metric"].tolist()
    assert len(names) == len(set(names))
    assert rows_of(found)["yes_ratio"]["value"] == 0.25
    assert rows_of(found)["unparsed"]["value"] == 7.0


def test_what_cannot_be_known_is_null_with_its_reason_and_nan_is_never_a_figure() -> None:
    few = judged(["yes", "no"] * 4, ["Yes"] * 8, [str(index // 2) for index in range(8)])
    rows = rows_of(metric_table(few, Rule(lambda answered: {"broken": float("nan"), "unknown": None}), 0))
    assert "at least 10 needed" in rows["f1"]["reason"]
    assert "at least 10 needed" in rows["accuracy"]["reason"]
    for name in ("broken", "unknown"):
        assert pd.isna(rows[name]["value"])
        assert rows[name]["reason"] == "these answers do not determine it"
    never = judged(["no"] * 20, ["No"] * 20, [str(index) for index in range(20)])
    rows = rows_of(metric_table(never, Rule(), 0))
    assert pd.isna(rows["recall"]["value"])
    assert (rows["accuracy"]["low"], rows["accuracy"]["high"]) == (pytest.approx(0.025 ** (1 / 20)), 1.0)


def test_answers_that_are_neither_yes_nor_no_are_counted() -> None:
    said = ["Yes", "no.", "maybe", "", "YES!", "nothing"]
    rows = rows_of(metric_table(judged(["yes"] * 6, said, list("abcdef")), Rule(), 0))
    assert rows["unparsed"]["value"] == 3
    rows = rows_of(metric_table(judged(["red"] * 3, ["red", "", "blue"], list("abc"), form="open"), Rule(), 0))
    assert rows["unparsed"]["value"] == 1
    assert "yes_ratio" not in rows


def test_a_gain_is_clustered_and_tested_on_the_samples_that_both_runs_have() -> None:
    random = np.random.default_rng(0)
    names = [f"s{index}" for index in range(60)]
    images = [str(index // 3) for index in range(60)]
    before = pd.DataFrame({"identifier": names[:50], "image_id": images[:50], "score": random.integers(0, 2, 50).astype(float)})
    after = pd.DataFrame({"identifier": names[5:], "image_id": images[5:], "score": random.choice([0, 0.3, 1.0], 55)})
    rows = rows_of(comparison_table(before, after, seed=0))
    first, second, clusters = before["score"].to_numpy()[5:], after["score"].to_numpy()[:45], images[5:50]
    expected = clustered_difference(first, second, clusters)
    assert rows["gain"]["value"] == pytest.approx(second.mean() - first.mean())
    assert rows["gain"]["standard_error"] == pytest.approx(expected.standard_error)
    assert rows["gain"]["p_value"] == cluster_sign_flip(second - first, clusters, seed=0).p_value
    assert (rows["gain"]["n"], rows["gain_unmatched"]["value"]) == (45, 15)
    assert rows["gain_better"]["value"] == (second > first).sum()
    assert rows["gain_worse"]["value"] == (second < first).sum()


def test_a_gain_without_any_change_has_no_interval_that_would_look_certain() -> None:
    same = pd.DataFrame({"identifier": list("abcdefghijkl"), "image_id": list("abcdefghijkl"), "score": [1.0, 0.0] * 6})
    gain = rows_of(comparison_table(same, same, seed=0))["gain"]
    assert (gain["value"], gain["p_value"]) == (0.0, 1.0)
    assert pd.isna(gain["standard_error"])
    assert "changed alike" in gain["reason"]
    with pytest.raises(ValueError, match="no sample in common"):
        comparison_table(same, same.assign(identifier=list("mnopqrstuvwx")), seed=0)


def test_categories_have_figures_of_their_own_answers() -> None:
    first, second = noisy(1), noisy(2)
    frame = pd.concat([first.questions.assign(category="a"), second.questions.assign(category="b")])
    table = metric_table(Judged(frame, [*first.answered, *second.answered], frame.iloc[:0]), Rule(), 0)
    for name, part in (("a", first), ("b", second)):
        assert rows_of(table, f"category {name}")["accuracy"]["value"] == pytest.approx(part.questions["correct"].mean())
        assert rows_of(table, f"category {name}")["accuracy"]["n"] == 120
