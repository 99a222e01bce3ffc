"""Prompts of different length in one batch: the same logits as one at a time, or a refusal with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tests.engine import configs
from tests.engine.families import FAMILIES as TINY_FAMILIES
from tests.engine.families import TinyVLM
from vseam_core.api.prompts import EncodedPrompt
from vseam_plugins.models import llava
from vseam_plugins.models.hf import HuggingFaceModel
from vseam_plugins.models.padding import reason_against_padding

from .builders import picture

FAMILIES = ("llava-words", "llava-subwords", "instructblip-words", "instructblip-subwords", "idefics")
QUESTIONS = ("Is red?", "Is the striped dog left of the cat?", "What color is the dog?")
TEXTS = ((11, 12, 13), (21, 22, 23, 24, 25, 26, 27))


def prompts_of(model: HuggingFaceModel) -> list[EncodedPrompt]:
    prompts = [model.encode(picture(seed), question) for seed, question in enumerate(QUESTIONS)]
    assert len({len(prompt) for prompt in prompts}) == len(QUESTIONS), "prompts of equal length would show nothing"
    return prompts


def logits_of(module: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return module(**batch, use_cache=False).logits


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_padded_batch_equals_single_prompts(loaded: dict[str, HuggingFaceModel], name: str, attention: str) -> None:
    model = loaded[name]
    before = model.config.get_text_config()._attn_implementation
    model.module.set_attn_implementation(attention)
    try:
        prompts = prompts_of(model)
        together = logits_of(model.module, model.collate(prompts))
        alone = [logits_of(model.module, model.collate([prompt])) for prompt in prompts]
    finally:
        model.module.set_attn_implementation(before)
    assert model.pads_left
    for row, single in enumerate(alone):
        assert single.std() > 0.1
        # Every position of the prompt, not the last alone: the prompt stands at the end of its row.
        assert not (together[row, -single.shape[1] :] - single[0]).abs().max() > 1e-5 * max(1.0, float(single.abs().max()))


def test_pads_stand_before_the_prompt_and_behind_the_text_of_the_qformer(instructblip_words: HuggingFaceModel) -> None:
    model = instructblip_words
    prompts = prompts_of(model)
    batch = model.collate(prompts)
    for row, prompt in enumerate(prompts):
        pads = batch["input_ids"].shape[1] - len(prompt)
        assert batch["attention_mask"][row].tolist() == [0] * pads + [1] * len(prompt)
        assert batch["input_ids"][row].tolist() == [model.tokenizer.pad_token_id] * pads + list(prompt.ids)
        own = prompt.inputs["qformer_input_ids"].shape[1]
        assert batch["qformer_attention_mask"][row].tolist() == [1] * own + [0] * (batch["qformer_attention_mask"].shape[1] - own)


def test_a_batch_that_pads_would_change_is_refused_and_equal_lengths_are_not(checkpoints: dict[str, Path]) -> None:
    model = llava.load("x", str(checkpoints["llava-words"]), device="cpu", dtype="float64", attention="eager")
    prompts = prompts_of(model)
    assert not model.pads_left
    with pytest.raises(ValueError, match=r"different length in one batch.*float64 with eager"):
        model.collate(prompts)
    assert model.collate([prompts[0], prompts[0]])["input_ids"].shape == (2, len(prompts[0]))
    assert llava.load("y", str(checkpoints["llava-words"]), device="cpu", dtype="float64", attention="sdpa").pads_left


def test_images_of_different_shape_do_not_stand_in_one_batch(loaded: dict[str, HuggingFaceModel]) -> None:
    model = loaded["idefics"]
    prompts = [model.encode(picture(0, size), QUESTIONS[0]) for size in ((64, 32), (32, 32))]
    with pytest.raises(ValueError, match="pixel_values of different shapes"):
        model.collate(prompts)
    with pytest.raises(ValueError, match="no prompts"):
        model.collate([])


def test_recurrent_layers_would_count_pads() -> None:
    model = TinyVLM("qwen3_5", "sdpa")
    reason = reason_against_padding(model.module.config, torch.float32, "sdpa")
    assert reason is not None
    assert "linear_attention" in reason


@pytest.mark.parametrize("family", [name for name in TINY_FAMILIES if name != "qwen3_5"])
def test_every_family_of_attention_may_be_padded_and_is_not_changed_by_it(family: str) -> None:
    attention = TINY_FAMILIES[family].attentions[-1]
    model = TinyVLM(family, attention)
    assert reason_against_padding(model.module.config, torch.float32, attention) is None
    prompts = [model.prompt(seed, text) for seed, text in enumerate(TEXTS)]
    together = logits_of(model.module, model.collate(prompts))[:, -1]
    for row, prompt in enumerate(prompts):
        error = (together[row] - logits_of(model.module, model.collate([prompt]))[0, -1]).abs().max()
        assert not error > 1e-4


def test_pads_become_nan_in_float64_with_eager_attention_and_not_with_sdpa() -> None:
    found = {}
    for attention in ("eager", "sdpa"):
        model = TinyVLM("llava", attention, torch.float64)
        logits = logits_of(model.module, model.collate([model.prompt(seed, text) for seed, text in enumerate(TEXTS)]))[:, -1]
        found[attention] = bool(torch.isfinite(logits).all())
        assert (reason_against_padding(model.module.config, torch.float64, attention) is None) == found[attention]
    assert found == {"eager": False, "sdpa": True}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (transformers.GPT2Config(), "gpt2 does not tell positions apart"),
        (transformers.LlamaConfig(**configs.text(rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4})), "dynamic"),
        (transformers.Llama4TextConfig(num_hidden_layers=4), "chunked_attention may count pads"),
    ],
)
def test_a_language_model_that_counts_pads_is_not_padded(config: Any, said: str) -> None:
    reason = reason_against_padding(config, torch.float32, "sdpa")
    assert reason is not None
    assert said in reason
