"""Accuracy of a checkpoint folder, asked as a user would: through its own processor, one prompt per question."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from vseam_plugins.benchmarks.scenes import questions as scene_questions
from vseam_plugins.benchmarks.scenes import world
from vseam_plugins.models.zoo.batches import QUESTION_KINDS
from vseam_plugins.models.zoo.prompts import prompt_for

BATCH = 50
DRAW_LIMIT = 2000


@dataclass(frozen=True)
class Score:
    """How many questions of one kind (category and form) were answered right on a split."""

    split: str
    category: str
    form: str
    asked: int
    correct: int

    def as_dict(self) -> dict[str, Any]:
        """Give the score as plain values."""
        return asdict(self)


def load_checkpoint(folder: Path, device: str = "cpu") -> tuple[Any, Any]:
    """Load model (fp32) and processor of a checkpoint folder."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    return model.eval().to(device), AutoProcessor.from_pretrained(folder, local_files_only=True)


def draw_items(
    rng: random.Random, category: str, form: str, split: str, count: int, *, world_name: str = "uniform", pool: str = "test"
) -> list[tuple[Any, Any]]:
    """Draw `count` (scene, question) pairs, one question per scene, yes/no balanced."""
    items: list[tuple[Any, Any]] = []
    for _ in range(DRAW_LIMIT * count):
        want = ("Yes", "No")[len(items) % 2] if form == "yes_no" else None
        scene = world.sample_scene(rng, pool=pool, split=split, world=world_name)
        question = scene_questions.ask(rng, scene, category, form, want)
        if question is not None:
            items.append((scene, question))
        if len(items) == count:
            return items
    raise RuntimeError(f"the {split} {pool} pool yields fewer than {count} questions of {category}/{form}")


@torch.no_grad()
def answer_items(model: Any, processor: Any, name: str, items: list[tuple[Any, Any]]) -> list[str]:
    """Answer questions about scenes with the most probable next token."""
    given: list[str] = []
    for start in range(0, len(items), BATCH):
        part = items[start : start + BATCH]
        inputs = processor(
            images=[Image.fromarray(world.render(scene)) for scene, _ in part],
            text=[prompt_for(name, question.text) for _, question in part],
            return_tensors="pt",
            padding=True,
        ).to(model.device)
        best = model(**inputs).logits[:, -1].argmax(-1).tolist()
        given += processor.tokenizer.convert_ids_to_tokens(best)
    return given


def evaluate_checkpoint(
    folder: Path, name: str, split: str, *, per_kind: int, seed: int, world_name: str = "uniform", device: str = "cpu"
) -> list[Score]:
    """Score a checkpoint on the test pool of a split: one `Score` per category and form of question."""
    model, processor = load_checkpoint(folder, device)
    scores = []
    for category, form in QUESTION_KINDS:
        rng = random.Random(f"evaluation/{seed}/{split}/{category}/{form}")
        items = draw_items(rng, category, form, split, per_kind, world_name=world_name)
        given = answer_items(model, processor, name, items)
        correct = sum(answer == question.answer for answer, (_, question) in zip(given, items, strict=True))
        scores.append(Score(split, category, form, len(items), correct))
    return scores


def category_accuracy(scores: list[Score], split: str) -> dict[str, float]:
    """Average the two forms of every category of a split."""
    categories = dict.fromkeys(score.category for score in scores if score.split == split)
    rates = {}
    for category in categories:
        chosen = [score for score in scores if score.split == split and score.category == category]
        rates[category] = sum(score.correct for score in chosen) / sum(score.asked for score in chosen)
    return rates
