"""A small results database made by hand: two tasks of one model with scans, traces, answers and a skip, and words that try to be markup."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from vseam_core.analysis.heads import score_heads
from vseam_core.analysis.traces import PairTrace, aggregate_traces, strongest_cells
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.api.types import HeadEffect, ModelInfo, Pair, Sample, TraceEffect
from vseam_core.experiments.thumbnails import thumbnail_of
from vseam_core.results.image_attention import NAME, attention_over_image
from vseam_core.runs.spec import Baseline, RunSpec, UnitResult
from vseam_core.store import Store, open_store
from vseam_core.store.thumbnails import Thumbnail, put_thumbnails

Change = Callable[[np.ndarray], np.ndarray]
MODEL = "tiny"
LAYERS, HEADS, SAMPLES = 6, 8, 24
MARKUP = "<img src=x onerror=\"document.title='taken'\"> is the dog red?"
TASKS = {"scenes/color": ("color", "attribute", (2, 5)), "scenes/animal": ("animal", "object", (4, 1))}
"""By dataset: category, level, and the head that every right answer needs."""
TOKENS = ("<s>", "USER:", "<image>", " Is", " the", " dog", " red", "?", " ASSISTANT", ":")
ROLES = ("", "", "", "", "", "object", "attribute", "", "", "")
TEXT_POSITIONS = (3, 4, 5, 6, 7, 8, 9)


class NoImage:
    """An image that nobody may look at: the page is drawn from the database alone."""

    def load(self) -> Any:
        raise AssertionError("a report loads no image")


def build_database(path: Path, change: Change | None = None) -> Path:
    """Write the database; its numbers come from one generator. `change` is done to the head effects of scenes/color."""
    random = np.random.default_rng(7)
    with open_store(path) as store:
        configuration = {"name": "made", "models": [MODEL], "datasets": list(TASKS), "stages": ["trace", "scan"]}
        study = store.ensure_study("made", configuration)
        thumbnails: dict[str, Thumbnail] = {}
        for dataset, (category, level, head) in TASKS.items():
            samples = [_sample(dataset, category, level, number) for number in range(SAMPLES)]
            _scan(store, study, samples, random=random, head=head, change=change if category == "color" else None)
            _trace(store, study, samples[:12], random)
            for number in range(4):
                thumbnails[samples[number].identifier] = thumbnail_of(Image.new("RGB", (320, 240), (40 * number, 120, 200)))
                thumbnails[f"{samples[number].identifier}/edit"] = thumbnail_of(Image.new("RGB", (320, 240), (40 * number, 20, 20)))
        put_thumbnails(store, thumbnails, {})
    return path


def _sample(dataset: str, category: str, level: str, number: int, side: str = "") -> Sample:
    gold = "Yes" if (number % 2 == 0) != bool(side) else "No"
    return Sample(
        identifier=f"{dataset}/score/plain/{number:03}{side}",
        dataset=dataset,
        question_id=str(number),
        image_id=f"scene-{number}",
        image=NoImage(),
        question=MARKUP if number == 3 else f"Is the dog number {number} red?",
        answer=gold,
        competitor="No" if gold == "Yes" else "Yes",
        level=level,
        category=category,
        pool="score",
    )


def _spec(sample: Sample, method: str, **configuration: Any) -> RunSpec:
    info = ModelInfo(MODEL, "llava", "made", "a" * 64, "float32", "eager", "cpu", LAYERS, HEADS, 4)
    where = {"dataset": sample.dataset, "level": sample.level, "category": sample.category}
    return RunSpec(method=method, method_version=1, model=info, pool="score", split="plain", configuration=configuration, **where)


def _answer(sample: Sample, right: bool, role: str = "") -> Baseline:
    text = sample.answer if right else sample.competitor
    return Baseline(sample, str(text), 0.8, 0.9, 3.0, 2.0 if right else -1.5, -0.2, right, right, float(right), role)


def _scan(
    store: Store, study: int, samples: list[Sample], random: np.random.Generator, head: tuple[int, int], change: Change | None
) -> None:
    run = store.ensure_run(_spec(samples[0], "head_scan", operation={"name": "resample", "version": 1, "options": {}}), study=study)
    effects = random.normal(0.0, 0.3, (len(samples), LAYERS, HEADS)).astype(np.float32)
    effects[:, *head] += 4.0
    if change is not None:
        effects = change(effects).astype(np.float32)
    measured = None if np.isfinite(effects).all() else np.isfinite(effects[0])
    right = np.array([number % 6 != 5 for number in range(len(samples))])
    units = [
        UnitResult(
            f"scan-{sample.identifier}",
            sample.identifier,
            baselines=(_answer(sample, bool(right[place])),),
            head_effects=((sample, HeadEffect("resample", "all", "logit_diff", "decoder", effects[place], 2.0, measured)),),
            details={NAME: {"last": _looks(place, 0.5), "question": _looks(place, 0.3)}} if change is None else {},
        )
        for place, sample in enumerate(samples)
    ]
    store.save(run, units)
    store.save(run, [UnitResult("broken", f"{samples[0].dataset}/broken", "skipped", "the image cannot be read: <b>broken</b>")])
    store.finish_run(run)
    gold = np.array([sample.answer == "Yes" for sample in samples])
    images = np.array([sample.image_id for sample in samples])
    scores = score_heads(np.nan_to_num(effects), np.full(len(samples), 2.0), right, gold, images, measure="logit_diff", seed=0, splits=10)
    frame = scores.frame.assign(measure="logit_diff", pool="score", operation="resample", positions="all")
    store.replace_scores("head_scores", run, frame, [unit.key for unit in units])


def _looks(number: int, most: float) -> dict[str, Any]:
    """Every head gives so much of its attention to the cell of the sample's number, in a grid of 3 × 4, and a tenth to the next one."""
    weights = np.zeros((LAYERS, HEADS, 12))
    weights[..., number % 12], weights[..., (number + 1) % 12] = most, 0.1
    boxes = [(x / 4, y / 3, (x + 1) / 4, (y + 1) / 3) for y in range(3) for x in range(4)]
    return attention_over_image(weights, boxes).record()


