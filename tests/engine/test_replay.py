"""What replay shares and saves: batches over prompts, positions that need not be computed, recordings that are not worth making."""

from __future__ import annotations

from types import MethodType
from typing import Any

import numpy as np
import pytest
import torch
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from tests.engine.families import TinyVLM
from vseam_core.api.interfaces import ModelShape
from vseam_core.api.interventions import (
    AnswerIds,
    AnswerScore,
    AttentionBlock,
    LensScore,
    MeanOfOthers,
    Patch,
    Run,
    Site,
    SiteEdit,
    Zero,
)
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.engine import replay
from vseam_core.engine.attribution import estimate
from vseam_core.engine.budgeted import FullPassEngine
from vseam_core.engine.layout import Layout
from vseam_core.engine.plan import planned
from vseam_core.engine.recording import ALWAYS, record
from vseam_core.engine.reference import ReferenceEngine
from vseam_core.engine.replay import ReplayEngine
from vseam_core.engine.selfcheck import checked_engine
from vseam_core.errors import UnsupportedError

ANSWER = AnswerScore(AnswerIds((20,), (21,), (20,)))


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def prompts(model: TinyVLM) -> list[EncodedPrompt]:
    return [model.prompt(image, range(11, 11 + length)) for image, length in ((0, 8), (1, 8), (2, 12), (3, 10))]


def several(prompt: EncodedPrompt, donor: EncodedPrompt) -> list[Run]:
    last = prompt.last
    changes: list[Any] = [
        SiteEdit(Site(1, "head_output", 2), MeanOfOthers()),
        SiteEdit(Site(2, "mlp_output"), Zero(), (last - 2,)),
        SiteEdit(Site(0, "key"), Zero(), (last - 3, last - 1)),
        AttentionBlock((1, 2), (last,), (0, 1)),
        SiteEdit(Site(3, "residual_before"), Patch(), (last,)),
    ]
    runs = [Run(prompt, (ANSWER,), (change,), donor) for change in changes]
    return [*runs, Run(prompt, (ANSWER, LensScore(Site(2, "residual_after"), ANSWER.answer, (2, last))), (changes[1],))]


def numbers(engine: Any, runs: list[Run]) -> np.ndarray:
    return np.array([value.logit_diff for result in engine.run(runs) for readout in result.readouts for value in readout])


