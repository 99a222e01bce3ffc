"""Evaluating a model on a benchmark, as it is or with heads changed: generated answers and first-token probabilities, resumable.

Samples are encoded a window at a time, so that a large benchmark needs no more memory than a small one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from vseam_core.analysis.frames import frame_records
from vseam_core.api.interfaces import Benchmark, Editor
from vseam_core.api.interventions import AnswerScore, AnswerValues, Run
from vseam_core.api.types import Answered, Pair, PoolChoice, Sample, Skip
from vseam_core.config.editor_settings import EditorChoice, editor_choice
from vseam_core.engine.generation import Question
from vseam_core.errors import SampleError, UnsupportedError, VseamError
from vseam_core.evaluation.metrics import Judged, comparison_table, metric_table
from vseam_core.experiments.asking import Asked, Selection, ask, asked_unit, selected_samples, settled
from vseam_core.experiments.heads.changed_model import Change, ChangeOptions, make_change
from vseam_core.runs.identity import unit_key
from vseam_core.runs.progress import Advance
from vseam_core.runs.runner import Unit, run_units
from vseam_core.runs.spec import Answer, RunSpec, UnitResult
from vseam_core.runs.workspace import LoadedModel, Workspace

if TYPE_CHECKING:
    import pandas as pd

METHOD, VERSION = "evaluation", 1
MAX_NEW_TOKENS = 16
# Encoded at a time, pictures included; and at most so many of them are asked together.
_WINDOW, _TOGETHER = 256, 64


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
    operation: str = "zero",
    compare: str | int | None = None,
) -> Evaluation:
    """Evaluate a model on a dataset, as `vseam eval` does; the options are those of the command.

        evaluation = vseam.evaluate(workspace, "llava-tiny", "scenes/color", limit=200)
        print(evaluation.value("accuracy"), evaluation.metrics)

    Raises `VseamError` kinds for what cannot be evaluated; single samples that cannot be are in `skips`.
    """
    change = ChangeOptions(rescale, tuple(ablate), operation)
    wanted = None if compare is None else str(compare)
    selection = Selection(pool, split, limit, offset)
    return run_evaluation(workspace, model, dataset, EvaluationOptions(selection, max_new_tokens, batch_size, editor, change, wanted))


def run_evaluation(workspace: Workspace, model_name: str, dataset: str, options: EvaluationOptions) -> Evaluation:
    """Ask every selected sample that is not answered yet, judge all answers, store the figures."""
    benchmark = workspace.benchmark(dataset)
    selection = settled(options.selection, benchmark)
    samples = selected_samples(benchmark, selection, workspace.seed)
    loaded = workspace.model(model_name)
    editor = workspace.editor(options.editor) if options.editor else None
    change = make_change(workspace, loaded, benchmark, options.change)
    edited = editor_choice(options.editor).identity() if options.editor else None
    configuration = {"max_new_tokens": options.max_new_tokens, "editor": edited, "change": change.configuration}
    spec = RunSpec(
        METHOD,
        VERSION,
        loaded.model.info,
        dataset,
        benchmark.level,
        benchmark.category,
        str(selection.pool),
        str(selection.split),
        configuration,
        workspace.seed,
    )
    store = workspace.store
    run = store.ensure_run(spec, device=loaded.model.info.device, versions=workspace.versions(), trust=loaded.trust)
    compared = _compared_run(workspace, run, dataset, options.compare)
    asker = _Asker(loaded, benchmark, editor, change, options, workspace.seed)
    method = {"method": METHOD, "version": VERSION, "seed": workspace.seed, **configuration, **change.identity}
    title = f"{model_name}{f' ({change.label})' if change.label else ''} answers {dataset}"
    keys, skips, made = _ask_all(workspace, run, asker, samples, method, title)
    store.finish_run(run)
    answers = _judged_answers(workspace, run, benchmark, samples, keys)
    if answers.empty:
        raise VseamError(f"{title}: none of {len(samples)} samples could be answered, such as {skips[0].identifier}: {skips[0].reason}")
    metrics = _figures(workspace, run, benchmark, samples, answers, compared, (str(selection.pool), str(selection.split), change.label))
    where = (str(selection.pool), str(selection.split), change.label)
    reused = len(keys) + len(skips) - made
    return Evaluation(run, model_name, dataset, *where, metrics, answers, skips, made, reused, compared)


def _ask_all(
    workspace: Workspace, run: int, asker: _Asker, samples: Sequence[Sample], method: dict[str, Any], title: str
) -> tuple[list[str], list[Skip], int]:
    """The keys of the finished units, the skips, and how many units were made now."""
    keys: list[str] = []
    skips: list[Skip] = []
    made = 0
    together = asker.options.batch_size or _TOGETHER
    with workspace.progress.task(title, len(samples)) as advance:
        for start in range(0, len(samples), _WINDOW):
            units = [asked_unit(asker.loaded.model, sample, method) for sample in samples[start : start + _WINDOW]]
            # Neighbours in length share a batch; a unit that could not be prepared has none.
            units.sort(key=lambda unit: len(unit.payload.free) if unit.payload else 0)
            outcome = run_units(workspace.store, run, units, asker.answers, _PartOf(advance), title, together, finish=False)
            keys += outcome.keys
            skips += outcome.skips
            made += outcome.made
    return keys, skips, made


class _PartOf:
    """Progress of a part of a task: it advances the task."""

    def __init__(self, advance: Advance):
        self._advance = advance

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Advance]:
        """The task itself."""
        yield self._advance

    def note(self, text: str) -> None:
        """Nothing is said of a part."""


@dataclass(frozen=True, eq=False)
class _Put:
    """A sample as the engine is given it: the question, and the run that reads its score where the question's first token does not."""

    asked: Asked
    question: Question
    after_prefix: Run | None = None