def _trace(store: Store, study: int, samples: list[Sample], random: np.random.Generator) -> None:
    run = store.ensure_run(_spec(samples[0], "trace", tracer={"name": "tokenwise", "version": 1, "options": {}}), study=study)
    store.present_run(run, {"view": "map", "title": "share that one token carries", "caption": "One token at a time."})
    units, traces = [], []
    for number, sample in enumerate(samples):
        corrupt = _sample(sample.dataset, sample.category, sample.level, number, "/edit")
        pair = Pair(sample, corrupt, ((10.0, 10.0, 40.0, 40.0),), "scenes", "red", "blue")
        effects = [_effect(random, direction) for direction in ("denoising", "noising")]
        answers = (_answer(sample, True, "clean"), _answer(corrupt, number % 4 != 3, "corrupt"))
        units.append(
            UnitResult(
                f"trace-{sample.identifier}",
                sample.identifier,
                pairs=(pair,),
                prompts=((sample, _prompt(sample)),),
                baselines=answers,
                trace_effects=tuple((pair, effect) for effect in effects),
            )
        )
        traces += [PairTrace(effect, sample.image_id, True, answers[1].correct_strict, 0.0) for effect in effects]
    store.save(run, units)
    store.finish_run(run)
    keys = [unit.key for unit in units]
    store.replace_scores("trace_scores", run, aggregate_traces(traces), keys)
    store.replace_scores("strongest_cells", run, strongest_cells(traces, seed=0, count=10), keys)


def _effect(random: np.random.Generator, direction: Any) -> TraceEffect:
    values = random.normal(0.0, 0.2, (LAYERS, len(TEXT_POSITIONS))).astype(np.float32)
    values[1, 3] += 5.0 if direction == "denoising" else -5.0
    return TraceEffect(
        tracer="tokenwise",
        stack="decoder",
        site_kind="attention_output",
        direction=direction,
        measure="logit_diff",
        layers=tuple(range(LAYERS)),
        columns=tuple(map(str, TEXT_POSITIONS)),
        column_kind="position",
        roles=tuple(ROLES[position] or ("last" if position == TEXT_POSITIONS[-1] else "question") for position in TEXT_POSITIONS),
        values=values,
        clean=4.0,
        corrupt=-4.0,
    )


def _prompt(sample: Sample) -> EncodedPrompt:
    classes = ("structural_before", "template", "image", *("question",) * 5, "template", "last")
    return EncodedPrompt({}, tuple(range(len(TOKENS))), TOKENS, classes, ROLES, sample.question, f"prompt-{sample.identifier}")  # type: ignore[arg-type]


def rows_of(path: Path, sql: str) -> pd.DataFrame:
    """What the database itself says."""
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(path)) as connection:
        return pd.read_sql_query(sql, connection)
