"""Draw training data from the world and lay it out for the two models.

For LLaVA an image is encoded once and its questions stand one after another behind it, each seeing the image and
itself only, its positions starting again right after the image: exactly what it would see alone, at a fraction of
the cost. For InstructBLIP the queries depend on the question, so every question is a row of its own.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from vseam_plugins.benchmarks.scenes import questions as scene_questions
from vseam_plugins.benchmarks.scenes import world
from vseam_plugins.models.zoo.architectures import CELLS
from vseam_plugins.models.zoo.labels import FIELD_NAMES, cell_table, object_table
from vseam_plugins.models.zoo.processors import PIXEL_MEAN, PIXEL_STD
from vseam_plugins.models.zoo.prompts import prompt_for

QuestionKind = tuple[str, str]  # (category, form)
CATEGORIES = tuple(scene_questions.CATEGORIES)
FORMS = ("yes_no", "open")
QUESTION_KINDS: tuple[QuestionKind, ...] = tuple((category, form) for category in CATEGORIES for form in FORMS)
DRAW_LIMIT = 400
ABSENT = CELLS * CELLS - 1  # a row of the object table that is always empty, as a scene has fewer objects than cells


@dataclass(frozen=True)
class EncodedQuestion:
    """One question as token ids: text without the image, the answer's id, and what each token speaks of.

    `objects` is the index of an object, ABSENT for a kind that the scene lacks, -1 for other words; `partners` is, at the
    second of two objects, the index of the first, else -1; `truths` is, at a colour or material asked about, 1 if the
    object has it and 0 if not, else -1.
    """

    ids: tuple[int, ...]
    objects: tuple[int, ...]
    partners: tuple[int, ...]
    truths: tuple[int, ...]
    answer: int
    kind: QuestionKind


@dataclass(frozen=True)
class Sample:
    """One rendered scene with its labels and questions."""

    pixels: np.ndarray  # [height, width, 3], uint8
    objects: np.ndarray  # [objects, fields]
    cells: np.ndarray  # [cells, fields]
    questions: tuple[EncodedQuestion, ...]


@dataclass(frozen=True)
class Mixture:
    """How training scenes are drawn: a share of harder ones, and how often a scene without any action is drawn again."""

    hard_share: float = 0.2
    hard_noise: tuple[float, float] = (10.0, 45.0)
    action_redraw: float = 0.4
    world: str = "uniform"


@dataclass
class AnswerBatch:
    """Questions laid out for one forward pass; rows are images (packed) or questions (separate).

    `ids`, `positions`, `objects`, `partners`, `truths` `[rows, tokens]`; `segments` `[rows, tokens]` numbers the question of
    each token (-1: padding); `asked` `[questions, 2]` points (row, token) at the last prompt token of each question; `followed`
    `[endings, 2]` at answer tokens that the end of text must follow; `answers` `[questions]`; `image_of_row` `[rows]`;
    `tables` `[images, 9, fields]`.
    """

    pixels: torch.Tensor
    cells: torch.Tensor
    tables: torch.Tensor
    ids: torch.Tensor
    positions: torch.Tensor
    segments: torch.Tensor
    objects: torch.Tensor
    partners: torch.Tensor
    truths: torch.Tensor
    asked: torch.Tensor
    followed: torch.Tensor
    answers: torch.Tensor
    image_of_row: torch.Tensor
    kinds: tuple[QuestionKind, ...]

    def to(self, device: torch.device) -> AnswerBatch:
        """Move every tensor to a device."""
        moved: dict[str, Any] = {key: value.to(device) for key, value in vars(self).items() if isinstance(value, torch.Tensor)}
        return replace(self, **moved)


class Encoder:
    """Turns questions into token ids in the prompt of one model."""

    def __init__(self, name: str, words: Mapping[str, int], tokenizer: Any) -> None:
        self.name = name
        self.words = words
        self.tokenizer = tokenizer
        self.kind_of_id = {words[kind]: kind for kind in world.KINDS}
        self.attribute_ids = {words[value] for value in (*world.COLORS, *world.MATERIALS)}
        self.group_of_id = {words[group]: frozenset(kinds) for group, kinds in world.GROUPS.items()}
        self._ids: dict[str, tuple[int, ...]] = {}

    def text_ids(self, question: str) -> tuple[int, ...]:
        """Tokenise the prompt without the image and what precedes it (the packed layout writes that once per image)."""
        known = self._ids.get(question)
        if known is None:
            text = prompt_for(self.name, question).rpartition("<image>")[2]
            known = tuple(self.tokenizer.encode(text, add_special_tokens=False))
            self._ids[question] = known
        return known

    def encode(self, scene: Any, question: Any) -> EncodedQuestion:
        """Encode one question about one scene."""
        ids = self.text_ids(question.text)
        objects = tuple(self._object(scene, question, token) for token in ids)
        first, partners = -1, []
        for token, index in zip(ids, objects, strict=True):
            named = token in self.kind_of_id
            partners.append(first if named else -1)
            first = index if named else first
        true = int(question.answer == "Yes")
        truths = tuple(true if self._is_value(question, token) else -1 for token in ids)
        kind = (question.category, question.form)
        return EncodedQuestion(
            ids=ids, objects=objects, partners=tuple(partners), truths=truths, answer=self.words[question.answer], kind=kind
        )

    def _is_value(self, question: Any, token: int) -> bool:
        return question.value is not None and token in self.attribute_ids and token == self.words[question.value]

    def _object(self, scene: Any, question: Any, token: int) -> int:
        kind = self.kind_of_id.get(token)
        if kind is not None:
            return next((index for index, item in enumerate(scene.objects) if item.kind == kind), ABSENT)
        if self._is_value(question, token):
            return int(question.subject)
        group = self.group_of_id.get(token)
        members = [index for index, item in enumerate(scene.objects) if group and item.kind in group]
        return members[0] if len(members) == 1 else -1


def draw_scene(rng: random.Random, mixture: Mixture) -> Any:
    """Draw one training scene; the harder ones have any noise up to the upper end, so that no level of noise is unseen."""
    hard = rng.random() < mixture.hard_share
    while True:
        noise = rng.uniform(*mixture.hard_noise) if hard else None
        scene = world.sample_scene(rng, pool="train", split="hard" if hard else "plain", world=mixture.world, noise=noise)
        if scene.actions or rng.random() >= mixture.action_redraw:
            return scene


def draw_questions(rng: random.Random, scene: Any, count: int, weights: Mapping[QuestionKind, float]) -> list[Any]:
    """Ask `count` questions about a scene, kinds drawn by weight among those that the scene supports."""
    kinds, shares = list(weights), list(weights.values())
    asked: list[Any] = []
    for _ in range(DRAW_LIMIT):
        category, form = rng.choices(kinds, shares)[0]
        want = rng.choice(("Yes", "No")) if form == "yes_no" else None
        question = scene_questions.ask(rng, scene, category, form, want)
        if question is not None:
            asked.append(question)
        if len(asked) == count:
            return asked
    raise RuntimeError(f"a scene of {len(scene.objects)} objects supports fewer than {count} questions of {sorted(weights)}")


def make_sample(encoder: Encoder, scene: Any, asked: Sequence[Any]) -> Sample:
    """Render a scene and encode its questions."""
    encoded = tuple(encoder.encode(scene, question) for question in asked)
    return Sample(world.render(scene), object_table(scene), cell_table(scene), encoded)


def to_pixels(images: Sequence[np.ndarray]) -> torch.Tensor:
    """Normalise images as the processors do: `[images, 3, height, width]`, float32 in [-1, 1]."""
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
    return (stacked / 255 - PIXEL_MEAN) / PIXEL_STD


def _tables(samples: Sequence[Sample]) -> torch.Tensor:
    """Stack the object tables, padded to the number of cells: `[images, 9, fields]`."""
    tables = np.zeros((len(samples), len(samples[0].cells), len(FIELD_NAMES)), dtype=np.int64)
    for index, sample in enumerate(samples):
        tables[index, : len(sample.objects)] = sample.objects
    return torch.from_numpy(tables)


def _pad(rows: Sequence[Sequence[int]], fill: int, *, left: bool = False) -> torch.Tensor:
    width = max(map(len, rows))
    padded = [[fill] * (width - len(row)) + list(row) if left else list(row) + [fill] * (width - len(row)) for row in rows]
    return torch.tensor(padded, dtype=torch.long)


def pack(samples: Sequence[Sample], *, pad: int, image_end: int) -> AnswerBatch:
    """Lay out one row per image, its questions one after another, for a model whose image tokens don't see the question.

    `image_end` is the position of the first token after the image. The last question of a row carries its answer, so that
    the end of text is learnt too.
    """
    rows: tuple[list[list[int]], ...] = ([], [], [], [], [], [])  # ids, positions, segments, objects, partners, truths
    asked, followed, answers, kinds = [], [], [], []
    for row, sample in enumerate(samples):
        columns: tuple[list[int], ...] = ([], [], [], [], [], [])
        for number, question in enumerate(sample.questions):
            last = number == len(sample.questions) - 1
            tokens = [*question.ids, question.answer] if last else list(question.ids)
            asked.append((row, len(columns[0]) + len(question.ids) - 1))
            columns[0].extend(tokens)
            columns[1].extend(range(image_end, image_end + len(tokens)))
            columns[2].extend([number] * len(tokens))
            columns[3].extend([*question.objects, -1][: len(tokens)])
            columns[4].extend([*question.partners, -1][: len(tokens)])
            columns[5].extend([*question.truths, -1][: len(tokens)])
            answers.append(question.answer)
            kinds.append(question.kind)
        followed.append((row, len(columns[0]) - 1))
        for target, column in zip(rows, columns, strict=True):
            target.append(column)
    ids, positions, segments, objects, partners, truths = rows
    return AnswerBatch(
        pixels=to_pixels([sample.pixels for sample in samples]), cells=torch.from_numpy(np.stack([s.cells for s in samples])),
        tables=_tables(samples), ids=_pad(ids, pad), positions=_pad(positions, image_end),
        segments=_pad(segments, -1), objects=_pad(objects, -1),
        partners=_pad(partners, -1), truths=_pad(truths, -1),
        asked=torch.tensor(asked), followed=torch.tensor(followed), answers=torch.tensor(answers),
        image_of_row=torch.arange(len(samples)), kinds=tuple(kinds),
    )  # fmt: skip


def separate(samples: Sequence[Sample], *, pad: int, start: int, left: bool) -> AnswerBatch:
    """Lay out one row per question with its answer as the last token, padded at the left (as processors do) or the right.

    With padding between image and text the text stands further from the image than it does alone, so both must be trained.
    """
    pairs = [(image, question) for image, sample in enumerate(samples) for question in sample.questions]
    ids = _pad([[start, *question.ids, question.answer] for _, question in pairs], pad, left=left)
    used = _pad([[0] * (len(question.ids) + 2) for _, question in pairs], -1, left=left)
    objects = _pad([[-1, *question.objects, -1] for _, question in pairs], -1, left=left)
    partners = _pad([[-1, *question.partners, -1] for _, question in pairs], -1, left=left)
    truths = _pad([[-1, *question.truths, -1] for _, question in pairs], -1, left=left)
    rows, width = ids.shape
    lengths = torch.tensor([width if left else len(question.ids) + 2 for _, question in pairs])
    ends = torch.stack([torch.arange(rows), lengths - 1], dim=1)
    return AnswerBatch(
        pixels=to_pixels([sample.pixels for sample in samples]), cells=torch.from_numpy(np.stack([s.cells for s in samples])),
        tables=_tables(samples), ids=ids, positions=torch.arange(width).expand(rows, width), segments=used,
        objects=objects, partners=partners, truths=truths,
        asked=ends - torch.tensor([0, 1]), followed=ends, answers=torch.tensor([question.answer for _, question in pairs]),
        image_of_row=torch.tensor([image for image, _ in pairs]), kinds=tuple(question.kind for _, question in pairs),
    )  # fmt: skip