@dataclass(frozen=True, eq=False)
class _Ready:
    """A unit that can be asked: its own image first, then that of its pair."""

    unit: Unit
    pair: Pair | None
    puts: Sequence[_Put]


class _Asker:
    """Asks units of a model, on their own images and, with an editor, on the edited ones."""

    def __init__(
        self, loaded: LoadedModel, benchmark: Benchmark, editor: Editor | None, change: Change, options: EvaluationOptions, seed: int
    ):
        self.loaded, self.options = loaded, options
        self._benchmark, self._editor, self._change, self._seed = benchmark, editor, change, seed

    def answers(self, units: Sequence[Unit]) -> list[UnitResult]:
        """The judged answers of some units. One that cannot be asked (no donor fits it) is a skip, and the others stay together."""
        ready: list[_Ready] = []
        results: list[UnitResult] = []
        for unit in units:
            try:
                ready.append(self._ready(unit))
            except (SampleError, UnsupportedError) as error:
                results.append(UnitResult(unit.key, unit.identifier, "skipped", str(error)))
        answered = iter(self._ask([put for each in ready for put in each.puts]))
        for each in ready:
            rows = tuple(next(answered) for _ in each.puts)
            if each.pair is not None:
                rows = (_in_role(rows[0], "clean"), _in_role(rows[1], "corrupt"))
            pairs = () if each.pair is None else (each.pair,)
            results.append(UnitResult(each.unit.key, each.unit.identifier, samples=(rows[0].sample,), pairs=pairs, answers=rows))
        return results

    def _ready(self, unit: Unit) -> _Ready:
        pair = self._pair(unit.payload.sample)
        asked = [unit.payload] if pair is None else [unit.payload, ask(self.loaded.model, pair.corrupt)]
        return _Ready(unit, pair, [self._put(each) for each in asked])

    def _pair(self, sample: Sample) -> Pair | None:
        """The edited twin; a sample that cannot be edited is asked on its own image only."""
        try:
            return self._editor.edit(sample, self._seed) if self._editor else None
        except SampleError:
            return None

    def _put(self, asked: Asked) -> _Put:
        """What the engine is given for a sample. An answer whose beginning both candidates share is read after it, in a run of its own."""
        together = asked.scored is asked.free
        question = self._change.question(asked.sample, asked.free, asked.answer if together else None, asked.size)
        if together or asked.answer is None:
            return _Put(asked, question)
        after = self._change.question(asked.sample, asked.scored, asked.answer, asked.size)
        return _Put(asked, question, Run(after.prompt, (AnswerScore(asked.answer),), after.interventions, after.donor))

    def _ask(self, puts: Sequence[_Put]) -> list[Answer]:
        engine, options = self.loaded.engine, self.options
        responses = engine.respond([put.question for put in puts], options.max_new_tokens, options.batch_size or _TOGETHER)
        scored = iter(engine.run([put.after_prefix for put in puts if put.after_prefix is not None]))
        answers = []
        for put, response in zip(puts, responses, strict=True):
            values = response.values if put.after_prefix is None else next(scored).answer
            answers.append(self._judged(put.asked, response.text, values))
        return answers

    def _judged(self, asked: Asked, text: str, values: AnswerValues | None) -> Answer:
        sample, benchmark = asked.sample, self._benchmark
        score, correct = float(benchmark.score(sample, text)), bool(benchmark.judge(sample, text))
        if asked.answer is None or values is None:
            return Answer(sample, text, score, correct, note=asked.note)
        return Answer(
            sample,
            text,
            score,
            correct,
            first_token_correct=values.logit_diff > 0,
            gold_probability=math.exp(values.logprob),
            competitor_probability=math.exp(values.logprob - values.logit_diff),
            logit_diff=values.logit_diff,
        )


