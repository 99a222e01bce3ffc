"""Evaluating a model on a benchmark, as it is or with heads changed: generated answers and first-token probabilities, resumable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from vseam_core.analysis.frames import frame_records
from vseam_core.api.interfaces import Benchmark
from vseam_core.api.types import Answered, PoolChoice, Sample, Skip
from vseam_core.config.defaults import EVALUATED_OPERATION
from vseam_core.config.editor_settings import EditorChoice
from vseam_core.errors import VseamError
from vseam_core.evaluation.metrics import Judged, comparison_table, metric_table
from vseam_core.experiments.answering import BASELINE, MAX_NEW_TOKENS, AnswerPass
from vseam_core.experiments.heads.changed_model import ChangeOptions, make_change
from vseam_core.experiments.selection import Selection, selected_samples, settled
from vseam_core.runs.experiment import Experiment
from vseam_core.runs.runner import Outcome
from vseam_core.runs.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

EXPERIMENT = Experiment("evaluation", version=1)


@dataclass(frozen=True)
class EvaluationOptions:
    """What to ask and how. `batch_size` None is as many as the memory budget allows; `editor` asks on edited images too.

    `compare` is the number or identity of an earlier run, or `last`.
    """

    selection: Selection = field(default_factory=Selection)
    max_new_tokens: int = MAX_NEW_TOKENS
    batch_size: int | None = None
    editor: EditorChoice | str | None = None
    change: ChangeOptions = field(default_factory=ChangeOptions)
    compare: str | None = None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What came out: `metrics` (one row per figure, columns `METRIC_COLUMNS`), and `answers`, one row per judged answer.

    `change` says what was changed in the model, or is empty. `made` answers are new, `reused` ones were stored. `compared_with` is the run
    that the rows `gain…` of `metrics` are about.
    """

    run: int
    model: str
    dataset: str
    pool: str
    split: str
    change: str
    metrics: pd.DataFrame
    answers: pd.DataFrame
    skips: list[Skip] = field(default_factory=list)
    made: int = 0
    reused: int = 0
    compared_with: int | None = None

    def value(self, metric: str, subset: str = "all") -> float | None:
        """One figure, or None where it is not determined. Raises `KeyError` where the evaluation has no such figure."""
        rows = self.metrics[(self.metrics["metric"] == metric) & (self.metrics["subset"] == subset)]
        if rows.empty:
            raise KeyError(f"{metric} ({subset})")
        number: float | None = frame_records(rows)[0]["value"]
        return number


def evaluate(
    workspace: Workspace,
    model: str,
    dataset: str,
    *,
    pool: PoolChoice | None = None,
    split: str | None = None,
    limit: int | float | None = None,
    offset: int = 0,
    max_new_tokens: int = MAX_NEW_TOKENS,
    batch_size: int | None = None,
    editor: EditorChoice | str | None = None,
    rescale: str | None = None,
    ablate: Sequence[str] = (),
    operation: str = EVALUATED_OPERATION,
    operation_options: Mapping[str, Any] | None = None,
    method: str | None = None,
    method_options: Mapping[str, Any] | None = None,
    compare: str | int | None = None,
) -> Evaluation:
    """Evaluate a model on a dataset, as `vseam eval` does; the options are those of the command.

        evaluation = evaluate(workspace, "llava-tiny", "scenes/color", limit=200)
        print(evaluation.value("accuracy"), evaluation.metrics)

    Raises `VseamError` kinds for what cannot be evaluated; single samples that cannot be are in `skips`.
    """
    change = ChangeOptions(rescale, tuple(ablate), operation, operation_options or {}, method, method_options or {})
    wanted = None if compare is None else str(compare)
    selection = Selection(pool, split, limit, offset)
    return run_evaluation(
        workspace,
        model,
        dataset,
        EvaluationOptions(
            selection=selection, max_new_tokens=max_new_tokens, batch_size=batch_size, editor=editor, change=change, compare=wanted
        ),
    )


@dataclass(frozen=True, eq=False)
class AnsweredSet:
    """What a model answered: the run, the samples that were selected, and a row for each stored answer, in the benchmark's order."""

    run: int
    where: tuple[str, str]
    change: str
    samples: Sequence[Sample]
    answers: pd.DataFrame
    outcome: Outcome
    compared: int | None = None


