"""One comparison: every method's setting chosen on the choose pool, then all of them on the same samples of the test pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vseam_core.analysis.frames import frame_records
from vseam_core.errors import VseamError
from vseam_core.evaluation.metrics import METRIC_COLUMNS, comparison_table, yes_no_figures
from vseam_core.evaluation.thresholds import Thresholded, thresholded
from vseam_core.experiments.answering import MAX_NEW_TOKENS
from vseam_core.experiments.comparing.comparison import Compared, Comparison
from vseam_core.experiments.comparing.methods import MethodChoice
from vseam_core.experiments.comparing.stored import store_comparison
from vseam_core.experiments.comparing.timing import Cost, cost_of
from vseam_core.experiments.evaluation import AnsweredSet, Evaluation, EvaluationOptions, answer_selected, run_evaluation
from vseam_core.experiments.heads.changed_model import ChangeOptions, make_change
from vseam_core.experiments.selection import Selection
from vseam_core.runs.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

THRESHOLD = "threshold"
"""What the control is called in tables: the unchanged model with a threshold on logit(yes) - logit(no)."""


@dataclass(frozen=True)
class CompareOptions:
    """Which samples choose the settings (`choose` of them) and which are reported (`test`; None: all there are), and how they are asked.

    `timed` test samples are answered once more, one at a time, to measure what an answer costs.
    """

    split: str | None = None
    choose: int | None = 100
    test: int | float | None = None
    max_new_tokens: int = MAX_NEW_TOKENS
    batch_size: int | None = None
    timed: int = 8


@dataclass(frozen=True, eq=False)
class _Base:
    """What every method is held against: the unchanged model's test answers, and those of the threshold."""

    run: int
    answers: pd.DataFrame
    control: Thresholded


def compare_methods(
    workspace: Workspace,
    model: str,
    dataset: str,
    methods: Sequence[MethodChoice],
    options: CompareOptions,
    study: int | None = None,
) -> Comparison:
    """Measure every method; `methods` begin with `none`. Raises `VseamError` where the model itself cannot be measured.

    The answers are stored as those of evaluations, and a row for each method in the table `comparisons`.
    """
    part = _Part(workspace, model, dataset, options, study)
    chosen = part.chosen(methods[0])
    evaluation = part.evaluated(chosen.options)
    fitted_on, reported = _questions(chosen.answered.answers), _questions(evaluation.answers)
    if shared := set(fitted_on["image_id"]) & set(reported["image_id"]):
        raise VseamError(f"{dataset}: image {sorted(shared)[0]} is in its pools choose and test: nothing can be chosen and reported apart")
    control = thresholded(fitted_on, reported)
    base = _Base(evaluation.run, reported, control)
    rows = [part.row(methods[0], chosen, evaluation, base)]
    if control.bias is not None:
        rows.append(part.threshold_row(base))
    for method in methods[1:]:
        try:
            chosen = part.chosen(method)
            rows.append(part.row(method, chosen, part.evaluated(chosen.options, base.run), base))
        except VseamError as error:
            workspace.progress.note(f"{method.name}: {error}")
            rows.append(Compared(method.name, tried=len(method.candidates), refused=str(error)))
    found = Comparison(
        model=model,
        dataset=dataset,
        split=evaluation.split,
        n_choose=len(fitted_on),
        n_test=len(base.answers),
        rows=_with_q_values(rows),
        threshold_reason=control.reason,
    )
    parts = {"methods": [method.identity() for method in methods], "max_new_tokens": options.max_new_tokens}
    run = store_comparison(workspace, found, parts, part.keys, study)
    return replace(found, run=run)


@dataclass(frozen=True, eq=False)
class _Chosen:
    """The best of a method's settings, with what it answered on the choose pool."""

    options: ChangeOptions
    answered: AnsweredSet
    accuracy: float


