"""The baseline pass: what a model answers without any intervention, on samples and on their edited twins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from vseam_core.api.interfaces import Benchmark, Editor
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.api.types import Pair, Pool
from vseam_core.config.editor_settings import EditorChoice, editor_choice
from vseam_core.errors import SampleError
from vseam_core.experiments.preparation import Prepared, encode_sample, prepare, sample_unit
from vseam_core.runs.identity import unit_key
from vseam_core.runs.runner import Outcome, Unit, run_units
from vseam_core.runs.spec import Baseline, RunSpec, UnitResult
from vseam_core.runs.workspace import LoadedModel, Workspace

VERSION = 1
CHUNK = 64

PairRole = Literal["", "clean", "corrupt", "control"]


@dataclass(frozen=True)
class BaselineOptions:
    """Which samples to answer. With `editor`, every sample is answered on its edited image and on a control edit too."""

    pool: Pool = "test"
    split: str = "plain"
    limit: int | None = None
    editor: EditorChoice | str | None = None


def run_baseline(workspace: Workspace, model_name: str, dataset: str, options: BaselineOptions, study: int | None = None) -> Outcome:
    """Answer every sample once and store the answers."""
    loaded, benchmark = workspace.model(model_name), workspace.benchmark(dataset)
    editor = workspace.editor(options.editor) if options.editor else None
    configuration = {"editor": editor_choice(options.editor).identity() if options.editor else None}
    spec = RunSpec(
        "baseline",
        VERSION,
        loaded.model.info,
        dataset,
        benchmark.level,
        benchmark.category,
        options.pool,
        options.split,
        configuration,
        workspace.seed,
    )
    run = workspace.store.ensure_run(spec, study=study, device=loaded.model.info.device, versions=workspace.versions(), trust=loaded.trust)
    method = {"method": "baseline", "version": VERSION, "seed": workspace.seed, **configuration}
    samples = benchmark.samples(options.pool, options.split, options.limit, workspace.seed)
    units = [_with_pairs(sample_unit(loaded.model, sample, method), editor, workspace.seed) for sample in samples]

    def compute(part: Sequence[Unit]) -> list[UnitResult]:
        return _answer_units(loaded, benchmark, part)

    what = f"{model_name} answers {dataset} ({options.pool}, {options.split})"
    return run_units(workspace.store, run, units, compute, workspace.progress, what, CHUNK)


@dataclass(frozen=True, eq=False)
class _Asked:
    """A sample to answer with its pairs; `role` is what its own image is in them."""

    prepared: Prepared
    role: PairRole
    pairs: tuple[tuple[Pair, PairRole], ...] = ()


def _with_pairs(unit: Unit, editor: Editor | None, seed: int) -> Unit:
    """The unit of a sample and its edited twins. Pictures that a painter made belong to its identity: they are chosen and made anew."""
    if unit.payload is None:
        return unit
    if editor is None:
        return replace(unit, payload=_Asked(unit.payload, ""))
    pairs = _pairs_of(editor, unit.payload, seed)
    made = [pair.identifier for pair, _ in pairs if pair.record is not None]
    return replace(unit, key=unit_key(unit=unit.key, pairs=made) if made else unit.key, payload=_Asked(unit.payload, "clean", tuple(pairs)))


def _answer_units(loaded: LoadedModel, benchmark: Benchmark, units: Sequence[Unit]) -> list[UnitResult]:
    asked: list[tuple[int, PairRole, Prepared]] = []
    for index, unit in enumerate(units):
        asked.append((index, unit.payload.role, unit.payload.prepared))
        asked += [(index, role, prepare(loaded.model, pair.corrupt)) for pair, role in unit.payload.pairs]
    answered = answer(loaded, benchmark, [prepared for _, _, prepared in asked])
    results = []
    for index, unit in enumerate(units):
        rows = [(role, baseline) for (owner, role, _), baseline in zip(asked, answered, strict=True) if owner == index]
        results.append(
            UnitResult(
                unit.key,
                unit.identifier,
                samples=tuple(baseline.sample for _, baseline in rows),
                prompts=((unit.payload.prepared.sample, unit.payload.prepared.prompt),),
                pairs=tuple(pair for pair, _ in unit.payload.pairs),
                baselines=tuple(replace(baseline, pair_role=role) for role, baseline in rows),
            )
        )
    return results


def _pairs_of(editor: Editor, prepared: Prepared, seed: int) -> list[tuple[Pair, PairRole]]:
    """The edit and the control edit of a sample; a sample that cannot be edited is answered on its own image only."""
    found: list[tuple[Pair, PairRole]] = []
    try:
        found.append((editor.edit(prepared.sample, seed), "corrupt"))
    except SampleError:
        return found
    control = editor.control(prepared.sample, seed)
    if control is not None:
        found.append((control, "control"))
    return found


def answer(loaded: LoadedModel, benchmark: Benchmark, asked: Sequence[Prepared]) -> list[Baseline]:
    """What the model answers: scores by forward passes, text by greedy generation, judged by the benchmark's rule."""
    values = loaded.engine.answers([prepared.prompt for prepared in asked], [prepared.answer for prepared in asked])
    texts = loaded.engine.generate([_without_prefix(loaded, prepared) for prepared in asked])
    baselines = []
    for prepared, value, text in zip(asked, values, texts, strict=True):
        sample = prepared.sample
        baselines.append(
            Baseline(
                sample=sample,
                predicted=text,
                answer_prob=value.published_prob,
                prob_sum=value.prob_sum,
                logit=value.logit,
                logit_diff=value.logit_diff if prepared.answer.competitor else None,
                sequence_logprob=_sequence_logprob(loaded, prepared, value.published_prob),
                correct_published=value.top in prepared.answer.published,
                correct_strict=benchmark.judge(sample, text),
            )
        )
    return baselines


def _without_prefix(loaded: LoadedModel, prepared: Prepared) -> EncodedPrompt:
    """The prompt that the model answers freely: the part that both answers share must come from the model itself."""
    if not prepared.answer.prefix:
        return prepared.prompt
    sample = prepared.sample
    return encode_sample(loaded.model, sample)


def _sequence_logprob(loaded: LoadedModel, prepared: Prepared, first_probability: float) -> float:
    tokens = loaded.model.answer_tokens(prepared.prompt, prepared.sample.answer)
    if tokens == prepared.answer.published and len(tokens) == 1 and first_probability > 0:
        return math.log(first_probability)
    sample = prepared.sample
    prompt = encode_sample(loaded.model, sample, prefix=tokens[:-1])
    return loaded.engine.sequence_logprob(prompt, tokens)