def answer_selected(
    workspace: Workspace, model_name: str, dataset: str, options: EvaluationOptions, study: int | None = None
) -> AnsweredSet:
    """Ask every selected sample that is not answered yet. Raises `VseamError` where none can be."""
    benchmark = workspace.benchmark(dataset)
    selection = settled(options.selection, benchmark)
    samples = selected_samples(benchmark, selection, workspace.seed)
    change = make_change(workspace, model_name, dataset, options.change)
    editor = workspace.editor_component(options.editor) if options.editor else None
    parts = {"max_new_tokens": options.max_new_tokens, "editor": editor, "change": change.parts}
    where = (str(selection.pool), str(selection.split))
    opened = EXPERIMENT.open(workspace, model_name, dataset, pool=where[0], split=where[1], parts=parts, inputs=change.inputs, study=study)
    compared = _compared_run(workspace, opened.run, dataset, options.compare)
    title = f"{model_name}{f' ({change.label})' if change.label else ''} answers {dataset}"
    asker = AnswerPass(opened, title, workspace.editor(options.editor) if options.editor else None, change)
    outcome = replace(asker, max_new_tokens=options.max_new_tokens, batch_size=options.batch_size).answer(samples)
    answers = _stored_answers(workspace, outcome, samples)
    if answers.empty:
        first = outcome.skips[0]
        raise VseamError(f"{title}: none of {len(samples)} samples could be answered, such as {first.identifier}: {first.reason}")
    return AnsweredSet(opened.run, where, change.label, samples, answers, outcome, compared)


def run_evaluation(workspace: Workspace, model_name: str, dataset: str, options: EvaluationOptions, study: int | None = None) -> Evaluation:
    """Ask every selected sample that is not answered yet, judge all answers, store the figures."""
    found = answer_selected(workspace, model_name, dataset, options, study)
    benchmark = workspace.benchmark(dataset)
    metrics = _figures(
        workspace,
        found.run,
        benchmark=benchmark,
        samples=found.samples,
        answers=found.answers,
        compared=found.compared,
        labels=(*found.where, found.change),
    )
    return Evaluation(
        run=found.run,
        model=model_name,
        dataset=dataset,
        pool=found.where[0],
        split=found.where[1],
        change=found.change,
        metrics=metrics,
        answers=found.answers,
        skips=found.outcome.skips,
        made=found.outcome.made,
        reused=found.outcome.reused,
        compared_with=found.compared,
    )


def _stored_answers(workspace: Workspace, outcome: Outcome, samples: Sequence[Sample]) -> pd.DataFrame:
    """The stored answers of the selected samples, in the benchmark's order."""
    frame = workspace.store.answers(outcome.run)
    frame = frame[frame["key"].isin(set(outcome.keys))]
    order = {sample.identifier: number for number, sample in enumerate(samples)}
    place = frame["identifier"].where(frame["pair_role"] != "corrupt", frame["clean_identifier"]).map(order)
    return frame.assign(place=place).sort_values(["place", "pair_role"], kind="stable").drop(columns="place").reset_index(drop=True)


def _figures(
    workspace: Workspace,
    run: int,
    benchmark: Benchmark,
    samples: Sequence[Sample],
    answers: pd.DataFrame,
    compared: int | None,
    labels: tuple[str, str, str],
) -> pd.DataFrame:
    """The figures of all answers, stored, with those of a comparison where one is asked for."""
    import pandas as pd

    known = {sample.identifier: sample for sample in samples}
    plain = answers[answers["pair_role"].isin(["", "clean"])]
    texts = zip(plain["identifier"].tolist(), plain["predicted"].tolist(), strict=True)
    answered = [Answered(known[identifier], text) for identifier, text in texts]
    judged = Judged(plain, answered, answers[answers["pair_role"] == "corrupt"])
    metrics = metric_table(judged, benchmark, workspace.seed)
    keys = answers["key"].unique().tolist()
    columns = dict(zip(("pool", "split", "change"), labels, strict=True))
    workspace.store.replace_scores("evaluations", run, metrics.assign(**columns, compared_with=0), keys)
    if compared is None:
        return metrics
    try:
        gains = comparison_table(_scores_of(workspace, compared), plain[["identifier", "image_id", "score"]], workspace.seed)
    except ValueError as error:
        raise VseamError(f"run {compared} cannot be compared with run {run}: {error}") from error
    workspace.store.replace_scores("evaluations", run, gains.assign(**columns, compared_with=compared), keys)
    return pd.concat([metrics, gains], ignore_index=True)


def _scores_of(workspace: Workspace, run: int) -> pd.DataFrame:
    """The scores of an earlier evaluation, or of a study's answers."""
    frame = workspace.store.answers(run)
    if frame.empty:
        frame = workspace.store.baselines(run)
    frame = frame[frame["pair_role"].isin(["", "clean"])]
    return frame[["identifier", "image_id", "score"]].drop_duplicates("identifier", keep="last")


def _compared_run(workspace: Workspace, run: int, dataset: str, wanted: str | None) -> int | None:
    """The number of the run to compare with. Raises `VseamError` where there is none, or none with answers."""
    if wanted is None:
        return None
    runs = workspace.store.runs()
    runs = runs[(runs["method"].isin([EXPERIMENT.name, BASELINE.name])) & (runs["id"] != run)]
    if wanted == "last":
        runs = runs[(runs["method"] == EXPERIMENT.name) & (runs["dataset"] == dataset)]
    else:
        runs = runs[(runs["id"].astype(str) == wanted) | (runs["identity"] == wanted)]
    if runs.empty:
        raise VseamError(
            f"--compare {wanted}: there is no other run with answers of that number in {workspace.store.label}; "
            'find one with `vseam query "SELECT id, method, model, dataset FROM runs"`'
        )
    return int(runs["id"].max())
