"""Explains one answer: the measurements of a study, by the same code, on a dataset of one sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vseam_core.api.presentation import replacement_of
from vseam_core.api.types import HeadEffect, Pair, ScanDirection, TraceEffect
from vseam_core.config.defaults import EXPLAINED_HEADS, EXPLAINED_TRACES
from vseam_core.config.editor_settings import EditorChoice
from vseam_core.datasets.given_samples import GivenSamples
from vseam_core.errors import UnsupportedError, VseamError
from vseam_core.experiments.answering import MAX_NEW_TOKENS, BaselineOptions, answers_as_is, run_baseline
from vseam_core.experiments.encoding import PreparedPair, prepare_pair
from vseam_core.experiments.explain.asking import (
    DATASET,
    check_answers,
    explained_answer,
    opponent_of,
    question_of,
    with_answers,
)
from vseam_core.experiments.explain.editing import ImageEditing, OnePair
from vseam_core.experiments.explain.options import ExplainOptions
from vseam_core.experiments.heads.scan import run_scan
from vseam_core.experiments.heads.scanning import ScanOptions, effect_name
from vseam_core.experiments.tracing import TraceOptions, run_trace
from vseam_core.results.explanation import AnsweredImage, EditMade, Explanation, PromptRead
from vseam_core.runs.runner import Outcome
from vseam_core.runs.workspace import LoadedModel, Workspace

if TYPE_CHECKING:
    import pandas as pd

_STEPS = 3
Traces = Sequence[tuple[str, dict[str, Any]]]
Heads = Sequence[tuple[str, ScanDirection]]


def explain(
    workspace: Workspace, model: str, options: ExplainOptions, traces: Traces = EXPLAINED_TRACES, heads: Heads = EXPLAINED_HEADS
) -> Explanation:
    """Explain one answer. The effects are stored in the workspace's database, under the dataset `explain`.

    What a family does not allow (regions, a lens) is left out and said in the remarks. Raises `VseamError` kinds, with one line, for an
    image, question or edit that cannot be used.
    """
    options.check()
    options.image.load()
    with workspace.progress.task(f"explaining an answer of {model}", _STEPS + len(traces) + len(heads)) as advance:
        loaded = workspace.model(model)
        advance(1)
        answer = explained_answer(loaded, options)
        sample = question_of(options, answer)
        editor, edited = ImageEditing(workspace, options, sample).edited()
        opponent = opponent_of(loaded, options, sample, edited.pair.corrupt)
        pair = with_answers(edited.pair, answer, opponent.text)
        check_answers(loaded, pair)
        advance(1)
        remarks = [*edited.remarks, *([opponent.remark] if opponent.remark else [])]
        dataset = workspace.give_benchmark(GivenSamples(DATASET, [pair.clean]))
        measuring = Measuring(workspace, model, dataset, workspace.give_editor(OnePair(pair, editor)), remarks)
        baselines = measuring.baselines()
        advance(1)
        for name, given in traces:
            measuring.trace(name, given)
            advance(1)
        for operation, direction in heads:
            measuring.scan(operation, direction, baselines)
            advance(1)
    return _explanation(workspace, loaded, model, pair, measuring)


@dataclass
class Measuring:
    """The measurements of one sample, run one after another; what was found and what was not possible."""

    workspace: Workspace
    model: str
    dataset: str
    editor: EditorChoice
    remarks: list[str] = field(default_factory=list)
    traces: list[TraceEffect] = field(default_factory=list)
    heads: list[HeadEffect] = field(default_factory=list)
    runs: dict[str, int] = field(default_factory=dict)
    replacements: dict[str, str] = field(default_factory=dict)

    def baselines(self) -> pd.DataFrame:
        """The answer on the image, stored: which samples a scan takes is chosen from such answers."""
        outcome = run_baseline(self.workspace, self.model, self.dataset, BaselineOptions("score"))
        self._require(outcome, "answers")
        frame = self.workspace.store.baselines(outcome.run)
        return frame[frame["key"].isin(outcome.keys)]

    def trace(self, tracer: str, options: dict[str, Any]) -> None:
        """Run a tracer; one that the family does not allow becomes a remark."""
        named = TraceOptions(tracer, self.editor, tracer_options=options)
        outcome = run_trace(self.workspace, self.model, self.dataset, named)
        self._note(outcome, f"{tracer} tracing")
        self.runs.setdefault(tracer, outcome.run)
        self.traces += [record.effect for record in self.workspace.store.trace_effects(outcome.run, outcome.keys)]

    def scan(self, operation: str, direction: ScanDirection, baselines: pd.DataFrame) -> None:
        """Replace every head; an operation that the family does not allow becomes a remark."""
        options = ScanOptions(operation, sampled=1, wrong=0, direction=direction, editor=self.editor)
        name = effect_name(operation, direction)
        try:
            outcome = run_scan(self.workspace, self.model, dataset=self.dataset, options=options, baselines=baselines)
        except UnsupportedError as error:
            self.remarks.append(f"heads by {name}: {error}")
            return
        self._note(outcome, f"heads by {name}")
        self.runs[name] = outcome.run
        self.replacements[name] = replacement_of(self.workspace.store.presentation(outcome.run)).words or name
        for measure in ("logit_diff", "published_prob"):
            found = self.workspace.store.head_effects(outcome.run, measure=measure, keys=outcome.keys)
            if len(found):
                row = found.samples.iloc[0]
                self.heads.append(
                    HeadEffect(name, str(row["positions"]), measure, str(row["stack"]), found.values[0], float(found.base[0]))
                )

    def _note(self, outcome: Outcome, what: str) -> None:
        self.remarks += [f"{what}: {skip.reason}" for skip in outcome.skips]

    def _require(self, outcome: Outcome, what: str) -> None:
        if outcome.skips:
            raise VseamError(f"{what}: {outcome.skips[0].reason}")


def _explanation(workspace: Workspace, loaded: LoadedModel, model: str, pair: Pair, found: Measuring) -> Explanation:
    if not found.traces and not found.heads:
        raise VseamError(f"{model}: nothing could be measured: {'; '.join(found.remarks) or 'no method was asked for'}")
    prepared = prepare_pair(loaded, pair)
    prompt = prepared.clean.prompt
    clean, edited = _answers(loaded, prepared)
    return Explanation(
        model=model,
        question=pair.clean.question,
        answer=pair.clean.answer,
        against=pair.corrupt.answer,
        clean=clean,
        edited=edited,
        edit=EditMade(pair.editor, pair.source_term, pair.target_term, pair.boxes, pair.mask.load() if pair.mask else None),
        prompt=PromptRead(_words(loaded, prompt.ids, prompt.tokens), prompt.classes, prompt.roles, prompt.image_boxes),
        traces=tuple(found.traces),
        heads=tuple(found.heads),
        noise_floor=float(loaded.trust["noise_floor"] or 0.0),
        token_texts=_token_texts(loaded, found.traces),
        remarks=tuple(dict.fromkeys(found.remarks)),
        runs=found.runs,
        replacements=found.replacements,
        database="" if workspace.store.label == ":memory:" else workspace.store.label,
        about={"versions": workspace.versions(), "trust": loaded.trust},
    )


def _answers(loaded: LoadedModel, prepared: PreparedPair) -> list[AnsweredImage]:
    """What the model answers about both images, both read as the clean answer against the other one."""
    answer = prepared.clean.answer
    values = loaded.engine.answers([prepared.clean.prompt, prepared.corrupt.prompt], [answer, answer])
    texts = [given.text for given in answers_as_is(loaded, [prepared.clean, prepared.corrupt], MAX_NEW_TOKENS)]
    return [
        AnsweredImage(side.sample.image.load(), text, math.exp(value.logprob), math.exp(value.logprob - value.logit_diff), value.logit_diff)
        for side, text, value in zip((prepared.clean, prepared.corrupt), texts, values, strict=True)
    ]


def _words(loaded: LoadedModel, ids: Sequence[int], tokens: Sequence[str]) -> tuple[str, ...]:
    """The tokens of a prompt as a person reads them."""
    texts = loaded.model.token_texts(list(ids))
    return tuple(text or token for text, token in zip(texts, tokens, strict=True))


def _token_texts(loaded: LoadedModel, traces: Sequence[TraceEffect]) -> dict[int, str]:
    """Words for the token ids that a lens put first."""
    ids = sorted({int(value) for effect in traces if effect.measure == "top_token" for value in effect.values.flat})
    return dict(zip(ids, loaded.model.token_texts(ids), strict=True))
