"""`mitigv` wrapped: its VCD and PAI against ours, logit by logit; what every algorithm is given, and how it leaves the model."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models.builders import build_llava, picture
from tests.models.checkpoints import build_checkpoint
from vseam_core.api.generation import Decoded, GenerationContext, GenerationMethod
from vseam_core.api.interventions import AnswerIds
from vseam_core.engine.budgeted import FullPassEngine
from vseam_core.engine.generation import Question, Response, question_of
from vseam_core.errors import PluginError, UnsupportedError
from vseam_core.plugins.discovery import build_plugins
from vseam_core.plugins.records import GenerationMethodRecord
from vseam_core.testing.images import Noise
from vseam_core.testing.tiny import TinyModel
from vseam_plugins.generation.contrast import ImageAttention, NoisedImageContrast
from vseam_plugins.models import hf
from vseam_plugins.models.hf import HuggingFaceModel

PLUGINS = build_plugins()
NAMES = sorted(name for name in PLUGINS.names(GenerationMethodRecord) if name.startswith("mitigv/"))
ANSWER = AnswerIds((4,), (5,), (4,))
QUESTIONS = ("Is the red dog left of the cat?", "Is the blue cat left?")
installed = pytest.mark.skipif(importlib.util.find_spec("mitigv") is None, reason="the extra mitigv is not installed")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceModel:
    return hf.load("tiny", str(build_llava(tmp_path_factory.mktemp("llava"), seed=3)), device="cpu")


def answers(model: HuggingFaceModel, method: GenerationMethod, steps: int = 5) -> list[Response]:
    engine = FullPassEngine(model)
    contexts = [
        GenerationContext(model.encode(picture(seed), question), engine.shape, model, lambda seed=seed: picture(seed))
        for seed, question in enumerate(QUESTIONS)
    ]
    return engine.respond([question_of(method, context, context.prompt, ANSWER) for context in contexts], steps)


def assert_same(first: list[Response], second: list[Response]) -> None:
    assert [each.text for each in first] == [each.text for each in second]
    for one, other in zip(first, second, strict=True):
        assert one.values is not None
        assert other.values is not None
        assert one.values.logit_diff == pytest.approx(other.values.logit_diff, rel=1e-3, abs=1e-3)
        assert one.values.logprob == pytest.approx(other.values.logprob, rel=1e-3, abs=1e-3)


def test_all_its_algorithms_are_named() -> None:
    assert [name.removeprefix("mitigv/") for name in NAMES] == ["agla", "icd", "m3id", "only", "opera", "pai", "vcd", "vista"]


@installed
def test_its_vcd_is_ours_on_the_same_noise(model: HuggingFaceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    from mitigv import perturbations

    kept = perturbations.DiffusionNoisePerturbation(noise_step=800)._alpha_bar[800]
    from vseam_plugins.generation.prompts import kept_signal, noised

    assert float(kept) == pytest.approx(float(kept_signal()[800]), rel=1e-5)
    by_pixels: dict[bytes, torch.Tensor] = {}
    for seed, question in enumerate(QUESTIONS):
        prompt = model.encode(picture(seed), question)
        pixels = prompt.inputs["pixel_values"]
        by_pixels[pixels.numpy().tobytes()] = noised(prompt, 800, 0).inputs["pixel_values"]
    monkeypatch.setattr(
        perturbations.DiffusionNoisePerturbation, "__call__", lambda self, image: by_pixels[image.numpy().tobytes()].clone()
    )
    theirs = answers(model, PLUGINS.generation_method("mitigv/vcd", alpha=1.5, beta=0.02))
    assert_same(theirs, answers(model, NoisedImageContrast(alpha=1.5, beta=0.02, noise_step=800)))
    assert_same(answers(model, PLUGINS.generation_method("mitigv/vcd", alpha=0.0, beta=0.0)), answers(model, NoisedImageContrast(0.0, 0.0)))


@installed
@pytest.mark.parametrize("gamma", [1.0, 1.6])
def test_its_pai_is_ours_once_its_attention_is_given_masks(model: HuggingFaceModel, gamma: float) -> None:
    theirs = answers(model, PLUGINS.generation_method("mitigv/pai", alpha=1.5, gamma=gamma, beta=0.05, start_layer=1))
    assert_same(theirs, answers(model, ImageAttention(alpha=1.5, gamma=gamma, beta=0.05, first_layer=1)))


@installed
@pytest.mark.parametrize("name", NAMES)
def test_every_algorithm_answers_the_same_each_time_and_leaves_the_model_as_it_was(model: HuggingFaceModel, name: str) -> None:
    # By its defaults PAI begins at the third layer; this model has two.
    method = PLUGINS.generation_method(name, **({"start_layer": 1} if name == "mitigv/pai" else {}))
    engine = FullPassEngine(model)
    prompts = [model.encode(picture(seed), question) for seed, question in enumerate(QUESTIONS)]
    before = engine.respond([Question(prompt, ANSWER) for prompt in prompts], 3)
    first, second = answers(model, method, 3), answers(model, method, 3)
    assert [each.text for each in first] == [each.text for each in second]
    assert all(each.text for each in first)
    assert (first[0].values is None) == (name == "mitigv/opera")
    assert_same(before, engine.respond([Question(prompt, ANSWER) for prompt in prompts], 3))
    assert not any("forward" in vars(part) for part in model.module.modules())
    assert model.module.config.get_text_config()._attn_implementation == "sdpa"
    assert method.options()["mitigv"]
    assert all(PLUGINS.generation_method(name, **setting).options() for setting in method.settings())


RUN_WITH_QWEN = ("icd", "only", "vcd")


@installed
def test_with_qwen_some_answer_and_the_others_say_why_not(tmp_path: Path) -> None:
    """What the package gives Qwen2.5-VL: three algorithms run, two leave out its grid of patches, three know LLaVA's placeholder only."""
    qwen = hf.load("qwen", str(build_checkpoint("qwen2_5_vl", tmp_path / "qwen", seed=1)), device="cpu")
    engine = FullPassEngine(qwen)
    prompt = qwen.encode(picture(0), "Is the dog red ?")
    context = GenerationContext(prompt, engine.shape, qwen, lambda: picture(0))
    (before,) = engine.respond([Question(prompt, ANSWER)], 3)
    said = {}
    for name in NAMES:
        method = PLUGINS.generation_method(name)
        try:
            (found,) = engine.respond([question_of(method, context, prompt, ANSWER)], 3)
        except UnsupportedError as error:
            said[name.removeprefix("mitigv/")] = str(error)
        else:
            assert found.text
            assert found.values is not None
        assert_same([before], engine.respond([Question(prompt, ANSWER)], 3))
    assert set(said) == {name.removeprefix("mitigv/") for name in NAMES} - set(RUN_WITH_QWEN)
    assert {name for name, reason in said.items() if "LLaVA's prompts only" in reason} == {"m3id", "pai", "vista"}
    assert {name for name, reason in said.items() if "does not run with Qwen2.5-VL" in reason} == {"agla", "opera"}
    assert not hasattr(qwen.module.config, "image_token_index")


