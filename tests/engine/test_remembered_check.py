"""A model is checked once as long as it stays what it was, and again when anything of it has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.engine.every_type import AnyTinyModel
from vseam_core.api.interventions import AnswerIds, AnswerScore, Run, Site, SiteEdit, Zero
from vseam_core.engine import remembered_check, selfcheck
from vseam_core.engine.budgeted import FullPassEngine
from vseam_core.engine.memory import MemoryBudgetError
from vseam_core.engine.remembered_check import engine_checked_once, state_of
from vseam_core.engine.replay import ReplayEngine
from vseam_core.runs.workspace import open_workspace
from vseam_core.testing.tiny import TinyModel


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The models that were checked, in order."""
    found: list[str] = []

    def counted(model: Any, *rest: Any) -> Any:
        found.append(model.info.name)
        return selfcheck.checked_engine(model, *rest)

    monkeypatch.setattr(remembered_check, "checked_engine", counted)
    return found


def test_a_given_model_is_checked_once_however_often_and_wherever_it_is_released(checks: list[str]) -> None:
    model, loaded = TinyModel(), []
    for _ in range(2):
        with open_workspace(":memory:", device="cpu") as workspace:
            name = workspace.give_model(model)
            for _ in range(2):
                loaded.append(workspace.model(name))
                workspace.release(name)
    assert checks == ["tiny"]
    assert all(each.trust == loaded[0].trust for each in loaded)
    assert len({id(each.engine) for each in loaded}) == 4, "an engine that was released keeps its recordings"


def last_layer(model: TinyModel) -> Any:
    return model.module.model.language_model.layers[-1]


def overwrite(model: TinyModel) -> None:
    last_layer(model).mlp.down_proj.weight.data[3, 5] += 1e-3


def exchange(model: TinyModel) -> None:
    weight = last_layer(model).self_attn.o_proj.weight.data
    weight[:, [0, 9]] = weight[:, [9, 0]]


def other_attention(model: TinyModel) -> None:
    model.module.set_attn_implementation("eager")


def other_format(model: TinyModel) -> None:
    model.module.to(torch.float64)


def buffer(model: TinyModel) -> None:
    model.module.model.language_model.rotary_emb.inv_freq *= 1.01


def hook(model: TinyModel) -> None:
    last_layer(model).register_forward_hook(lambda *given: None)


def setting(model: TinyModel) -> None:
    last_layer(model).input_layernorm.variance_epsilon = 1e-3


def other_module(model: TinyModel) -> None:
    last_layer(model).mlp.act_fn = torch.nn.GELU()


def own_forward(model: TinyModel) -> None:
    last_layer(model).mlp.forward = lambda hidden: hidden


def prompts(model: TinyModel) -> None:
    encode = model.encode
    model.encode = lambda image, question, *rest: encode(image, f"{question} Please.", *rest)  # type: ignore[method-assign]


def described(model: TinyModel) -> None:
    model.info = replace(model.info, weights_hash="other")


CHANGES = [overwrite, exchange, other_attention, other_format, buffer, hook, setting, other_module, own_forward, prompts, described]


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_in_a_model_changes_its_state(change: Callable[[TinyModel], None]) -> None:
    model = TinyModel()
    before = state_of(model)
    assert state_of(model) == before
    assert state_of(TinyModel()) == before, "two models alike have one state"
    change(model)
    assert state_of(model) != before


def test_a_changed_model_is_checked_again_and_what_its_engine_can_do_follows(checks: list[str]) -> None:
    model = TinyModel()
    outputs = [layer.self_attn.o_proj.weight for layer in model.module.model.language_model.layers]
    kept = [weight.clone() for weight in outputs]
    assert isinstance(engine_checked_once(model)[0], ReplayEngine)
    for weight in outputs:
        weight.data[:] = 0
    for _ in range(2):
        engine, record = engine_checked_once(model)
        assert "the heads were not found" in engine.decoder.unreadable
        assert record["fallback"]
    for weight, before in zip(outputs, kept, strict=True):
        weight.data[:] = before
    for _ in range(2):
        engine, record = engine_checked_once(model)
        assert isinstance(engine, ReplayEngine)
        assert "fallback" not in record
    assert len(checks) == 3


def test_a_model_that_was_refused_is_checked_and_refused_again(checks: list[str]) -> None:
    model = TinyModel()
    for _ in range(2):
        with pytest.raises(MemoryBudgetError):
            engine_checked_once(model, 1)
    assert len(checks) == 2


def test_another_memory_budget_is_another_check_and_weights_that_are_elsewhere_are_checked_every_time(checks: list[str]) -> None:
    model = TinyModel()
    for budget in (None, 2**30, 2**30):
        engine, _ = engine_checked_once(model, budget)
    assert engine.memory_budget == 2**30
    assert len(checks) == 2
    model.module.register_buffer("elsewhere", torch.empty(3, device="meta"))
    assert state_of(model) == ""
    for _ in range(2):
        engine_checked_once(model, 2**30)
    assert len(checks) == 4


@pytest.mark.parametrize("of_what", ["full passes", "answers alone", "one prompt to a batch"])
def test_the_engine_is_again_what_the_check_made_of_it(of_what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = AnyTinyModel("mistral_large4") if of_what == "full passes" else AnyTinyModel("llava")
    if of_what == "answers alone":
        monkeypatch.setattr(selfcheck, "_ablation_effect", lambda *given: 0.0)
    if of_what == "one prompt to a batch":
        plain = selfcheck.plain_logits
        monkeypatch.setattr(selfcheck, "plain_logits", lambda of, some: plain(of, some) + (len(some) - 1))
    first, record = engine_checked_once(model)
    monkeypatch.setattr(remembered_check, "checked_engine", None)
    second, again = engine_checked_once(model)
    assert again == record
    assert second is not first
    assert type(second) is type(first)
    for name in ("alone_because", "no_lens_because", "memory_budget"):
        assert getattr(second, name) == getattr(first, name)
    assert second.decoder.unreadable == first.decoder.unreadable
    assert isinstance(first, ReplayEngine if of_what == "one prompt to a batch" else FullPassEngine)
    assert bool(first.decoder.unreadable) == (of_what == "answers alone")
    assert bool(first.alone_because) == (of_what == "one prompt to a batch")
    if not first.decoder.unreadable:
        prompt = model.encode(Image.fromarray(np.zeros((8, 8, 3), np.uint8)), "Is it red?")
        runs = [Run(prompt, (AnswerScore(AnswerIds((20,), (21,), (20,))),), (SiteEdit(Site(1, "mlp_output"), Zero()),))]
        assert second.run(runs) == first.run(runs)
