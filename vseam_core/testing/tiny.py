"""A tiny vision-language model: a genuine LLaVA with random weights, words for tokens, and an image of 4 × 4 patches."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from vseam_core.api.interfaces import VisionLanguageModel
from vseam_core.api.interventions import AnswerIds
from vseam_core.api.prompts import EncodedPrompt, PositionClass
from vseam_core.api.types import Box, ModelInfo, RoleSpan
from vseam_core.errors import SampleError

GRID, PATCH = 4, 8
LAYERS, HEADS, WIDTH = 4, 4, 32
_VOCABULARY, _IMAGE, _BEGIN, _FIRST_WORD = 512, 3, 1, 10
_WORD = re.compile(r"\w+|[^\w\s]")


class TinyModel(VisionLanguageModel):
    """Answers nothing sensibly, but computes like any LLaVA, in milliseconds: what methods are tried on.

    Its weights are large, so that mistakes show. Every word has an id of its own by a hash; two words may share one.
    """

    def __init__(self, name: str = "tiny", seed: int = 0, dtype: torch.dtype = torch.float32):
        self.module: Any = _build(seed).to(dtype)
        self.info = ModelInfo(
            name=name,
            family="llava",
            source="random",
            weights_hash=f"seed-{seed}",
            dtype=str(dtype).removeprefix("torch."),
            attention="sdpa",
            device="cpu",
            layers=LAYERS,
            heads=HEADS,
            head_dim=WIDTH // HEADS,
        )

    def encode(self, image: Image.Image, question: str, roles: Sequence[RoleSpan] = (), answer_prefix: Sequence[int] = ()) -> EncodedPrompt:
        """Beginning of text, the image, the question's words, and the prefix of an answer."""
        if not question.strip():
            raise SampleError("the question is empty")
        for span in roles:
            if not 0 <= span.start < span.end <= len(question):
                raise SampleError(f"role {span.role!r} names characters {span.start}–{span.end} of a question of {len(question)}")
        words = list(_WORD.finditer(question))
        written = [_id_of(word.group()) for word in words]
        ids = (_BEGIN, *[_IMAGE] * GRID**2, *written, *answer_prefix)
        pixels = np.asarray(image.convert("RGB").resize((GRID * PATCH, GRID * PATCH)), dtype=np.float32) / 127.5 - 1
        inputs = {"input_ids": torch.tensor([ids]), "pixel_values": torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()}
        classes: list[PositionClass] = ["structural_before", *["image"] * GRID**2, *["question"] * len(written)]  # type: ignore[list-item]
        classes += ["template"] * len(answer_prefix)
        classes[-1] = "last"
        named = ["", *[""] * GRID**2, *(_role_of(word, roles) for word in words), *[""] * len(answer_prefix)]
        key = hashlib.sha256(inputs["pixel_values"].numpy().tobytes() + repr(ids).encode()).hexdigest()
        return EncodedPrompt(
            inputs=inputs,
            ids=ids,
            tokens=tuple(map(str, ids)),
            classes=tuple(classes),
            roles=tuple(named),
            text=question,
            key=key,
            image_boxes=_boxes(),
        )

    def answer_ids(self, prompt: EncodedPrompt, gold: str, competitor: str | None) -> AnswerIds:
        """The first word of each answer."""
        first, second = self.answer_tokens(prompt, gold)[:1], () if competitor is None else self.answer_tokens(prompt, competitor)[:1]
        if first == second:
            raise SampleError(f"the answers {gold!r} and {competitor!r} have the same token ids")
        return AnswerIds(first, second, first)

    def answer_tokens(self, prompt: EncodedPrompt, answer: str) -> tuple[int, ...]:
        """The ids of its words."""
        found = tuple(_id_of(word) for word in _WORD.findall(answer))
        if not found:
            raise SampleError("the answer is empty")
        return found

    def collate(self, prompts: Sequence[EncodedPrompt]) -> dict[str, torch.Tensor]:
        """Prompts of one length."""
        if len({len(prompt) for prompt in prompts}) != 1:
            raise ValueError("prompts of different length in one batch")
        batch = {name: torch.cat([prompt.inputs[name] for prompt in prompts]) for name in prompts[0].inputs}
        return {name: value.to(self.module.dtype) if value.is_floating_point() else value for name, value in batch.items()}

    def generate(self, prompts: Sequence[EncodedPrompt], max_new_tokens: int = 8) -> list[str]:
        """The most likely next token, by its number."""
        texts = []
        for prompt in prompts:
            with torch.no_grad():
                logits = self.module(**self.collate([prompt]), use_cache=False).logits[0, -1]
            texts.append(f"word{int(logits.argmax())}")
        return texts

    @property
    def reads_without_image(self) -> bool:
        """A LLaVA reads text alone."""
        return True

    def respond_together(
        self, rows: Sequence[EncodedPrompt], combine: Callable[[torch.Tensor, int], torch.Tensor], max_new_tokens: int = 8
    ) -> tuple[list[str], torch.Tensor]:
        """The most likely next token of each row after `combine`, by its number. Rows are read as one batch: they must have one length."""
        with torch.no_grad():
            logits = combine(self.module(**self.collate(rows), use_cache=False).logits[:, -1], 0)
        return [f"word{int(row.argmax())}" for row in logits], logits


def _id_of(word: str) -> int:
    digest = hashlib.sha256(word.lower().encode()).digest()
    return _FIRST_WORD + int.from_bytes(digest[:4], "big") % (_VOCABULARY - _FIRST_WORD)


def _role_of(word: re.Match[str], roles: Sequence[RoleSpan]) -> str:
    return next((span.role for span in roles if word.start() < span.end and span.start < word.end()), "")


def _boxes() -> tuple[Box, ...]:
    return tuple((x / GRID, y / GRID, (x + 1) / GRID, (y + 1) / GRID) for y in range(GRID) for x in range(GRID))


def _build(seed: int) -> Any:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=GRID * PATCH, patch_size=PATCH
    )
    text = LlamaConfig(
        hidden_size=WIDTH, intermediate_size=2 * WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=2,
        vocab_size=_VOCABULARY,
    )  # fmt: skip
    configuration = LlavaConfig(vision_config=vision, text_config=text, image_token_index=_IMAGE, image_seq_length=GRID**2)
    module = LlavaForConditionalGeneration._from_config(configuration, attn_implementation="sdpa").eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.copy_(1 + 0.3 * noise if "norm" in name and name.endswith("weight") else 0.25 * noise)
    return module