@pytest.mark.parametrize("family", ["llava", "qwen3_vl", "qwen2_vl", "gemma3", "paligemma", "aya_vision", "mllama", "blip2_opt"])
def test_runs_on_prompts_of_several_lengths_in_one_call_equal_full_forwards(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = TinyVLM(family, "sdpa")
    bases = prompts(model)
    runs = [run for base in bases for run in several(base, model.prompt(9, base.ids[-(len(base) - base.ids.index(11)) :]))]
    if family == "mllama":
        runs = [run for run in runs if not any(isinstance(change, AttentionBlock) for change in run.interventions)]
    slow = numbers(ReferenceEngine(model), runs)
    batches: list[int] = []
    original = replay.ReplayBatch

    def counted(decoder: Any, attention: Any, states: Any, plans: Any, edits: Any) -> Any:
        batches.append(len({id(plan.base) for plan in plans}))
        return original(decoder, attention, states, plans, edits)

    monkeypatch.setattr(replay, "ReplayBatch", counted)
    engine = ReplayEngine(model)
    for _ in range(2):  # the first call measures with single runs; the second makes full batches
        found = numbers(engine, runs)
        assert np.isfinite(slow).all()
        assert not np.abs(found - slow).max() > 1e-4
    if family != "mllama":
        assert max(batches) > 1, "prompts share batches"
    else:
        assert max(batches) == 1, "what the layers are given of the image differs between prompts"


def test_a_tuple_of_donors_of_several_prompts_is_kept_apart() -> None:
    model = TinyVLM("llava", "sdpa")
    bases, donors = prompts(model)[:2], [model.prompt(image, range(11, 19)) for image in (7, 8)]
    edit = SiteEdit(Site(1, "residual_after"), Patch(), (5, 9))
    runs = [Run(base, (ANSWER,), (edit,), donor) for base in bases for donor in donors for _ in range(2)]
    slow, fast = numbers(ReferenceEngine(model), runs), numbers(ReplayEngine(model), runs)
    assert not np.abs(fast - slow).max() > 1e-4
    assert len(np.unique(slow.round(6))) == 4, "every pair of base and donor gives its own number"


def test_prompts_with_one_run_each_are_not_recorded_but_batched(monkeypatch: pytest.MonkeyPatch) -> None:
    model = TinyVLM("llava", "sdpa")
    engine = ReplayEngine(model)
    edit = SiteEdit(Site(1, "head_output", 0), Zero())
    runs = [Run(model.prompt(image, range(11, 19)), (ANSWER,), (edit,)) for image in range(12)]
    monkeypatch.setattr(engine, "_replay", lambda plans: pytest.fail("replayed"))
    found = numbers(engine, runs)
    assert not np.abs(found - numbers(ReferenceEngine(model), runs)).max() > 1e-5


@pytest.mark.parametrize(
    ("family", "position", "start"),
    [("llava", 20, 20), ("paligemma", 20, 0), ("gemma3", 3, 2), ("gemma3", 9, 9), ("instructblip_t5", 10, 0)],
)
def test_a_run_starts_where_no_earlier_position_looks_past(family: str, position: int, start: int) -> None:
    model = TinyVLM(family, "eager")
    engine = ReplayEngine(model)
    recording = record(model, engine.decoder, model.prompt(0, range(11, 24)), ALWAYS)
    assert recording.safe_start(position) == start


def test_the_first_layer_computes_only_what_an_edit_after_attention_changes() -> None:
    model = TinyVLM("llava", "sdpa")
    engine = ReplayEngine(model)
    prompt = model.prompt(0, range(11, 24))
    recording = record(model, engine.decoder, prompt, ALWAYS)

    def plan(*changes: Any) -> Any:
        return planned(0, Run(prompt, (ANSWER,), changes, prompt), recording, ModelShape(4, 4, 8))

    after = plan(SiteEdit(Site(2, "mlp_output"), Zero(), (20, 25)))
    assert (after.first_layer, after.start, after.entry) == (2, 20, (20, 25))
    before = plan(SiteEdit(Site(2, "residual_before"), Zero(), (20, 25)))
    assert (before.first_layer, before.start, before.entry) == (2, 20, None)
    both = plan(SiteEdit(Site(1, "head_output", 0), Zero(), (22,)), SiteEdit(Site(3, "query"), Zero(), (19,)))
    assert (both.first_layer, both.start, both.entry) == (1, 19, (22,))
    assert plan().first_layer == 4
    everywhere = plan(SiteEdit(Site(0, "head_output", 0), Zero()))
    assert (everywhere.start, everywhere.entry) == (0, range(len(prompt)))


def test_a_packed_layout_finds_tokens_by_run_and_position() -> None:
    layout = Layout([(3, range(5, 9)), (1, (2, 7)), (4, ())])
    assert layout.tokens == 6
    assert layout.positions().tolist() == [5, 6, 7, 8, 2, 7]
    assert layout.span(4) is None
    found = layout.select(3, (8, 2, 6))
    assert found is not None
    assert isinstance(found.tokens, torch.Tensor)
    assert isinstance(found.chosen, torch.Tensor)
    assert (found.tokens.tolist(), found.chosen.tolist()) == ([3, 1], [0, 2])
    other = layout.select(1, (7,))
    assert other is not None
    assert isinstance(other.tokens, torch.Tensor)
    assert other.tokens.tolist() == [5]
    assert layout.select(1, (3,)) is None


def test_a_model_whose_layers_lie_on_several_devices_runs_by_full_passes_and_says_so() -> None:
    model = TinyVLM("llava", "sdpa")
    layer = model.module.model.language_model.layers[2]
    weight = layer.mlp.up_proj.weight
    try:
        layer.mlp.up_proj.weight = torch.nn.Parameter(weight.to("meta"), requires_grad=False)
        with pytest.raises(UnsupportedError, match=r"several devices \(cpu, meta\)"):
            ReplayEngine(model)
    finally:
        layer.mlp.up_proj.weight = weight


class Probed(TinyVLM):
    """A tiny model that can be asked about any image, as the self-check does."""

    def encode(self, *arguments: Any, **named: Any) -> EncodedPrompt:
        return self.prompt(4, range(11, 11 + len(str(arguments[1]).split())))


def test_what_cannot_be_replayed_runs_by_full_passes_and_the_record_says_why() -> None:
    model = Probed("llava", "sdpa")
    engine, trust = checked_engine(model)
    assert isinstance(engine, ReplayEngine)
    assert "fallback" not in trust
    for layer in model.module.model.language_model.layers:
        # An attention that does not look its implementation up where the library keeps them.
        layer.self_attn.forward = MethodType(_stubborn, layer.self_attn)
    engine, trust = checked_engine(model)
    assert isinstance(engine, FullPassEngine)
    assert "cannot be replaced" in trust["fallback"]


def _stubborn(self: Any, hidden_states: torch.Tensor, position_embeddings: Any, attention_mask: Any = None, **_: Any) -> Any:
    shape = (*hidden_states.shape[:-1], -1, self.head_dim)
    query, key, value = (part(hidden_states).view(shape).transpose(1, 2) for part in (self.q_proj, self.k_proj, self.v_proj))
    query, key = apply_rotary_pos_emb(query, key, *position_embeddings)
    mixed = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=attention_mask, is_causal=attention_mask is None, enable_gqa=True
    )
    return self.o_proj(mixed.transpose(1, 2).reshape(*hidden_states.shape[:-1], -1)), None