def _in_role(answer: Answer, role: Any) -> Answer:
    return replace(answer, pair_role=role)


def _judged_answers(workspace: Workspace, run: int, benchmark: Benchmark, samples: Sequence[Sample], keys: Sequence[str]) -> pd.DataFrame:
    """The stored answers of the selected samples, in the benchmark's order.

    Judged anew where the benchmark's rule (or a gold answer that it looks up) is another one than when they were stored.
    """
    frame = workspace.store.answers(run)
    frame = frame[frame["key"].isin(set(keys))]
    order = {sample.identifier: number for number, sample in enumerate(samples)}
    known = {sample.identifier: sample for sample in samples}
    changed: dict[tuple[str, str], tuple[float, bool]] = {}
    scores, corrects = [], []
    columns = [frame[name].tolist() for name in ("key", "identifier", "pair_role", "predicted", "score", "correct")]
    for key, identifier, role, text, score, correct in zip(*columns, strict=True):
        fresh = float(score), bool(correct)
        if identifier in known and role != "corrupt":
            sample = known[identifier]
            fresh = float(benchmark.score(sample, text)), bool(benchmark.judge(sample, text))
            if fresh != (float(score), bool(correct)):
                changed[key, role] = fresh
        scores.append(fresh[0])
        corrects.append(fresh[1])
    if changed:
        workspace.store.rescore(run, changed)
    frame = frame.assign(score=scores, correct=corrects)
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
    identity = unit_key(keys=sorted(answers["key"].unique().tolist()))
    columns = dict(zip(("pool", "split", "change"), labels, strict=True))
    workspace.store.replace_scores("evaluations", run, metrics.assign(**columns, compared_with=0), identity)
    if compared is None:
        return metrics
    try:
        gains = comparison_table(_scores_of(workspace, compared), plain[["identifier", "image_id", "score"]], workspace.seed)
    except ValueError as error:
        raise VseamError(f"run {compared} cannot be compared with run {run}: {error}") from error
    workspace.store.replace_scores("evaluations", run, gains.assign(**columns, compared_with=compared), identity)
    return pd.concat([metrics, gains], ignore_index=True)


def _scores_of(workspace: Workspace, run: int) -> pd.DataFrame:
    """The scores of an earlier evaluation, or of a study's answers (right or wrong by the official rule)."""
    frame = workspace.store.answers(run)
    if frame.empty:
        frame = workspace.store.baselines(run)
        frame = frame.assign(score=frame["correct_strict"].astype(float))
    frame = frame[frame["pair_role"].isin(["", "clean"])]
    return frame[["identifier", "image_id", "score"]].drop_duplicates("identifier", keep="last")


def _compared_run(workspace: Workspace, run: int, dataset: str, wanted: str | None) -> int | None:
    """The number of the run to compare with. Raises `VseamError` where there is none, or none with answers."""
    if wanted is None:
        return None
    runs = workspace.store.runs()
    runs = runs[(runs["method"].isin([METHOD, "baseline"])) & (runs["id"] != run)]
    if wanted == "last":
        runs = runs[(runs["method"] == METHOD) & (runs["dataset"] == dataset)]
    else:
        runs = runs[(runs["id"].astype(str) == wanted) | (runs["identity"] == wanted)]
    if runs.empty:
        raise VseamError(
            f"--compare {wanted}: there is no other run with answers of that number in {workspace.store.label}; "
            'find one with `vseam query "SELECT id, method, model, dataset FROM runs"`'
        )
    return int(runs["id"].max())
