"""The figures of one evaluation: the official score, the first token's verdict, how yes was used, each with its error by image.

Means have CR2 errors and t intervals; ratios (F1, precision, recall) and a benchmark's own figures over the whole set have a cluster
bootstrap. Nothing here knows a model or a database: answers come as a table, samples with their texts as `Answered`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from vseam_core.analysis.bootstrap import resampling_weights
from vseam_core.analysis.frames import NUMBER, TEXT, WHOLE, nullable_frame
from vseam_core.analysis.statistics import (
    MINIMUM_CLUSTERS,
    Estimate,
    cluster_codes,
    cluster_sums,
    generator,
    paired_comparison,
    too_few_clusters,
)
from vseam_core.api.interfaces import Benchmark
from vseam_core.api.types import Answered
from vseam_core.datasets.answers import normal_answer
from vseam_core.evaluation.accuracy import accuracy_estimate, says_yes

METRIC_COLUMNS: dict[str, str] = {
    "subset": TEXT,
    "metric": TEXT,
    "value": NUMBER,
    "standard_error": NUMBER,
    "low": NUMBER,
    "high": NUMBER,
    "p_value": NUMBER,
    "n": WHOLE,
    "clusters": WHOLE,
    "interval": TEXT,
    "reason": TEXT,
}
DRAWS = 1000
# An official figure is recomputed for every draw; of large sets fewer draws are made, and how many is said.
_SAMPLES_IN_ALL_DRAWS, _FEWEST_DRAWS = 1_500_000, 200
_UNDEFINED_DRAWS = 0.05
_CLUSTERED = "CR2, t"
_MOST_CATEGORIES = 50

Figures = Mapping[str, float | None]


@dataclass(frozen=True, eq=False)
class Judged:
    """Judged answers: a table with one row per answer (`Store.answers`), and each plain or clean one as `Answered`, in the same order."""

    questions: pd.DataFrame
    answered: Sequence[Answered]
    corrupt: pd.DataFrame

    def of_category(self, category: str) -> Judged:
        """The part that belongs to one category."""
        here = (self.questions["category"] == category).to_numpy(dtype=bool)
        answered = [each for each, wanted in zip(self.answered, here, strict=True) if wanted]
        return Judged(self.questions[here], answered, self.corrupt[self.corrupt["category"] == category])


def metric_table(judged: Judged, benchmark: Benchmark, seed: int) -> pd.DataFrame:
    """Every figure over all answers, and by category where there are several; columns `METRIC_COLUMNS`."""
    rows = list(_metrics_of("all", judged, benchmark, seed))
    categories = sorted(judged.questions["category"].unique())
    if 1 < len(categories) <= _MOST_CATEGORIES:
        for category in categories:
            rows += _metrics_of(f"category {category}", judged.of_category(category), benchmark, seed)
    return nullable_frame(rows, METRIC_COLUMNS)


def comparison_table(before: pd.DataFrame, after: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The gain of `after` over `before` on the samples that both hold (columns identifier, image_id, score), as metric rows.

    Raises `ValueError` where no sample is in both or one of them holds a sample twice.
    """
    both = before[["identifier", "score"]].merge(after, on="identifier", suffixes=("_before", ""), validate="one_to_one")
    if both.empty:
        raise ValueError("the two runs have no sample in common")
    first, second = both["score_before"].to_numpy(dtype=float), both["score"].to_numpy(dtype=float)
    result = paired_comparison(first, second, both["image_id"].to_numpy(), seed=seed)
    difference = result.difference
    if np.ptp(second - first) == 0:
        reason = difference.reason or "no interval: every sample changed alike, so the spread says nothing"
        difference = replace(difference, standard_error=None, low=None, high=None, reason=reason)
    test = "sign flips, all" if result.exact else "sign flips, drawn"
    counts = {
        "gain_before": result.first,
        "gain_after": result.second,
        "gain_better": int((second > first).sum()),
        "gain_worse": int((second < first).sum()),
        "gain_unmatched": len(before) + len(after) - 2 * len(both),
    }
    gain = _row("all", "gain", difference, _CLUSTERED) | {"p_value": result.p_value}
    gain["interval"] = "; ".join(part for part in (gain["interval"], f"p by {test}") if part)
    size = {"n": len(both), "clusters": difference.clusters}
    rows = [gain, *({"subset": "all", "metric": name, "value": float(value), **size} for name, value in counts.items())]
    return nullable_frame(rows, METRIC_COLUMNS)


