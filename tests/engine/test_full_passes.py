"""Types that run by full passes: every site as plain hooks change it, and a lens that reads what the model itself would make of a layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.engine.every_type import LAYERS, NOT_BUILT, AnyTinyModel
from tests.engine.test_layer_kinds import BASE, DONOR, KINDS, held, place, plain
from vseam_core.api.interventions import AnswerIds, AnswerScore, AttentionBlock, LensScore, Patch, Run, Site, SiteEdit, Zero
from vseam_core.engine.budgeted import FullPassEngine
from vseam_core.engine.selfcheck import checked_engine

ANSWER = AnswerIds((20,), (21,), (20,))
_NEEDS_TIMM = pytest.mark.skipif("gemma3n" in NOT_BUILT, reason="needs timm: make test-torchvision")
_LANES_FIRST = pytest.param("gemma3n", marks=_NEEDS_TIMM)
# Attention sinks, relative positions, indexers, residual lanes.
TYPES = ("inkling2", "inkling_mm_model", "dots3_note", "mistral_large4", "glm5_next", "qwen4_exp", _LANES_FIRST)
PATCHED = (9, 20)
# The logits of a padded vocabulary are cut to what the tokenizer has.
PADDED = {"text_config__unpadded_vocab_size": 120}


@pytest.mark.slow
@pytest.mark.parametrize("name", TYPES)
def test_every_site_of_every_layer_is_changed_as_plain_hooks_change_it(name: str) -> None:
    model = AnyTinyModel(name)
    engine = FullPassEngine(model)
    base, donor = model.prompt(BASE), model.prompt(DONOR)
    runs, expected = [], []
    for layer in range(LAYERS):
        for kind in KINDS:
            given = held(model, donor, layer, kind)

            def patched(value: torch.Tensor, given: torch.Tensor = given) -> torch.Tensor:
                axis, at = value.shape.index(len(BASE)), torch.tensor(PATCHED)
                return value.index_copy(axis, at, given.index_select(axis, at))

            module, on_input = place(model, layer, kind)
            for operation, change in ((Patch(), patched), (Zero(), torch.zeros_like)):
                positions = PATCHED if isinstance(operation, Patch) else None
                runs.append(Run(base, (AnswerScore(ANSWER),), (SiteEdit(Site(layer, kind), operation, positions),), donor))
                expected.append(plain(model, base, module, change, on_input))
    found = [result.answer.logit_diff for result in engine.run(runs)]
    assert found == pytest.approx(expected, abs=1e-4)
    assert sum(abs(value - plain(model, base)) > 1e-3 for value in expected) > len(expected) // 2


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("qwen4_exp", {}),
        ("inkling_mm_model", PADDED),
        pytest.param("glm5_next", {}, marks=pytest.mark.slow),
        pytest.param("gemma3n", {}, marks=_NEEDS_TIMM),
    ],
)
def test_the_lens_of_a_layer_is_what_the_model_says_where_that_layer_is_its_last(name: str, more: dict[str, Any]) -> None:
    """Lanes are read, and factors and cuts of the vocabulary taken, as the model does it: its own last layer is made to hand over the
    residual of an earlier one."""
    model = AnyTinyModel(name, **more)
    engine, record = checked_engine(model)
    assert record["logits_error"] < 1e-4
    prompt, early = model.prompt(BASE), 1
    residual = held(model, prompt, early, "residual_after")
    last, _ = place(model, LAYERS - 1, "residual_after")
    expected = plain(model, prompt, last, lambda _: residual)
    assert abs(expected - plain(model, prompt)) > 1e-3
    run = Run(prompt, (AnswerScore(ANSWER), LensScore(Site(early, "residual_after"), ANSWER, (prompt.last,))))
    assert engine.run([run])[0].readouts[1][0].logit_diff == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["inkling2", _LANES_FIRST])
def test_attention_is_cut_as_a_mask_written_by_hand_cuts_it(name: str) -> None:
    """Beside a sink, and in a layer whose lanes stand first: the attention module itself is handed the mask, behind the layer's own."""
    model = AnyTinyModel(name)
    prompt, targets, sources = model.prompt(BASE), (25, len(BASE) - 1), (20, 21, 24)
    layers = (LAYERS - 2, LAYERS - 1)

    def cut(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = kwargs["attention_mask"]
        seen = torch.ones(1, 1, len(BASE), len(BASE), dtype=torch.bool).tril() if given is None else given
        mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min) if seen.dtype == torch.bool else seen.clone()
        for target in targets:
            mask[:, :, target, list(sources)] = torch.finfo(torch.float32).min
        return args, {**kwargs, "attention_mask": mask}

    handles = [place(model, layer, "attention_output")[0].register_forward_pre_hook(cut, with_kwargs=True) for layer in layers]
    expected = plain(model, prompt)
    for handle in handles:
        handle.remove()
    assert abs(expected - plain(model, prompt)) > 1e-3
    run = Run(prompt, (AnswerScore(ANSWER),), (AttentionBlock(layers, targets, sources),))
    assert FullPassEngine(model).run([run])[0].answer.logit_diff == pytest.approx(expected, abs=1e-5)
