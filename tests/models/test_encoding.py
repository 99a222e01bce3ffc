"""What `encode` says about every position of a prompt, and that the model reads what it says."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from vseam_core.api.prompts import EncodedPrompt
from vseam_core.api.types import RoleSpan
from vseam_core.errors import SampleError, UnsupportedError, VseamError
from vseam_plugins.models import hf, instructblip, llava
from vseam_plugins.models.hf import HuggingFaceModel

from .builders import GRID, QUERY_TOKENS, picture

QUESTION = "Is the red dog left of the cat?"
ROLES = (RoleSpan(7, 10, "attribute"), RoleSpan(11, 14, "object"), RoleSpan(15, 22, "relation"))
FAMILIES = ("llava-words", "llava-subwords", "instructblip-words", "instructblip-subwords", "idefics")


def runs(prompt: EncodedPrompt) -> list[tuple[str, int]]:
    """The classes in order, with the length of each run."""
    return [(name, len(list(group))) for name, group in groupby(prompt.classes)]


def words_of(prompt: EncodedPrompt, role: str) -> list[str]:
    return [token for token, name in zip(prompt.tokens, prompt.roles, strict=True) if name == role]


def test_classes_of_a_llava_prompt_follow_its_template(llava_words: HuggingFaceModel) -> None:
    prompt = llava_words.encode(picture(), QUESTION, ROLES)
    assert runs(prompt) == [
        ("structural_before", 1), ("template", 2), ("image", GRID * GRID), ("question", 9), ("template", 8), ("last", 1),
    ]  # fmt: skip
    text = [token for token, name in zip(prompt.tokens, prompt.classes, strict=True) if name == "question"]
    assert text == ["Is", "the", "red", "dog", "left", "of", "the", "cat", "?"]
    assert prompt.tokens[prompt.last] == ":"


def test_classes_of_an_instructblip_prompt_put_bos_after_the_image(instructblip_words: HuggingFaceModel) -> None:
    prompt = instructblip_words.encode(picture(), QUESTION, ROLES)
    assert runs(prompt) == [
        ("image", QUERY_TOKENS), ("structural_after", 1), ("template", 2), ("question", 9), ("template", 5), ("last", 1),
    ]  # fmt: skip
    assert prompt.tokens[QUERY_TOKENS] == "<s>"
    assert prompt.image_boxes is None


def test_markers_around_crops_are_structural_and_chat_tokens_are_template(loaded: dict[str, HuggingFaceModel]) -> None:
    prompt = loaded["idefics"].encode(picture(size=(64, 32)), QUESTION, ROLES)
    by_token = {(token, name) for token, name in zip(prompt.tokens, prompt.classes, strict=True)}
    assert ("<row_1_col_1>", "structural_before") in by_token
    assert {("<row_1_col_2>", "structural_after"), ("<global-img>", "structural_after")} <= by_token
    assert ("<end_of_utterance>", "template") in by_token
    assert prompt.classes.count("image") == 3 * 4, "two crops and the whole image, four tokens each"
    assert prompt.image_boxes is not None
    assert (prompt.image_boxes[0], prompt.image_boxes[-1]) == ((0, 0, 0.25, 0.5), (0.5, 0.5, 1, 1)), "crops first, then the whole"
    assert words_of(prompt, "object") == ["dog"]


@pytest.mark.parametrize("name", ["llava-words", "instructblip-words"])
def test_roles_name_exactly_their_words(loaded: dict[str, HuggingFaceModel], name: str) -> None:
    prompt = loaded[name].encode(picture(), QUESTION, ROLES)
    assert words_of(prompt, "attribute") == ["red"]
    assert words_of(prompt, "object") == ["dog"]
    assert words_of(prompt, "relation") == ["left", "of"]
    assert len(prompt.roles) - prompt.roles.count("") == 4


@pytest.mark.parametrize("name", ["llava-subwords", "instructblip-subwords"])
def test_every_piece_of_a_word_gets_its_role(loaded: dict[str, HuggingFaceModel], name: str) -> None:
    question = "Is the dogs straight?"
    spans = (RoleSpan(7, 10, "object"), RoleSpan(12, 20, "attribute"))  # the first names "dog" within "dogs"
    prompt = loaded[name].encode(picture(), question, spans)
    assert words_of(prompt, "object") == ["▁dog", "s"]
    assert words_of(prompt, "attribute") == ["▁str", "aight"]


def test_the_first_of_overlapping_roles_keeps_its_word(llava_words: HuggingFaceModel) -> None:
    prompt = llava_words.encode(picture(), QUESTION, (RoleSpan(7, 10, "attribute"), RoleSpan(7, 14, "object")))
    assert (words_of(prompt, "attribute"), words_of(prompt, "object")) == (["red"], ["dog"])


@pytest.mark.parametrize("span", [(0, 0), (-1, 3), (5, 4), (0, 99)])
def test_a_role_outside_the_question_skips_the_sample(llava_words: HuggingFaceModel, span: tuple[int, int]) -> None:
    with pytest.raises(SampleError, match="names characters"):
        llava_words.encode(picture(), QUESTION, (RoleSpan(*span, "object"),))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_model_reads_the_encoded_inputs(loaded: dict[str, HuggingFaceModel], name: str) -> None:
    model = loaded[name]
    prompt = model.encode(picture(), QUESTION, ROLES)
    with torch.no_grad():
        logits = model.module(**model.collate([prompt])).logits
        other = model.module(**model.collate([model.encode(picture(9), QUESTION, ROLES)])).logits
    assert logits.shape[:2] == (1, len(prompt))
    assert bool(torch.isfinite(logits).all())
    assert (logits - other)[0, -1].abs().max() > 1e-3, "the answer does not depend on the image"
    assert prompt.classes.count("image") == prompt.ids.count(model.image_id)
    assert {len(prompt.ids)} == {len(prompt.tokens), len(prompt.classes), len(prompt.roles)}


def test_encoding_is_deterministic_and_keys_tell_inputs_apart(loaded: dict[str, HuggingFaceModel]) -> None:
    for model in (loaded["llava-words"], loaded["instructblip-words"]):
        first = model.encode(picture(), QUESTION, ROLES)
        again = model.encode(picture(), QUESTION)
        assert first.key == again.key, "roles do not change a forward pass"
        assert all(torch.equal(first.inputs[name], again.inputs[name]) for name in first.inputs)
        others = [
            model.encode(picture(1), QUESTION).key,
            model.encode(picture(), "Is the blue dog left of the cat?").key,
            model.encode(picture(), QUESTION, (), (5,)).key,
        ]
        assert len({first.key, *others}) == 4


@pytest.mark.parametrize("name", ["llava-words", "instructblip-words"])
def test_an_answer_prefix_lengthens_the_prompt_and_moves_the_last_position(loaded: dict[str, HuggingFaceModel], name: str) -> None:
    model = loaded[name]
    plain = model.encode(picture(), QUESTION, ROLES)
    longer = model.encode(picture(), QUESTION, ROLES, (20, 22))
    assert longer.ids == (*plain.ids, 20, 22)
    assert longer.classes == (*plain.classes[:-1], "template", "template", "last")
    assert longer.roles == (*plain.roles, "", "")
    with torch.no_grad():
        short = model.module(**model.collate([plain])).logits
        long = model.module(**model.collate([longer])).logits
    assert torch.allclose(short, long[:, : len(plain)], atol=1e-5), "the prefix must not change what comes before it"


def test_a_word_outside_the_vocabulary_is_noted(llava_words: HuggingFaceModel) -> None:
    assert llava_words.encode(picture(), "Is the zebra red?").notes == {"unknown_words": "zebra"}
    assert llava_words.encode(picture(), QUESTION).notes == {}


@pytest.mark.parametrize(("question", "reason"), [("  ", "empty"), ("Is <image> red?", "control token"), ("Is red? " * 200, "at most 256")])
def test_a_question_that_cannot_be_asked_skips_the_sample(llava_words: HuggingFaceModel, question: str, reason: str) -> None:
    with pytest.raises(SampleError, match=reason):
        llava_words.encode(picture(), question)


def test_a_question_too_long_for_the_qformer_skips_the_sample(instructblip_words: HuggingFaceModel) -> None:
    with pytest.raises(SampleError, match="Q-Former"):
        instructblip_words.encode(picture(), "Is the red dog? " * 14)


def test_an_empty_image_skips_the_sample(llava_words: HuggingFaceModel) -> None:
    with pytest.raises(SampleError, match="empty"):
        llava_words.encode(Image.new("RGB", (0, 4)), QUESTION)


def test_images_of_any_mode_are_read_as_rgb(llava_words: HuggingFaceModel) -> None:
    grey = picture().convert("L")
    assert llava_words.encode(grey, QUESTION).key == llava_words.encode(grey.convert("RGB"), QUESTION).key
    assert llava_words.encode(picture().convert("RGBA"), QUESTION).key == llava_words.encode(picture(), QUESTION).key


def test_a_prompt_template_replaces_the_familys(checkpoints: dict[str, Path]) -> None:
    source = str(checkpoints["llava-words"])
    model = llava.load("x", source, device="cpu", prompt_template="<image> {question} Answer :")
    prompt = model.encode(picture(), QUESTION)
    assert prompt.text == f"<image> {QUESTION} Answer :"
    assert runs(prompt) == [("structural_before", 1), ("image", 16), ("question", 9), ("template", 1), ("last", 1)]
    with pytest.raises(VseamError, match="exactly once"):
        llava.load("x", source, device="cpu", prompt_template="<image> no place for it")


def test_any_checkpoint_can_be_asked_by_its_own_chat_template(checkpoints: dict[str, Path]) -> None:
    model = hf.load("x", str(checkpoints["llava-words"]), device="cpu")
    assert model.encode(picture(), QUESTION).text == f"USER: <image>\n{QUESTION}\nASSISTANT:"


def test_a_folder_without_a_chat_template_is_asked_in_its_familys_prompt(checkpoints: dict[str, Path]) -> None:
    blip = hf.load("y", str(checkpoints["instructblip-words"]), device="cpu")
    assert blip.encode(picture(), QUESTION).text == f"Question: {QUESTION} Answer using a single word."


@pytest.mark.parametrize(("family", "template"), [(llava, None), (llava, 'Look: <image>"{question}"\n It\'s'), (instructblip, None)])
def test_a_saved_model_is_asked_in_the_same_prompt_by_its_folder(
    checkpoints: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str], family: Any, template: str | None
) -> None:
    source = checkpoints["llava-words" if family is llava else "instructblip-words"]
    model = family.load("x", str(source), device="cpu", prompt_template=template)
    before = getattr(model.processor, "chat_template", None)
    model.save(tmp_path)
    assert getattr(model.processor, "chat_template", None) == before
    again = hf.load(str(tmp_path), str(tmp_path), device="cpu")
    first, second = (each.encode(picture(), QUESTION) for each in (model, again))
    assert (first.text, first.ids, first.key) == (second.text, second.ids, second.key)
    assert tuple(capfd.readouterr()) == ("", "")


def test_a_prompt_that_a_folder_cannot_keep_is_refused_before_anything_is_written(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    model = instructblip.load("x", str(checkpoints["instructblip-words"]), device="cpu", prompt_template="Look: {question}")
    with pytest.raises(UnsupportedError, match="cannot keep a prompt_template"):
        model.save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_ids_beyond_the_vocabulary_are_refused_before_the_model_fails(llava_words: HuggingFaceModel) -> None:
    with pytest.raises(UnsupportedError, match="knows 39 tokens"):
        llava_words.encode(picture(), QUESTION, (), (39,))
