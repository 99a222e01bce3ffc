"""Training losses: dense labels on image tokens, agreement with the word embeddings, grounding of object words, answers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as functional
from torch import nn

from vseam_plugins.models.zoo.architectures import CELLS
from vseam_plugins.models.zoo.labels import COLOR_NAMES, FIELD_NAMES, FIELD_SIZES, FIELD_WEIGHTS, KIND_NAMES, MATERIAL_NAMES

BACKGROUND_WEIGHT = 0.2
SIDES = ("before", "same", "after")
Accuracies = dict[str, float]


def _unit_scale(hidden: torch.Tensor) -> torch.Tensor:
    """Scale vectors to root mean square 1, as the language model's own normalisation does."""
    return hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + 1e-5)


class FieldHead(nn.Linear):
    """Reads all label fields off a vector; used in training only and thrown away."""

    def __init__(self, width: int) -> None:
        super().__init__(width, sum(FIELD_SIZES))

    def loss(self, hidden: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, Accuracies]:
        """Score vectors `[..., width]` against labels `[..., fields]`; "nothing" counts less, being common.

        Returns the weighted cross-entropy and, per field, the accuracy where the label isn't "nothing".
        """
        outputs = self(_unit_scale(hidden)).split(FIELD_SIZES, dim=-1)
        total = hidden.new_zeros(())
        accuracies = {}
        for index, (field, output) in enumerate(zip(FIELD_NAMES, outputs, strict=True)):
            target = labels[..., index].reshape(-1)
            flat = output.reshape(-1, output.shape[-1])
            weight = torch.where(target > 0, 1.0, BACKGROUND_WEIGHT)
            losses = functional.cross_entropy(flat, target, reduction="none")
            total = total + FIELD_WEIGHTS[index] * (losses * weight).sum() / weight.sum().clamp(min=1e-6)
            hit = (flat.argmax(-1) == target)[target > 0].float()
            accuracies[field] = round(hit.mean().item(), 3) if len(hit) else float("nan")
        return total / sum(FIELD_WEIGHTS), accuracies


class WordAlignment:
    """Makes image tokens similar to the words for what they show, which gives content matching something to match."""

    def __init__(self, words: Mapping[str, int]) -> None:
        groups = (KIND_NAMES, COLOR_NAMES, MATERIAL_NAMES)
        self.groups = [torch.tensor([words[name] for name in names]) for names in groups]
        self.row_words = torch.tensor([words["above"], words["below"]])
        self.column_words = torch.tensor([words["left"], words["right"]])

    def loss(self, tokens: torch.Tensor, labels: torch.Tensor, embedding: torch.Tensor) -> tuple[torch.Tensor, list[float]]:
        """Classify image tokens `[..., width]` by dot product with word embeddings `[words, width]`; empty cells don't count."""
        used = labels[..., 0] > 0
        vectors, truth = _unit_scale(tokens[used]), labels[used]
        parts = [(vectors @ embedding[ids].T, truth[:, index] - 1) for index, ids in enumerate(self.groups)]
        for field, ids in (("row", self.row_words), ("column", self.column_words)):
            place = truth[:, FIELD_NAMES.index(field)] - 1
            edge = place != CELLS // 2
            parts.append((vectors[edge] @ embedding[ids].T, place[edge] // (CELLS - 1)))
        total = torch.stack([functional.cross_entropy(scores, target) for scores, target in parts]).mean()
        accuracies = [round((scores.argmax(-1) == target).float().mean().item(), 3) for scores, target in parts]
        return total, accuracies


def grounding_loss(
    head: FieldHead, hidden: torch.Tensor, objects: torch.Tensor, tables: torch.Tensor, image_of_row: torch.Tensor
) -> tuple[torch.Tensor, Accuracies]:
    """Ask that words about an object already carry what is true of it in the middle of the language model.

    hidden `[rows, tokens, width]`, objects `[rows, tokens]` (-1: not about an object), tables `[images, 9, fields]`.
    """
    rows, tokens = (objects >= 0).nonzero(as_tuple=True)
    labels = tables[image_of_row[rows], objects[rows, tokens]]
    return head.loss(hidden[rows, tokens], labels)


class RelationHead(nn.Linear):
    """Reads off the word for a second object on which side of it the first stands; used in training only."""

    def __init__(self, width: int) -> None:
        super().__init__(width, 2 * len(SIDES))

    def loss(
        self, hidden: torch.Tensor, objects: torch.Tensor, partners: torch.Tensor, tables: torch.Tensor, image_of_row: torch.Tensor
    ) -> tuple[torch.Tensor, Accuracies]:
        """Score hidden states `[rows, tokens, width]` where `partners` `[rows, tokens]` names a first object (else -1)."""
        rows, tokens = (partners >= 0).nonzero(as_tuple=True)
        images = image_of_row[rows]
        places = slice(FIELD_NAMES.index("row"), FIELD_NAMES.index("column") + 1)
        second = tables[images, objects[rows, tokens], places]
        first = tables[images, partners[rows, tokens], places]
        target = (first - second).sign() + 1
        outputs = self(_unit_scale(hidden[rows, tokens])).reshape(-1, 2, len(SIDES))
        loss = functional.cross_entropy(outputs.reshape(-1, len(SIDES)), target.reshape(-1), reduction="sum")
        hits = (outputs.argmax(-1) == target).float().mean(0).tolist() if len(rows) else [float("nan")] * 2
        return loss / max(1, target.numel()), {"side_row": round(hits[0], 3), "side_column": round(hits[1], 3)}


class TruthHead(nn.Linear):
    """Reads off the word for a colour or material whether the object has it; used in training only."""

    def __init__(self, width: int) -> None:
        super().__init__(width, 2)

    def loss(self, hidden: torch.Tensor, truths: torch.Tensor) -> tuple[torch.Tensor, Accuracies]:
        """Score hidden states `[rows, tokens, width]` where `truths` `[rows, tokens]` is 0 or 1 (-1: not such a word)."""
        used = truths >= 0
        outputs, target = self(_unit_scale(hidden[used])), truths[used]
        loss = functional.cross_entropy(outputs, target, reduction="sum") / max(1, len(target))
        hit = (outputs.argmax(-1) == target).float().mean().item() if len(target) else float("nan")
        return loss, {"truth": round(hit, 3)}
