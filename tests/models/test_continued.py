"""Prompts that the library's `generate` reads otherwise than its processor writes them, against the library.

Families whose layers are like BERT's, with a tokenizer that writes a separator behind every text; and words that stand in the decoder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw
from tokenizers import processors
from transformers.models.pix2struct import image_processing_pil_pix2struct

from tests.models.builders import picture
from tests.models.checkpoints import build_checkpoint
from vseam_core.api.interventions import AnswerScore, Patch, Run, Site, SiteEdit
from vseam_core.api.types import RoleSpan
from vseam_core.engine.selfcheck import checked_engine
from vseam_plugins.models import decoder_words, hf
from vseam_plugins.models.hf import HuggingFaceModel

QUESTION = "Is the dog red ?"
BEGINNING, SEPARATOR = 1, 2
# What their decoders begin with, where the encoder reads the image alone.
STARTS = {"pix2struct": 0, "vision-encoder-decoder": 1}
WORDS = 5


def load(family: str, folder: Path) -> HuggingFaceModel:
    """A checkpoint of the family whose tokenizer writes `<s> words </s>`, as BERT's does."""
    build_checkpoint(family, folder)
    processor: Any = hf.load(family, str(folder), device="cpu").processor
    ends = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", BEGINNING), ("</s>", SEPARATOR)])
    processor.tokenizer._tokenizer.post_processor = ends
    processor.tokenizer.sep_token = "</s>"
    processor.save_pretrained(folder)
    return hf.load(family, str(folder), device="cpu")


# Pix2Struct's image has 2,048 patches, whatever its size.
@pytest.fixture(scope="module", params=["blip", "git", "vision-encoder-decoder", pytest.param("pix2struct", marks=pytest.mark.slow)])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceModel:
    torch.set_num_threads(1)
    family: str = request.param
    return load(family, tmp_path_factory.mktemp("continued") / family)


def test_a_prompt_is_the_beginning_and_the_words_without_a_separator(model: HuggingFaceModel) -> None:
    prompt = model.encode(picture(1), QUESTION, (RoleSpan(7, 10, "object"),))
    read = prompt.inputs["decoder_input_ids" if model.info.family in STARTS else "input_ids"][0].tolist()
    assert read == [STARTS.get(model.info.family, BEGINNING), *model.tokenizer(QUESTION, add_special_tokens=False)["input_ids"]]
    assert prompt.tokens[-WORDS:] == ("Is", "the", "dog", "red", "?")
    assert [token for token, role in zip(prompt.tokens, prompt.roles, strict=True) if role == "object"] == ["dog"]
    in_front = 17 if model.info.family == "git" else 0
    assert len(prompt) == in_front + 1 + WORDS
    assert prompt.positions("image") == tuple(range(in_front))
    assert prompt.classes[in_front] == ("structural_after" if in_front else "structural_before")


def test_the_first_generated_token_is_the_argmax_of_what_is_scored(model: HuggingFaceModel) -> None:
    """The library's own `generate`, given what its processor makes of image and words."""
    for seed in range(3):
        image = picture(seed, (32, 32))
        prompt = model.encode(image, QUESTION)
        with torch.no_grad():
            logits = model.module(**model.collate([prompt]), use_cache=False).logits[0, -1]
        output = model.module.generate(**as_the_library_reads(model, image), max_new_tokens=1, do_sample=False)
        assert int(output[0, -1]) == int(logits.argmax())
        texts, first = model.respond([prompt], 1)
        assert first[0] == pytest.approx(logits, abs=1e-4)
        top = int(logits.argmax())
        assert texts == ["" if top in model.special_tokens.values() else model.tokenizer.decode([top]).strip()]


def as_the_library_reads(model: HuggingFaceModel, image: Image.Image) -> dict[str, Any]:
    """As each family's documentation asks: Pix2Struct's words and GIT's without a separator, those of a GPT-2 beside a ViT by hand."""
    if model.info.family == "vision-encoder-decoder":
        words = model.tokenizer([QUESTION], add_special_tokens=False, return_tensors="pt")["input_ids"]
        return {**model.processor(images=[image], return_tensors="pt"), "decoder_input_ids": words}
    special = {"add_special_tokens": False} if model.info.family == "pix2struct" else {}
    made = dict(model.processor(images=[image], text=[QUESTION], return_tensors="pt", **special))
    made.pop("token_type_ids", None)
    if model.info.family == "git":
        made |= {name: made[name][:, :-1] for name in ("input_ids", "attention_mask")}
    return made


