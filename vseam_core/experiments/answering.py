"""How a model answers: every question asked once, judged by the benchmark's rule, stored. A study's baselines and `vseam eval` alike.

Samples are encoded a window at a time, so that a large benchmark needs no more memory than a small one. What a model answered is kept
with it for a while: a scan or a trace that stores the answer beside its effects does not ask again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from vseam_core.analysis.frames import frame_records
from vseam_core.api.interfaces import Benchmark, Editor
from vseam_core.api.interventions import AnswerScore, AnswerValues, Run
from vseam_core.api.types import Pair, PoolChoice, Sample
from vseam_core.config.editor_settings import EditorChoice
from vseam_core.engine.generation import Question
from vseam_core.errors import SampleError, UnsupportedError
from vseam_core.experiments.encoding import Prepared, ask, encode_sample, prepare, prompt_identity
from vseam_core.experiments.heads.changes import Change
from vseam_core.experiments.thumbnails import keep_thumbnails
from vseam_core.runs.experiment import Experiment, OpenRun
from vseam_core.runs.progress import Advance
from vseam_core.runs.runner import Outcome, Unit
from vseam_core.runs.spec import Answer, Baseline, UnitResult
from vseam_core.runs.workspace import Given, LoadedModel, Workspace

BASELINE = Experiment("baseline", version=1)
MAX_NEW_TOKENS = 16
NO_FIRST_TOKEN = "how the answer was generated says nothing of its first token"
TOGETHER = 64
"""So many samples are encoded at a time, images included, and asked together: which ones share a batch depends on their order alone."""

PairRole = Literal["", "clean", "corrupt", "control"]


@dataclass(frozen=True, eq=False)
class _Put:
    """A sample as the engine is given it: the question, and what reads its score where the question's first token does not."""

    question: Question
    after_prefix: Run | Question | None = None


def _put(prepared: Prepared, change: Change) -> _Put:
    """An answer whose beginning both candidates share is read after it, in a run of its own."""
    known, together = bool(prepared.answer.gold), prepared.prompt is prepared.free
    question = change.question(prepared, prepared.free, prepared.answer if known and together else None)
    if together or not known or question.decode is not None:
        return _Put(question)  # what decodes by itself is given no beginning of an answer
    after = change.question(prepared, prepared.prompt, prepared.answer)
    if after.combine is not None or after.boosts:
        return _Put(question, after)  # what is done while a model generates is read there
    return _Put(question, Run(after.prompt, (AnswerScore(prepared.answer),), after.interventions, after.donor))


def give_answers(loaded: LoadedModel, puts: Sequence[_Put], max_new_tokens: int, batch_size: int | None = None) -> list[Given]:
    """What the model answers, each with its scores where ids are known: one generation gives the text and the first token's logits."""
    responses = loaded.engine.respond([put.question for put in puts], max_new_tokens, batch_size or TOGETHER)
    scored = iter(loaded.engine.run([put.after_prefix for put in puts if isinstance(put.after_prefix, Run)]))
    later = [put.after_prefix for put in puts if isinstance(put.after_prefix, Question)]
    read = iter(loaded.engine.respond(later, 1) if later else [])
    given = []
    for put, response in zip(puts, responses, strict=True):
        if isinstance(put.after_prefix, Run):
            given.append(Given(response.text, next(scored).answer))
        else:
            given.append(Given(response.text, response.values if put.after_prefix is None else next(read).values))
    return given


def answers_as_is(
    loaded: LoadedModel, asked: Sequence[Prepared], max_new_tokens: int = MAX_NEW_TOKENS, batch_size: int | None = None
) -> list[Given]:
    """What the unchanged model answers; what it has answered lately is not asked again."""
    keys = [(each.free.key, each.prompt.key, each.answer, max_new_tokens) for each in asked]
    found = {key: given for key in keys if (given := loaded.answers.get(key)) is not None}
    waiting = {key: each for key, each in zip(keys, asked, strict=True) if key not in found}
    puts = [_put(each, Change()) for each in waiting.values()]
    for key, given in zip(waiting, give_answers(loaded, puts, max_new_tokens, batch_size) if puts else [], strict=True):
        found[key] = given
        loaded.answers.put(key, given)
    return [found[key] for key in keys]


def baselines_of(loaded: LoadedModel, benchmark: Benchmark, asked: Sequence[Prepared]) -> list[Baseline]:
    """What the unchanged model answers, with the measures of the published protocol beside the verdict of the benchmark's rule."""
    return [_baseline(loaded, benchmark, each, given) for each, given in zip(asked, answers_as_is(loaded, asked), strict=True)]


