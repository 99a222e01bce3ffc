"""A tiny LLaVA with large random weights, and what its activations do under plain hooks, written without the engine.

`PlainModel` is the independent computation that tracers and head interventions are held against: every question is answered by
one full forward pass of one prompt, with hooks on modules named by hand, and attention recomputed from its formula where it is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from vseam_core.api.interfaces import VisionLanguageModel
from vseam_core.api.interventions import AnswerIds
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.api.types import ModelInfo

from .support import CLASSES, SHAPE, SIZE, prompt

IMAGE_TOKEN = 3
VOCABULARY = 40
LAYERS, HEADS, HEAD_DIM = SHAPE.layers, SHAPE.heads, SHAPE.head_dim

Change = Callable[[torch.Tensor], torch.Tensor]
"""Takes an activation `[positions, width]` and returns what it becomes."""


def build(dtype: torch.dtype = torch.float64, attention: str = "sdpa", seed: int = 0) -> LlavaForConditionalGeneration:
    """A randomly initialised LLaVA; the weights are far larger than the default's, under which every bug looks like 0."""
    width = HEADS * HEAD_DIM
    configuration = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=SIZE[0],
            patch_size=8,
        ),
        text_config=LlamaConfig(
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=2,
            vocab_size=VOCABULARY,
        ),
        image_token_id=IMAGE_TOKEN,
        image_seq_length=16,
        attn_implementation=attention,
    )
    model = LlavaForConditionalGeneration(configuration).to(dtype).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(dtype)
            # Norm weights away from 1, so that forgetting them shows.
            parameter.copy_(1 + 0.3 * noise if "norm" in name and name.endswith("weight") else 0.25 * noise)
    return model


class TinyLlava(VisionLanguageModel):
    """The model as the engine takes it."""

    def __init__(self, module: LlavaForConditionalGeneration) -> None:
        self.module = module
        self.info = ModelInfo("tiny", "llava", "random", "", str(module.dtype), "eager", "cpu", LAYERS, HEADS, HEAD_DIM)

    def encode(self, *arguments: Any, **named: Any) -> EncodedPrompt:
        raise NotImplementedError("these prompts are made by image_prompt")

    def answer_ids(self, *arguments: Any) -> AnswerIds:
        raise NotImplementedError("these answers are written by hand")

    def answer_tokens(self, *arguments: Any) -> tuple[int, ...]:
        raise NotImplementedError("these answers are written by hand")

    def generate(self, *arguments: Any, **named: Any) -> list[str]:
        raise NotImplementedError("nothing is generated here")

    def collate(self, prompts: Sequence[EncodedPrompt]) -> dict[str, torch.Tensor]:
        return {name: torch.cat([entry.inputs[name] for entry in prompts]) for name in prompts[0].inputs}


def image_prompt(seed: int, dtype: torch.dtype = torch.float64) -> EncodedPrompt:
    """One question about an image of noise that depends on `seed`; all prompts have the same tokens."""
    ids = [IMAGE_TOKEN if name == "image" else 10 + index for index, name in enumerate(CLASSES)]
    pixels = torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    inputs = {"input_ids": torch.tensor([ids]), "pixel_values": pixels.to(dtype)}
    return replace(prompt(f"image{seed}"), inputs=inputs, ids=tuple(ids))


