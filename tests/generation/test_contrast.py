"""VCD and PAI against logits by hand: plain forward passes of the whole text for every token, attention written out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tests.generation.by_hand import ANSWER, QUESTIONS, STEPS, Weights, answered, attention_by_hand, context_of, greedy_by_hand, last_logits
from tests.models.builders import build_llava
from vseam_core.api.generation import GenerationContext
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.engine.budgeted import FullPassEngine
from vseam_core.engine.generation import Question
from vseam_core.errors import UnsupportedError, VseamError
from vseam_plugins.generation.contrast import ImageAttention, NoisedImageContrast
from vseam_plugins.generation.prompts import kept_signal, noised, without_image
from vseam_plugins.models import hf
from vseam_plugins.models.hf import HuggingFaceModel


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceModel:
    return hf.load("tiny", str(build_llava(tmp_path_factory.mktemp("llava"), seed=3)), device="cpu")


def masked(combined: torch.Tensor, original: torch.Tensor, beta: float) -> torch.Tensor:
    probabilities = original.softmax(-1)
    return torch.where(probabilities >= beta * probabilities.max(), combined, torch.tensor(-math.inf))


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.1), (2.5, 0.0)])
def test_vcd_generates_what_two_plain_forward_passes_for_each_token_say(model: HuggingFaceModel, alpha: float, beta: float) -> None:
    method = NoisedImageContrast(alpha=alpha, beta=beta, noise_step=800)
    plain = [text for _, text, _ in answered(model, NoisedImageContrast(alpha=0, beta=0))]
    found = answered(model, method)
    for context, text, difference in found:
        noise = method.branches(context)[1].prompt

        def logits(tokens: Sequence[int], context: GenerationContext = context, noise: EncodedPrompt = noise) -> torch.Tensor:
            image, other = last_logits(model, context.prompt, tokens), last_logits(model, noise, tokens)
            return masked((1 + alpha) * image - alpha * other, image, beta)

        expected_text, expected = greedy_by_hand(model, logits)
        assert text == expected_text
        assert difference == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert [text for _, text, _ in found] != plain, "a contrast that changes no text proves nothing"


def turned_up(method: ImageAttention, sources: Sequence[int]) -> Weights:
    """Weights whose logits at `sources` are turned up."""

    def weights(head: int, scores: torch.Tensor) -> torch.Tensor:
        scores[list(sources)] += method.alpha * scores[list(sources)].abs()
        return scores.softmax(-1)

    return weights


@pytest.mark.parametrize(
    "method", [ImageAttention(alpha=1.5, gamma=1.6, beta=0.05, first_layer=0), ImageAttention(alpha=2.0, gamma=1.0, first_layer=1)]
)
def test_pai_generates_what_attention_written_out_says(model: HuggingFaceModel, method: ImageAttention) -> None:
    plain = [text for _, text, _ in answered(model, ImageAttention(alpha=0, gamma=1))]
    found = answered(model, method)
    layers = range(method.first_layer, len(model.module.model.language_model.layers))
    assert method.last_layer is None
    for context, text, difference in (found[0], found[-1]):
        prompt = context.prompt
        words = [token for token, kind in zip(prompt.ids, prompt.classes, strict=True) if kind != "image"]

        def logits(tokens: Sequence[int], prompt: EncodedPrompt = prompt, words: Sequence[int] = words) -> torch.Tensor:
            with attention_by_hand(model, layers, prompt.last, turned_up(method, prompt.positions("image"))):
                image = last_logits(model, prompt, tokens)
            if method.gamma == 1:
                return image
            ids = torch.tensor([[*words, *tokens]])
            with torch.no_grad():
                alone = model.module(input_ids=ids, use_cache=False).logits[0, -1]
            return masked(method.gamma * image + (1 - method.gamma) * alone, image, method.beta)

        expected_text, expected = greedy_by_hand(model, logits)
        assert text == expected_text
        assert difference == pytest.approx(expected, rel=1e-3, abs=1e-3)
    assert [text for _, text, _ in found] != plain, "attention that changes no text proves nothing"


def test_methods_that_do_nothing_generate_what_the_model_does_and_leave_it_as_it_was(model: HuggingFaceModel) -> None:
    prompts = [context_of(model, question).prompt for question in QUESTIONS]
    plain = FullPassEngine(model).respond([Question(prompt, ANSWER) for prompt in prompts], STEPS)
    for method in (NoisedImageContrast(alpha=0, beta=0), ImageAttention(alpha=0, gamma=1.0)):
        found = answered(model, method)[: len(QUESTIONS)]
        assert [text for _, text, _ in found] == [each.text for each in plain]
        assert [diff for _, _, diff in found] == pytest.approx(
            [each.values.logit_diff for each in plain if each.values], rel=1e-4, abs=1e-4
        )
    assert model.module.config.get_text_config()._attn_implementation == "sdpa"


def test_the_signal_that_noise_leaves_is_the_product_of_the_schedule() -> None:
    kept = 1.0
    for step in range(501):
        kept *= 1 - (1 / (1 + math.exp(-(-6 + 12 * step / 999))) * (0.005 - 1e-5) + 1e-5)
    assert float(kept_signal()[500]) == pytest.approx(kept, rel=1e-9)
    assert 0.74 < kept < 0.75
    assert float(kept_signal()[999]) < 0.1


def test_noise_has_the_stated_size_and_is_the_same_for_an_image_whatever_is_asked(model: HuggingFaceModel) -> None:
    first, second = (context_of(model, question).prompt for question in QUESTIONS[:2])
    one, other = noised(first, 500, seed=0), noised(second, 500, seed=0)
    assert torch.equal(one.inputs["pixel_values"], other.inputs["pixel_values"])
    assert one.key != other.key != first.key
    assert not torch.equal(one.inputs["pixel_values"], noised(first, 500, seed=1).inputs["pixel_values"])
    kept = float(kept_signal()[500])
    noise = (one.inputs["pixel_values"] - math.sqrt(kept) * first.inputs["pixel_values"]) / math.sqrt(1 - kept)
    assert float(noise.mean()) == pytest.approx(0, abs=0.06)
    assert float(noise.std()) == pytest.approx(1, abs=0.06)


def test_a_prompt_without_its_image_is_the_text_around_it(model: HuggingFaceModel) -> None:
    prompt = context_of(model, QUESTIONS[0]).prompt
    alone = without_image(prompt, model)
    assert "pixel_values" not in alone.inputs
    assert alone.inputs["input_ids"][0].tolist() == list(alone.ids)
    assert alone.ids == tuple(token for token in prompt.ids if token != model.image_id)
    assert len(alone.classes) == len(alone.tokens) == len(alone.roles) == len(alone.ids)


def test_values_and_layers_that_make_no_sense_are_refused(model: HuggingFaceModel) -> None:
    for options in ({"alpha": -1.0}, {"beta": 1.5}, {"noise_step": 1000}):
        with pytest.raises(VseamError, match="vcd"):
            NoisedImageContrast(**options)
    with pytest.raises(VseamError, match="comes before"):
        ImageAttention(first_layer=3, last_layer=2)
    with pytest.raises(UnsupportedError, match="layers 5 to"):
        ImageAttention(first_layer=5).branches(context_of(model, QUESTIONS[0]))


def test_settings_begin_with_the_published_one_and_all_can_be_made(model: HuggingFaceModel, tmp_path: Path) -> None:
    for kind in (NoisedImageContrast, ImageAttention):
        settings = kind().settings()
        assert kind(**settings[0]).options() == kind().options()  # type: ignore[arg-type]
        made = [tuple(sorted(kind(**setting).options().items(), key=str)) for setting in settings]  # type: ignore[arg-type]
        assert len(set(map(str, made))) == len(settings) > 1
