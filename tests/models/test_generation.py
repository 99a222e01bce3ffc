"""Batches and greedy answers: equal to one prompt at a time, and to the plainest loop over argmaxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from vseam_core.api.prompts import EncodedPrompt
from vseam_plugins.models import instructblip, llava
from vseam_plugins.models.hf import HuggingFaceModel

from .builders import picture

QUESTIONS = ("Is the red dog left of the cat?", "Is the blue cat left of the dog?", "Is the striped dog of the cat?")
FAMILIES = ("llava-words", "llava-subwords", "instructblip-words", "instructblip-subwords", "idefics")
STEPS = 5


def prompts_of(model: HuggingFaceModel) -> list[EncodedPrompt]:
    """Six prompts of equal length: three images, two questions of as many tokens."""
    return [model.encode(picture(seed), question) for seed in range(3) for question in QUESTIONS[:2]]


def greedy(model: HuggingFaceModel, prompt: EncodedPrompt, steps: int) -> str:
    """The plainest greedy loop: a full forward pass per token, nothing cached."""
    inputs = dict(model.collate([prompt]))
    answer: list[int] = []
    for _ in range(steps):
        with torch.no_grad():
            token = int(model.module(**inputs).logits[0, -1].argmax())
        if token == model.tokenizer.eos_token_id:
            break
        answer.append(token)
        inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([[token]])], dim=1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    return model.tokenizer.decode(answer, skip_special_tokens=True).strip()


@pytest.mark.parametrize("name", FAMILIES[:4])
def test_generated_answers_equal_a_plain_greedy_loop(loaded: dict[str, HuggingFaceModel], name: str) -> None:
    model = loaded[name]
    prompts = prompts_of(model)
    answers = model.generate(prompts, STEPS)
    assert answers == [greedy(model, prompt, STEPS) for prompt in prompts]
    assert len(set(answers)) > 1, "answers that never differ prove nothing"


@pytest.mark.parametrize("name", FAMILIES)
def test_batched_logits_equal_single_ones(loaded: dict[str, HuggingFaceModel], name: str) -> None:
    model = loaded[name]
    prompts = prompts_of(model)
    with torch.no_grad():
        batched = model.module(**model.collate(prompts)).logits
        single = torch.cat([model.module(**model.collate([prompt])).logits for prompt in prompts])
    assert batched.std() > 0.1
    assert torch.allclose(batched, single, atol=1e-5 * float(single.abs().max()))


def test_qformer_texts_of_different_length_share_a_batch(instructblip_subwords: HuggingFaceModel) -> None:
    model = instructblip_subwords
    # As many sub-words in both, but the Q-Former's own tokenizer counts words.
    prompts = [model.encode(picture(seed), question) for seed, question in enumerate(["Is the red dog?", "Is the reda?"])]
    lengths = {prompt.inputs["qformer_input_ids"].shape[1] for prompt in prompts}
    assert len(lengths) == 2
    assert len(prompts[0]) == len(prompts[1])
    batch = model.collate(prompts)
    assert batch["qformer_attention_mask"].sum(1).tolist() == [prompt.inputs["qformer_input_ids"].shape[1] for prompt in prompts]
    with torch.no_grad():
        batched = model.module(**batch).logits
        single = torch.cat([model.module(**model.collate([prompt])).logits for prompt in prompts])
    assert torch.allclose(batched, single, atol=1e-5 * float(single.abs().max()))


@pytest.mark.parametrize("name", ["llava-words", "instructblip-subwords", "idefics"])
def test_answers_keep_their_order_when_lengths_differ(loaded: dict[str, HuggingFaceModel], name: str) -> None:
    model = loaded[name]
    questions = ("Is the red dog left?", "Is red?", "Is the blue cat left?", "Is blue?")
    prompts = [model.encode(picture(seed, (48, 30 + 10 * seed)), question) for seed, question in enumerate(questions)]
    assert model.generate(prompts, STEPS) == [model.generate([prompt], STEPS)[0] for prompt in prompts]
    assert model.generate([], STEPS) == []


def _always_ends(module: Any) -> None:
    """Make the end of text the best next token whatever was read: its logit is the largest by far."""
    head = module.get_output_embeddings()
    end = torch.nn.Parameter(torch.zeros(head.out_features), requires_grad=False)
    end[2] = 1e4
    head.bias = end


@pytest.mark.parametrize("loader", [llava.load, instructblip.load])
def test_an_answer_that_ends_at_once_is_empty_and_costs_one_pass(checkpoints: dict[str, Path], loader: Any) -> None:
    family = "llava" if loader == llava.load else "instructblip"
    model = loader("x", str(checkpoints[f"{family}-words"]), device="cpu")
    _always_ends(model.module)
    passes: list[int] = []
    model.module.get_output_embeddings().register_forward_hook(lambda *_: passes.append(1))
    assert model.generate([model.encode(picture(), QUESTIONS[0])] * 2, 8) == ["", ""]
    assert len(passes) == 1


@pytest.mark.parametrize("family", ["llava", "instructblip"])
def test_sampling_and_penalties_of_a_checkpoint_do_not_change_answers(checkpoints: dict[str, Path], family: str) -> None:
    loader = {"llava": llava.load, "instructblip": instructblip.load}[family]
    model = loader("x", str(checkpoints[f"{family}-words"]), device="cpu")
    prompts = prompts_of(model)
    before = model.generate(prompts, STEPS)
    owners = [module for module in model.module.modules() if getattr(module, "generation_config", None) is not None]
    for owner in owners:
        settings = {"do_sample": True, "temperature": 5.0, "repetition_penalty": 9.0, "num_beams": 3, "bad_words_ids": [[25]],
                    "no_repeat_ngram_size": 1, "min_new_tokens": 3, "max_length": 4}  # fmt: skip
        owner.generation_config.update(**settings)
    assert model.generate(prompts, STEPS) == before
    assert all(owner.generation_config.repetition_penalty == 9.0 for owner in owners), "the checkpoint's own settings are kept"


def test_generating_leaves_the_global_generator_untouched(llava_words: HuggingFaceModel) -> None:
    state = torch.random.get_rng_state()
    llava_words.generate(prompts_of(llava_words), 3)
    assert torch.equal(torch.random.get_rng_state(), state)