def _baseline(loaded: LoadedModel, benchmark: Benchmark, prepared: Prepared, given: Given) -> Baseline:
    values = _values(given)
    return Baseline(
        sample=prepared.sample,
        predicted=given.text,
        answer_prob=values.published_prob,
        prob_sum=values.prob_sum,
        logit=values.logit,
        logit_diff=values.logit_diff if prepared.answer.competitor else None,
        sequence_logprob=_sequence_logprob(loaded, prepared, values.published_prob),
        correct_published=values.top in (*prepared.answer.published, *prepared.answer.variants),
        correct_strict=bool(benchmark.judge(prepared.sample, given.text)),
        score=float(benchmark.score(prepared.sample, given.text)),
    )


def _values(given: Given) -> AnswerValues:
    assert given.values is not None, "a prepared sample's answer has ids to read"
    return given.values


def _sequence_logprob(loaded: LoadedModel, prepared: Prepared, first_probability: float) -> float:
    """The log-probability of the whole gold answer; one token's is known already."""
    tokens = loaded.model.answer_tokens(prepared.free, prepared.sample.answer)
    if tokens == prepared.answer.published and len(tokens) == 1 and first_probability > 0:
        return math.log(first_probability)
    return loaded.engine.sequence_logprob(encode_sample(loaded, prepared.sample, tokens[:-1]).prompt, tokens)


def _answer(benchmark: Benchmark, prepared: Prepared, given: Given) -> Answer:
    sample, text, values = prepared.sample, given.text, given.values
    score, correct = float(benchmark.score(sample, text)), bool(benchmark.judge(sample, text))
    if prepared.note or values is None:
        return Answer(sample, text, score, correct, note=prepared.note or NO_FIRST_TOKEN)
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


@dataclass(frozen=True, eq=False)
class Asked:
    """A sample to answer, with the pairs whose edited images are answered too and what those are in them."""

    prepared: Prepared
    pairs: tuple[tuple[Pair, PairRole], ...] = ()


@dataclass(frozen=True, eq=False)
class AnswerPass:
    """Answers the questions of one run, and stores them.

    With an `editor` every sample is asked on its edited image too, with `controls` on a control edit as well. `baseline` stores the
    measures of the published protocol, for which an answer must have token ids; without, it may be judged by its text alone.
    """

    opened: OpenRun
    title: str
    editor: Editor | None = None
    change: Change = field(default_factory=Change)
    controls: bool = False
    baseline: bool = False
    max_new_tokens: int = MAX_NEW_TOKENS
    batch_size: int | None = None

    def answer(self, samples: Sequence[Sample]) -> Outcome:
        """Ask what is not answered yet. Stored answers get the verdict of the benchmark's rule as it is now."""
        opened, known = self.opened, dict[str, Sample]()
        total, together = Outcome(opened.run), self.batch_size or TOGETHER
        with opened.workspace.progress.task(self.title, len(samples)) as advance:
            for start in range(0, len(samples), together):
                units = [self._unit(sample) for sample in samples[start : start + together]]
                for unit in units:
                    known.update((sample.identifier, sample) for sample in _samples_of(unit))
                outcome = self._run(units, _PartOf(advance))
                total.keys += outcome.keys
                total.skips += outcome.skips
                total.made += outcome.made
                total.reused += outcome.reused
        if self.baseline and self.editor is not None:
            keep_thumbnails(opened.workspace, known.values())
        if opened.workspace.portion is None:  # of a portion more follows
            if total.reused:
                judge_again(opened.workspace, opened.run, opened.benchmark, known)
            opened.workspace.store.finish_run(opened.run)
        return total

    def _run(self, units: list[Unit[Asked]], progress: _PartOf) -> Outcome:
        # Neighbours in length share a batch; a unit that could not be prepared has none.
        ordered = sorted(units, key=lambda unit: len(unit.payload.prepared.free) if unit.payload else 0)
        together = self.batch_size or TOGETHER
        return self.opened.run_units(ordered, self._answers, self.title, together, finish=False, progress=progress)

    def _unit(self, sample: Sample) -> Unit[Asked]:
        """A sample with its edited twins, or with the problem that it has. Edited images belong to its identity."""

        def prepared() -> tuple[Asked, Mapping[str, object]]:
            asked = Asked(self._prepared(sample), tuple(self._pairs(sample)))
            about = {"free": asked.prepared.free.key, "answer": sample.answer, "pairs": [pair.identifier for pair, _ in asked.pairs]}
            return asked, {**prompt_identity(asked.prepared), **about}

        return self.opened.unit(sample.identifier, prepared)

    def _prepared(self, sample: Sample) -> Prepared:
        return prepare(self.opened.loaded, sample) if self.baseline else ask(self.opened.loaded, sample)

    def _pairs(self, sample: Sample) -> Iterator[tuple[Pair, PairRole]]:
        """The edit and the control edit; a sample that cannot be edited is asked on its own image only."""
        if self.editor is None:
            return
        seed = self.opened.workspace.seed
        try:
            yield self.editor.edit(sample, seed), "corrupt"
        except SampleError:
            return
        control = self.editor.control(sample, seed) if self.controls else None
        if control is not None:
            yield control, "control"

    def _answers(self, units: Sequence[Unit[Asked]]) -> list[UnitResult]:
        """The judged answers of some units. One that cannot be asked (no donor fits it) is a skip, and the others stay together."""
        ready: list[tuple[Unit[Asked], list[Prepared], list[_Put]]] = []
        results: list[UnitResult] = []
        for unit in units:
            asked = unit.payload
            try:
                prepared = [asked.prepared, *(self._prepared(pair.corrupt) for pair, _ in asked.pairs)]
                ready.append((unit, prepared, [_put(each, self.change) for each in prepared]))
            except (SampleError, UnsupportedError) as error:
                results.append(UnitResult(unit.key, unit.identifier, "skipped", str(error)))
        given = iter(self._given([each for _, some, _ in ready for each in some], [put for _, _, puts in ready for put in puts]))
        for unit, prepared, _ in ready:
            results.append(self._result(unit, prepared, [next(given) for _ in prepared]))
        return results

    def _given(self, asked: Sequence[Prepared], puts: Sequence[_Put]) -> list[Given]:
        if self.change.label:
            return give_answers(self.opened.loaded, puts, self.max_new_tokens, self.batch_size)
        return answers_as_is(self.opened.loaded, asked, self.max_new_tokens, self.batch_size)

    def _result(self, unit: Unit[Asked], prepared: Sequence[Prepared], given: Sequence[Given]) -> UnitResult:
        asked = unit.payload
        roles: list[PairRole] = ["clean" if asked.pairs else "", *(role for _, role in asked.pairs)]
        common = UnitResult(
            unit.key, unit.identifier, samples=tuple(each.sample for each in prepared), pairs=tuple(pair for pair, _ in asked.pairs)
        )
        together = list(zip(prepared, given, roles, strict=True))
        if not self.baseline:
            answers = tuple(replace(_answer(self.opened.benchmark, one, text), pair_role=role) for one, text, role in together)
            return replace(common, answers=answers)
        rows = tuple(
            replace(_baseline(self.opened.loaded, self.opened.benchmark, one, text), pair_role=role) for one, text, role in together
        )
        prompts = ((asked.prepared.sample, asked.prepared.prompt),)
        return replace(common, baselines=rows, prompts=prompts)


