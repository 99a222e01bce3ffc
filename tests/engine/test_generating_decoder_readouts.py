"""What is read in a decoder that generates from an encoder: the logit lens, and where it looks in the prompt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.engine.every_type import AnyTinyModel
from tests.engine.families import TinyVLM, softmax_in_float64
from tests.engine.test_generating_decoder import READOUTS, RESIDUALS, held, made, prompts
from vseam_core.api.interventions import AnswerIds, AnswerScore, AttentionWeights, LensScore, Run, Site, SiteEdit, Zero
from vseam_core.engine.reference import ReferenceEngine
from vseam_core.engine.remembered_check import engine_checked_once
from vseam_core.engine.replay import ReplayEngine
from vseam_core.errors import UnsupportedError


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


# What stands between the last residual and the logits.
HEADS_OF_LENS: dict[str, Callable[[Any, torch.Tensor], torch.Tensor]] = {
    # Tied embeddings: the library scales what it unembeds.
    "instructblip_t5": lambda m, x: m.language_model.lm_head(m.language_model.decoder.final_layer_norm(x) * x.shape[-1] ** -0.5),
    "blip2_t5": lambda m, x: m.language_model.lm_head(m.language_model.decoder.final_layer_norm(x)),
    "florence2": lambda m, x: m.lm_head(x),
    "udop": lambda m, x: m.lm_head(m.decoder.final_layer_norm(x) * x.shape[-1] ** -0.5),
    "t5gemma2": lambda m, x: m.lm_head.out_proj(m.model.decoder.norm(x)),
}


@pytest.mark.parametrize("name", HEADS_OF_LENS)
def test_the_lens_reads_a_layer_of_the_decoder_as_its_logits_are_read(name: str) -> None:
    model, engine = made(name, "float64")
    base, _ = prompts(model, "three tokens")
    answer = AnswerIds((20,), (21,), (20,))
    last = engine.shape_of("decoder").layers - 1
    places = [(layer, kind, row) for layer in range(last + 1) for kind in RESIDUALS for row in (-1, 1)]
    lenses = tuple(LensScore(Site(layer, kind), answer, (row,)) for layer, kind, row in places)  # type: ignore[arg-type]
    runs = [
        Run(base, (AnswerScore(answer), *lenses)),
        Run(base, (AnswerScore(answer), *lenses), (SiteEdit(Site(0, "mlp_output"), Zero()),)),
    ]
    with softmax_in_float64(model):
        results = [one.run(runs * 2)[:2] for one in (engine, ReferenceEngine(model))]
        for (layer, kind, row), read in zip(places, results[0][0].readouts[1:], strict=True):
            with torch.no_grad():
                logits = HEADS_OF_LENS[name](model.module, held(model, name, base, layer, kind)[row])
            assert read[0].logit_diff == pytest.approx(float(logits[20] - logits[21]), abs=1e-9)
    for (plain_run, changed), (other, other_changed) in [results]:
        assert plain_run.readouts[-2][0].logit_diff == pytest.approx(plain_run.answer.logit_diff, abs=1e-9)
        assert changed.readouts[-2][0].logit_diff == pytest.approx(changed.answer.logit_diff, abs=1e-9)
        assert abs(changed.answer.logit_diff - plain_run.answer.logit_diff) > 1e-4
        for one, two in ((plain_run, other), (changed, other_changed)):
            assert [read[0].logit_diff for read in one.readouts] == pytest.approx([read[0].logit_diff for read in two.readouts], abs=1e-9)


@pytest.mark.parametrize(
    ("lens", "said"),
    [
        (LensScore(Site(0, "residual_after", None, "encoder"), READOUTS[0].answer, (0,)), "these layers are an encoder's"),
        (LensScore(Site(0, "mlp_output"), READOUTS[0].answer, (0,)), "has no logit attribution: its residual is read"),
        (LensScore(Site(0, "residual_after"), READOUTS[0].answer, (2,)), "row 2 lies outside the 1 rows of the decoder that generates"),
        (LensScore(Site(5, "residual_after"), READOUTS[0].answer, (0,)), "layer 5 does not exist"),
    ],
)
def test_a_lens_that_is_not_there_is_refused_with_the_reason(lens: LensScore, said: str) -> None:
    model, engine = made("blip2_t5", "float32")
    with pytest.raises(UnsupportedError, match=said):
        engine.run([Run(prompts(model)[0], (lens,))])


@pytest.mark.parametrize("width", [64, 32])
def test_where_other_logits_come_out_the_decoder_has_no_lens(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A norm that the engine takes for the last one, and that is not: sites stay, the lens is refused, and so it is remembered."""
    model = AnyTinyModel("florence2")
    monkeypatch.setattr(model.module.model.language_model.decoder, "norm", nn.LayerNorm(width), raising=False)
    for _ in range(2):
        engine, _ = engine_checked_once(model)
        assert engine.decoder.generator is not None
        assert not engine.decoder.generator.unreadable
        with pytest.raises(UnsupportedError, match="final norm and unembedding of the decoder that generates give other logits"):
            engine.run([Run(prompts(model)[0], (LensScore(Site(0, "residual_after"), READOUTS[0].answer, (0,)),))])


