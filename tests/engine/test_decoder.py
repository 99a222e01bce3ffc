"""What the engine finds in a model: layers, projections, head counts, and logits from the last residual."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from tests.engine import configs
from tests.engine.families import FAMILIES, HEADS, LAYERS, TinyVLM
from tests.engine.independent import held
from vseam_core.engine.decoder import Decoder, find_decoder
from vseam_core.engine.reference import ReferenceEngine
from vseam_core.errors import UnsupportedError

TEXT = (11, 12, 13, 14)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@cache
def tiny(family: str) -> TinyVLM:
    return TinyVLM(family)


def last_hidden(decoder: Decoder, module: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """What `Decoder.logits` takes, as a plain hook sees it, and the model's own logits."""
    seen: list[torch.Tensor] = []
    source = decoder.generator.stack if decoder.generator is not None else decoder.layers[-1].module
    handle = source.register_forward_hook(lambda _, args, output: seen.append(output if isinstance(output, torch.Tensor) else output[0]))
    try:
        with torch.no_grad():
            logits = module(**inputs, use_cache=False).logits
    finally:
        handle.remove()
    return seen[0], logits


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_of_the_last_residual_are_the_models_own(family: str) -> None:
    model = tiny(family)
    decoder = find_decoder(model.module)
    hidden, logits = last_hidden(decoder, model.module, model.collate([model.prompt(1, TEXT)]))
    with torch.no_grad():
        error = (decoder.logits(hidden) - logits).abs().max()
    assert bool(torch.isfinite(logits).all())
    assert float(error) <= 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_the_parts_of_every_layer_have_the_widths_that_the_heads_say(family: str) -> None:
    model = tiny(family)
    decoder = find_decoder(model.module)
    shape = decoder.shape
    assert (shape.layers, shape.heads, shape.head_dim) == (LAYERS, HEADS, model.info.head_dim)
    assert shape.stack == FAMILIES[family].stack
    assert (decoder.generator is not None) == decoder.is_bidirectional == (shape.stack == "encoder")
    assert decoder.key_value_heads == (HEADS if FAMILIES[family].image_first else 2), "the Q-Former families here share no keys"
    seen: dict[tuple[int, str], tuple[int, ...]] = {}
    handles = []
    for index, layer in enumerate(decoder.layers):
        for name in ("query", "key", "value", "mlp"):
            part = getattr(layer, name)
            if part is not None:
                handles.append(part.register_forward_hook(_shape_keeper(seen, (index, name))))
    prompt = model.prompt(1, TEXT)
    with torch.no_grad():
        model.module(**model.collate([prompt]), use_cache=False)
    for handle in handles:
        handle.remove()
    for index, layer in enumerate(decoder.layers):
        assert (layer.query is None) == (family == "qwen3_5"), "a gate comes out of the same projection there"
        assert layer.keeps_state == (layer.key is None and not layer.is_cross_attention)
        if layer.query is not None:
            assert seen[index, "query"] == (1, len(prompt), HEADS * shape.head_dim)
        assert seen[index, "mlp"] == ((len(prompt), configs.WIDTH) if layer.mlp_is_flat else (1, len(prompt), configs.WIDTH))
        if not layer.is_cross_attention and not layer.keeps_state:
            assert seen[index, "key"] == seen[index, "value"] == (1, len(prompt), decoder.key_value_heads * shape.head_dim)


def _shape_keeper(store: dict[tuple[int, str], tuple[int, ...]], key: tuple[int, str]) -> Any:
    return lambda _, args, output: store.__setitem__(key, tuple(output.shape))