def _samples_of(unit: Unit[Asked]) -> Iterator[Sample]:
    """Every sample that the answers of a unit are about."""
    if unit.payload is not None:
        yield unit.payload.prepared.sample
        yield from (pair.corrupt for pair, _ in unit.payload.pairs)


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


def judge_again(workspace: Workspace, run: int, benchmark: Benchmark, samples: Mapping[str, Sample]) -> None:
    """Give a run's stored answers on `samples` (by identifier) the verdict of the benchmark's rule as it is now.

    It may be another one than when they were stored: a corrected rule, or a gold answer that the rule looks up.
    """
    store = workspace.store
    for table, frame in (("baselines", store.baselines(run)), ("answers", store.answers(run))):
        changed: dict[tuple[str, str], dict[str, Any]] = {}
        for row in frame_records(frame[frame["identifier"].isin(list(samples))]):
            sample, text = samples[row["identifier"]], row["predicted"]
            verdict = {"score": float(benchmark.score(sample, text)), "correct": bool(benchmark.judge(sample, text))}
            if table == "baselines":
                verdict["correct_strict"] = bool(verdict.pop("correct"))
            if any(row[name] != value for name, value in verdict.items()):
                changed[row["key"], row["pair_role"]] = verdict
        if changed:
            store.rejudge(table, run, changed)
            # Those over other samples of the same run rest on the old verdicts.
            store.forget_figures(run)


@dataclass(frozen=True)
class BaselineOptions:
    """Which samples a study answers. With `editor`, every sample is answered on its edited image and on a control edit too."""

    pool: PoolChoice = "test"
    split: str = "plain"
    limit: int | None = None
    editor: EditorChoice | str | None = None


def run_baseline(workspace: Workspace, model: str, dataset: str, options: BaselineOptions, study: int | None = None) -> Outcome:
    """Answer every sample once, on its image and its edited twins, and store the answers with the published protocol's measures."""
    parts = {"editor": workspace.editor_component(options.editor) if options.editor else None}
    opened = BASELINE.open(workspace, model, dataset, pool=options.pool, split=options.split, parts=parts, study=study)
    title = f"{model} answers {dataset} ({options.pool}, {options.split})"
    editor = workspace.editor(options.editor) if options.editor else None
    asker = AnswerPass(opened, title, editor, controls=True, baseline=True)
    return asker.answer(workspace.own_portion(opened.benchmark.samples(options.pool, options.split, options.limit, workspace.seed)))