# Where the library puts the weights of cross-attention, and whether its keys are the prompt's positions or the image's.
CROSS_WEIGHTS: dict[str, tuple[str, str, bool]] = {
    "instructblip_t5": ("language_model_outputs.cross_attentions", "cross", True),
    "blip2_t5": ("language_model_outputs.cross_attentions", "cross", True),
    "udop": ("cross_attentions", "cross", True),
    "florence2": ("cross_attentions", "cross", True),
    "t5gemma2": ("cross_attentions", "decoder", True),
    "pix2struct": ("cross_attentions", "cross", False),
    "vision-encoder-decoder": ("cross_attentions", "cross", False),
}


@pytest.mark.parametrize("name", CROSS_WEIGHTS)
def test_weights_of_cross_attention_are_those_that_the_library_gives(name: str) -> None:
    """The library gives them in eager alone, all of them; here some queries are read in the implementation that is used."""
    path, stack, from_rows = CROSS_WEIGHTS[name]
    used, eager = (TinyVLM(name, kind) if name.endswith("t5") else AnyTinyModel(name, attention=kind) for kind in ("sdpa", "eager"))
    engine = ReplayEngine(used)
    base = prompts(used, "three tokens")[0] if from_rows else used.encode(None, "Is the dog red?")  # type: ignore[union-attr]
    with torch.no_grad():
        outputs: Any = eager.module(**eager.collate([base]), use_cache=False, output_attentions=True)
    for part in path.split("."):
        outputs = getattr(outputs, part)
    targets, rows = ((-1, 0), [-1, 0]) if from_rows else ((len(base) - 1, 4), [len(base) - 1, 4])
    layers = range(engine.shape_of(stack).layers)
    (found,) = engine.run([Run(base, (), attention=tuple(AttentionWeights(layer, targets, stack) for layer in layers))])  # type: ignore[arg-type]
    for layer in layers:
        truth = outputs[layer][0][:, rows].numpy()
        if from_rows:
            truth = truth[..., -len(base) :]
        np.testing.assert_allclose(found.attention[layer], truth, atol=1e-5)
        assert found.attention[layer].std() > 1e-3, "weights that are all alike show nothing"


@pytest.mark.parametrize(
    ("name", "wanted", "said"),
    [
        ("blip2_t5", AttentionWeights(0, (0,), "decoder"), "looks at its own tokens alone: name the stack cross"),
        ("blip2_t5", AttentionWeights(0, (4,), "cross"), "row 4 lies outside the 1 rows of the decoder that generates"),
        ("blip2_t5", AttentionWeights(3, (0,), "cross"), "no layer 3 of the cross: the decoder has 3"),
        ("t5gemma2", AttentionWeights(0, (0,), "cross"), "reads its encoder in its own attention"),
    ],
)
def test_weights_that_are_not_there_are_refused_with_the_reason(name: str, wanted: AttentionWeights, said: str) -> None:
    model, engine = made(name, "float32")
    with pytest.raises(UnsupportedError, match=said):
        engine.run([Run(prompts(model)[0], (), attention=(wanted,))])


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_weights_of_layers_that_only_look_at_the_image_are_those_that_the_library_gives(attention: str) -> None:
    used, eager = TinyVLM("mllama", attention), TinyVLM("mllama", "eager")
    engine, base = ReplayEngine(used), used.prompt(1, range(20, 25))
    layers = [index for index, layer in enumerate(engine.decoder.layers) if layer.is_cross_attention]
    assert layers
    with torch.no_grad():
        truth = eager.module(**eager.collate([base]), use_cache=False, output_attentions=True).attentions
    targets = (len(base) - 1, len(base) - 3)
    (found,) = engine.run([Run(base, (), attention=tuple(AttentionWeights(layer, targets, "cross") for layer in layers))])
    for layer, weights in zip(layers, found.attention, strict=True):
        np.testing.assert_allclose(weights, truth[layer][0][:, list(targets)].numpy(), atol=1e-5)
        assert weights.std() > 1e-3


def test_blips_own_attention_has_no_weights_to_read() -> None:
    model = AnyTinyModel("blip")
    engine, _ = engine_checked_once(model)
    with pytest.raises(UnsupportedError, match=r"layer 0 \(BlipTextSelfAttention\) "):
        engine.run([Run(model.encode(None, "Is the dog red?"), (), attention=(AttentionWeights(0, (3,), "cross"),))])