def test_cross_attention_layers_are_marked_and_have_no_keys_at_prompt_positions() -> None:
    layers = find_decoder(tiny("mllama").module).layers
    assert [layer.is_cross_attention for layer in layers] == [False, True, False, True]
    assert [layer.key is None for layer in layers] == [layer.value is None for layer in layers] == [False, True, False, True]
    assert not any(layer.is_cross_attention for layer in find_decoder(tiny("llava").module).layers)


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_are_said_to_write_directly_exactly_where_the_residual_is_the_sum_of_their_outputs(family: str) -> None:
    model = tiny(family)
    prompt = model.prompt(1, TEXT)
    found = ReferenceEngine(model).direct_writes(prompt)
    for index in range(LAYERS):
        sites = ("residual_before", "attention_output", "mlp_output", "residual_after", "head_output")
        kept = held(model, prompt, [(index, site) for site in sites])
        before, attention, mlp, after, z = (kept[index, site] for site in sites)
        assert bool(torch.isfinite(after).all())
        assert found.outputs[index] == bool((after - (before + attention + mlp)).abs().max() < 1e-4)
        projection = find_decoder(model.module).layers[index].output_projection
        with torch.no_grad():
            assert float((projection(z) - attention).abs().max()) < 1e-4
        assert found.heads[index] == found.outputs[index]
    assert found.final_norm


def test_only_the_layers_of_opt_have_a_flat_mlp() -> None:
    flat = {family for family in ("blip2_opt", "llava", "blip2_t5") if find_decoder(tiny(family).module).layers[0].mlp_is_flat}
    assert flat == {"blip2_opt"}


@pytest.mark.parametrize(
    ("class_name", "config", "scale"),
    [
        ("Cohere2ForCausalLM", transformers.Cohere2Config(**configs.text("cohere2", head_dim=8, logit_scale=0.25)), 0.25),
        ("T5ForConditionalGeneration", transformers.T5Config(**configs.t5(tied=True)), configs.WIDTH**-0.5),
        ("T5ForConditionalGeneration", transformers.T5Config(**configs.t5(tied=False)), 1.0),
    ],
)
def test_logits_are_scaled_where_the_language_model_scales_them(class_name: str, config: Any, scale: float) -> None:
    torch.manual_seed(0)
    module = getattr(transformers, class_name)(config).eval()
    decoder = find_decoder(module)
    inputs = {"input_ids": torch.tensor([TEXT])}
    if decoder.generator is not None:
        inputs["decoder_input_ids"] = torch.tensor([[0]])
    hidden, logits = last_hidden(decoder, module, inputs)
    with torch.no_grad():
        error = (decoder.logits(hidden) - logits).abs().max()
    assert decoder.logit_scale == pytest.approx(scale)
    assert float(error) <= 1e-5 * float(logits.abs().max())


def test_fused_projections_are_not_exposed_and_key_heads_come_from_the_module() -> None:
    config = transformers.Phi3Config(**configs.text("phi3"))
    decoder = find_decoder(transformers.Phi3ForCausalLM(config))
    layer = decoder.layers[0]
    assert (layer.query, layer.key, layer.value) == (None, None, None)
    assert decoder.key_value_heads == 2


def test_what_is_missing_is_named() -> None:
    config = transformers.LlamaConfig(**configs.text())
    headless = transformers.LlamaModel(config)
    with pytest.raises(UnsupportedError, match="LlamaModel: no unembedding"):
        find_decoder(headless)
    without_mlp: Any = transformers.LlamaForCausalLM(config)
    del without_mlp.model.layers[1].mlp
    found = find_decoder(without_mlp)
    assert found.lacks(0, "mlp_output") == "" == found.lacks(1, "attention_output")
    assert found.lacks(1, "mlp_output").startswith("LlamaDecoderLayer: no MLP found among ['self_attn'")
    assert found.reason_against_replay == found.lacks(1, "mlp_output")


def test_layers_may_differ_in_the_width_of_their_heads() -> None:
    uneven: Any = transformers.LlamaForCausalLM(transformers.LlamaConfig(**configs.text()))
    uneven.model.layers[1].self_attn.o_proj = nn.Linear(16, configs.WIDTH)
    found = find_decoder(uneven)
    assert [layer.heads for layer in found.layers] == [HEADS] * LAYERS
    assert [layer.head_dim for layer in found.layers] == [8, 4, 8, 8]
    assert found.shape.head_dim == 8


def test_a_stack_that_projects_its_last_residual_is_refused() -> None:
    opt = transformers.OPTConfig(
        vocab_size=64, hidden_size=16, word_embed_proj_dim=8, ffn_dim=16, num_hidden_layers=1, num_attention_heads=2
    )  # fmt: skip
    with pytest.raises(UnsupportedError, match="OPTDecoder projects its last residual"):
        find_decoder(transformers.OPTForCausalLM(opt))
