"""What a way to answer generates, and the same by hand: plain forward passes of the whole text for every token, attention written out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from tests.models.builders import picture
from vseam_core.api.generation import BranchedGeneration, GenerationContext
from vseam_core.api.interventions import AnswerIds
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.engine.budgeted import FullPassEngine
from vseam_core.engine.generation import question_of
from vseam_core.engine.readouts import answer_values
from vseam_plugins.models.hf import HuggingFaceModel

Weights = Callable[[int, torch.Tensor], torch.Tensor]
"""The attention weights of one head at one position, from its number and the logits of the positions so far."""

STEPS = 6
ANSWER = AnswerIds((4,), (5,), (4,))
QUESTIONS = ("Is the red dog left of the cat?", "Is the blue cat left?", "Is red?")


def context_of(model: HuggingFaceModel, question: str, seed: int = 0) -> GenerationContext:
    shape = FullPassEngine(model).shape
    return GenerationContext(model.encode(picture(seed), question), shape, model, lambda: picture(seed))


def answered(model: HuggingFaceModel, method: BranchedGeneration) -> list[tuple[GenerationContext, str, float]]:
    """What the engine generates, all questions in one batch."""
    contexts = [context_of(model, question, seed) for seed in range(2) for question in QUESTIONS]
    questions = [question_of(method, each, each.prompt, ANSWER) for each in contexts]
    responses = FullPassEngine(model).respond(questions, STEPS)
    assert all(response.values is not None for response in responses)
    return [(each, found.text, found.values.logit_diff) for each, found in zip(contexts, responses, strict=True) if found.values]


def greedy_by_hand(model: HuggingFaceModel, logits_of: Callable[[Sequence[int]], torch.Tensor]) -> tuple[str, float]:
    """The argmax of `logits_of` the tokens so far, until the end of text."""
    tokens: list[int] = []
    first = logits = logits_of([])
    for _ in range(STEPS):
        token = int(logits.argmax())
        if token == model.tokenizer.eos_token_id:
            break
        tokens.append(token)
        logits = logits_of(tokens)
    finite = torch.where(first.isneginf(), first[~first.isneginf()].min() - 100, first)
    return model.tokenizer.decode(tokens, skip_special_tokens=True).strip(), answer_values(finite[None], [ANSWER])[0].logit_diff


def last_logits(model: HuggingFaceModel, prompt: EncodedPrompt, tokens: Sequence[int]) -> torch.Tensor:
    """A plain forward pass of a prompt and some tokens, alone in its batch."""
    ids = torch.tensor([[*prompt.ids, *tokens]])
    pixels = {name: value for name, value in prompt.inputs.items() if name == "pixel_values"}
    with torch.no_grad():
        logits: torch.Tensor = model.module(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, **pixels).logits[0, -1]
    return logits


@contextmanager
def attention_by_hand(model: HuggingFaceModel, layers: Sequence[int], first: int, changed: Weights) -> Iterator[None]:
    """Attention written out: in these layers every query from position `first` on has the weights that `changed` gives it."""

    def attention(module: Any) -> Callable[..., Any]:
        def forward(hidden_states: torch.Tensor, position_embeddings: Any, attention_mask: Any = None, **_: Any) -> Any:
            length = hidden_states.shape[1]
            split = [
                p(hidden_states)[0].view(length, -1, module.head_dim).transpose(0, 1) for p in (module.q_proj, module.k_proj, module.v_proj)
            ]
            query, key = (each[0] for each in apply_rotary_pos_emb(split[0][None], split[1][None], *position_embeddings))
            outputs = []
            for head in range(len(query)):
                rows = []
                for at in range(length):
                    scores = key[head, : at + 1] @ query[head, at] / math.sqrt(module.head_dim)
                    weights = changed(head, scores) if at >= first else scores.softmax(-1)
                    rows.append(weights @ split[2][head, : at + 1])
                outputs.append(torch.stack(rows))
            return module.o_proj(torch.cat(outputs, -1)[None]), None

        return forward

    modules = [model.module.model.language_model.layers[layer].self_attn for layer in layers]
    try:
        for module in modules:
            module.forward = attention(module)
        yield
    finally:
        for module in modules:
            del module.forward
