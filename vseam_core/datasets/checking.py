"""What is wrong with a dataset, found before hours are spent on it: counts, duplicates, contradictions, images, balance."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vseam_core.api.types import POOLS, Sample
from vseam_core.datasets.images import MissingImage
from vseam_core.errors import SampleError

if TYPE_CHECKING:
    from PIL.Image import Image

SHOWN = 5
"""Examples kept of each kind of problem."""

_MISSING = ("nan", "null", "n/a", "na", "nat", "undefined")
_REPEATED = re.compile(r".*~(?P<count>\d+)", re.DOTALL)


@dataclass
class Problem:
    """One kind of problem: how many samples have it, and the first few of them by identifier with what is wrong."""

    count: int = 0
    examples: list[tuple[str, str]] = field(default_factory=list)

    def add(self, sample: Sample, what: str) -> None:
        """Count a sample."""
        self.count += 1
        if len(self.examples) < SHOWN:
            self.examples.append((sample.identifier, what))


@dataclass(frozen=True)
class DatasetCheck:
    """What a check found. `problems` by name; those that keep samples from being used at all are named in `UNUSABLE`."""

    samples: int
    images: int
    pools: Mapping[str, int]
    forms: Mapping[str, int]
    categories: Mapping[str, int]
    answers: tuple[tuple[str, int], ...]
    with_objects: int
    problems: Mapping[str, Problem]


UNUSABLE = ("unusable records", "missing images", "unreadable images")


def check_dataset(samples: Iterable[Sample], open_images: bool = False, advance: Callable[[int], None] = lambda _: None) -> DatasetCheck:
    """Look at every sample. With `open_images` every image is opened, and boxes are held against its size.

    `duplicates` repeat image and question with the same answer, `contradictions` with another one; `labels against fullAnswer` are
    yes/no labels of rewritten questions that the original answer's sentence speaks against, as far as that can be read. Pools, forms,
    categories and answers are counted over what can be used.
    """
    problems: dict[str, Problem] = defaultdict(Problem)
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("pools", "forms", "categories", "answers")}
    answers: dict[tuple[str, str], str] = {}
    images: dict[str, tuple[int, int] | str | None] = {}
    total = boxed = 0
    for sample in samples:
        total += 1
        boxed += bool(sample.objects)
        if "problem" in sample.metadata:
            problems["unusable records"].add(sample, str(sample.metadata["problem"]))
            continue
        for name, value in zip(counts, (sample.pool, sample.form, sample.category, sample.answer), strict=True):
            counts[name][value] += 1
        _check_answer(sample, problems)
        _check_repeats(sample, answers, problems)
        _check_label(sample, problems)
        _check_image(sample, images, problems, open_images)
        advance(1)
    return DatasetCheck(
        samples=total,
        images=len(images),
        pools={pool: counts["pools"][pool] for pool in POOLS},
        forms=dict(counts["forms"]),
        categories=dict(counts["categories"].most_common()),
        answers=tuple(counts["answers"].most_common(10)),
        with_objects=boxed,
        problems=dict(problems),
    )


def _check_answer(sample: Sample, problems: Mapping[str, Problem]) -> None:
    """A gold answer that is what programs write for a missing one: asked as it stands, it makes a number of nothing."""
    if sample.answer.lower().strip("<>#") in _MISSING:
        problems["answers that look missing"].add(sample, f"the gold answer is {sample.answer!r}")


def _check_repeats(sample: Sample, answers: dict[tuple[str, str], str], problems: Mapping[str, Problem]) -> None:
    repeated = _REPEATED.fullmatch(sample.identifier)
    if repeated and not sample.question_id.endswith(f"~{repeated['count']}"):
        problems["repeated ids"].add(
            sample, f"the id {sample.question_id} stands on an earlier record; this one is told apart by ~{repeated['count']}"
        )
    asked = (_image_name(sample), sample.question.lower())
    if asked not in answers:
        answers[asked] = sample.answer
    elif answers[asked].lower() == sample.answer.lower():
        problems["duplicates"].add(sample, f"{sample.question!r} about {sample.image_id} again")
    else:
        problems["contradictions"].add(sample, f"{sample.question!r} is answered {sample.answer!r} here, {answers[asked]!r} before")


def _check_label(sample: Sample, problems: Mapping[str, Problem]) -> None:
    """A yes/no label against the sentence that answered the original question: does it name the attribute asked about?"""
    sentence = str(sample.metadata.get("fullAnswer") or "").lower()
    asked = next((sample.question[span.start : span.end].lower() for span in sample.roles if span.role == "attribute"), "")
    if sentence and asked and sample.form == "yes_no" and (asked in sentence) != (sample.answer.lower() == "yes"):
        problems["labels against fullAnswer"].add(sample, f"{sample.question!r} is labelled {sample.answer!r}, but: {sentence!r}")


def _check_image(sample: Sample, images: dict[str, Any], problems: Mapping[str, Problem], open_images: bool) -> None:
    name = _image_name(sample)
    if name not in images:
        found = _image(sample, open_images)
        if isinstance(found, str):
            kind = "missing images" if isinstance(sample.image, MissingImage) else "unreadable images"
            problems[kind].add(sample, found)
        elif found is not None and found.info.get("notes"):
            problems["images read with a remark"].add(sample, "; ".join(found.info["notes"]))
        images[name] = found if found is None or isinstance(found, str) else found.size
    size = images[name]
    if not isinstance(size, tuple):
        return
    for thing in sample.objects:
        x0, y0, x1, y1 = thing.box
        if not (0 <= x0 < x1 <= size[0] and 0 <= y0 < y1 <= size[1]):
            problems["boxes outside the image"].add(sample, f"{thing.name}: {thing.box} in an image of {size[0]} × {size[1]}")


def _image_name(sample: Sample) -> str:
    """What tells images apart: benchmarks of image pairs count both as one (`image_id`) and keep each one's name beside it."""
    return str(sample.metadata.get("image_name") or sample.image_id)


def _image(sample: Sample, open_it: bool) -> Image | str | None:
    """It itself where it is opened, what is wrong with it, or None where nothing is known against it."""
    if not open_it and not isinstance(sample.image, MissingImage):
        return None
    try:
        return sample.image.load()
    except SampleError as error:
        return str(error)
