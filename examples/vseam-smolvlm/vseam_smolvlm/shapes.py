"""A small benchmark of drawings, and the editor that changes one of them: nothing to download."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from PIL import Image, ImageDraw

from vseam_core.api.interfaces import Benchmark, Editor
from vseam_core.api.types import Pair, PoolChoice, RoleSpan, Sample
from vseam_core.datasets.file_benchmark import pool_of
from vseam_core.errors import SampleError

COLOURS = {"red": (220, 40, 40), "green": (40, 160, 60), "blue": (50, 80, 220)}
SHAPES = ("circle", "square")
SIZE, BOX = 64, 24
NUMBER = 400


@dataclass(frozen=True)
class Drawing:
    """One shape of one colour on a noisy grey ground; its number decides where it lies."""

    number: int
    colour: str
    shape: str

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Where the shape lies, in pixels."""
        left, top = np.random.default_rng(self.number).integers(0, SIZE - BOX, 2)
        return float(left), float(top), float(left + BOX), float(top + BOX)

    def load(self) -> Image.Image:
        ground = np.random.default_rng(self.number).integers(120, 150, (SIZE, SIZE, 3), dtype=np.uint8)
        image = Image.fromarray(ground)
        left, top, right, bottom = self.box
        draw = ImageDraw.Draw(image)
        paint = draw.ellipse if self.shape == "circle" else draw.rectangle
        paint((left, top, right - 1, bottom - 1), fill=COLOURS[self.colour])
        return image


class ShapeBenchmark(Benchmark):
    """Is there a red circle in this picture? As many "Yes" as "No"."""

    name, level, category = "smolvlm/shapes", "attribute", "color"

    def samples(self, pool: PoolChoice, split: str = "plain", limit: int | None = None, seed: int = 0) -> Iterator[Sample]:
        """The drawings of the pool; the pool of a drawing depends on its number alone."""
        return islice((sample for sample in map(self._sample, range(NUMBER)) if pool in ("all", sample.pool)), limit)

    def judge(self, sample: Sample, answer: str) -> bool:
        """The word, whatever its case, without a full stop."""
        return answer.strip().rstrip(".").lower() == sample.answer.lower()

    def _sample(self, number: int) -> Sample:
        draw = np.random.default_rng([7, number])
        shown, other = (str(colour) for colour in draw.permutation(list(COLOURS))[:2])
        drawing = Drawing(number, shown, str(draw.choice(SHAPES)))
        answer = ("Yes", "No")[number % 2]
        asked = shown if answer == "Yes" else other
        question = f"Is there a {asked} {drawing.shape} in this picture?"
        start, image_id = question.index(asked), f"smolvlm/shapes/{number}"
        return Sample(
            identifier=f"{image_id}/plain",
            dataset=self.name,
            question_id=str(number),
            image_id=image_id,
            image=drawing,
            question=question,
            answer=answer,
            competitor="No" if answer == "Yes" else "Yes",
            level="attribute",
            category=self.category,
            pool=pool_of(image_id),
            roles=(
                RoleSpan(start, start + len(asked), "attribute"),
                RoleSpan(question.index(drawing.shape), question.index(drawing.shape) + len(drawing.shape), "object"),
            ),
            metadata={"asked": asked},
        )


class ShapeEditor(Editor):
    """Draws the shape again in the asked colour, or in another one: exact outside the shape's box."""

    name = "smolvlm-shapes"

    def edit(self, sample: Sample, seed: int = 0) -> Pair:
        """The twin with the other answer. Raises `SampleError` for samples of other benchmarks."""
        drawing = sample.image
        if not isinstance(drawing, Drawing):
            raise SampleError(f"{sample.identifier}: smolvlm-shapes edits drawings of smolvlm/shapes only; choose another editor")
        asked = str(sample.metadata["asked"])
        target = asked if sample.answer == "No" else next(colour for colour in COLOURS if colour != asked)
        corrupt = replace(
            sample,
            identifier=f"{sample.identifier}/edit",
            image=replace(drawing, colour=target),
            answer=str(sample.competitor),
            competitor=sample.answer,
        )
        return Pair(clean=sample, corrupt=corrupt, boxes=(drawing.box,), editor=self.name, source_term=drawing.colour, target_term=target)
