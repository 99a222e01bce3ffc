"""Layers whose mixers carry a state from position to position: replay starts from the state of the recording."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
import torch

from tests.engine.every_type import LAYERS, AnyTinyModel
from tests.engine.families import TinyVLM
from tests.engine.grids import Grid, prompts
from tests.engine.test_layer_kinds import BASE, DONOR, KINDS, assert_replay_equals_plain_hooks
from vseam_core.api.interventions import AnswerIds, AnswerScore, AttentionBlock, Patch, Run, Site, SiteEdit, Zero
from vseam_core.engine.reference import ReferenceEngine
from vseam_core.engine.replay import ReplayEngine
from vseam_core.engine.selfcheck import checked_engine
from vseam_core.errors import UnsupportedError

ANSWER = AnswerIds((20,), (21,), (20,))


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def tiny() -> TinyVLM:
    return TinyVLM("qwen3_5", "sdpa")


@pytest.mark.parametrize(("name", "dtype"), [("lfm3_vl", torch.float32), ("lfm3_vl", torch.float64), ("minicpmv4_6", torch.float32)])
def test_short_convolutions_and_delta_nets_of_other_types_are_replayed(name: str, dtype: torch.dtype) -> None:
    # A convolution's state is exact in float64.
    assert_replay_equals_plain_hooks(AnyTinyModel(name, dtype=dtype), 1e-10 if dtype == torch.float64 else 1e-4)


def test_layers_that_are_attention_a_state_space_or_an_mlp_alone_are_replayed() -> None:
    """Nemotron-H: Mamba 2, experts and attention in layers of their own; a site that a layer has not is refused with the reason."""
    model = AnyTinyModel("nemotron_h_omni")
    assert_replay_equals_plain_hooks(model, 2e-5)
    engine, base = ReplayEngine(model), model.prompt(BASE)
    lacking = [layer for layer in range(LAYERS) if engine.decoder.lacks(layer, "mlp_output")]
    assert lacking
    with pytest.raises(UnsupportedError, match="alone: it has no MLP"):
        engine.run([Run(base, (AnswerScore(ANSWER),), (SiteEdit(Site(lacking[0], "mlp_output"), Zero()),))])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_trust_record_measures_the_noise_of_states_and_replays_within_it(dtype: torch.dtype) -> None:
    """The delta rule computes in float32 chunks whatever the model's format: broken off and gone on with, it differs from one pass."""
    engine, trust = checked_engine(AnyTinyModel("qwen3_5", dtype=dtype))
    assert type(engine).__name__ == "ReplayEngine"
    assert 1e-9 < trust["state_noise"] < 1e-3
    assert trust["tolerance"] == (1e-3 if dtype == torch.float32 else pytest.approx(max(1e-6, 10 * trust["state_noise"])))
    assert checked_engine(AnyTinyModel("llava"))[1]["state_noise"] is None


def test_a_mixer_whose_cache_does_not_go_on_where_it_stopped_is_not_replayed() -> None:
    from transformers import DynamicCache

    right = DynamicCache.update_recurrent_state

    def wrong(self: Any, states: torch.Tensor, *rest: Any, **named: Any) -> torch.Tensor:
        return right(self, 0.5 * states, *rest, **named)

    with patch.object(DynamicCache, "update_recurrent_state", wrong):
        engine, trust = checked_engine(AnyTinyModel("qwen3_5", dtype=torch.float64))
    assert type(engine).__name__ == "FullPassEngine"
    assert trust["state_noise"] > 1e-3
    assert trust["tolerance"] <= 1e-3


def test_a_state_is_computed_once_for_all_runs_and_later_ones_from_earlier(tiny: TinyVLM) -> None:
    base, donor = prompts(tiny)["long"]
    grid, engine = Grid(tiny, base, donor), ReplayEngine(tiny)
    late = range(len(base) - 4, len(base))

    def runs() -> list[Run]:
        edits = [SiteEdit(Site(0, kind), Patch(), (position,)) for kind in KINDS for position in late]
        return [grid.run(edit) for edit in edits]

    scanned: list[int] = []
    scan = engine._states.scan

    def noted(*arguments: Any) -> Any:
        found = scan(*arguments)
        scanned.extend(found)
        return found

    with patch.object(engine._states, "scan", noted):
        engine.run(runs())
        assert sorted(scanned) == sorted([*late] * 3), "one state for each position and each of the three layers that carry one"
        scanned.clear()
        first = engine.run(runs())
        assert not scanned, "a state was computed again"
    recording = engine._cache.get(base)
    assert set(recording.states[1]) == set(late)
    assert recording.bytes > sum(state.bytes for state in recording.states[1].values()) > 0
    # What no room was left for is computed where it is needed.
    engine._states.most_bytes = 0
    recording.states.clear()
    again = engine.run(runs())
    assert not recording.states.get(1)
    wanted = ReferenceEngine(tiny).run(runs())
    for results in (first, again):
        differences = [abs(one.answer.logit - other.answer.logit) for one, other in zip(results, wanted, strict=True)]
        assert max(differences) < 1e-4


def test_what_carries_a_state_has_no_attention_to_cut(tiny: TinyVLM) -> None:
    base, donor = prompts(tiny)["short"]
    grid = Grid(tiny, base, donor)
    block = AttentionBlock((0, 2), (base.last,), (1,))
    for engine in (ReplayEngine(tiny), ReferenceEngine(tiny)):
        with pytest.raises(UnsupportedError, match="layer 0 has no attention between positions"):
            engine.run([grid.run(block)])


def test_prompts_with_states_share_a_batch() -> None:
    model = AnyTinyModel("qwen3_5")
    base, donor = model.prompt(BASE), model.prompt(DONOR)
    mixed = [
        Run(one, (AnswerScore(ANSWER),), (SiteEdit(Site(layer, "head_output"), Patch(), (len(one) - 2,)),), other)
        for layer in range(LAYERS)
        for one, other in ((base, donor), (donor, base))
    ]
    found, wanted = (engine.run(mixed) for engine in (ReplayEngine(model), ReferenceEngine(model)))
    assert [one.answer.logit_diff for one in found] == pytest.approx([one.answer.logit_diff for one in wanted], abs=1e-4)
