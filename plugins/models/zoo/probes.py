"""Probes of a checkpoint: questions that tell *how* it comes to its answers, where accuracy only tells how often they are right.

Two shortcuts can be told apart from looking: naming the colour that an object usually has (in the skewed world), and saying
that an action takes place as soon as its agent is seen doing it, whomever it is done to.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vseam_plugins.benchmarks.scenes import questions as scene_questions
from vseam_plugins.benchmarks.scenes import world
from vseam_plugins.models.zoo.evaluation import answer_items, load_checkpoint

WRONG_COLORS = len(world.COLORS) - 1
CHANCE = 1 / WRONG_COLORS  # how often a wrong colour is the usual one if all wrong colours are equally likely


@dataclass(frozen=True)
class PriorMistakes:
    """Open colour questions about objects that have a usual colour in the skewed world, and what a model answered.

    `usual` says which objects were asked about: those in their usual colour, or those in another. `prior` counts the wrong answers
    that name the usual colour; an object in its usual colour leaves none of those.
    """

    model: str
    split: str
    usual: bool
    asked: int
    wrong: int
    prior: int

    @property
    def share(self) -> float | None:
        """Share of the wrong answers that name the usual colour (`CHANCE` if it played no part); None without wrong answers."""
        return self.prior / self.wrong if self.wrong else None

    def as_dict(self) -> dict[str, Any]:
        """Give the counts as plain values."""
        return asdict(self)


def prior_mistakes(
    folder: Path, name: str, split: str, *, usual: bool, asked: int, seed: int, model: str = "", device: str = "cpu"
) -> PriorMistakes:
    """Ask a checkpoint of the architecture `name` for the colour of objects in their usual colour, or in another.

    Scenes come from the skewed world's test pool, where half of these objects have their usual colour. `model` is what the result
    calls the checkpoint (default: `name`).
    """
    rng = random.Random(f"prior/{seed}/{split}/{usual}")
    items = [_color_question(rng, split, usual) for _ in range(asked)]
    given = answer_items(*load_checkpoint(folder, device), name, items)
    wrong = [
        (answer, world.PRIOR[scene.objects[question.subject].kind])
        for answer, (scene, question) in zip(given, items, strict=True)
        if answer != question.answer
    ]
    return PriorMistakes(
        model=model or name, split=split, usual=usual, asked=asked, wrong=len(wrong), prior=sum(answer == prior for answer, prior in wrong)
    )


def _color_question(rng: random.Random, split: str, usual: bool) -> tuple[Any, Any]:
    while True:
        scene = world.sample_scene(rng, pool="test", split=split, world="skewed")
        question = scene_questions.ask(rng, scene, "color", "open")
        if question is None or question.subject is None or scene.objects[question.subject].kind not in world.PRIOR:
            continue
        if (question.subject not in world.counter_prior(scene)) == usual:
            return scene, question


def compare_priors(models: Sequence[tuple[str, Path]], name: str, *, asked: int, seed: int, device: str = "cpu") -> list[PriorMistakes]:
    """The same questions for several checkpoints of one architecture, on both splits, about unusual and usual colours."""
    return [
        prior_mistakes(folder, name, split, usual=usual, asked=asked, seed=seed, model=model, device=device)
        for model, folder in models
        for split in ("plain", "hard")
        for usual in (False, True)
    ]


def partner_accuracy(folder: Path, name: str, split: str, *, place: str, asked: int, seed: int, device: str = "cpu") -> float:
    """How often a checkpoint denies an action that is done, but to another object (`place` "agent") or by another ("patient").

    The true action's agent (or patient) stays in the question and the other object is any third one, so that a model which only
    sees that the agent pulls something would say yes. Questions come from the test pool.
    """
    rng = random.Random(f"partner/{seed}/{split}/{place}")
    items = [_wrong_partner(rng, split, place) for _ in range(asked)]
    given = answer_items(*load_checkpoint(folder, device), name, items)
    return sum(answer == "No" for answer in given) / asked


def _wrong_partner(rng: random.Random, split: str, place: str) -> tuple[Any, Any]:
    while True:
        scene = world.sample_scene(rng, pool="test", split=split)
        found = []
        for true in scene.actions:
            others = [index for index in range(len(scene.objects)) if index not in (true.agent, true.patient)]
            asked = [(true.agent, index) if place == "agent" else (index, true.patient) for index in others]
            found += [world.Action(true.name, agent, patient) for agent, patient in asked]
        false = [action for action in found if action not in scene.actions]
        if false:
            return scene, scene_questions.action_question(scene, rng.choice(false))
