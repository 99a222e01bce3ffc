"""Kinds of layers that replay must not take for ordinary ones, each in a tiny model of a type that has it, against plain hooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tests.engine.every_type import HEADS, LAYERS, AnyTinyModel
from vseam_core.api.interventions import (
    AnswerIds,
    AnswerScore,
    AttentionBlock,
    LensScore,
    Patch,
    Run,
    Scale,
    Site,
    SiteEdit,
    SiteKind,
    Zero,
)
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.engine.decoder import find_decoder
from vseam_core.engine.reference import ReferenceEngine
from vseam_core.engine.replay import ReplayEngine
from vseam_core.engine.selfcheck import checked_engine, trust_record
from vseam_core.errors import UnsupportedError

ANSWER = AnswerIds((20,), (21,), (20,))
KINDS: tuple[SiteKind, ...] = ("residual_before", "residual_after", "attention_output", "mlp_output", "head_output")
BASE, DONOR = tuple(range(3, 33)), (*range(3, 12), 60, 61, 62, *range(15, 33))
Change = Callable[[torch.Tensor], torch.Tensor]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def plain(model: AnyTinyModel, prompt: EncodedPrompt, module: Any = None, change: Change | None = None, on_input: bool = False) -> float:
    """The logit difference of a full forward pass in which one module's input or output `[1, positions, …]` is changed."""

    def before(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        assert change is not None
        return (change(args[0]), *args[1:]), kwargs

    def after(_: Any, args: Any, output: Any) -> Any:
        assert change is not None
        return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

    handle = None
    if module is not None:
        handle = module.register_forward_pre_hook(before, with_kwargs=True) if on_input else module.register_forward_hook(after)
    try:
        with torch.no_grad():
            logits = model.module(**model.collate([prompt]), use_cache=False).logits[0, -1].double()
    finally:
        if handle is not None:
            handle.remove()
    return float(logits[20] - logits[21])


def place(model: AnyTinyModel, layer: int, kind: SiteKind) -> tuple[Any, bool]:
    part = find_decoder(model.module).layers[layer]
    found = {
        "residual_before": (part.module, True),
        "residual_after": (part.module, False),
        "attention_output": (part.attention, False),
        "mlp_output": (part.mlp, False),
        "head_output": (part.output_projection, True),
    }
    return found[kind]


def held(model: AnyTinyModel, prompt: EncodedPrompt, layer: int, kind: SiteKind) -> torch.Tensor:
    kept: list[torch.Tensor] = []
    module, on_input = place(model, layer, kind)
    plain(model, prompt, module, lambda value: kept.append(value.clone()) or value, on_input)  # type: ignore[func-returns-value]
    return kept[0]


def assert_replay_equals_plain_hooks(model: AnyTinyModel, tolerance: float = 1e-4) -> None:
    """Patches and scalings at every site of every layer, late, early and everywhere, in one call of a replay engine."""
    base, donor = model.prompt(BASE), model.prompt(DONOR)
    untouched = plain(model, base)
    runs, expected = [], []
    for layer in range(LAYERS):
        for kind in KINDS:
            if find_decoder(model.module).lacks(layer, kind):
                continue
            given = held(model, donor, layer, kind)
            for positions in ((12,), (len(base) - 3, len(base) - 1), tuple(range(len(base)))):
                module, on_input = place(model, layer, kind)
                for operation in (Patch(), Scale(1.5))[len(runs) % 2 :][:1]:

                    def change(value: torch.Tensor, operation: Any = operation, given: Any = given, at: Any = positions) -> torch.Tensor:
                        # A mixture of experts may hand over [positions, width] without a batch.
                        flat, donated = value.clone().reshape(-1, value.shape[-1]), given.reshape(-1, value.shape[-1])
                        flat[list(at)] = donated[list(at)] if isinstance(operation, Patch) else 1.5 * flat[list(at)]
                        return flat.reshape(value.shape)

                    runs.append(Run(base, (AnswerScore(ANSWER),), (SiteEdit(Site(layer, kind), operation, positions),), donor))
                    expected.append(plain(model, base, module, change, on_input))
    found = [result.answer.logit_diff for result in ReplayEngine(model).run(runs)]
    effects = np.abs(np.array(expected) - untouched)
    assert np.median(effects[effects > 1e-9]) > 100 * tolerance, "the edits do next to nothing: this comparison shows little"
    assert np.abs(np.array(found) - np.array(expected)).max() <= tolerance


def test_a_layer_that_counts_positions_itself_gets_those_of_the_prompt_in_a_packed_batch() -> None:
    # Llama 4 scales queries by the place in the sequence it is given; a packed batch is one long sequence.
    assert_replay_equals_plain_hooks(AnyTinyModel("llama4"))


def test_a_model_whose_layers_take_the_place_in_the_batch_for_a_position_is_not_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    # As Llama 4, were its counting not noticed: the scale starts far behind the prompt, so that only a large batch shows it.
    monkeypatch.setattr("vseam_core.engine.recording.counts_positions", lambda counted, length: False)
    engine, trust = checked_engine(AnyTinyModel("llama4", text_config__floor_scale=2000, text_config__attn_scale=20.0))
    assert type(engine).__name__ == "FullPassEngine"
    assert "packed_error" in trust["fallback"]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_values_narrower_than_keys_are_replayed_from_late_starts(attention: str) -> None:
    model = AnyTinyModel("kimi_k25", attention)
    assert_replay_equals_plain_hooks(model)
    base = model.prompt(BASE)
    blocks = [AttentionBlock((layer,), (base.last,), (3, 12), heads) for layer in range(LAYERS) for heads in (None, (1,))]
    runs = [Run(base, (AnswerScore(ANSWER),), (block,)) for block in blocks]
    found, wanted = (made.run(runs) for made in (ReplayEngine(model), ReferenceEngine(model)))
    assert [one.answer.logit_diff for one in found] == pytest.approx([one.answer.logit_diff for one in wanted], abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_keys_that_layers_share_are_replayed_and_a_patch_of_them_reaches_every_layer_that_reads_them(dtype: torch.dtype) -> None:
    """Gemma 4: the last layers make no keys and values, but read those of the last layer of their kind that does."""
    model = AnyTinyModel("gemma4", dtype=dtype, text_config__num_kv_shared_layers=2, text_config__hidden_size_per_layer_input=8)
    engine = ReplayEngine(model)
    assert [layer.keys_from for layer in engine.decoder.layers] == [None, None, 0, 1]
    tolerance = 1e-10 if dtype == torch.float64 else 1e-4
    assert_replay_equals_plain_hooks(model, tolerance)
    base, late = model.prompt(BASE), (12, 20)
    for layer in (0, 1):
        for kind in ("key", "value"):
            module = getattr(engine.decoder.layers[layer], kind)

            def cut(value: torch.Tensor) -> torch.Tensor:
                changed = value.clone()
                changed[:, list(late)] = 0
                return changed

            expected = plain(model, base, module, cut)
            assert abs(expected - plain(model, base)) > 100 * tolerance
            # Beside a run that joins behind the layer that makes the keys, so that both kinds stand in one batch.
            behind = SiteEdit(Site(2, "mlp_output"), Zero(), late)
            edits = [(SiteEdit(Site(layer, kind), Zero(), late),), (behind,)]
            found = engine.run([Run(base, (AnswerScore(ANSWER),), edit) for edit in edits * 3])
            assert found[0].answer.logit_diff == pytest.approx(expected, abs=tolerance)
    with pytest.raises(UnsupportedError, match="layer 2 of this model has no key projection of its own"):
        engine.run([Run(base, (AnswerScore(ANSWER),), (SiteEdit(Site(2, "key"), Zero(), late),))])


@pytest.mark.parametrize("name", ["step3p7", "molmo2", "fuyu"])
def test_gates_before_the_output_projection_and_ignored_arguments_are_replayed(name: str) -> None:
    """Step 3.7 multiplies the heads by a gate before W_O; Molmo 2 and Fuyu hand their attention tensors that it does not read."""
    assert_replay_equals_plain_hooks(AnyTinyModel(name))


def test_what_an_attention_function_reads_by_name_is_not_taken_for_ignored() -> None:
    model = AnyTinyModel("molmo2", "eager")
    engine = ReplayEngine(model)
    attention = engine._attention
    module = find_decoder(model.module).layers[0].attention
    assert not attention._reads(module, "token_type_ids")
    assert attention._reads(module, "scaling")


@pytest.mark.parametrize("after", [False, True])
def test_direct_attribution_is_offered_only_where_all_contributions_add_up_to_the_last_residual(after: bool) -> None:
    """Molmo 2 may put its norms behind attention and MLP, under the names that others use in front of them."""
    model = AnyTinyModel("molmo2", text_config__norm_after=after)
    base, engine = model.prompt(BASE), ReplayEngine(model)
    parts = [LensScore(Site(layer, kind), ANSWER) for layer in range(LAYERS) for kind in ("attention_output", "mlp_output")]
    if after:
        with pytest.raises(UnsupportedError, match="no direct attribution"):
            engine.run([Run(base, (AnswerScore(ANSWER), *parts))])
        return
    result = engine.run([Run(base, (AnswerScore(ANSWER), *parts))])[0]
    embedding, final = held(model, base, 0, "residual_before")[0, -1], held(model, base, LAYERS - 1, "residual_after")[0, -1]
    norm, unembedding = engine.decoder.final_norm, engine.decoder.unembedding.weight
    scale = torch.rsqrt(final.pow(2).mean() + norm.variance_epsilon) * norm.weight  # type: ignore[operator, union-attr]
    of_embedding = float(((unembedding[20] - unembedding[21]) @ (embedding * scale)).detach())
    total = of_embedding + sum(readout[0].logit_diff for readout in result.readouts[1:])
    assert total == pytest.approx(result.answer.logit_diff, abs=1e-4)


def test_any_error_of_replay_leads_to_full_passes_with_the_reason() -> None:
    # Mistral Large 4 picks keys by an indexer that reads the attention mask, which replay does not hand over.
    model = AnyTinyModel("mistral_large4")
    engine, trust = checked_engine(model)
    assert type(engine).__name__ == "FullPassEngine"
    assert trust["fallback"].startswith("its layers cannot be called as replay calls them (TypeError: ")
    base = model.prompt(BASE)
    module, _ = place(model, 1, "mlp_output")
    expected = plain(model, base, module, torch.zeros_like)
    found = engine.run([Run(base, (AnswerScore(ANSWER),), (SiteEdit(Site(1, "mlp_output"), Zero()),))])[0]
    assert found.answer.logit_diff == pytest.approx(expected, abs=1e-5)


def test_several_residual_lanes_of_a_position_are_changed_together() -> None:
    """Hyper-connections: GLM-5-next hands four lanes from layer to layer, `[batch, positions, lanes, width]`."""
    model = AnyTinyModel("glm5_next")
    engine, trust = checked_engine(model)
    assert type(engine).__name__ == "FullPassEngine"
    assert trust["noise_floor"] < 1e-5
    base, donor = model.prompt(BASE), model.prompt(DONOR)
    for layer, kind in ((0, "residual_after"), (2, "residual_before")):
        given = held(model, donor, layer, kind)
        assert given.ndim == 4

        def patched(value: torch.Tensor, given: torch.Tensor = given) -> torch.Tensor:
            result = value.clone()
            result[:, 11] = given[:, 11]
            return result

        module, on_input = place(model, layer, kind)
        expected = plain(model, base, module, patched, on_input)
        assert abs(expected - plain(model, base)) > 1e-3
        run = Run(base, (AnswerScore(ANSWER),), (SiteEdit(Site(layer, kind), Patch(), (11,)),), donor)
        assert engine.run([run])[0].answer.logit_diff == pytest.approx(expected, abs=1e-5)


def test_an_error_that_full_passes_meet_too_is_raised() -> None:
    model = AnyTinyModel("llava")
    model.encode = lambda *_: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    with pytest.raises(ZeroDivisionError):
        checked_engine(model)


def test_the_trust_record_says_how_far_late_starts_in_a_large_batch_are_off() -> None:
    model = AnyTinyModel("qwen3_vl")
    assert 0 <= trust_record(model, ReplayEngine(model))["packed_error"] < 1e-4
    assert find_decoder(model.module).shape.heads == HEADS
