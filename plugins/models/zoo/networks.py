"""What the training stages need from each of the two model families: its image tokens, and answers to laid-out questions.

A new family is added by writing one more class with these methods and naming it in `NETWORKS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from vseam_plugins.models.zoo.architectures import CELLS, GRID, build_model
from vseam_plugins.models.zoo.batches import AnswerBatch, Encoder, Sample, pack, separate
from vseam_plugins.models.zoo.processors import build_processor
from vseam_plugins.models.zoo.prompts import INSTRUCTBLIP, LLAVA, prompt_for


@dataclass
class Answers:
    """One forward pass: `logits` `[questions, words]` at the answers, `endings` `[endings, words]` after them,

    `hidden` `[rows, tokens, width]` of the text after each layer asked for, `image_tokens` `[images, image tokens, width]`
    in the language model's space.
    """

    logits: torch.Tensor
    endings: torch.Tensor
    hidden: list[torch.Tensor]
    image_tokens: torch.Tensor


class Network(Protocol):
    """A model in training."""

    name: str
    model: nn.Module
    language_model: Any
    processor: Any
    encoder: Encoder
    words: dict[str, int]
    tokens_are_cells: bool

    def patches(self, pixels: torch.Tensor) -> torch.Tensor:
        """Vision features without the class token: `[images, patches, width]`."""
        ...

    def vision_parameters(self) -> list[nn.Parameter]:
        """Weights of the vision tower."""
        ...

    def bridge_parameters(self) -> list[nn.Parameter]:
        """Weights between the vision tower and the language model, and those of the word embeddings."""
        ...

    def image_tokens(self, pixels: torch.Tensor) -> torch.Tensor:
        """Image tokens in the language model's space, no question asked: `[images, image tokens, width]`."""
        ...

    def lay_out(self, samples: Sequence[Sample], *, left: bool = True) -> AnswerBatch:
        """Lay samples out for `answer`, padded at the left or the right (no difference to LLaVA, whose padding is unseen)."""
        ...

    def answer(self, batch: AnswerBatch, layers: Sequence[int]) -> Answers:
        """Run the model on laid-out questions, keeping the residual stream after some layers of the language model."""
        ...


