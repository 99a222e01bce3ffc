"""The locally built processors: vocabulary, prompts, and the round trip through a folder."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import AutoProcessor

from vseam_plugins.benchmarks.scenes import questions, world
from vseam_plugins.models.zoo.architectures import CELLS, GRID
from vseam_plugins.models.zoo.batches import QUESTION_KINDS, to_pixels
from vseam_plugins.models.zoo.processors import build_processor
from vseam_plugins.models.zoo.prompts import TEMPLATES, prompt_for
from vseam_plugins.models.zoo.tokenizer import build_tokenizer, vocabulary

NAMES = tuple(TEMPLATES)


def asked_questions(per_kind: int) -> list[tuple[world.Scene, questions.Question]]:
    rng = random.Random(5)
    found = []
    for category, form in QUESTION_KINDS:
        count = 0
        while count < per_kind:
            scene = world.sample_scene(rng, pool="train", split=rng.choice(("plain", "hard")))
            question = questions.ask(rng, scene, category, form)
            if question is not None:
                found.append((scene, question))
                count += 1
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_prompt_and_answer_of_the_world_is_made_of_known_words(name: str) -> None:
    tokenizer = build_tokenizer()
    for _, question in asked_questions(30):
        ids = tokenizer.encode(prompt_for(name, question.text))
        assert tokenizer.unk_token_id not in ids, question.text
        for answer in question.alternatives:
            assert len(tokenizer.encode(answer, add_special_tokens=False)) == 1


def test_the_prompts_of_the_published_scripts_are_known_words() -> None:
    tokenizer = build_tokenizer()
    for text in ("Please answer with a single word.", "Answer using a single word.", "USER:", "ASSISTANT:", "Yes No yes no"):
        assert tokenizer.unk_token_id not in tokenizer.encode(text)


def test_a_word_outside_the_world_becomes_the_unknown_token() -> None:
    tokenizer = build_tokenizer()
    assert tokenizer.encode("Is the zebra red?", add_special_tokens=False)[2] == tokenizer.unk_token_id


def test_line_breaks_leave_no_token() -> None:
    tokenizer = build_tokenizer()
    assert tokenizer.encode("word.\nASSISTANT:") == tokenizer.encode("word. ASSISTANT:")
    assert tokenizer.tokenize("USER: <image>\nIs") == ["USER:", "<image>", "Is"]


def test_ids_do_not_depend_on_the_run() -> None:
    words = vocabulary()
    assert list(words.values()) == list(range(len(words)))
    assert build_tokenizer().get_vocab() == words


@pytest.mark.parametrize(("name", "image_tokens"), [("llava-tiny", GRID * GRID), ("instructblip-tiny", CELLS * CELLS)])
def test_a_processor_read_back_from_disk_gives_the_same_inputs(name: str, image_tokens: int, tmp_path: Path) -> None:
    built = build_processor(name)
    built.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    items = asked_questions(1)
    images = [Image.fromarray(world.render(scene)) for scene, _ in items]
    texts = [prompt_for(name, question.text) for _, question in items]
    first = built(images=images, text=texts, return_tensors="pt", padding=True)
    second = loaded(images=images, text=texts, return_tensors="pt", padding=True)
    assert first.keys() == second.keys()
    for key in first:
        assert first[key].equal(second[key]), key
    image_id = loaded.tokenizer.convert_tokens_to_ids("<image>")
    assert ((second["input_ids"] == image_id).sum(dim=1) == image_tokens).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_processor_normalises_pixels_as_training_did(name: str) -> None:
    scenes = [scene for scene, _ in asked_questions(1)]
    images = [world.render(scene) for scene in scenes]
    processor = build_processor(name)
    pixels = processor.image_processor([Image.fromarray(image) for image in images], return_tensors="pt")["pixel_values"]
    np.testing.assert_allclose(pixels.numpy(), to_pixels(images).numpy(), atol=1e-6)
