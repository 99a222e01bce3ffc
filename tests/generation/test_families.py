"""Contrasts and turned-up attention in families whose positions and images differ, against passes of the whole text, prompt by prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.models.builders import picture
from tests.models.checkpoints import build_checkpoint
from tests.models.command_line import NEEDED
from vseam_core.api.generation import GenerationContext
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.engine.budgeted import FullPassEngine
from vseam_core.engine.generation import question_of
from vseam_core.errors import UnsupportedError
from vseam_plugins.generation.contrast import ImageAttention, NoisedImageContrast
from vseam_plugins.generation.prompts import without_image
from vseam_plugins.models import hf
from vseam_plugins.models.hf import HuggingFaceModel

Method = NoisedImageContrast | ImageAttention
QUESTIONS = ("Is the dog red ?", "Is the blue car with a green cup ?")
STEPS = 3
ALWAYS = ("llava_next", "qwen2_5_vl")
FAMILIES = [
    *ALWAYS,
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("llava", "idefics3", "internvl", "qwen2_vl", "qwen3_vl", "gemma3", "mistral3")
    ),
]


def load(family: str, folder: Path) -> HuggingFaceModel:
    if family in NEEDED:
        pytest.importorskip(NEEDED[family])
    return hf.load(family, str(build_checkpoint(family, folder / family, seed=1)), device="cpu")


def contexts_of(model: HuggingFaceModel) -> list[GenerationContext]:
    shape = FullPassEngine(model).shape
    return [
        GenerationContext(model.encode(picture(seed), question), shape, model, lambda seed=seed: picture(seed))
        for seed, question in enumerate(QUESTIONS)
    ]


def logits_after(model: HuggingFaceModel, prompt: EncodedPrompt, tokens: list[int]) -> torch.Tensor:
    """The last logits of one prompt and some tokens, in a pass of their own."""
    inputs = model._append(dict(prompt.inputs), tuple(tokens)) if tokens else dict(prompt.inputs)
    with torch.no_grad():
        logits: torch.Tensor = model.module(**model.collate([replace(prompt, inputs=inputs)]), use_cache=False).logits[0, -1]
    return logits


def greedy(model: HuggingFaceModel, combined: Callable[[list[int]], torch.Tensor]) -> str:
    given = model.module.generation_config.eos_token_id
    ends = {model.tokenizer.eos_token_id, *(given if isinstance(given, list) else [given])}
    tokens: list[int] = []
    for _ in range(STEPS):
        token = int(combined(tokens).argmax())
        if token in ends:
            break
        tokens.append(token)
    return str(model.tokenizer.decode(tokens, skip_special_tokens=True)).strip()


@pytest.mark.parametrize("family", FAMILIES)
def test_branches_in_one_batch_say_what_each_says_alone(family: str, tmp_path: Path) -> None:
    model = load(family, tmp_path)
    vcd, pai = NoisedImageContrast(alpha=1.5, beta=0.0, noise_step=900), ImageAttention(alpha=0.0, gamma=1.7, beta=0.0)
    contexts = contexts_of(model)
    engine = FullPassEngine(model)
    methods: tuple[Method, ...] = (vcd, pai)
    for method in methods:
        if isinstance(method, ImageAttention) and not model.pads_left:
            with pytest.raises(UnsupportedError, match="not padded"):
                engine.respond([question_of(method, each, each.prompt, None) for each in contexts], STEPS)
            continue
        found = [each.text for each in engine.respond([question_of(method, each, each.prompt, None) for each in contexts], STEPS)]
        for context, text in zip(contexts, found, strict=True):
            first, second = (branch.prompt for branch in method.branches(context))

            def combined(tokens: list[int], rows: tuple[EncodedPrompt, ...] = (first, second), method: Method = method) -> torch.Tensor:
                return method.combine(torch.stack([logits_after(model, row, tokens) for row in rows]), len(tokens))

            assert text == greedy(model, combined), type(method).__name__


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_turned_up_a_little_changes_logits_a_little_and_the_image_s_share_grows(family: str, tmp_path: Path) -> None:
    model = load(family, tmp_path)
    engine, (context, _) = FullPassEngine(model), contexts_of(model)
    ids = model.answer_ids(context.prompt, "Yes", "No")

    def difference(alpha: float) -> float:
        method = ImageAttention(alpha=alpha, gamma=1.0, first_layer=0)
        (response,) = engine.respond([question_of(method, context, context.prompt, ids)], 1)
        assert response.values is not None
        return response.values.logit_diff

    plain, little, much = difference(0.0), difference(1e-6), difference(2.0)
    assert little == pytest.approx(plain, abs=1e-3)
    assert abs(much - plain) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("family", ["instructblip_llama", "mllama", "instructblip_t5"])
def test_families_that_read_no_text_alone_are_refused_with_the_reason(family: str, tmp_path: Path) -> None:
    model = load(family, tmp_path)
    (context, _) = contexts_of(model)
    with pytest.raises(UnsupportedError, match="without its image"):
        without_image(context.prompt, model)
    responses = FullPassEngine(model).respond([question_of(NoisedImageContrast(), context, context.prompt, None)], 2)
    assert isinstance(responses[0].text, str)