def _metrics_of(subset: str, judged: Judged, benchmark: Benchmark, seed: int) -> Iterator[dict[str, Any]]:
    frame = judged.questions
    images = frame["image_id"].to_numpy()
    yield mean_figure(subset, "accuracy", frame["score"], images)
    yield from _first_token(subset, frame)
    yield from pair_figures(subset, judged.questions, judged.corrupt)
    official = benchmark.metrics(judged.answered)
    own = {row["metric"]: row for row in (*answer_figures(subset, frame), *yes_no_figures(subset, frame, seed))}
    yield from (row for name, row in own.items() if name not in official)
    wanted = {name: value for name, value in official.items() if name != "accuracy"}
    if wanted:
        yield from _bootstrapped(subset, benchmark.metrics, values=wanted, answered=judged.answered, images=images, seed=seed)


def _row(subset: str, metric: str, estimate: Estimate, interval: str) -> dict[str, Any]:
    return {
        "subset": subset,
        "metric": metric,
        "value": estimate.mean,
        "standard_error": estimate.standard_error,
        "low": estimate.low,
        "high": estimate.high,
        "n": estimate.n,
        "clusters": estimate.clusters,
        "interval": interval if estimate.low is not None else "",
        "reason": estimate.reason,
    }


def mean_figure(subset: str, metric: str, values: Any, images: Any) -> dict[str, Any]:
    """The mean of numbers from 0 to 1 with its clustered error."""
    array = np.asarray(values, dtype=np.float64)
    estimate = accuracy_estimate(array, np.asarray(images))
    if estimate.low is not None and np.ptp(array) == 0 and array[0] in (0.0, 1.0):
        return _row(subset, metric, replace(estimate, reason=""), f"exact binomial over {estimate.clusters} images")
    return _row(subset, metric, estimate, _CLUSTERED)


