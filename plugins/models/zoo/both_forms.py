"""Teaches an embedded model to answer yes/no questions in the form of other levels too, from the weights that it has.

In the scenes world each level has a question form of its own, so that whatever a model does by level it may do by the form of the
question. The embedded models cannot be asked otherwise: in another level's form they answer at chance. A copy that has learnt both
forms can.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional
from torch import nn

from vseam_core.files import write_atomically
from vseam_plugins.benchmarks.scenes.questions import CATEGORIES, crossed
from vseam_plugins.models.zoo import checkpoint_path
from vseam_plugins.models.zoo.batches import Mixture, draw_questions, draw_scene, make_sample
from vseam_plugins.models.zoo.card import CARD_FILE
from vseam_plugins.models.zoo.evaluation import answer_items, draw_items, load_checkpoint
from vseam_plugins.models.zoo.networks import NETWORKS, Network
from vseam_plugins.models.zoo.recipe import ALL_QUESTIONS, RECIPES
from vseam_plugins.models.zoo.training import Log, save_checkpoint

STEPS, RATE, WARM_UP, LOG_EVERY = 800, 6e-4, 50, 50
FORMS = ("own", "crossed")


def teach(name: str, output: Path, *, seed: int = 0, steps: int = STEPS, log: Log = print, asked: int = 150, device: str = "cpu") -> Path:
    """Train a copy of the shipped `name` on yes/no questions in either form, half of each, and on open questions; saved in `output`.

    The result depends on `name`, `seed` and `steps` alone (on one machine with one thread count). `asked` questions per category and
    form are asked on the plain test pool afterwards, for the card. Raises KeyError if the zoo has no model of that name.
    """
    network = NETWORKS[name](name, seed, torch.device(device))
    network.model.load_state_dict(load_checkpoint(checkpoint_path(name), device)[0].state_dict())
    network.model.train()
    optimizer = torch.optim.AdamW(network.model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=RECIPES[name].weight_decay)
    ending = torch.tensor(network.words["</s>"], device=torch.device(device))
    hits: list[bool] = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / WARM_UP) * max(0.02, 1 - step / steps)
        batch = _batch(network, random.Random(f"both forms/{seed}/{step}"), step)
        answers = network.answer(batch, ())
        loss = functional.cross_entropy(answers.logits, batch.answers)
        loss = loss + RECIPES[name].ending_weight * functional.cross_entropy(answers.endings, ending.expand(len(answers.endings)))
        loss.backward()
        nn.utils.clip_grad_norm_(network.model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        hits += (answers.logits.argmax(-1) == batch.answers).tolist()
        if (step + 1) % LOG_EVERY == 0:
            log(f"step {step + 1}: loss {loss.item():.3f}, accuracy {sum(hits) / len(hits):.3f}")
            hits.clear()
    output.mkdir(parents=True, exist_ok=True)
    save_checkpoint(network, output)
    accuracies = form_accuracies(output, name, asked=asked, seed=seed, device=device) if asked else {}
    write_atomically(output / CARD_FILE, _card(name, seed, steps, accuracies, asked))
    return output


def _batch(network: Network, rng: random.Random, step: int) -> Any:
    recipe = RECIPES[network.name]
    samples = []
    for _ in range(recipe.images):
        scene = draw_scene(rng, Mixture())
        drawn = draw_questions(rng, scene, recipe.questions, ALL_QUESTIONS)
        asked = [crossed(scene, one) if one.form == "yes_no" and rng.random() < 0.5 else one for one in drawn]
        samples.append(make_sample(network.encoder, scene, asked))
    return network.lay_out(samples, left=step % 2 == 0)


def form_accuracies(
    folder: Path, name: str, *, asked: int, seed: int, split: str = "plain", device: str = "cpu"
) -> dict[tuple[str, str], float]:
    """The share of yes/no questions answered right by (category, form) on the test pool: the same questions in either form."""
    checkpoint = load_checkpoint(folder, device)
    found = {}
    for category in CATEGORIES:
        items = draw_items(random.Random(f"both forms/{seed}/{split}/{category}"), category, "yes_no", split, asked)
        for form in FORMS:
            put = items if form == "own" else [(scene, crossed(scene, question)) for scene, question in items]
            given = answer_items(*checkpoint, name, put)
            found[category, form] = sum(answer == question.answer for answer, (_, question) in zip(given, put, strict=True)) / asked
    return found


def _card(name: str, seed: int, steps: int, accuracies: Mapping[tuple[str, str], float], asked: int) -> str:
    lines = [
        f"# {name}, taught both forms", "",
        f"Made by `vseam zoo teach {name} --seed {seed}` from the shipped weights: {steps} steps on questions of the *scenes* world,",
        "yes/no ones in their own form or in that of another level (`scenes-crossed/…`), half of each, and open ones.", "",
    ]  # fmt: skip
    if accuracies:
        head = ["| category | own form % | another level's form % |", "|---|---|---|"]
        lines += [f"{asked} questions per cell, plain test pool.", "", *head]
    for category in dict.fromkeys(category for category, _ in accuracies):
        own, other = (100 * accuracies[category, form] for form in FORMS)
        lines.append(f"| {category} | {own:.1f} | {other:.1f} |")
    return "\n".join(lines) + "\n"