class _Part:
    """One model on one dataset."""

    def __init__(self, workspace: Workspace, model: str, dataset: str, options: CompareOptions, study: int | None):
        self._workspace, self._model, self._dataset, self._options = workspace, model, dataset, options
        self._study, self.keys = study, set[str]()

    def selection(self, pool: Any) -> Selection:
        """The samples of a pool."""
        limit = self._options.choose if pool == "choose" else self._options.test
        return Selection(pool, self._options.split, limit)

    def _asking(self, change: ChangeOptions, pool: str, compare: int | None = None) -> EvaluationOptions:
        return EvaluationOptions(
            selection=self.selection(pool),
            max_new_tokens=self._options.max_new_tokens,
            batch_size=self._options.batch_size,
            change=change,
            compare=None if compare is None else str(compare),
        )

    def chosen(self, method: MethodChoice) -> _Chosen:
        """The setting with the highest accuracy on the choose pool; of equals the one that is listed first, the usual one."""
        best: _Chosen | None = None
        for candidate in method.candidates:
            answered = answer_selected(self._workspace, self._model, self._dataset, self._asking(candidate, "choose"), self._study)
            self.keys |= set(answered.answers["key"])
            accuracy = float(_questions(answered.answers)["score"].mean())
            if best is None or accuracy > best.accuracy + 1e-12:
                best = _Chosen(candidate, answered, accuracy)
        assert best is not None, "a method has at least one setting"
        return best

    def evaluated(self, change: ChangeOptions, compare: int | None = None) -> Evaluation:
        """A change on the test pool, its figures stored."""
        found = run_evaluation(self._workspace, self._model, self._dataset, self._asking(change, "test", compare), self._study)
        self.keys |= set(found.answers["key"])
        return found

    def row(self, method: MethodChoice, chosen: _Chosen, evaluation: Evaluation, base: _Base) -> Compared:
        """A method's figures: its own, against the unchanged model, against the threshold, and what an answer costs."""
        answers = _questions(evaluation.answers)
        own = base.control if evaluation.run == base.run else thresholded(_questions(chosen.answered.answers), answers)
        figures = {row["metric"]: row for row in frame_records(evaluation.metrics) if row["subset"] == "all"}
        extra = [*self._against_threshold(answers, own, base, evaluation.run == base.run), *self._cost(chosen.options)]
        self._store(evaluation, extra, base)
        return Compared(
            method=method.name,
            change=evaluation.change,
            run=evaluation.run,
            tried=len(method.candidates),
            chosen_accuracy=chosen.accuracy,
            figures={**figures, **{row["metric"]: row for row in extra}},
            skips=len(evaluation.skips),
            made=evaluation.made,
            reused=evaluation.reused,
        )

    def _against_threshold(self, answers: pd.DataFrame, own: Thresholded, base: _Base, is_base: bool) -> list[dict[str, Any]]:
        """Better than the unchanged model with a threshold, as it is and with a threshold of its own?"""
        if base.control.bias is None:
            return []
        rows = [] if is_base else [self._gain(base.control.answers, answers, "gain_over_threshold")]
        if own.bias is None:
            return [*rows, {**_empty("own_threshold_accuracy"), "reason": own.reason}]
        right = own.answers["score"].astype(float)
        rows += [
            {**_empty("own_threshold"), "value": own.bias.threshold, "n": own.bias.n},
            {**_empty("own_threshold_accuracy"), "value": float(right.mean()), "n": len(right)},
        ]
        if not is_base:
            rows.append(self._gain(base.control.answers, own.answers, "own_threshold_gain"))
        return rows

    def _gain(self, before: pd.DataFrame, after: pd.DataFrame, name: str) -> dict[str, Any]:
        wanted = ["identifier", "image_id", "score"]
        rows = frame_records(comparison_table(before[wanted], after[wanted], self._workspace.seed))
        return {**next(row for row in rows if row["metric"] == "gain"), "metric": name}

    def threshold_row(self, base: _Base) -> Compared:
        """The control: the unchanged model's answers by the threshold."""
        assert base.control.bias is not None
        answers, seed = base.control.answers, self._workspace.seed
        rows = [self._gain(base.answers, answers, "gain"), *yes_no_figures("all", answers, seed), _accuracy(answers)]
        bias = base.control.bias
        return Compared(
            method=THRESHOLD,
            change=f"yes where logit(yes) - logit(no) > {bias.threshold:.3g}",
            run=base.run,
            chosen_accuracy=bias.accuracy,
            figures={row["metric"]: {**_empty(row["metric"]), **row} for row in rows},
        )

    def _cost(self, change: ChangeOptions) -> list[dict[str, Any]]:
        cost = self._measured_cost(change) if self._options.timed else None
        if cost is None:
            return []
        return [
            {**_empty("seconds_per_answer"), "value": cost.seconds, "n": cost.n},
            {**_empty("forward_passes_per_answer"), "value": cost.forward_passes, "n": cost.n},
        ]

    def _measured_cost(self, change: ChangeOptions) -> Cost | None:
        from vseam_core.experiments.selection import selected_samples, settled

        benchmark = self._workspace.benchmark(self._dataset)
        selection = settled(replace(self.selection("test"), limit=self._options.timed), benchmark)
        samples = selected_samples(benchmark, selection, self._workspace.seed)
        made = make_change(self._workspace, self._model, self._dataset, change)
        return cost_of(self._workspace.model(self._model), made, samples, self._options.max_new_tokens)

    def _store(self, evaluation: Evaluation, extra: Sequence[Mapping[str, Any]], base: _Base) -> None:
        """The figures that only a comparison has, beside the gains over the unchanged model."""
        import pandas as pd

        gains = evaluation.metrics[evaluation.metrics["metric"].str.startswith("gain")]
        rows = pd.concat([gains, pd.DataFrame(list(extra), columns=list(METRIC_COLUMNS))], ignore_index=True) if extra else gains
        if rows.empty:
            return
        labels: dict[str, Any] = {
            "pool": evaluation.pool,
            "split": evaluation.split,
            "change": evaluation.change,
            "compared_with": base.run,
        }
        keys = evaluation.answers["key"].unique().tolist()
        self._workspace.store.replace_scores("evaluations", evaluation.run, rows.assign(**labels), keys)


def _questions(answers: pd.DataFrame) -> pd.DataFrame:
    """The answers on the samples' own images."""
    return answers[answers["pair_role"].isin(["", "clean"])].reset_index(drop=True)


def _empty(metric: str) -> dict[str, Any]:
    return {**dict.fromkeys(METRIC_COLUMNS), "subset": "all", "metric": metric, "n": 0, "clusters": 0, "interval": "", "reason": ""}


def _accuracy(answers: pd.DataFrame) -> dict[str, Any]:
    from vseam_core.evaluation.metrics import mean_figure

    return mean_figure("all", "accuracy", answers["score"].astype(float), answers["image_id"])


def _with_q_values(rows: Sequence[Compared]) -> list[Compared]:
    """Gains with q-values: p corrected for the number of methods that were compared (Benjamini and Hochberg)."""
    from vseam_core.analysis.multiple_testing import benjamini_hochberg

    found = list(rows)
    for metric in ("gain", "gain_over_threshold", "own_threshold_gain"):
        tested = [
            index for index, row in enumerate(found)
            if row.method != THRESHOLD and row.figures.get(metric, {}).get("p_value") is not None
        ]  # fmt: skip
        for index, q_value in zip(tested, benjamini_hochberg([found[index].figures[metric]["p_value"] for index in tested]), strict=True):
            row = found[index]
            found[index] = replace(row, figures={**row.figures, metric: {**row.figures[metric], "q_value": float(q_value)}})
    return found
