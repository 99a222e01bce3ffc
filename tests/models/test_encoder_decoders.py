"""A checkpoint whose language model is an encoder-decoder (T5): positions in the encoder, the answer in the decoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.models import builders
from vseam_core.api.interventions import AnswerScore, MeanOfOthers, Patch, Run, Site, SiteEdit, Zero
from vseam_core.engine.reference import ReferenceEngine
from vseam_core.engine.replay import ReplayEngine
from vseam_core.engine.selfcheck import checked_engine
from vseam_plugins.models import instructblip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> instructblip.InstructBlipModel:
    torch.set_num_threads(1)
    folder: Path = builders.build_instructblip_t5(tmp_path_factory.mktemp("t5") / "checkpoint", seed=3)
    return instructblip.load("t5", str(folder), device="cpu")


def test_the_answer_is_read_after_the_decoders_start_token(model: instructblip.InstructBlipModel) -> None:
    prompt = model.encode(builders.picture(1), "Is the dog red?")
    assert prompt.inputs["decoder_input_ids"].tolist() == [[model.tokenizer.pad_token_id]]
    ids = model.answer_ids(prompt, "Yes", "No")
    assert model.tokenizer.decode(list(ids.published[:1])) == "Yes"
    assert not set(ids.gold) & set(ids.competitor)


def test_a_shared_answer_prefix_goes_to_the_decoder(model: instructblip.InstructBlipModel) -> None:
    plain = model.encode(builders.picture(1), "Is the dog red?")
    forced = model.encode(builders.picture(1), "Is the dog red?", (), (7, 9))
    assert forced.ids == plain.ids
    assert forced.inputs["decoder_input_ids"][0, 1:].tolist() == [7, 9]
    assert forced.key != plain.key


def test_the_first_generated_token_is_the_argmax_at_the_start(model: instructblip.InstructBlipModel) -> None:
    prompt = model.encode(builders.picture(2), "Is the dog red?")
    with torch.no_grad():
        top = int(model.module(**model.collate([prompt])).logits[0, -1].argmax())
    text = model.generate([prompt], max_new_tokens=1)[0]
    expected = "" if top in model.special_tokens.values() else model.tokenizer.decode([top])
    assert text == expected.strip()


def test_the_checked_engine_is_replay_and_its_heads_and_patches_are_those_of_full_forwards(model: instructblip.InstructBlipModel) -> None:
    engine, trust = checked_engine(model)
    assert isinstance(engine, ReplayEngine)
    assert trust["logits_error"] < 1e-4
    assert trust["recomputed"] == 1.0
    base, donor = (model.encode(builders.picture(seed), "Is the dog red?") for seed in (1, 2))
    answer = AnswerScore(model.answer_ids(base, "Yes", "No"))
    runs = [Run(base, (answer,))]
    for layer in range(engine.shape.layers):
        for operation in (Zero(), MeanOfOthers()):
            runs += [
                Run(base, (answer,), (SiteEdit(Site(layer, "head_output", head, "encoder"), operation),))
                for head in range(engine.shape.heads)
            ]
        runs.append(Run(base, (answer,), (SiteEdit(Site(layer, "residual_after", stack="encoder"), Patch(), (2, 5)),), donor))
    slow = np.array([result.answer.logit_diff for result in ReferenceEngine(model).run(runs)])
    fast = np.array([result.answer.logit_diff for result in engine.run(runs)])
    assert np.isfinite(slow).all()
    assert np.abs(slow[1:] - slow[0]).max() > 0.01
    assert not np.abs(fast - slow).max() > 1e-4


def test_answers_with_shared_first_tokens_of_different_length_are_read_in_one_call(model: instructblip.InstructBlipModel) -> None:
    prompts = [
        model.encode(builders.picture(seed), "Is the dog red?", (), prefix) for seed, prefix in ((1, ()), (2, (7,)), (3, ()), (4, (7, 9)))
    ]
    ids = model.answer_ids(prompts[0], "Yes", "No")
    for engine in (ReferenceEngine(model), ReplayEngine(model)):
        together = [value.logit_diff for value in engine.answers(prompts, [ids] * 4)]
        alone = [engine.answers([prompt], [ids])[0].logit_diff for prompt in prompts]
        assert together == pytest.approx(alone, abs=1e-4)
        runs = [Run(prompt, (AnswerScore(ids),)) for prompt in prompts]
        assert [result.answer.logit_diff for result in engine.run(runs)] == pytest.approx(alone, abs=1e-4)