def _first_token(subset: str, frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """What comparing the probabilities of both answers says, and how often it and the generated answer disagree."""
    known = frame[frame["first_token_correct"].notna()]
    if known.empty:
        return
    right = known["first_token_correct"].to_numpy(dtype=bool)
    row = mean_figure(subset, "first_token_accuracy", right, known["image_id"])
    yield row
    differs = int((right != known["correct"].to_numpy(dtype=bool)).sum())
    size = {"n": row["n"], "clusters": row["clusters"]}
    yield {"subset": subset, "metric": "first_token_disagreements", "value": float(differs), **size}


def pair_figures(subset: str, questions: pd.DataFrame, corrupt: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Pair accuracy: right on the clean image and, with its other answer, on the edited one."""
    clean = questions[["identifier", "correct"]].rename(columns={"identifier": "clean_identifier", "correct": "clean_correct"})
    pairs = corrupt.merge(clean, on="clean_identifier")
    if not pairs.empty:
        both = (pairs["correct"] & pairs["clean_correct"]).to_numpy(dtype=bool)
        yield mean_figure(subset, "pair_accuracy", both, pairs["image_id"])


def majority(answers: pd.Series) -> tuple[str, float]:
    """The most frequent gold answer, as it is written most often, and its share; case, outer spaces and a full stop do not count."""
    words = answers.map(normal_answer)
    counts = words.value_counts()
    return str(answers[words == counts.index[0]].value_counts().index[0]), float(counts.iloc[0] / len(answers))


def answer_figures(subset: str, frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """What always giving the most frequent gold answer would score, and how many answers could not be read as one."""
    size = {"n": len(frame), "clusters": frame["image_id"].nunique()}
    most, share = majority(frame["answer"])
    yield {"subset": subset, "metric": "majority_baseline", "value": share, "reason": f"always {normal_answer(most)!r}", **size}
    words = frame["predicted"].str.strip().str.rstrip(".!,").str.strip().str.casefold()
    readable = words.isin(["yes", "no"]).where(frame["form"] == "yes_no", words != "")
    yield {"subset": subset, "metric": "unparsed", "value": float((~readable.astype(bool)).sum()), **size}


def yes_no_figures(subset: str, frame: pd.DataFrame, seed: int) -> Iterator[dict[str, Any]]:
    """How yes was used on the yes/no questions; positive = yes, the word alone."""
    frame = frame[frame["form"] == "yes_no"]
    if frame.empty:
        return
    said, gold = says_yes(frame["predicted"]).to_numpy(dtype=float), says_yes(frame["answer"]).to_numpy(dtype=float)
    images = frame["image_id"].to_numpy()
    yield mean_figure(subset, "yes_ratio", said, images)
    yield {"subset": subset, "metric": "gold_yes_ratio", "value": float(gold.mean()), "n": len(gold), "clusters": len(set(images))}
    # Everything that the three ratios need is a sum over clusters: hits, said yes, gold yes.
    codes, count = cluster_codes(images, len(frame))
    sums = cluster_sums(np.stack([said * gold, said, gold], axis=1), codes, count)
    weights = resampling_weights(generator(seed, "yes and no"), count, DRAWS)
    drawn, observed = weights @ sums, sums.sum(axis=0)
    ratios: dict[str, Callable[[np.ndarray], tuple[Any, Any]]] = {
        "precision": lambda total: (total[..., 0], total[..., 1]),
        "recall": lambda total: (total[..., 0], total[..., 2]),
        "f1": lambda total: (2 * total[..., 0], total[..., 1] + total[..., 2]),
    }
    for name, parts in ratios.items():
        top, bottom = parts(observed)
        tops, bottoms = parts(drawn)
        value = float(top / bottom) if bottom else None
        defined = bottoms > 0
        yield _interval_row(subset, name, value=value, drawn=tops[defined] / bottoms[defined], draws=DRAWS, n=len(frame), clusters=count)


def _bootstrapped(
    subset: str, metrics: Callable[[Sequence[Answered]], Figures], values: Figures, answered: Sequence[Answered], images: Any, seed: int
) -> Iterator[dict[str, Any]]:
    """A benchmark's own figures, each with the percentile interval over draws of whole images."""
    codes, count = cluster_codes(images, len(answered))
    draws = min(DRAWS, max(_FEWEST_DRAWS, _SAMPLES_IN_ALL_DRAWS // len(answered)))
    found: dict[str, list[float]] = {name: [] for name in values}
    if count >= MINIMUM_CLUSTERS:
        for drawn in _drawn(answered, codes, count, draws, seed):
            for name, value in metrics(drawn).items():
                if name in found and value is not None and np.isfinite(value):
                    found[name].append(float(value))
    for name, value in values.items():
        sound = float(value) if value is not None and np.isfinite(value) else None
        yield _interval_row(subset, name, value=sound, drawn=np.array(found[name]), draws=draws, n=len(answered), clusters=count)


def _drawn(answered: Sequence[Answered], codes: Any, count: int, draws: int, seed: int) -> Iterator[list[Answered]]:
    """Sets of answers made of whole images drawn with replacement.

    An image drawn again is a copy under names of its own, so that figures that look questions up by name see two.
    """
    members = [[answered[index] for index in np.flatnonzero(codes == code).tolist()] for code in range(count)]
    copies: dict[tuple[int, int], list[Answered]] = {}

    def copy(code: int, number: int) -> list[Answered]:
        if number == 0:
            return members[code]
        if (code, number) not in copies:
            copies[code, number] = [Answered(_renamed(each.sample, number), each.text) for each in members[code]]
        return copies[code, number]

    for times in resampling_weights(generator(seed, "official figures"), count, draws).astype(int):
        yield [each for code in np.flatnonzero(times) for number in range(times[code]) for each in copy(int(code), number)]


def _renamed(sample: Any, number: int) -> Any:
    names = {name: f"{getattr(sample, name)}#{number}" for name in ("identifier", "question_id", "image_id")}
    return replace(sample, **names)


def _interval_row(subset: str, name: str, value: float | None, drawn: np.ndarray, draws: int, n: int, clusters: int) -> dict[str, Any]:
    row: dict[str, Any] = {"subset": subset, "metric": name, "value": value, "n": n, "clusters": clusters}
    if value is None:
        return row | {"reason": "these answers do not determine it"}
    if clusters < MINIMUM_CLUSTERS:
        return row | {"reason": too_few_clusters(clusters)}
    if len(drawn) < (1 - _UNDEFINED_DRAWS) * draws:
        return row | {"reason": f"no interval: undefined in {draws - len(drawn)} of {draws} draws"}
    if np.ptp(drawn) == 0:
        return row | {"reason": "no interval: the same in every draw, so the spread says nothing"}
    low, high = np.quantile(drawn, [0.025, 0.975])
    error = {"standard_error": float(drawn.std(ddof=1)), "low": float(low), "high": float(high)}
    return row | error | {"interval": f"cluster bootstrap, {draws} draws"}
