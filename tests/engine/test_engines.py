"""The engines against a full forward pass with hooks written out here, for every site, operation and family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tests.models import builders
from vseam_core.api.interfaces import VisionLanguageModel
from vseam_core.api.interventions import (
    Add,
    AnswerIds,
    AnswerScore,
    AttentionBlock,
    LensScore,
    MeanOfOthers,
    Operation,
    Patch,
    Replace,
    Run,
    Scale,
    Site,
    SiteEdit,
    SiteKind,
    Zero,
)
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.engine.base import Engine
from vseam_core.engine.reference import ReferenceEngine
from vseam_core.engine.replay import ReplayEngine
from vseam_core.engine.selfcheck import trust_record
from vseam_core.errors import UnsupportedError

ANSWER = AnswerIds((20,), (21,), (20,))
KINDS: tuple[SiteKind, ...] = ("residual_before", "residual_after", "attention_output", "mlp_output", "head_output")
LAYERS, HEADS = builders.LAYERS, builders.HEADS
SIZE = builders.WIDTH // builders.HEADS
TOLERANCE = 1e-4


@pytest.fixture(params=[ReferenceEngine, ReplayEngine], ids=["reference", "replay"])
def engine(request: pytest.FixtureRequest, model: VisionLanguageModel) -> Engine:
    made: Engine = request.param(model)
    return made


@pytest.fixture(scope="module")
def prompts(model: VisionLanguageModel) -> tuple[EncodedPrompt, EncodedPrompt]:
    base, donor = (model.encode(builders.picture(seed), "Is the dog red?") for seed in (1, 2))
    return base, donor


def layers_of(model: VisionLanguageModel) -> Any:
    module: Any = model.module
    return module.model.language_model.layers if hasattr(module, "model") else module.language_model.model.layers


def attach(model: VisionLanguageModel, layer: int, kind: SiteKind, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """A plain hook that replaces `[positions, width]` of a single run."""
    block = layers_of(model)[layer]
    if kind in ("residual_before", "head_output"):
        module = block if kind == "residual_before" else block.self_attn.o_proj
        return module.register_forward_pre_hook(lambda _, args: (change(args[0][0])[None], *args[1:]))
    if kind == "attention_output":
        return block.self_attn.register_forward_hook(lambda _, args, out: (change(out[0][0])[None], *out[1:]))
    module = block.mlp if kind == "mlp_output" else block
    return module.register_forward_hook(lambda _, args, out: change(out[0])[None])


@torch.no_grad()
def plain(model: VisionLanguageModel, prompt: EncodedPrompt, *changes: tuple[int, SiteKind, Callable[..., torch.Tensor]]) -> float:
    handles = [attach(model, *change) for change in changes]
    try:
        logits = model.module(**dict(prompt.inputs)).logits[0, -1].double()
    finally:
        for handle in handles:
            handle.remove()
    return float(logits[20] - logits[21])


def held(model: VisionLanguageModel, prompt: EncodedPrompt, layer: int, kind: SiteKind) -> torch.Tensor:
    kept: list[torch.Tensor] = []

    def keep(value: torch.Tensor) -> torch.Tensor:
        kept.append(value.clone())
        return value

    plain(model, prompt, (layer, kind, keep))
    return kept[0]


def written(positions: list[int], new: Callable[[torch.Tensor], torch.Tensor], part: slice = slice(None)) -> Any:
    def change(value: torch.Tensor) -> torch.Tensor:
        value = value.clone()
        value[positions, part] = new(value)[positions, part]
        return value

    return change


def score(engine: Engine, run: Run) -> float:
    return engine.run([run])[0].answer.logit_diff


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layer", range(LAYERS))
def test_a_patch_equals_a_full_forward_with_a_plain_hook(
    engine: Engine, prompts: tuple[EncodedPrompt, EncodedPrompt], layer: int, kind: SiteKind
) -> None:
    base, donor = prompts
    positions = [base.positions("image")[1], len(base) - 3, len(base) - 1]
    given = held(engine.model, donor, layer, kind)
    expected = plain(engine.model, base, (layer, kind, written(positions, lambda value: given)))
    edit = SiteEdit(Site(layer, kind), Patch(), tuple(positions))
    found = score(engine, Run(base, (AnswerScore(ANSWER),), (edit,), donor))
    assert found == pytest.approx(expected, abs=TOLERANCE)
    assert abs(expected - plain(engine.model, base)) > 10 * TOLERANCE, "the patch does nothing: this comparison shows nothing"


def _others(value: torch.Tensor, head: int) -> torch.Tensor:
    split = value.view(len(value), HEADS, SIZE)
    mean = split[:, [other for other in range(HEADS) if other != head]].mean(1)
    return mean.repeat(1, HEADS)


OPERATIONS: dict[str, tuple[Operation, Callable[[torch.Tensor, int], torch.Tensor]]] = {
    "zero": (Zero(), lambda value, head: torch.zeros_like(value)),
    "scale": (Scale(-1.5), lambda value, head: value * -1.5),
    "mean_of_others": (MeanOfOthers(), _others),
    "add": (Add(np.ones(SIZE, np.float32)), lambda value, head: value + 1),
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("layer", range(LAYERS))
def test_a_head_operation_equals_a_full_forward_with_a_plain_hook(
    engine: Engine, prompts: tuple[EncodedPrompt, EncodedPrompt], layer: int, name: str
) -> None:
    base, head = prompts[0], 1
    operation, new = OPERATIONS[name]
    part = slice(head * SIZE, (head + 1) * SIZE)
    everywhere = list(range(len(base)))
    expected = plain(engine.model, base, (layer, "head_output", written(everywhere, lambda value: new(value, head), part)))
    found = score(engine, Run(base, (AnswerScore(ANSWER),), (SiteEdit(Site(layer, "head_output", head), operation),)))
    assert found == pytest.approx(expected, abs=TOLERANCE)
    assert abs(expected - plain(engine.model, base)) > 10 * TOLERANCE


def test_given_values_land_at_their_positions_in_order(engine: Engine, prompts: tuple[EncodedPrompt, EncodedPrompt]) -> None:
    base = prompts[0]
    values = np.random.default_rng(0).normal(size=(2, SIZE)).astype(np.float32)
    positions = (len(base) - 2, 3)

    def change(value: torch.Tensor) -> torch.Tensor:
        value = value.clone()
        value[positions[0], :SIZE], value[positions[1], :SIZE] = torch.from_numpy(values)
        return value

    expected = plain(engine.model, base, (1, "head_output", change))
    edit = SiteEdit(Site(1, "head_output", 0), Replace(values), positions)
    assert score(engine, Run(base, (AnswerScore(ANSWER),), (edit,))) == pytest.approx(expected, abs=TOLERANCE)


def test_several_edits_of_one_site_use_what_the_site_held_before_any_of_them(
    engine: Engine, prompts: tuple[EncodedPrompt, EncodedPrompt]
) -> None:
    base = prompts[0]
    edits = tuple(SiteEdit(Site(0, "head_output", head), MeanOfOthers()) for head in (0, 1))
    edits += (SiteEdit(Site(0, "head_output", 2), Scale(2.0)),)

    def change(value: torch.Tensor) -> torch.Tensor:
        split = value.clone().view(len(value), HEADS, SIZE)
        mean = split[:, 2:].mean(1)
        split[:, 0], split[:, 1], split[:, 2] = mean, mean, 2 * split[:, 2]
        return split.view_as(value)

    expected = plain(engine.model, base, (0, "head_output", change))
    assert score(engine, Run(base, (AnswerScore(ANSWER),), edits)) == pytest.approx(expected, abs=TOLERANCE)


def test_edits_in_several_layers_work_together(engine: Engine, prompts: tuple[EncodedPrompt, EncodedPrompt]) -> None:
    base, donor = prompts
    given = held(engine.model, donor, 0, "mlp_output")
    last = [len(base) - 1]
    expected = plain(
        engine.model,
        base,
        (0, "mlp_output", written(last, lambda value: given)),
        (1, "attention_output", written(last, torch.zeros_like)),
    )
    edits = (SiteEdit(Site(0, "mlp_output"), Patch(), tuple(last)), SiteEdit(Site(1, "attention_output"), Zero(), tuple(last)))
    assert score(engine, Run(base, (AnswerScore(ANSWER),), edits, donor)) == pytest.approx(expected, abs=TOLERANCE)


def test_replay_equals_the_reference_on_a_mixed_batch_in_any_order(
    model: VisionLanguageModel, prompts: tuple[EncodedPrompt, EncodedPrompt]
) -> None:
    base, donor = prompts
    readouts = (AnswerScore(ANSWER), LensScore(Site(0, "residual_after"), ANSWER, (3, base.last)))
    runs = [Run(base, (AnswerScore(ANSWER),)), Run(donor, readouts)]
    for layer in range(LAYERS):
        for kind in KINDS:
            runs.append(Run(base, readouts, (SiteEdit(Site(layer, kind), Patch(), (4, base.last)),), donor))
        runs.append(Run(donor, (AnswerScore(ANSWER),), (AttentionBlock((layer,), (donor.last,), tuple(range(5))),)))
        runs.append(Run(base, (LensScore(Site(layer, "attention_output"), ANSWER), AnswerScore(ANSWER))))
    runs = [runs[index] for index in np.random.default_rng(3).permutation(len(runs))]
    slow, fast = ReferenceEngine(model, batch_size=3).run(runs), ReplayEngine(model, most_tokens=150).run(runs)
    for expected, found in zip(slow, fast, strict=True):
        for one, other in zip(expected.readouts, found.readouts, strict=True):
            assert [value.logit_diff for value in other] == pytest.approx([value.logit_diff for value in one], abs=TOLERANCE)
            assert not any(np.isnan(value.logit_diff) for value in other)


def test_a_query_that_may_look_nowhere_outputs_zero(engine: Engine, prompts: tuple[EncodedPrompt, EncodedPrompt]) -> None:
    base = prompts[0]
    block = AttentionBlock((1,), (base.last,), tuple(range(len(base))))
    expected = plain(engine.model, base, (1, "head_output", written([base.last], torch.zeros_like)))
    assert score(engine, Run(base, (AnswerScore(ANSWER),), (block,))) == pytest.approx(expected, abs=TOLERANCE)


def test_the_lens_of_the_last_layer_is_the_answer_itself(engine: Engine, prompts: tuple[EncodedPrompt, EncodedPrompt]) -> None:
    base = prompts[0]
    lens = LensScore(Site(LAYERS - 1, "residual_after"), ANSWER)
    result = engine.run([Run(base, (AnswerScore(ANSWER), lens))])[0]
    assert result.readouts[1][0].logit_diff == pytest.approx(result.answer.logit_diff, abs=TOLERANCE)


def test_direct_attributions_of_all_components_add_up_to_the_answer(engine: Engine, prompts: tuple[EncodedPrompt, EncodedPrompt]) -> None:
    base = prompts[0]
    parts = [LensScore(Site(layer, kind), ANSWER) for layer in range(LAYERS) for kind in ("attention_output", "mlp_output")]
    heads = [LensScore(Site(1, "head_output", head), ANSWER) for head in range(HEADS)]
    result = engine.run([Run(base, (AnswerScore(ANSWER), *parts, *heads))])[0]
    values = [readout[0].logit_diff for readout in result.readouts[1:]]
    embedding = held(engine.model, base, 0, "residual_before")[-1]
    final = held(engine.model, base, LAYERS - 1, "residual_after")[-1]
    norm, unembedding = engine.decoder.final_norm, engine.decoder.unembedding.weight
    scale = torch.rsqrt(final.pow(2).mean() + norm.variance_epsilon) * norm.weight  # type: ignore[operator, union-attr]
    of_embedding = float(((unembedding[20] - unembedding[21]) @ (embedding * scale)).detach())
    assert of_embedding + sum(values[: len(parts)]) == pytest.approx(result.answer.logit_diff, abs=1e-3)
    assert sum(values[len(parts) :]) == pytest.approx(values[2], abs=1e-3), "the heads of a layer make up its attention output"


def hooks_on(model: VisionLanguageModel) -> list[list[int]]:
    return [sorted(module._forward_hooks | module._forward_pre_hooks) for module in model.module.modules()]


def test_no_hook_stays_behind_after_an_exception_and_strangers_hooks_stay(
    engine: Engine, prompts: tuple[EncodedPrompt, EncodedPrompt]
) -> None:
    base = prompts[0]
    calls: list[int] = []
    module = layers_of(engine.model)[0].mlp

    def other_hook(*_: object) -> None:
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt

    handle = module.register_forward_hook(other_hook)
    before, implementation = hooks_on(engine.model), [layer.self_attn.config._attn_implementation for layer in layers_of(engine.model)]
    edit = SiteEdit(Site(0, "head_output", 0), Zero())
    with pytest.raises(KeyboardInterrupt):
        engine.run([Run(base, (AnswerScore(ANSWER),), (edit,))] * 40)
    after = hooks_on(engine.model)
    handle.remove()
    assert after == before, "the same hooks as before, the other hook among them"
    assert [layer.self_attn.config._attn_implementation for layer in layers_of(engine.model)] == implementation


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (SiteEdit(Site(99, "mlp_output"), Zero()), "layer 99 does not exist"),
        (SiteEdit(Site(0, "head_output", 99), Zero()), "head 99 does not exist"),
        (SiteEdit(Site(0, "mlp_output"), Zero(), (9999,)), "position 9999 lies outside"),
        (SiteEdit(Site(0, "mlp_output"), Patch()), "needs a donor"),
        (SiteEdit(Site(0, "head_output", 0), Replace(np.ones((7, SIZE), np.float32)), (1, 2)), "given values for 7"),
        (SiteEdit(Site(0, "mlp_output", stack="encoder"), Zero()), "no encoder stack"),
        (SiteEdit(Site(0, "mlp_output"), MeanOfOthers()), "mean_of_others"),
        (AttentionBlock((0,), (1,), (0,), heads=(99,)), "head 99 does not exist"),
        (SiteEdit(Site(0, "head_output", 0), Add(np.ones(1, np.float32))), "given values of width 1"),
        (SiteEdit(Site(0, "head_output", 0), Replace(np.ones((2, 4 * SIZE), np.float32)), (1, 2)), "a head has"),
    ],
)
def test_a_run_that_names_what_is_not_there_is_refused_with_the_reason(
    engine: Engine, prompts: tuple[EncodedPrompt, EncodedPrompt], edit: Any, said: str
) -> None:
    with pytest.raises(UnsupportedError, match=said):
        engine.run([Run(prompts[0], (AnswerScore(ANSWER),), (edit,))])


@pytest.mark.parametrize(
    ("lens", "said"),
    [
        (LensScore(Site(99, "residual_after"), ANSWER), "layer 99 does not exist"),
        (LensScore(Site(0, "head_output", 99), ANSWER), "head 99 does not exist"),
        (LensScore(Site(0, "residual_after"), ANSWER, (-1,)), "lies outside"),
        (LensScore(Site(0, "residual_after"), ANSWER, (9999,)), "position 9999 lies outside"),
        (LensScore(Site(0, "residual_after", stack="encoder"), ANSWER), "no encoder stack"),
        (LensScore(Site(0, "query"), ANSWER), "not added to the residual"),
    ],
)
def test_a_lens_at_a_place_that_is_not_there_is_refused_with_the_reason(
    engine: Engine, prompts: tuple[EncodedPrompt, EncodedPrompt], lens: LensScore, said: str
) -> None:
    with pytest.raises(UnsupportedError, match=said):
        engine.run([Run(prompts[0], (AnswerScore(ANSWER), lens))])


def test_a_donor_of_another_length_is_refused(engine: Engine, prompts: tuple[EncodedPrompt, EncodedPrompt]) -> None:
    other = engine.model.encode(builders.picture(3), "Is the dog to the left of the cat?")
    with pytest.raises(UnsupportedError, match="differ in length"):
        engine.run([Run(prompts[0], (AnswerScore(ANSWER),), (SiteEdit(Site(0, "mlp_output"), Patch()),), other)])


def test_replacing_all_heads_of_a_layer_by_the_mean_of_others_is_refused(
    engine: Engine, prompts: tuple[EncodedPrompt, EncodedPrompt]
) -> None:
    edits = tuple(SiteEdit(Site(0, "head_output", head), MeanOfOthers()) for head in range(HEADS))
    with pytest.raises(UnsupportedError, match="no other head"):
        engine.run([Run(prompts[0], (AnswerScore(ANSWER),), edits)])


def test_batched_answers_equal_single_ones(engine: Engine) -> None:
    questions = ["Is the dog red?", "Is the cat red?", "Is the dog to the left of the cat?"]
    encoded = [engine.model.encode(builders.picture(index), question) for index, question in enumerate(questions)]
    together = engine.answers(encoded, [ANSWER] * 3, batch_size=2)
    assert [value.logit_diff for value in together] == pytest.approx([plain(engine.model, one) for one in encoded], abs=TOLERANCE)


def test_the_log_probability_of_a_whole_answer_is_the_product_of_its_steps(engine: Engine) -> None:
    tokens = (20, 25, 22)
    picture = builders.picture(5)
    forced = engine.model.encode(picture, "Is the dog red?", (), tokens[:-1])
    expected = 0.0
    for step, token in enumerate(tokens):
        prompt = engine.model.encode(picture, "Is the dog red?", (), tokens[:step])
        with torch.no_grad():
            logits = engine.model.module(**dict(prompt.inputs)).logits[0, -1].double()
        expected += float(torch.log_softmax(logits, -1)[token])
    assert engine.sequence_logprob(forced, tokens) == pytest.approx(expected, abs=TOLERANCE)


def test_the_trust_record_is_small_where_engine_and_model_agree(engine: Engine) -> None:
    record = trust_record(engine.model, engine)
    assert record["logits_error"] < 1e-4
    assert record["noise_floor"] < 1e-4
    assert record["ablation_effect"] > 0.01


def test_a_model_whose_heads_do_nothing_is_refused(engine: Engine) -> None:
    kept = [layer.self_attn.o_proj.weight.detach().clone() for layer in layers_of(engine.model)]
    try:
        with torch.no_grad():
            for layer in layers_of(engine.model):
                layer.self_attn.o_proj.weight.zero_()
        with pytest.raises(UnsupportedError, match="the heads were not found"):
            trust_record(engine.model, type(engine)(engine.model))
    finally:
        with torch.no_grad():
            for layer, weight in zip(layers_of(engine.model), kept, strict=True):
                layer.self_attn.o_proj.weight.copy_(weight)