@installed
def test_its_vcd_with_qwen_at_no_strength_is_the_model_itself(tmp_path: Path) -> None:
    qwen = hf.load("qwen", str(build_checkpoint("qwen2_5_vl", tmp_path / "qwen", seed=1)), device="cpu")
    assert_same(answers(qwen, PLUGINS.generation_method("mitigv/vcd", alpha=0.0, beta=0.0)), answers(qwen, NoisedImageContrast(0.0, 0.0)))


@installed
def test_what_it_cannot_do_is_said_in_one_line(model: HuggingFaceModel, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="gamma must be >= 1"):
        PLUGINS.generation_method("mitigv/pai", gamma=0.5)
    with pytest.raises(PluginError, match="unknown configuration key"):
        PLUGINS.generation_method("mitigv/vcd", alhpa=0.5)
    with pytest.raises(UnsupportedError, match="out of range for 2 decoder layers"):
        answers(model, PLUGINS.generation_method("mitigv/pai"))
    tiny = TinyModel()
    prompt = tiny.encode(Noise(0).load(), "Is it red?")
    context = GenerationContext(prompt, FullPassEngine(tiny).shape, tiny, Noise(0).load)
    with pytest.raises(UnsupportedError, match="needs the processor of a checkpoint; tiny has none"):
        _generate(PLUGINS.generation_method("mitigv/vcd"), context)
    other = GenerationContext(prompt, FullPassEngine(tiny).shape, model, Noise(0).load)
    with pytest.raises(UnsupportedError, match="other tokens"):
        _generate(PLUGINS.generation_method("mitigv/vcd"), other)


def _generate(method: Any, context: GenerationContext) -> Decoded:
    found: Decoded = method.generate(context, 2)
    return found


def test_without_the_package_the_line_that_installs_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "mitigv":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(PluginError, match=r"pip install 'vseam\[mitigv\]'"):
        PLUGINS.generation_method("mitigv/vcd")
