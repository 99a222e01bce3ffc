"""Interventions held while a model generates: equal to other weights, and to plain hooks in a loop that recomputes everything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vseam_core.api.interventions import AnswerIds, AttentionBlock, MeanOfOthers, Operation, Patch, Replace, Scale, Site, SiteEdit, Zero
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.engine.budgeted import FullPassEngine
from vseam_core.engine.generation import Question, Response
from vseam_core.engine.readouts import answer_values
from vseam_core.engine.reference import ReferenceEngine
from vseam_core.engine.selfcheck import checked_engine
from vseam_core.errors import UnsupportedError
from vseam_plugins.heads.rescaling import fold_into_weights
from vseam_plugins.models import hf, instructblip
from vseam_plugins.models.hf import HuggingFaceModel

from . import builders
from .builders import HEADS, WIDTH, picture
from .checkpoints import build_checkpoint
from .test_whole_studies import NEEDED, WITH_REGIONS, WITHOUT_REGIONS

QUESTIONS = ("Is the red dog left of the cat?", "Is the blue cat left?", "Is the striped dog of the cat?", "Is red?")
STEPS = 6
HEAD_DIM = WIDTH // HEADS
FACTORS = {"L0H1": 0.0, "L1H2": 2.5, "L1H0": -1.0, "L0H3": 1.7}
FAMILIES = ("llava-words", "llava-subwords", "instructblip-words")
ANSWER = AnswerIds((4,), (5,), (4,))


def prompts_of(model: HuggingFaceModel) -> list[EncodedPrompt]:
    return [model.encode(picture(seed), question) for seed in range(3) for question in QUESTIONS]


def edits_of(operation: Callable[[str], Operation], heads: Sequence[str], positions: tuple[int, ...] | None = None) -> tuple[SiteEdit, ...]:
    return tuple(SiteEdit(Site(int(name[1]), "head_output", int(name[3])), operation(name), positions) for name in heads)


def scaled(prompt: EncodedPrompt, stack: Any = "decoder") -> Question:
    edits = tuple(SiteEdit(Site(int(n[1]), "head_output", int(n[3]), stack), Scale(factor)) for n, factor in FACTORS.items())
    return Question(prompt, ANSWER, edits)


def texts(responses: Sequence[Response]) -> list[str]:
    return [response.text for response in responses]


def difference(response: Response) -> float:
    assert response.values is not None
    return response.values.logit_diff


Change = Callable[[torch.Tensor], torch.Tensor]
"""Takes z `[positions, width]` of the whole text so far and returns what it becomes."""


def slow_greedy(model: HuggingFaceModel, prompt: EncodedPrompt, changes: Mapping[int, Change]) -> tuple[str, torch.Tensor]:
    """A full forward pass of prompt and answer for every token, hooks on modules named by hand: text, and the first token's logits."""
    layers = (
        model.module.get_decoder().layers if hasattr(model.module.get_decoder(), "layers") else model.module.language_model.model.layers
    )
    handles = [
        layers[layer].self_attn.o_proj.register_forward_pre_hook(lambda module, args, change=change: (change(args[0][0])[None],))
        for layer, change in changes.items()
    ]
    inputs, answer, first = dict(model.collate([prompt])), [], None
    try:
        for _ in range(STEPS):
            with torch.no_grad():
                logits = model.module(**inputs, use_cache=False).logits[0, -1]
            first = logits if first is None else first
            token = int(logits.argmax())
            if token == model.tokenizer.eos_token_id:
                break
            answer.append(token)
            inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([[token]])], dim=1)
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    finally:
        for handle in handles:
            handle.remove()
    assert first is not None
    return model.tokenizer.decode(answer, skip_special_tokens=True).strip(), first


def head_of(name: str) -> slice:
    return slice(int(name[3]) * HEAD_DIM, (int(name[3]) + 1) * HEAD_DIM)


def assert_equals_the_slow_loop(
    model: HuggingFaceModel, questions: Sequence[Question], changes_of: Callable[[Question], Mapping[int, Change]]
) -> None:
    responses = FullPassEngine(model).respond(questions, STEPS)
    plain = FullPassEngine(model).respond([Question(each.prompt, ANSWER) for each in questions], STEPS)
    for question, response in zip(questions, responses, strict=True):
        text, logits = slow_greedy(model, question.prompt, changes_of(question))
        assert response.text == text
        expected = answer_values(logits[None], [ANSWER])[0]
        assert difference(response) == pytest.approx(expected.logit_diff, rel=1e-4, abs=1e-4)
    assert texts(responses) != texts(plain), "an intervention that changes no text proves nothing"


