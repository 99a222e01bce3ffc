"""The three training stages: vision tower, bridge, answers."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from torch import nn

from vseam_plugins.benchmarks.scenes import world
from vseam_plugins.models.zoo.batches import AnswerBatch, Mixture, QuestionKind, draw_questions, draw_scene, make_sample, to_pixels
from vseam_plugins.models.zoo.labels import cell_table, patch_table
from vseam_plugins.models.zoo.networks import Answers, Network
from vseam_plugins.models.zoo.objectives import FieldHead, RelationHead, TruthHead, WordAlignment, grounding_loss
from vseam_plugins.models.zoo.recipe import Recipe

GRADIENT_LIMIT = 1.0
MEMORY = 100  # questions of a kind that its running accuracy looks back on
Metrics = dict[str, Any]


def step_generator(seed: int, stage: str, step: int) -> random.Random:
    """Seed the data of one step on its own, so that a resumed run draws the same data as an unbroken one."""
    return random.Random(f"{seed}/{stage}/{step}")


@dataclass
class Progress:
    """Running accuracy per kind of question and the two moments that depend on their mean; saved with the weights."""

    kinds: dict[str, float] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    fade_start: int = -1
    settled: int = -1

    @property
    def accuracy(self) -> float:
        """Mean running accuracy of the kinds asked so far."""
        return float(np.mean(list(self.kinds.values()))) if self.kinds else 0.0

    def update(self, recipe: Recipe, step: int, kinds: Iterable[QuestionKind], correct: Iterable[bool]) -> None:
        """Take in the answers of one step."""
        for kind, hit in zip(kinds, correct, strict=True):
            name = "/".join(kind)
            self.asked[name] = self.asked.get(name, 0) + 1
            share = 1 / min(MEMORY, self.asked[name])
            self.kinds[name] = (1 - share) * self.kinds.get(name, 0.0) + share * hit
        if step < recipe.early_steps:
            return
        late = step + 1 >= recipe.steady_steps
        if self.fade_start < 0 and (self.accuracy >= recipe.fade_accuracy or late):
            self.fade_start = step + 1
        if self.settled < 0 and (self.accuracy >= recipe.settled_accuracy or late):
            self.settled = step + 1

    def weights(self, recipe: Recipe, step: int) -> dict[QuestionKind, float]:
        """How often to ask each kind of question at a step."""
        chosen = recipe.early_questions if step < recipe.early_steps else recipe.all_questions
        return {kind: weight * max(recipe.ease_floor, 1 - self.kinds.get("/".join(kind), 0.0)) for kind, weight in chosen.items()}

    def grounding(self, recipe: Recipe, step: int) -> float:
        """Weight of the grounding loss at a step."""
        faded = 0.0 if self.fade_start < 0 else min(1.0, (step - self.fade_start) / recipe.fade_steps)
        return recipe.ground_weight * (1 - faded)

    def truth(self, recipe: Recipe, step: int) -> float:
        """Weight of the truth loss at a step."""
        faded = 0.0 if self.settled < 0 else min(1.0, (step - self.settled) / recipe.fade_steps)
        return recipe.truth_weight * (1 - faded) if step >= recipe.truth_start else 0.0

    def rate(self, recipe: Recipe, step: int) -> float:
        """Learning rate at a step."""
        decay = 1.0 if self.settled < 0 else max(0.01, 1 - (step - self.settled) / recipe.decay_steps)
        return recipe.answer_rate * min(1.0, (step + 1) / recipe.warm_up) * decay

    def finished(self, recipe: Recipe, step: int) -> bool:
        """Tell whether the decay has run out."""
        return self.settled >= 0 and step >= self.settled + recipe.decay_steps


@dataclass
class Tally:
    """Hits per kind of question since the last log line."""

    hits: dict[QuestionKind, list[bool]] = field(default_factory=dict)

    def add(self, kinds: Iterable[QuestionKind], correct: Iterable[bool]) -> None:
        """Take in one batch."""
        for kind, hit in zip(kinds, correct, strict=True):
            self.hits.setdefault(kind, []).append(hit)

    def take(self) -> Metrics:
        """Give the accuracy per kind and start again."""
        rates = {f"{category}/{form}": round(float(np.mean(hit)), 3) for (category, form), hit in sorted(self.hits.items())}
        self.hits.clear()
        return rates


class Stage(ABC):
    """One stage: which weights it trains, how it makes a step's loss, its rate at each step and when it ends."""

    name: str
    head: FieldHead

    def __init__(self, network: Network, recipe: Recipe, mixture: Mixture, seed: int) -> None:
        self.network = network
        self.recipe = recipe
        self.mixture = mixture
        self.seed = seed
        self.device = next(network.model.parameters()).device

    @abstractmethod
    def parameters(self) -> list[nn.Parameter]:
        """Weights that this stage trains."""

    @abstractmethod
    def loss(self, step: int) -> tuple[torch.Tensor, Metrics]:
        """Draw the data of a step and compute its loss and what to log."""

    @abstractmethod
    def rate(self, step: int) -> float:
        """Learning rate at a step."""

    @abstractmethod
    def finished(self, step: int) -> bool:
        """Tell whether `step` steps are enough."""

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW without decay on vectors."""
        weights = self.parameters()
        groups = [
            {"params": [w for w in weights if w.ndim > 1], "weight_decay": self.recipe.weight_decay},
            {"params": [w for w in weights if w.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.98))

    def take_step(self, optimizer: torch.optim.Optimizer, step: int) -> Metrics:
        """Train on the data of one step."""
        for group in optimizer.param_groups:
            group["lr"] = self.rate(step)
        loss, metrics = self.loss(step)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters(), GRADIENT_LIMIT)
        optimizer.step()
        self.network.model.zero_grad()
        optimizer.zero_grad()
        return {"loss": round(loss.item(), 4), "gradient": round(float(norm), 3), **metrics}

    def _labelled_images(self, step: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = step_generator(self.seed, self.name, step)
        scenes = [draw_scene(rng, self.mixture) for _ in range(count)]
        cells = torch.from_numpy(np.stack([cell_table(scene) for scene in scenes]))
        return to_pixels([world.render(scene) for scene in scenes]).to(self.device), cells.to(self.device)

    def token_labels(self, cells: torch.Tensor, *, patches: bool) -> torch.Tensor:
        """Labels of patches, or of cells for a model whose image tokens stand for cells: `[images, tokens, fields]`."""
        if not patches:
            return cells
        return torch.from_numpy(np.stack([patch_table(table) for table in cells.cpu().numpy()])).to(self.device)


def tent(step: int, steps: int, warm_up: int) -> float:
    """Rise, stay, and fall over the last 40 % of a stage of fixed length."""
    return min(1.0, (step + 1) / warm_up) * min(1.0, max(0.02, (steps - step) / (0.4 * steps)))


class VisionStage(Stage):
    """The tower learns to tell from each patch what its object is, where it stands and whom it pulls or carries."""

    name = "vision"

    def __init__(self, *arguments: Any, head: FieldHead) -> None:
        super().__init__(*arguments)
        self.head = head

    def parameters(self) -> list[nn.Parameter]:
        return [*self.network.vision_parameters(), *self.head.parameters()]

    def loss(self, step: int) -> tuple[torch.Tensor, Metrics]:
        pixels, cells = self._labelled_images(step, self.recipe.vision_batch)
        labels = self.token_labels(cells, patches=True)
        loss, accuracies = self.head.loss(self.network.patches(pixels), labels)
        return loss, {"fields": accuracies}

    def rate(self, step: int) -> float:
        return self.recipe.vision_rate * tent(step, self.recipe.vision_steps, 100)

    def finished(self, step: int) -> bool:
        return step >= self.recipe.vision_steps


class BridgeStage(Stage):
    """Image tokens learn to agree with the word embeddings (and, for queries that stand for cells, to describe their cell)."""

    name = "bridge"

    def __init__(self, *arguments: Any, head: FieldHead, alignment: WordAlignment) -> None:
        super().__init__(*arguments)
        self.head = head
        self.alignment = alignment

    def parameters(self) -> list[nn.Parameter]:
        return [*self.network.vision_parameters(), *self.network.bridge_parameters(), *self.head.parameters()]

    def loss(self, step: int) -> tuple[torch.Tensor, Metrics]:
        pixels, cells = self._labelled_images(step, self.recipe.bridge_batch)
        return self.image_loss(self.network.image_tokens(pixels), cells)

    def image_loss(self, tokens: torch.Tensor, cells: torch.Tensor) -> tuple[torch.Tensor, Metrics]:
        """Score image tokens `[images, tokens, width]` against the cells `[images, 9, fields]`."""
        labels = self.token_labels(cells, patches=not self.network.tokens_are_cells)
        embedding = self.network.language_model.embed_tokens.weight
        aligned, words = self.alignment.loss(tokens, labels, embedding)
        described, fields = self.head.loss(tokens, labels)
        return aligned + described, {"words": words, "fields": fields}

    def rate(self, step: int) -> float:
        return self.recipe.bridge_rate * tent(step, self.recipe.bridge_steps, 50)

    def finished(self, step: int) -> bool:
        return step >= self.recipe.bridge_steps


class AnswerStage(Stage):
    """The whole model learns to answer; see `Recipe` for the schedule."""

    name = "answer"

    def __init__(self, *arguments: Any, bridge: BridgeStage, head: FieldHead, relations: RelationHead, truths: TruthHead) -> None:
        super().__init__(*arguments)
        self.truths = truths
        self.bridge = bridge
        self.relations = relations
        self.head = head
        self.progress = Progress()
        self.tally = Tally()
        self.ending = torch.tensor(self.network.words["</s>"], device=self.device)

    def parameters(self) -> list[nn.Parameter]:
        heads = (self.head, self.relations, self.bridge.head, self.truths)
        return [*self.network.model.parameters(), *[weight for head in heads for weight in head.parameters()]]

    def _draw(self, step: int) -> AnswerBatch:
        rng = step_generator(self.seed, self.name, step)
        weights = self.progress.weights(self.recipe, step)
        samples = []
        for _ in range(self.recipe.images):
            scene = draw_scene(rng, self.mixture)
            asked = draw_questions(rng, scene, self.recipe.questions, weights)
            samples.append(make_sample(self.network.encoder, scene, asked))
        return self.network.lay_out(samples, left=step % 2 == 0)

    def loss(self, step: int) -> tuple[torch.Tensor, Metrics]:
        recipe = self.recipe
        batch = self._draw(step)
        answers = self.network.answer(batch, (recipe.ground_layer, recipe.relation_layer))
        ended = functional.cross_entropy(answers.endings, self.ending.expand(len(answers.endings)))
        loss = functional.cross_entropy(answers.logits, batch.answers) + recipe.ending_weight * ended
        loss = loss + recipe.image_weight * self._image_loss(answers, batch.cells, step)
        metrics: Metrics = {}
        weight = self.progress.grounding(recipe, step)
        if weight > 0:
            tables, images = batch.tables, batch.image_of_row
            grounded, fields = grounding_loss(self.head, answers.hidden[0], batch.objects, tables, images)
            related, sides = self.relations.loss(answers.hidden[1], batch.objects, batch.partners, tables, images)
            loss = loss + weight * (grounded + recipe.relation_weight * related)
            metrics["grounding"] = {**fields, **sides}
        weight = self.progress.truth(recipe, step)
        if weight > 0:
            told, metrics["truth"] = self.truths.loss(answers.hidden[1], batch.truths)
            loss = loss + weight * told
        correct = (answers.logits.argmax(-1) == batch.answers).tolist()
        self.tally.add(batch.kinds, correct)
        self.progress.update(recipe, step, batch.kinds, correct)
        return loss, {"accuracy": round(self.progress.accuracy, 4), **metrics}

    def _image_loss(self, answers: Answers, cells: torch.Tensor, step: int) -> torch.Tensor:
        """Keep the image tokens readable; where they depend on the question, one question per image is enough."""
        rows = len(answers.image_tokens) // len(cells)
        return self.bridge.image_loss(answers.image_tokens[step % rows :: rows], cells)[0]

    def rate(self, step: int) -> float:
        return self.progress.rate(self.recipe, step)

    def finished(self, step: int) -> bool:
        return self.progress.finished(self.recipe, step)