class Gated(torch.nn.ModuleList):
    """Layers before the third of which the model adds something of the residual itself, as gated cross-attention between layers does."""

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, slice):
            return super().__getitem__(index)
        layers = list(self)[index]

        def gated(hidden: torch.Tensor, *arguments: Any, **named: Any) -> Any:
            return layers[2](hidden + torch.tanh(hidden), *arguments, **named)

        return [*layers[:2], gated, *layers[3:]]


def test_what_a_model_computes_between_its_layers_from_the_residual_is_noticed() -> None:
    model = Probed("llava", "sdpa")
    stack = model.module.model.language_model
    stack.layers = Gated(stack.layers)
    engine, trust = checked_engine(model)
    assert isinstance(engine, FullPassEngine)
    assert "edit_error" in trust["fallback"]


def test_an_attention_that_brings_its_own_masks_is_refused() -> None:
    model = TinyVLM("llava", "sdpa")
    for layer in model.module.model.language_model.layers:
        layer.self_attn.config._attn_implementation = "flex_attention"
    with pytest.raises(UnsupportedError, match="flex_attention; replay knows eager and sdpa"):
        ReplayEngine(model)


@pytest.mark.parametrize("family", ["llava", "qwen3_vl", "gemma3", "instructblip_t5", "aya_vision", "idefics3"])
def test_the_forward_pass_of_an_estimate_is_a_recording_that_exact_runs_start_from(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = TinyVLM(family, "eager")
    base, stack = model.prompt(0, range(11, 16)), model.family.stack
    sites = [Site(layer, "head_output", head, stack) for layer in range(4) for head in range(4)]
    runs = [Run(base, (ANSWER,), (SiteEdit(site, Zero()),)) for site in sites]
    expected = numbers(ReplayEngine(model), runs)
    engine = ReplayEngine(model)
    estimate(engine, runs)
    passes: list[int] = []
    model.module.register_forward_hook(lambda *_: passes.append(1))
    found = numbers(engine, runs)
    assert passes == [], "no other forward pass of the whole model"
    assert np.isfinite(found).all()
    assert not np.abs(found - expected).max() > 1e-5