@pytest.mark.parametrize("name", [*FAMILIES, "idefics"])
def test_one_generation_gives_the_texts_and_the_scores_of_separate_passes(loaded: dict[str, HuggingFaceModel], name: str) -> None:
    model = loaded[name]
    prompts = prompts_of(model)
    engine = FullPassEngine(model)
    responses = engine.respond([Question(prompt, ANSWER) for prompt in prompts], STEPS)
    assert texts(responses) == model.generate(prompts, STEPS)
    assert len(set(texts(responses))) > 1
    separate = engine.answers(prompts, [ANSWER] * len(prompts))
    for response, values in zip(responses, separate, strict=True):
        assert response.values is not None
        assert response.values.logprob == pytest.approx(values.logprob, rel=1e-5, abs=1e-5)
        assert response.values.logit_diff == pytest.approx(values.logit_diff, rel=1e-4, abs=1e-4)
        assert response.values.top == values.top
    assert engine.respond([Question(prompts[0])], STEPS)[0].values is None


@pytest.mark.parametrize("name", FAMILIES)
def test_a_rescaling_generates_what_the_same_rescaling_in_the_weights_generates(loaded: dict[str, HuggingFaceModel], name: str) -> None:
    model = loaded[name]
    prompts = prompts_of(model)
    engine = FullPassEngine(model)
    plain = engine.respond([Question(prompt, ANSWER) for prompt in prompts], STEPS)
    held = engine.respond([scaled(prompt) for prompt in prompts], STEPS)
    with fold_into_weights(model, FACTORS):
        folded = FullPassEngine(model).respond([Question(prompt, ANSWER) for prompt in prompts], STEPS)
    assert texts(held) == texts(folded)
    assert [difference(each) for each in held] == pytest.approx([difference(each) for each in folded], rel=1e-4, abs=1e-4)
    assert texts(held) != texts(plain)


def test_a_rescaled_encoder_generates_what_its_weights_do(tmp_path: Path) -> None:
    model = instructblip.load("t5", str(builders.build_instructblip_t5(tmp_path / "t5", seed=3)), device="cpu")
    prompts = prompts_of(model)
    engine = FullPassEngine(model)
    plain = engine.respond([Question(prompt, ANSWER) for prompt in prompts], STEPS)
    held = engine.respond([scaled(prompt, "encoder") for prompt in prompts], STEPS)
    with fold_into_weights(model, {f"encoder:{head}": factor for head, factor in FACTORS.items()}):
        folded = FullPassEngine(model).respond([Question(prompt, ANSWER) for prompt in prompts], STEPS)
    assert texts(held) == texts(folded)
    assert [difference(each) for each in held] == pytest.approx([difference(each) for each in folded], rel=1e-4, abs=1e-4)
    assert [difference(each) for each in held] != pytest.approx([difference(each) for each in plain], abs=1e-2)


@pytest.mark.parametrize("stack", ["decoder", "cross"])
def test_the_rescaled_heads_of_a_decoder_that_generates_generate_what_their_weights_do(stack: str, tmp_path: Path) -> None:
    """Of its own attention, and of that to the encoder."""
    model = instructblip.load("t5", str(builders.build_instructblip_t5(tmp_path / "t5", seed=3)), device="cpu")
    prompts = prompts_of(model)
    engine = checked_engine(model)[0]
    plain = engine.respond([Question(prompt, ANSWER) for prompt in prompts], STEPS)
    held = engine.respond([scaled(prompt, stack) for prompt in prompts], STEPS)
    with fold_into_weights(model, {f"{stack}:{head}": factor for head, factor in FACTORS.items()}):
        folded = FullPassEngine(model).respond([Question(prompt, ANSWER) for prompt in prompts], STEPS)
    again = engine.respond([Question(prompt, ANSWER) for prompt in prompts], STEPS)
    assert texts(held) == texts(folded)
    assert [difference(each) for each in held] == pytest.approx([difference(each) for each in folded], rel=1e-4, abs=1e-4)
    assert [difference(each) for each in held] != pytest.approx([difference(each) for each in plain], abs=1e-2)
    assert [difference(each) for each in again] == [difference(each) for each in plain]


