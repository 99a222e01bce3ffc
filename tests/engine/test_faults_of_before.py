"""Models that were once refused, or that ended a program, although they can be run: one of each kind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.engine.every_type import AnyTinyModel
from tests.engine.families import TinyVLM
from tests.engine.grids import READOUTS, Grid
from tests.models.builders import picture
from tests.models.checkpoints import build_checkpoint
from vseam_core.api.interventions import AnswerIds, AnswerScore, Run, Site, SiteEdit, Zero
from vseam_core.engine.precision import drift
from vseam_core.engine.reference import ReferenceEngine
from vseam_core.engine.replay import ReplayEngine
from vseam_core.engine.selfcheck import checked_engine
from vseam_plugins.models import hf


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_the_drift_of_a_mixture_of_experts_is_measured_against_float64() -> None:
    # The library's grouped products know no float64.
    found = drift(AnyTinyModel("qwen3_vl_moe"))
    single = [one for one in found if one.dtype == "float32"]
    assert len(single) == 2
    assert not any(one.reason for one in single)
    assert all(one.error is not None and 0 < one.error < 1e-3 for one in single)


def test_image_keys_are_not_taken_for_positions_of_a_prompt_that_is_as_long() -> None:
    """Mllama reads its image by keys of its own; with as many words as keys, runs of two images still do not share them."""
    model = TinyVLM("mllama", "sdpa")
    engine = ReplayEngine(model)
    probe = model.prompt(1, (11, 12, 13))
    keys = engine._cache.get(probe, {"residual_before", "residual_after", "head_output"}).arguments[1]["cross_attention_states"].shape[1]
    words = tuple(range(20, 20 + keys - (len(probe) - 3)))
    one, other = model.prompt(1, words), model.prompt(2, tuple(reversed(words)))
    assert len(one) == keys
    runs = []
    for base, donor in ((one, other), (other, one)):
        grid = Grid(model, base, donor)
        runs += [grid.run(grid.edit(layer, "mlp_output", "patch", place)) for layer in range(3) for place in ("last", "mixed")]
    found, wanted = engine.run(runs), ReferenceEngine(model).run(runs)
    assert not engine._cache.get(one).packs_with_others
    for mine, theirs in zip(found, wanted, strict=True):
        logits = [[readout[0].logit for readout in result.readouts] for result in (mine, theirs)]
        assert logits[0] == pytest.approx(logits[1], abs=1e-4)
    assert len(READOUTS) == len(found[0].readouts)


def test_eager_attention_in_float64_is_held_to_the_librarys_own_softmax_and_replayed() -> None:
    # It takes its softmax in float32 whatever the format: against 1e-6 this model was refused.
    engine, record = checked_engine(AnyTinyModel("vipllava", "eager", torch.float64))
    assert isinstance(engine, ReplayEngine), record.get("fallback")
    assert record["tolerance"] == 1e-5


def test_a_model_that_numbers_images_across_a_batch_is_replayed_with_one_prompt_to_a_batch(tmp_path: Path) -> None:
    model = hf.load("mine", str(build_checkpoint("hunyuan_vl", tmp_path / "hunyuan")), device="cpu")
    engine, record = checked_engine(model)
    assert isinstance(engine, ReplayEngine), record.get("fallback")
    assert "two prompts in one batch" in record["alone"]
    prompts = [model.encode(picture(seed), "Is the cat red ?") for seed in (1, 2)]
    answer = AnswerIds((20,), (21,), (20,))
    runs = [
        Run(prompt, (AnswerScore(answer),), (SiteEdit(Site(0, "head_output", head), Zero(), (prompt.last,)),))
        for prompt in prompts
        for head in range(engine.shape.heads)
    ]
    alone = [ReferenceEngine(model).run([run])[0].answer.logit_diff for run in runs]
    assert [result.answer.logit_diff for result in engine.run(runs)] == pytest.approx(alone, abs=1e-4)
    own = [engine.answers([prompt], [answer])[0].logit_diff for prompt in prompts]
    assert [value.logit_diff for value in engine.answers(prompts, [answer] * 2)] == pytest.approx(own, abs=1e-6)
