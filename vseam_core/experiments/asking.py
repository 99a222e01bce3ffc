"""From a benchmark's sample to the questions that an evaluation asks: which samples, how each is put, what its answer is judged by."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from vseam_core.api.interfaces import Benchmark, VisionLanguageModel
from vseam_core.api.interventions import AnswerIds
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.api.types import POOLS, PoolChoice, Sample
from vseam_core.errors import SampleError, UnknownNameError, UnsupportedError, VseamError, did_you_mean
from vseam_core.experiments.preparation import encode_sample, model_identity
from vseam_core.runs.identity import unit_key
from vseam_core.runs.runner import Unit

LIMIT_OF_ENDLESS = 100
NO_COMPETITOR = "no competing answer is known"
_OPPOSITE = {"yes": "No", "no": "Yes"}


@dataclass(frozen=True, eq=False)
class Asked:
    """A sample as it is put to a model. `free` is the prompt that it answers by itself.

    `answer` are the ids by which gold and competing answer are told apart, after `scored` (`free`, followed by what both answers share);
    None where they cannot be, for the reason in `note`. `size` is the image's (width, height).
    """

    sample: Sample
    free: EncodedPrompt
    scored: EncodedPrompt
    answer: AnswerIds | None
    note: str
    size: tuple[int, int]


@dataclass(frozen=True)
class Selection:
    """Which samples of a benchmark: `limit` is a number, or a fraction of all as a float; None is everything there is.

    `pool` and `split` None are the benchmark's own: all pools of a finite one, the test pool of an endless one; the first split.
    """

    pool: PoolChoice | None = None
    split: str | None = None
    limit: int | float | None = None
    offset: int = 0


def settled(selection: Selection, benchmark: Benchmark) -> Selection:
    """A selection with nothing left open. Raises `VseamError` for a pool, split, limit or offset that this benchmark does not have."""
    splits = benchmark.splits()
    split = splits[0] if selection.split is None else selection.split
    if split not in splits:
        raise UnknownNameError(f"{benchmark.name}: unknown split {split!r}; {did_you_mean(split, splits)}")
    pool = selection.pool or cast(PoolChoice, "test" if benchmark.endless else "all")
    if pool not in (*POOLS, "all"):
        raise UnknownNameError(f"unknown pool {pool!r}; {did_you_mean(pool, (*POOLS, 'all'))}")
    limit = selection.limit
    if isinstance(limit, float) and not 0 < limit <= 1:
        raise VseamError(f"--limit {limit}: expected a whole number of samples, or a fraction of them between 0 and 1")
    if isinstance(limit, int) and limit < 1:
        raise VseamError(f"--limit {limit}: expected at least 1 sample")
    if selection.offset < 0:
        raise VseamError(f"--offset {selection.offset}: expected 0 or more")
    if benchmark.endless:
        if isinstance(limit, float):
            raise VseamError(f"{benchmark.name}: its samples have no end, so --limit must be a number, not a fraction")
        limit = limit or LIMIT_OF_ENDLESS
    return Selection(pool, split, limit, selection.offset)


def selected_samples(benchmark: Benchmark, selection: Selection, seed: int) -> list[Sample]:
    """The samples of a settled selection, in the benchmark's order. Raises `VseamError` where there is none."""
    pool, split, limit, offset = cast(PoolChoice, selection.pool), cast(str, selection.split), selection.limit, selection.offset
    if isinstance(limit, float):
        every = list(benchmark.samples(pool, split, None, seed))
        samples = every[offset : offset + math.ceil(limit * len(every))]
    else:
        end = None if limit is None else offset + limit
        samples = list(itertools.islice(benchmark.samples(pool, split, end, seed), offset, end))
    if not samples:
        raise VseamError(f"{benchmark.name}: no sample in pool {pool}, split {split}, from number {offset} on")
    return samples


def ask(model: VisionLanguageModel, sample: Sample) -> Asked:
    """Put a sample to a model. Raises `SampleError` or `UnsupportedError` for one that cannot be answered or judged at all."""
    if not sample.answer.strip():
        raise SampleError(f"{sample.identifier}: the gold answer is empty")
    image = sample.image.load()
    free = encode_sample(model, sample, image)
    competitor = sample.competitor
    if competitor is None and sample.form == "yes_no":
        competitor = _OPPOSITE.get(sample.answer.strip().casefold())
    if competitor is None:
        return Asked(sample, free, free, None, NO_COMPETITOR, image.size)
    try:
        answer = model.answer_ids(free, sample.answer, competitor)
        scored = encode_sample(model, sample, image, answer.prefix) if answer.prefix else free
    except (SampleError, UnsupportedError) as error:
        return Asked(sample, free, free, None, str(error), image.size)
    return Asked(sample, free, scored, answer, "", image.size)


def asked_unit(model: VisionLanguageModel, sample: Sample, method: Mapping[str, Any]) -> Unit:
    """A unit for one sample: ready to be asked, or with the problem that it has."""
    identity = {**method, **model_identity(model), "sample": sample.identifier}
    try:
        asked = ask(model, sample)
    except (SampleError, UnsupportedError) as error:
        return Unit(unit_key(**identity, problem=str(error)), sample.identifier, None, str(error))
    answer = None if asked.answer is None else [list(asked.answer.gold), list(asked.answer.competitor)]
    key = unit_key(**identity, prompt=asked.free.key, scored=asked.scored.key, gold=sample.answer, answer=answer)
    return Unit(key, sample.identifier, asked)