def test_zeroed_heads_are_zero_at_every_generated_step(loaded: dict[str, HuggingFaceModel]) -> None:
    heads = ("L0H0", "L0H2", "L1H1")

    def changes(question: Question) -> Mapping[int, Change]:
        def zero(layer: int) -> Change:
            def change(z: torch.Tensor) -> torch.Tensor:
                z = z.clone()
                for name in heads:
                    if int(name[1]) == layer:
                        z[:, head_of(name)] = 0
                return z

            return change

        return {layer: zero(layer) for layer in (0, 1)}

    model = loaded["llava-words"]
    questions = [Question(prompt, ANSWER, edits_of(lambda name: Zero(), heads)) for prompt in prompts_of(model)]
    assert_equals_the_slow_loop(model, questions, changes)


def test_the_mean_of_others_is_live_at_every_generated_step(loaded: dict[str, HuggingFaceModel]) -> None:
    def change(z: torch.Tensor) -> torch.Tensor:
        split = z.clone().reshape(len(z), HEADS, HEAD_DIM)
        split[:, [0, 1]] = split[:, [2, 3]].mean(1, keepdim=True)
        return split.reshape(z.shape)

    model = loaded["llava-words"]
    questions = [Question(prompt, ANSWER, edits_of(lambda name: MeanOfOthers(), ("L1H0", "L1H1"))) for prompt in prompts_of(model)]
    assert_equals_the_slow_loop(model, questions, lambda question: {1: change})


def test_a_donors_heads_stay_in_the_prompt_and_its_last_position_goes_on(loaded: dict[str, HuggingFaceModel]) -> None:
    model, heads = loaded["llava-words"], ("L0H0", "L0H1", "L0H3")
    prompts = prompts_of(model)
    donors = [*prompts[len(QUESTIONS) :], *prompts[: len(QUESTIONS)]]
    reference = ReferenceEngine(model)
    held = {donor.key: reference.activations(donor, [(0, "head_output")])[(0, "head_output")] for donor in donors}

    def changes(question: Question) -> Mapping[int, Change]:
        assert question.donor is not None
        donor = held[question.donor.key]

        def change(z: torch.Tensor) -> torch.Tensor:
            z = z.clone()
            for name in heads:
                z[: len(donor), head_of(name)] = donor[:, head_of(name)]
                z[len(donor) :, head_of(name)] = donor[-1, head_of(name)]
            return z

        return {0: change}

    edits = edits_of(lambda name: Patch(), heads)
    assert_equals_the_slow_loop(model, [Question(p, ANSWER, edits, d) for p, d in zip(prompts, donors, strict=True)], changes)


def test_given_values_stay_in_the_prompt_and_the_last_goes_on(loaded: dict[str, HuggingFaceModel]) -> None:
    model = loaded["llava-words"]
    values = {len(p): 2 * np.random.default_rng(1).normal(size=(len(p), HEAD_DIM)).astype(np.float32) for p in prompts_of(model)}

    def changes(question: Question) -> Mapping[int, Change]:
        given = torch.from_numpy(values[len(question.prompt)])

        def change(z: torch.Tensor) -> torch.Tensor:
            z = z.clone()
            z[: len(given), head_of("L1H1")] = given
            z[len(given) :, head_of("L1H1")] = given[-1]
            return z

        return {1: change}

    questions = [
        Question(prompt, ANSWER, edits_of(lambda name, prompt=prompt: Replace(values[len(prompt)]), ("L1H1",)))  # type: ignore[misc]
        for prompt in prompts_of(model)
    ]
    assert_equals_the_slow_loop(model, questions, changes)


def test_an_edit_at_named_positions_stays_at_those(loaded: dict[str, HuggingFaceModel]) -> None:
    model, positions = loaded["llava-words"], (1, 5, 20)

    def change(z: torch.Tensor) -> torch.Tensor:
        z = z.clone()
        z[list(positions)] = z[list(positions)] * 4.0
        return z

    edits = tuple(SiteEdit(Site(0, "head_output"), Scale(4.0), positions) for _ in range(1))
    questions = [Question(prompt, ANSWER, edits) for prompt in prompts_of(model)]
    assert_equals_the_slow_loop(model, questions, lambda question: {0: change})


def test_knockouts_and_heads_that_do_not_exist_are_refused(llava_words: HuggingFaceModel) -> None:
    prompt = prompts_of(llava_words)[0]
    engine = FullPassEngine(llava_words)
    with pytest.raises(UnsupportedError, match="knockouts cannot be held while a model generates"):
        engine.respond([Question(prompt, None, (AttentionBlock((0,), (3,), (1,)),))])
    with pytest.raises(UnsupportedError, match="head 9 does not exist"):
        engine.respond([Question(prompt, None, edits_of(lambda name: Zero(), ("L0H9",)))])