def test_the_files_alone_say_how_many_positions_there_are(model: HuggingFaceModel) -> None:
    described = hf.describe("again", model.info.source)
    assert (described.problem, described.image_positions) == ("", 17 if model.info.family == "git" else 0)
    assert described.positions == len(model.encode(picture(1), "Is the dog red?"))


def test_a_patch_at_a_word_stands_at_that_word(model: HuggingFaceModel) -> None:
    """The embedding of another word, put where the prompt says that word stands, is the prompt with that word."""
    engine, _ = checked_engine(model)
    base, donor = model.encode(picture(1), QUESTION), model.encode(picture(1), "Is the cat red ?")
    place = base.tokens.index("dog")
    readout = (AnswerScore(model.answer_ids(base, "Yes", "No")),)
    patched = Run(base, readout, (SiteEdit(Site(0, "residual_before"), Patch(), (place,)),), donor)
    plain, found, other = engine.run([Run(base, readout), patched, Run(donor, readout)])
    assert found.answer.logit_diff == pytest.approx(other.answer.logit_diff, abs=1e-4)
    assert found.answer.logit_diff != pytest.approx(plain.answer.logit_diff, abs=1e-3)


def test_an_answer_prefix_stands_behind_the_words_of_a_decoder(model: HuggingFaceModel) -> None:
    plain, forced = (model.encode(picture(1), QUESTION, (), prefix) for prefix in ((), (7, 9)))
    assert forced.ids == (*plain.ids, 7, 9)
    assert forced.classes[-2:] == ("template", "last")
    with torch.no_grad():
        logits = torch.log_softmax(model.module(**model.collate([forced]), use_cache=False).logits[0].double(), -1)
    whole = checked_engine(model)[0].sequence_logprob(forced, (7, 9, 11))
    assert whole == pytest.approx(float(logits[-3, 7] + logits[-2, 9] + logits[-1, 11]), abs=1e-4)


@pytest.mark.slow
def test_words_that_are_drawn_into_the_image_have_no_positions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Pix2Struct that answers questions: the library's own drawing fetches a font, which stands aside here."""
    folder = build_checkpoint("pix2struct", tmp_path / "pix2struct")
    first = hf.load("drawn", str(folder), device="cpu")
    first.processor.image_processor.is_vqa = True
    first.processor.save_pretrained(folder)

    def drawn(text: str, **_: Any) -> Image.Image:
        canvas = Image.new("RGB", (90, 12), "white")
        ImageDraw.Draw(canvas).text((2, 0), text, fill=(0, 0, 0))
        return canvas

    monkeypatch.setattr(image_processing_pil_pix2struct, "render_text", drawn)
    monkeypatch.setattr(decoder_words, "_cached_font", str)
    model = hf.load("drawn", str(folder), device="cpu")
    one, other = (model.encode(picture(1), question, (RoleSpan(0, 2, "object"),)) for question in (QUESTION, "No cat ?"))
    assert (one.ids, one.classes, one.roles) == ((0,), ("last",), ("",))
    assert not torch.equal(one.inputs["flattened_patches"], other.inputs["flattened_patches"])
    engine, trust = checked_engine(model)
    assert trust["noise_floor"] < 1e-4
    readout = (AnswerScore(model.answer_ids(one, "Yes", "No")),)
    patched = Run(one, readout, (SiteEdit(Site(1, "residual_after"), Patch()),), other)
    found, wanted = engine.run([patched, Run(other, readout)])
    assert found.answer.logit_diff == pytest.approx(wanted.answer.logit_diff, abs=1e-4)


@pytest.mark.slow
def test_an_encoder_decoder_without_a_named_start_begins_as_the_library_does(tmp_path: Path) -> None:
    model = hf.load("t5gemma2", str(build_checkpoint("t5gemma2", tmp_path / "t5gemma2")), device="cpu")
    inputs = model.collate([model.encode(picture(1), QUESTION)])
    start = inputs.pop("decoder_input_ids")
    output = model.module.generate(**inputs, max_new_tokens=1, do_sample=False)
    assert output[0, :1].tolist() == start[0].tolist()
