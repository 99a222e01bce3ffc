"""Prompts, pairs and a scripted engine, so that planning is tested without any model."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from PIL import Image

from vseam_core.api.interfaces import ModelShape, TraceContext
from vseam_core.api.interventions import AnswerIds, AnswerValues, Run, RunResult
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.api.types import Box, Pair, Sample

GRID = 4
"""The image is GRID × GRID image positions, each 8 pixels wide."""
SIZE = (8 * GRID, 8 * GRID)
CLASSES = (
    *["structural_before"],
    *["template"],
    *["image"] * GRID**2,
    *["structural_after"],
    *["question"] * 4,
    *["template"] * 2,
    *["last"],
)
ROLES = ("",) * 20 + ("object", "object", "") + ("",) * 3
TEXT_POSITIONS = (0, 1, *range(18, 26))
IMAGE_POSITIONS = tuple(range(2, 18))
ANSWER = AnswerIds(gold=(5, 6), competitor=(7, 8), published=(5, 9))
SHAPE = ModelShape(layers=3, heads=4, head_dim=8)


class Blank:
    """A black image."""

    def load(self) -> Image.Image:
        return Image.new("RGB", SIZE)


def prompt(key: str, boxes: bool = True, classes: Sequence[str] = CLASSES, roles: Sequence[str] = ROLES) -> EncodedPrompt:
    """A prompt of the shape that `CLASSES` describes; with `boxes` its image positions have a place in the image."""
    grid = tuple((x / GRID, y / GRID, (x + 1) / GRID, (y + 1) / GRID) for y in range(GRID) for x in range(GRID))
    return EncodedPrompt(
        inputs={},
        ids=tuple(range(10, 10 + len(classes))),
        tokens=tuple(f"token{index}" for index in range(len(classes))),
        classes=tuple(classes),  # type: ignore[arg-type]
        roles=tuple(roles),
        text="Is there a dog in this picture?",
        key=key,
        image_boxes=grid if boxes else None,
    )


def pair(boxes: tuple[Box, ...] = ((8, 8, 24, 16),), question: str = "7") -> Pair:
    """A pair whose edit covers, by default, two neighbouring image positions."""
    clean = Sample(
        identifier=f"toy/score/plain/{question}",
        dataset="toy",
        question_id=question,
        image_id="scene",
        image=Blank(),
        question="Is there a dog in this picture?",
        answer="Yes",
        competitor="No",
        level="object",
        category="animal",
        pool="score",
    )
    corrupt = replace(clean, answer="No", competitor="Yes")
    return Pair(clean, corrupt, boxes, "toy", "dog", "cat")


def context(
    clean: EncodedPrompt | None = None,
    corrupt: EncodedPrompt | None = None,
    answer: AnswerIds = ANSWER,
    edit: Pair | None = None,
    seed: int = 0,
    shape: ModelShape = SHAPE,
) -> TraceContext:
    """What a tracer is given about one pair."""
    return TraceContext(
        pair=edit or pair(),
        clean=clean or prompt("clean"),
        corrupt=corrupt or prompt("corrupt"),
        answer=answer,
        shape=shape,
        image_size=SIZE,
        seed=seed,
    )


def number(*what: object) -> float:
    """A number between 0 and 1 that is different for everything it is asked about, and always the same for one thing."""
    return zlib.crc32(repr(what).encode()) / 2**32


def answer_values(*what: object) -> AnswerValues:
    """Values that name what they are the answer of."""
    measures = ("logit_diff", "logprob", "published_prob", "prob_sum", "logit")
    return AnswerValues(*(number(measure, *what) for measure in measures), top=0)


def describe(run: Run) -> tuple[object, ...]:
    """Everything that tells one run from another."""
    donor = run.donor.key if run.donor else None
    return (run.base.key, donor, run.interventions) if run.interventions else (run.base.key,)


def scripted(runs: Sequence[Run], values: Callable[..., AnswerValues] = answer_values) -> list[RunResult]:
    """What an engine would return: for every run and readout a value of its own."""
    results = []
    for run in runs:
        readouts = []
        for readout in run.readouts:
            site, positions = getattr(readout, "site", None), getattr(readout, "positions", (run.base.last,))
            described = describe(run) if site is None else (run.base.key, site)
            readouts.append(tuple(values(*described, *((position,) if site else ())) for position in positions))
        results.append(RunResult(tuple(readouts)))
    return results