class _Base:
    tokens_are_cells = False
    language_model: Any

    def __init__(self, name: str, seed: int, device: torch.device) -> None:
        self.name = name
        self.processor = build_processor(name)
        self.words = self.processor.tokenizer.get_vocab()
        self.encoder = Encoder(name, self.words, self.processor.tokenizer)
        self.model: Any = build_model(name, seed).to(device)
        self.device = device

    def _run_language_model(self, layers: Sequence[int], **inputs: Any) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Run the Llama; also give the residual stream after each of `layers` (native hooks, removed afterwards)."""
        kept: list[torch.Tensor] = []

        def keep(module: nn.Module, args: Any, output: Any) -> None:
            kept.append(output[0] if isinstance(output, tuple) else output)

        handles = [self.language_model.layers[layer].register_forward_hook(keep) for layer in sorted(layers)]
        try:
            final = self.language_model(use_cache=False, **inputs).last_hidden_state
        finally:
            for handle in handles:
                handle.remove()
        return final, kept


class LlavaNetwork(_Base):
    """LLaVA: every patch is an image token, and image tokens don't depend on the question."""

    def __init__(self, name: str, seed: int, device: torch.device) -> None:
        super().__init__(name, seed, device)
        self.language_model = self.model.model.language_model
        self.head = self.model.lm_head
        prefix = prompt_for(name, "").partition("<image>")[0]
        self.prefix = torch.tensor(self.processor.tokenizer.encode(prefix), device=device)

    def patches(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model.model.vision_tower(pixels).last_hidden_state[:, 1:]

    def vision_parameters(self) -> list[nn.Parameter]:
        return list(self.model.model.vision_tower.parameters())

    def bridge_parameters(self) -> list[nn.Parameter]:
        return [*self.model.model.multi_modal_projector.parameters(), self.language_model.embed_tokens.weight]

    def image_tokens(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model.model.multi_modal_projector(self.patches(pixels))

    def lay_out(self, samples: Sequence[Sample], *, left: bool = True) -> AnswerBatch:
        image_end = len(self.prefix) + GRID * GRID
        return pack(samples, pad=self.words["<pad>"], image_end=image_end).to(self.device)

    def answer(self, batch: AnswerBatch, layers: Sequence[int]) -> Answers:
        images = self.image_tokens(batch.pixels)
        before = self.language_model.embed_tokens(self.prefix).expand(len(images), -1, -1)
        embeds = torch.cat([before, images, self.language_model.embed_tokens(batch.ids)], dim=1)
        start = before.shape[1] + images.shape[1]
        shared = torch.arange(start, device=self.device).expand(len(images), -1)
        final, kept = self._run_language_model(
            layers,
            inputs_embeds=embeds,
            attention_mask=block_mask(batch.segments, start),
            position_ids=torch.cat([shared, batch.positions], dim=1),
        )
        rows, tokens = batch.asked[:, 0], batch.asked[:, 1] + start
        ends = self.head(final[batch.followed[:, 0], batch.followed[:, 1] + start])
        return Answers(self.head(final[rows, tokens]), ends, [hidden[:, start:] for hidden in kept], images)


def block_mask(segments: torch.Tensor, start: int) -> torch.Tensor:
    """Let each question see the image and itself, never another question: additive mask `[rows, 1, tokens, tokens]`.

    `segments` `[rows, text tokens]` numbers the question of each token, -1 for padding (which sees itself, so that its
    softmax stays finite); `start` counts the tokens before the text.
    """
    rows = len(segments)
    prefix = torch.full((rows, start), -2, device=segments.device)
    labels = torch.cat([prefix, segments], dim=1)
    total = labels.shape[1]
    same = labels[:, :, None] == labels[:, None, :]
    seen = (same | (labels[:, None, :] == -2)) & torch.ones(total, total, dtype=torch.bool, device=segments.device).tril()
    return torch.zeros(rows, 1, total, total, device=segments.device).masked_fill(~seen[:, None], torch.finfo(torch.float32).min)


class InstructBlipNetwork(_Base):
    """InstructBLIP: the Q-Former reads image and question; its queries stand for the cells of the scene."""

    tokens_are_cells = True

    def __init__(self, name: str, seed: int, device: torch.device) -> None:
        super().__init__(name, seed, device)
        self.language_model = self.model.language_model.model
        self.head = self.model.language_model.lm_head
        self.queries = CELLS * CELLS

    def patches(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model.vision_model(pixels).last_hidden_state[:, 1:]

    def vision_parameters(self) -> list[nn.Parameter]:
        return list(self.model.vision_model.parameters())

    def bridge_parameters(self) -> list[nn.Parameter]:
        parts = (self.model.qformer, self.model.language_projection)
        weights = [weight for part in parts for weight in part.parameters()]
        return [*weights, self.model.query_tokens, self.language_model.embed_tokens.weight]

    def _query(self, features: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Ask the Q-Former: features `[rows, 1 + patches, width]`, text `[rows, tokens]` to `[rows, queries, width]`."""
        queries = self.model.query_tokens.expand(len(ids), -1, -1)
        seen = torch.cat([torch.ones(queries.shape[:2], dtype=mask.dtype, device=mask.device), mask], dim=1)
        output = self.model.qformer(input_ids=ids, attention_mask=seen, query_embeds=queries, encoder_hidden_states=features)
        return self.model.language_projection(output.last_hidden_state[:, : queries.shape[1]])

    def image_tokens(self, pixels: torch.Tensor) -> torch.Tensor:
        features = self.model.vision_model(pixels).last_hidden_state
        ids = torch.full((len(pixels), 1), self.words["<s>"], device=self.device)
        return self._query(features, ids, torch.ones_like(ids))

    def lay_out(self, samples: Sequence[Sample], *, left: bool = True) -> AnswerBatch:
        return separate(samples, pad=self.words["<pad>"], start=self.words["<s>"], left=left).to(self.device)

    def answer(self, batch: AnswerBatch, layers: Sequence[int]) -> Answers:
        features = self.model.vision_model(batch.pixels).last_hidden_state[batch.image_of_row]
        asked = batch.segments >= 0
        asked[batch.followed[:, 0], batch.followed[:, 1]] = False  # the Q-Former reads the prompt without its answer
        ids = batch.ids.masked_fill(~asked, self.words["<pad>"])
        images = self._query(features, ids[:, :-1], asked[:, :-1].long())
        embeds = torch.cat([images, self.language_model.embed_tokens(batch.ids)], dim=1)
        start = images.shape[1]
        seen = torch.cat([torch.ones(images.shape[:2], device=self.device), (batch.segments >= 0).float()], dim=1)
        final, kept = self._run_language_model(layers, inputs_embeds=embeds, attention_mask=seen.long())
        rows, tokens = batch.asked[:, 0], batch.asked[:, 1] + start
        ends = self.head(final[batch.followed[:, 0], batch.followed[:, 1] + start])
        return Answers(self.head(final[rows, tokens]), ends, [hidden[:, start:] for hidden in kept], images)


NETWORKS: dict[str, type[LlavaNetwork] | type[InstructBlipNetwork]] = {
    LLAVA: LlavaNetwork,
    INSTRUCTBLIP: InstructBlipNetwork,
}
