"""Attention weights read from queries and keys are those that the library's eager implementation gives, family by family."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.engine.families import TinyVLM
from vseam_core.api.interventions import AttentionBlock, AttentionWeights, Run, Site, SiteEdit, Zero
from vseam_core.engine.reference import ReferenceEngine
from vseam_core.engine.replay import ReplayEngine
from vseam_core.errors import UnsupportedError

TEXT = (20, 21, 22, 23)
CASES = [
    ("llava", "sdpa"),
    ("llava", "eager"),
    ("qwen3_vl", "sdpa"),
    ("gemma3", "sdpa"),
    ("paligemma", "sdpa"),
    ("paligemma2", "eager"),
    ("idefics3", "sdpa"),
    ("blip2_opt", "sdpa"),
    ("instructblip_t5", "sdpa"),
    ("instructblip_t5", "eager"),
    ("mllama", "sdpa"),
]


def eager_weights(family: str, prompt: Any) -> Any:
    """What the library gives by `output_attentions`: for each layer `[1, heads, positions, positions]`."""
    model = TinyVLM(family, "eager")
    with torch.no_grad():
        found = model.module(**model.collate([prompt]), use_cache=False, output_attentions=True)
    if model.family.stack == "encoder":
        return found.language_model_outputs.encoder_attentions
    return found.attentions if getattr(found, "attentions", None) is not None else found.language_model_outputs.attentions


def wanted(engine: Any, *targets: int) -> tuple[AttentionWeights, ...]:
    layers = [index for index, layer in enumerate(engine.decoder.layers) if not layer.is_cross_attention]
    return tuple(AttentionWeights(layer, targets, engine.shape.stack) for layer in layers)


@pytest.mark.parametrize(("family", "attention"), CASES)
def test_weights_of_all_layers_and_heads_are_those_of_eager(family: str, attention: str) -> None:
    engine = ReferenceEngine(TinyVLM(family, attention))
    prompt = engine.model.prompt(1, TEXT)  # type: ignore[attr-defined]
    targets = (len(prompt) - 1, 3)
    asked = wanted(engine, *targets)
    (found,) = engine.run([Run(prompt, (), attention=asked)])
    truth = eager_weights(family, prompt)
    assert len(found.attention) == len(asked) >= 2
    for one, given in zip(asked, found.attention, strict=True):
        assert given.shape == (engine.shape.heads, 2, len(prompt))
        assert given.dtype == np.float32
        np.testing.assert_allclose(given, truth[one.layer][0][:, list(targets)].numpy(), atol=1e-5)
        np.testing.assert_allclose(given.sum(-1), 1.0, atol=1e-5)


@pytest.mark.parametrize("engine_kind", [ReferenceEngine, ReplayEngine])
def test_weights_of_a_changed_run_are_those_after_the_change_whatever_else_is_in_the_batch(engine_kind: Any) -> None:
    model = TinyVLM("llava", "sdpa")
    engine = engine_kind(model)
    short, long = model.prompt(1, TEXT), model.prompt(2, (*TEXT, 24, 25))
    asked = wanted(engine, len(short) - 1)
    cut = (SiteEdit(Site(0, "mlp_output"), Zero()),)
    runs = [Run(short, (), cut, attention=asked), Run(long, (), attention=asked), Run(short, (), attention=asked)]
    changed, other, plain = engine.run(runs)
    eager = TinyVLM("llava", "eager")
    handle = eager.module.model.language_model.layers[0].mlp.register_forward_hook(lambda module, args, output: torch.zeros_like(output))
    with torch.no_grad():
        truth = eager.module(**eager.collate([short]), use_cache=False, output_attentions=True).attentions
    handle.remove()
    for layer in range(engine.shape.layers):
        np.testing.assert_allclose(changed.attention[layer], truth[layer][0][:, -1:].numpy(), atol=1e-5)
        np.testing.assert_allclose(plain.attention[layer], eager_weights("llava", short)[layer][0][:, -1:].numpy(), atol=1e-5)
        np.testing.assert_allclose(
            other.attention[layer], eager_weights("llava", long)[layer][0][:, len(short) - 1 : len(short)].numpy(), atol=1e-5
        )
    assert np.abs(changed.attention[1] - plain.attention[1]).max() > 1e-3


def test_padded_prompts_have_the_weights_that_they_have_alone() -> None:
    engine = ReferenceEngine(TinyVLM("llava", "sdpa"))
    short, long = engine.model.prompt(1, TEXT), engine.model.prompt(2, (*TEXT, 24, 25))  # type: ignore[attr-defined]
    runs = [Run(prompt, (), attention=wanted(engine, len(short) - 1)) for prompt in (short, long)]
    together = engine._run_batch(runs)
    for run, found in zip(runs, together, strict=True):
        (alone,) = engine.run([run])
        for first, second in zip(found.attention, alone.attention, strict=True):
            np.testing.assert_allclose(first, second, atol=1e-6)


def test_a_query_that_a_knockout_leaves_nothing_to_look_at_has_no_weights() -> None:
    engine = ReplayEngine(TinyVLM("llava", "sdpa"))
    prompt = engine.model.prompt(1, TEXT)  # type: ignore[attr-defined]
    last = len(prompt) - 1
    some, every = (AttentionBlock((1,), (last,), sources) for sources in (tuple(range(5)), tuple(range(last + 1))))
    partly, wholly = engine.run([Run(prompt, (), (block,), attention=(AttentionWeights(1, (last,)),)) for block in (some, every)])
    assert not wholly.attention[0].any()
    assert not partly.attention[0][..., :5].any()
    np.testing.assert_allclose(partly.attention[0].sum(-1), 1.0, atol=1e-5)


def test_the_model_attends_as_before_also_after_a_failed_run() -> None:
    model = TinyVLM("llava", "sdpa")
    engine = ReferenceEngine(model)
    prompt = model.prompt(1, TEXT)
    asked = wanted(engine, 3)

    def fail(*arguments: Any) -> None:
        raise RuntimeError("stopped in the middle of a layer")

    handle = model.module.model.language_model.layers[1].self_attn.o_proj.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="in the middle"):
        engine.run([Run(prompt, (), attention=asked)])
    handle.remove()
    assert model.module.model.language_model.layers[1].self_attn.config._attn_implementation == "sdpa"
    with torch.no_grad():
        before = TinyVLM("llava", "sdpa").module(**model.collate([prompt])).logits
        assert torch.equal(model.module(**model.collate([prompt])).logits, before)


@pytest.mark.parametrize(
    ("family", "asked", "said"),
    [
        ("llava", AttentionWeights(99, (0,)), "no layer 99 of the decoder"),
        ("llava", AttentionWeights(0, (500,)), "position 500 lies outside"),
        ("llava", AttentionWeights(0, (0,), "encoder"), "no layer 0 of the encoder"),
        ("mllama", None, "cross-attention layer"),
    ],
)
def test_weights_that_a_model_does_not_have_are_refused_with_the_reason(family: str, asked: AttentionWeights | None, said: str) -> None:
    engine = ReferenceEngine(TinyVLM(family, "sdpa"))
    crossing = [index for index, layer in enumerate(engine.decoder.layers) if layer.is_cross_attention]
    prompt = engine.model.prompt(1, TEXT)  # type: ignore[attr-defined]
    with pytest.raises(UnsupportedError, match=said):
        engine.run([Run(prompt, (), attention=(asked or AttentionWeights(crossing[0], (0,)),))])
