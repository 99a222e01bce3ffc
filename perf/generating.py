"""Head scans of a decoder that generates from an encoder (InstructBLIP with a T5): its own heads, and those that look at the encoder."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from transformers import InstructBlipConfig, InstructBlipForConditionalGeneration

from perf.engine import Row, seconds, spread
from perf.shapes import ANSWER
from vseam_core.api.interfaces import ModelInfo, VisionLanguageModel
from vseam_core.api.interventions import AnswerIds, AnswerScore, Run, Site, SiteEdit, Stack, Zero
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.engine.budgeted import FullPassEngine
from vseam_core.engine.replay import ReplayEngine

LAYERS, HEADS, WIDTH, QUERIES, WORDS = 12, 8, 256, 32, 20
_IMAGE = 999
# Where the layers are, and what reads the heads in each.
_PLACES: dict[Stack, str] = {"decoder": "layer.0.SelfAttention.o", "cross": "layer.1.EncDecAttention.o"}


class RandomInstructBlip(VisionLanguageModel):
    """An InstructBLIP with a T5 and random weights, and one prompt of an image and a question."""

    pads_left = False

    def __init__(self) -> None:
        torch.manual_seed(0)
        sizes = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
        text = {
            "model_type": "t5", "vocab_size": 1000, "d_model": WIDTH, "d_kv": WIDTH // HEADS, "d_ff": 4 * WIDTH, "num_layers": LAYERS,
            "num_decoder_layers": LAYERS, "num_heads": HEADS, "feed_forward_proj": "gated-gelu", "decoder_start_token_id": 0,
        }  # fmt: skip
        config = InstructBlipConfig(
            vision_config={**sizes, "image_size": 336, "patch_size": 14},
            qformer_config={**sizes, "encoder_hidden_size": WIDTH, "vocab_size": 1000},
            text_config=text,
            num_query_tokens=QUERIES,
            image_token_index=_IMAGE,
        )
        self.module: Any = InstructBlipForConditionalGeneration._from_config(config, attn_implementation="sdpa").eval()
        with torch.no_grad():
            for parameter in self.module.language_model.parameters():
                parameter.normal_(0, 0.1)
        self.info = ModelInfo("random", "instructblip", "random", "seed-0", "float32", "sdpa", "cpu", LAYERS, HEADS, WIDTH // HEADS)

    def prompt(self) -> EncodedPrompt:
        """An image of noise and twenty words."""
        ids, words = torch.tensor([[_IMAGE] * QUERIES + list(range(11, 11 + WORDS))]), torch.arange(11, 11 + WORDS)[None]
        inputs = {
            "pixel_values": torch.randn(1, 3, 336, 336), "input_ids": ids, "attention_mask": torch.ones_like(ids),
            "qformer_input_ids": words, "qformer_attention_mask": torch.ones_like(words), "decoder_input_ids": torch.zeros(1, 1).long(),
        }  # fmt: skip
        names, classes = tuple(map(str, ids[0].tolist())), ("image",) * QUERIES + ("question",) * (WORDS - 1) + ("last",)
        return EncodedPrompt(inputs, tuple(ids[0].tolist()), names, classes, ("",) * len(names), "", "noise")  # type: ignore[arg-type]

    def collate(self, prompts: Sequence[EncodedPrompt]) -> dict[str, torch.Tensor]:
        """One batch."""
        return {name: torch.cat([prompt.inputs[name] for prompt in prompts]) for name in prompts[0].inputs}

    def encode(self, *arguments: Any, **named: Any) -> EncodedPrompt:
        """There is one prompt."""
        return self.prompt()

    def answer_ids(self, *arguments: Any) -> AnswerIds:
        """Two arbitrary tokens: the weights are random."""
        return ANSWER

    def answer_tokens(self, *arguments: Any) -> tuple[int, ...]:
        """The same."""
        return ANSWER.gold

    def generate(self, prompts: Sequence[EncodedPrompt], max_new_tokens: int = 8) -> list[str]:
        """Random weights say nothing."""
        return [""] * len(prompts)


def generating(cells: int) -> list[Row]:
    """Every head of the decoder zeroed, against full forward passes with hooks, and against our own full passes."""
    model = RandomInstructBlip()
    prompt, places = model.prompt(), list(itertools.product(range(LAYERS), range(HEADS)))
    rows = []
    for stack in _PLACES:
        runs = [Run(prompt, (AnswerScore(ANSWER),), (SiteEdit(Site(layer, "head_output", head, stack), Zero()),)) for layer, head in places]
        ReplayEngine(model).run(runs[:8])
        ours, results = seconds(partial(ReplayEngine(model).run, runs))
        found = dict(zip(places, (result.answer.logit_diff for result in results), strict=True))
        times = [(place, *seconds(partial(_zeroed, model, prompt, stack, *place))) for place in spread(places, cells)]
        error = max(abs(found[place] - value) for place, _, value in times)
        slow = sum(time for _, time, _ in times) / len(times)
        work = f"head scan of the decoder that generates, {stack}, {len(places)} heads"
        rows.append(Row(work, "full forwards with hooks, batch 1", len(places), slow, ours, 30, None, error))
        full, _ = seconds(partial(FullPassEngine(model).run, runs))
        rows.append(Row(work, "our full passes, image encoded once", len(places), full / len(places), ours, 5, None, None))
    return rows


@torch.no_grad()
def _zeroed(model: RandomInstructBlip, prompt: EncodedPrompt, stack: Stack, layer: int, head: int) -> float:
    def hook(_: Any, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        size, value = WIDTH // HEADS, args[0].clone()
        value[..., head * size : (head + 1) * size] = 0
        return (value,)

    module = model.module.language_model.decoder.block[layer].get_submodule(_PLACES[stack])
    handle = module.register_forward_pre_hook(hook)
    try:
        logits = model.module(**model.collate([prompt]), use_cache=False).logits[0, -1].double()
    finally:
        handle.remove()
    return float(logits[20] - logits[21])