class PlainModel:
    """Full forward passes of one prompt with plain hooks. Sites are named `before`, `after`, `attention`, `mlp`, `z`."""

    def __init__(self, module: LlavaForConditionalGeneration) -> None:
        self.module = module
        self.layers = module.model.language_model.layers

    def activations(self, given: EncodedPrompt) -> dict[tuple[int, str], torch.Tensor]:
        """Every site's activation `[positions, width]` in an unchanged run."""
        kept: dict[tuple[int, str], torch.Tensor] = {}

        def keeper(key: tuple[int, str]) -> Change:
            def keep(value: torch.Tensor) -> torch.Tensor:
                kept[key] = value.clone()
                return value

            return keep

        sites = [(layer, site) for layer in range(LAYERS) for site in ("before", "after", "attention", "mlp", "z")]
        self.logits(given, {key: keeper(key) for key in sites})
        return kept

    @torch.no_grad()
    def logits(
        self,
        given: EncodedPrompt,
        changes: Mapping[tuple[int, str], Change] | None = None,
        cuts: Sequence[tuple[int, Sequence[int], Sequence[int]]] = (),
    ) -> torch.Tensor:
        """Logits of the last position `[vocabulary]`; `cuts` lists (layer, targets, sources) that attention is denied."""
        handles = [self._attach(layer, site, change) for (layer, site), change in (changes or {}).items()]
        for layer, targets, sources in cuts:
            handles.append(self._cut(layer, targets, sources))
        try:
            return self.module(**given.inputs).logits[0, -1].double()
        finally:
            for handle in handles:
                handle.remove()

    def _attach(self, layer: int, site: str, change: Change) -> Any:
        block = self.layers[layer]
        if site in ("before", "z"):
            module = block if site == "before" else block.self_attn.o_proj
            return module.register_forward_pre_hook(lambda _, args: (change(args[0][0])[None], *args[1:]))
        if site == "attention":
            return block.self_attn.register_forward_hook(lambda _, args, out: (change(out[0][0])[None], *out[1:]))
        module = block.mlp if site == "mlp" else block
        return module.register_forward_hook(lambda _, args, out: change(out[0])[None])

    def _cut(self, layer: int, targets: Sequence[int], sources: Sequence[int]) -> Any:
        """Replaces the layer's attention by softmax(QK/√d + mask) V written out, with keys of `sources` hidden from `targets`."""
        attention = self.layers[layer].self_attn

        def recompute(module: Any, args: Any, kwargs: Any, output: Any) -> Any:
            hidden = kwargs["hidden_states"][0]
            cosine, sine = (value[0] for value in kwargs["position_embeddings"])
            length = len(hidden)
            query, key, value = (
                projection(hidden).view(length, -1, HEAD_DIM).transpose(0, 1)
                for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
            )
            query, key = (rotate(part, cosine, sine) for part in (query, key))
            key, value = (part.repeat_interleave(HEADS // len(part), 0) for part in (key, value))
            hidden_keys = torch.ones(length, length, dtype=torch.bool).triu(1)
            for target in targets:
                hidden_keys[target, list(sources)] = True
            scores = (query @ key.transpose(1, 2) / HEAD_DIM**0.5).masked_fill(hidden_keys, float("-inf"))
            weights = torch.nan_to_num(torch.softmax(scores, -1))
            z = (weights @ value).transpose(0, 1).reshape(1, length, -1)
            return (attention.o_proj(z), None)

        return attention.register_forward_hook(recompute, with_kwargs=True)


def rotate(part: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding of `[heads, positions, head_dim]`."""
    first, second = part.chunk(2, -1)
    return part * cosine + torch.cat([-second, first], -1) * sine


def measures(logits: torch.Tensor, answer: AnswerIds) -> dict[str, float]:
    """The measures of an answer from the logits of one position, by their definitions."""
    probabilities = torch.softmax(logits, -1)
    published = list(answer.published)
    competitor = torch.logsumexp(logits[list(answer.competitor)], 0)
    return {
        "logit_diff": float(torch.logsumexp(logits[list(answer.gold)], 0) - competitor),
        "logprob": float(torch.log(probabilities[list(answer.gold)].sum())),
        "published_prob": float(probabilities[published[0]]),
        "prob_sum": float(probabilities[published].sum()),
        "logit": float(logits[published].mean()),
    }


def of_head(z: torch.Tensor, head: int) -> torch.Tensor:
    """One head's slice of z, a view `[positions, head_dim]`."""
    return z[:, head * HEAD_DIM : (head + 1) * HEAD_DIM]


def assert_equal(found: np.ndarray, expected: Any, tolerance: float = 1e-4) -> None:
    """Within `tolerance` absolutely, and within `tolerance` of the median effect that is not zero."""
    expected = np.array(expected, dtype=np.float64).reshape(found.shape)
    size = np.abs(expected[np.abs(expected) > 1e-9])
    assert size.size, "every expected effect is zero: this comparison would show nothing"
    error = np.abs(found.astype(np.float64) - expected).max()
    assert error <= tolerance
    assert error <= tolerance * np.median(size)