def test_batches_are_halved_where_memory_runs_out_and_nothing_is_lost(
    llava_words: HuggingFaceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [prompt for prompt in prompts_of(llava_words) for _ in range(3)]
    expected = texts(FullPassEngine(llava_words).respond([Question(prompt) for prompt in prompts], STEPS))
    original, sizes = llava_words.respond, []

    def scarce(some: Sequence[EncodedPrompt], steps: int = 8) -> Any:
        sizes.append(len(some))
        if len(some) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(some, steps)

    monkeypatch.setattr(llava_words, "respond", scarce)
    assert texts(FullPassEngine(llava_words).respond([Question(prompt) for prompt in prompts], STEPS)) == expected
    assert max(sizes) > 2, "memory never ran out"


def test_a_model_without_respond_of_its_own_gets_the_logits_by_a_pass_of_their_own(llava_words: HuggingFaceModel) -> None:
    from vseam_core.api.interfaces import VisionLanguageModel

    prompts = prompts_of(llava_words)
    found, logits = VisionLanguageModel.respond(llava_words, prompts, STEPS)
    quick, first = llava_words.respond(prompts, STEPS)
    assert found == quick
    torch.testing.assert_close(logits, first, rtol=1e-4, atol=1e-4)


def test_hooks_are_gone_after_an_error_inside_the_generation(llava_words: HuggingFaceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise RuntimeError("broken")

    def hooks() -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in llava_words.module.modules())

    before = hooks()
    monkeypatch.setattr(llava_words, "respond", fails)
    with pytest.raises(RuntimeError, match="broken"):
        FullPassEngine(llava_words).respond([scaled(prompts_of(llava_words)[0])])
    assert hooks() == before


@pytest.mark.parametrize("name", [*FAMILIES, "idefics"])
def test_prompts_of_different_length_share_a_batch_and_say_what_they_say_alone(
    loaded: dict[str, HuggingFaceModel], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded[name]
    assert model.pads_left
    prompts = prompts_of(model)
    assert len({len(prompt) for prompt in prompts}) > 2
    questions = [scaled(prompt) for prompt in prompts]
    alone = [ReferenceEngine(model).respond([question], STEPS)[0] for question in questions]
    batches, original = [], model.module.generate
    monkeypatch.setattr(model.module, "generate", lambda **inputs: (batches.append(len(inputs["input_ids"])), original(**inputs))[1])
    together = ReferenceEngine(model).respond(questions, STEPS)
    assert batches == [len(prompts)]
    assert texts(together) == texts(alone)
    assert [difference(each) for each in together] == pytest.approx([difference(each) for each in alone], rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("family", [*WITH_REGIONS, *WITHOUT_REGIONS])
def test_every_family_generates_under_a_rescaling_what_its_weights_would(family: str, tmp_path: Path) -> None:
    if family in NEEDED:
        pytest.importorskip(NEEDED[family])
    model = hf.load(family, str(build_checkpoint(family, tmp_path / family)), device="cpu")
    engine = FullPassEngine(model)
    stack = engine.shape.stack
    factors = {f"L{layer}H{head}": factor for layer in range(2) for head, factor in ((0, -1.5), (1, 2.0))}
    edits = tuple(SiteEdit(Site(int(n[1]), "head_output", int(n[3]), stack), Scale(f)) for n, f in factors.items())  # type: ignore[arg-type]
    asked = ("Is the red dog ?", "Is the blue cat in the red car ?", "Is the fish green ?", "Is the lamp ?")
    prompts = [model.encode(picture(seed), question) for seed, question in enumerate(asked)]
    plain = engine.respond([Question(prompt, ANSWER) for prompt in prompts], STEPS)
    held = engine.respond([Question(prompt, ANSWER, edits) for prompt in prompts], STEPS)
    named = {f"{stack}:{name}": factor for name, factor in factors.items()}
    with fold_into_weights(model, named):
        alone = [ReferenceEngine(model).respond([Question(prompt, ANSWER)], STEPS)[0] for prompt in prompts]
        separate = engine.answers(prompts, [ANSWER] * len(prompts))
    assert texts(held) == texts(alone)
    assert [difference(each) for each in held] == pytest.approx([difference(each) for each in alone], rel=2e-3, abs=2e-3)
    assert [difference(each) for each in held] == pytest.approx([each.logit_diff for each in separate], rel=2e-3, abs=2e-3)
    assert [difference(each) for each in held] != pytest.approx([difference(each) for each in plain], abs=1e-2)
