"""Images are encoded once, in every family, and what the model computes stays the same."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch

from tests.engine.families import FAMILIES, TinyVLM
from vseam_core.api.interventions import AnswerIds, AnswerScore, Patch, Run, Site, SiteEdit
from vseam_core.engine.replay import ReplayEngine
from vseam_core.engine.vision_cache import ImageCache

ANSWER = AnswerIds((20,), (21,), (20,))
PLENTY = 2**28
# Their towers take the patches of all images in one sequence: a batch is remembered whole.
IN_ONE_SEQUENCE = {"qwen2_vl", "qwen2_5_vl", "qwen3_vl", "pixtral_llava", "mistral3"}


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def model(request: pytest.FixtureRequest) -> TinyVLM:
    torch.set_num_threads(1)
    return TinyVLM(request.param, "eager")


@torch.no_grad()
def logits(model: TinyVLM, *prompts: Any) -> torch.Tensor:
    return model.module(**model.collate(prompts), use_cache=False).logits[:, -1]


def test_a_image_asked_about_again_is_not_encoded_again(model: TinyVLM) -> None:
    first, second = model.prompt(0, range(11, 16)), model.prompt(0, range(21, 26))
    expected = logits(model, first), logits(model, second)
    cache = ImageCache(model.module, PLENTY)
    with cache:
        assert torch.equal(logits(model, first), expected[0])
        encoded = cache.calls
        assert encoded > 0
        assert torch.equal(logits(model, second), expected[1])
    # The Q-Former of InstructBLIP reads the question too; every other module has been asked before.
    assert cache.calls - encoded == (1 if "instructblip" in model.info.name else 0)
    assert cache.reused > 0


def test_another_image_is_another_answer(model: TinyVLM) -> None:
    one, other = model.prompt(0, range(11, 16)), model.prompt(1, range(11, 16))
    expected = logits(model, other)
    with ImageCache(model.module, PLENTY) as cache:
        logits(model, one)
        assert torch.equal(logits(model, other), expected)
        assert cache.reused == 0


def test_a_batch_encodes_each_of_its_images_once(model: TinyVLM) -> None:
    prompts = [model.prompt(image, range(11, 16)) for image in (0, 1, 0, 2, 1)]
    expected = logits(model, *prompts)
    with ImageCache(model.module, PLENTY) as cache:
        logits(model, *prompts[:2])
        before = cache.calls
        found = logits(model, *prompts)
        assert torch.allclose(found, expected, atol=1e-4, rtol=1e-5)
        assert torch.isfinite(found).all()
        if model.info.name.removeprefix("tiny-") not in IN_ONE_SEQUENCE:
            per_image = max(1, before // 2)
            assert cache.calls - before <= per_image, "only the third image is new"
        assert torch.equal(logits(model, *prompts), found)


def test_afterwards_the_model_is_as_it_was(model: TinyVLM) -> None:
    names = [name for name, _ in model.module.named_modules()]
    with pytest.raises(RuntimeError, match="in between"), ImageCache(model.module, PLENTY) as cache, cache:
        raise RuntimeError("in between")
    assert [name for name, _ in model.module.named_modules()] == names


def test_somebody_elses_hooks_on_the_tower_run_every_time() -> None:
    model = TinyVLM("llava", "sdpa")
    seen: list[int] = []
    handle = model.module.model.vision_tower.register_forward_hook(lambda *_: seen.append(1))
    with ImageCache(model.module, PLENTY) as cache:
        logits(model, model.prompt(0, range(11, 16)))
        logits(model, model.prompt(0, range(11, 16)))
    handle.remove()
    assert (len(seen), cache.calls) == (2, 0)


def test_memory_is_bounded_and_the_oldest_goes_first() -> None:
    model = TinyVLM("llava", "sdpa")
    with ImageCache(model.module, PLENTY) as cache:
        logits(model, model.prompt(0, range(11, 16)))
    size = cache.bytes
    with ImageCache(model.module, 2 * size) as cache:
        for image in (0, 1, 2):
            logits(model, model.prompt(image, range(11, 16)))
        assert cache.bytes <= 2 * size
        logits(model, model.prompt(2, range(11, 16)))
        assert (cache.calls, cache.reused) == (3, 1)
        logits(model, model.prompt(0, range(11, 16)))
        assert cache.calls == 4
    with ImageCache(model.module, size // 2) as cache:
        logits(model, model.prompt(0, range(11, 16)))
        assert cache.bytes == 0


def test_what_is_kept_does_not_change_when_the_model_changes_its_copy_in_place() -> None:
    model = TinyVLM("llava", "sdpa")
    prompt = model.prompt(0, range(11, 16))
    expected = logits(model, prompt)
    handle = model.module.model.multi_modal_projector.register_forward_pre_hook(lambda _, args: args[0].zero_())
    with ImageCache(model.module, PLENTY):
        spoilt = [logits(model, prompt) for _ in range(2)]
        handle.remove()
        assert torch.equal(spoilt[0], spoilt[1])
        assert not torch.equal(spoilt[0], expected)
        assert torch.equal(logits(model, prompt), expected)


def test_an_engine_encodes_a_image_once_for_answers_runs_and_recordings() -> None:
    model = TinyVLM("llava", "sdpa")
    engine = ReplayEngine(model)
    questions = [model.prompt(0, range(start, start + 5)) for start in (11, 21, 31)]
    engine.answers(questions, [ANSWER] * 3)
    for prompt in questions:
        edits = [SiteEdit(Site(layer, "mlp_output"), Patch(), (len(prompt) - 1,)) for layer in range(4)]
        engine.run([Run(prompt, (AnswerScore(ANSWER),), (edit,), prompt) for edit in edits])
    # Three rows of the first batch, one tried alone to see that rows do not depend on one another.
    assert engine._images.calls <= 4
    assert engine._images.reused > 0


def test_two_engines_in_two_threads_take_turns() -> None:
    torch.set_num_threads(1)
    engines = [ReplayEngine(TinyVLM("llava", "sdpa", seed=seed)) for seed in (0, 1)]
    work = []
    for engine in engines:
        prompt = engine.model.prompt(0, range(11, 31))  # type: ignore[attr-defined]
        sites = [Site(layer, "head_output", head) for layer in range(4) for head in range(4)]
        work.append([Run(prompt, (AnswerScore(ANSWER),), (SiteEdit(site, Patch(), (len(prompt) - 2,)),), prompt) for site in sites])
    expected = [[result.answer.logit_diff for result in engine.run(runs)] for engine, runs in zip(engines, work, strict=True)]
    found: dict[int, list[list[float]]] = {0: [], 1: []}
    problems: list[BaseException] = []

    def repeat(index: int) -> None:
        try:
            for _ in range(8):
                fresh = ReplayEngine(engines[index].model)
                found[index].append([result.answer.logit_diff for result in fresh.run(work[index])])
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=repeat, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    for index in (0, 1):
        for values in found[index]:
            assert values == pytest.approx(expected[index], abs=1e-5)
