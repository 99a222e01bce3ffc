"""Prompts of families whose layers are like BERT's, with a tokenizer that writes a separator behind every text, against the library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import processors

from tests.models.builders import picture
from tests.models.checkpoints import build_checkpoint
from vseam_core.api.interventions import AnswerScore, Patch, Run, Site, SiteEdit
from vseam_core.api.types import RoleSpan
from vseam_core.engine.selfcheck import checked_engine
from vseam_plugins.models import hf
from vseam_plugins.models.hf import HuggingFaceModel

QUESTION = "Is the dog red ?"
BEGINNING, SEPARATOR = 1, 2
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


@pytest.fixture(scope="module", params=["blip", "git"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceModel:
    torch.set_num_threads(1)
    family: str = request.param
    return load(family, tmp_path_factory.mktemp("continued") / family)


def test_a_prompt_is_the_beginning_and_the_words_without_a_separator(model: HuggingFaceModel) -> None:
    prompt = model.encode(picture(1), QUESTION, (RoleSpan(7, 10, "object"),))
    read = prompt.inputs["input_ids"][0].tolist()
    assert read == [BEGINNING, *model.tokenizer(QUESTION, add_special_tokens=False)["input_ids"]]
    assert prompt.tokens[-WORDS:] == ("Is", "the", "dog", "red", "?")
    assert [token for token, role in zip(prompt.tokens, prompt.roles, strict=True) if role == "object"] == ["dog"]
    in_front = 17 if model.info.family == "git" else 0
    assert len(prompt) == in_front + 1 + WORDS
    assert prompt.positions("image") == tuple(range(in_front))
    assert prompt.classes[in_front] == ("structural_after" if in_front else "structural_before")


def test_the_first_generated_token_is_the_argmax_of_what_is_scored(model: HuggingFaceModel) -> None:
    """The library's own `generate`, given what its processor makes of image and words (for GIT, as its authors ask: no separator)."""
    for seed in range(3):
        image = picture(seed, (32, 32))
        prompt = model.encode(image, QUESTION)
        with torch.no_grad():
            logits = model.module(**model.collate([prompt]), use_cache=False).logits[0, -1]
        made = model.processor(images=[image], text=[QUESTION], return_tensors="pt")
        made.pop("token_type_ids", None)
        if model.info.family == "git":
            made = {**made, "input_ids": made["input_ids"][:, :-1], "attention_mask": made["attention_mask"][:, :-1]}
        output = model.module.generate(**made, max_new_tokens=1, do_sample=False)
        assert int(output[0, -1]) == int(logits.argmax())
        texts, first = model.respond([prompt], 1)
        assert first[0] == pytest.approx(logits, abs=1e-4)
        top = int(logits.argmax())
        assert texts == ["" if top in model.special_tokens.values() else model.tokenizer.decode([top]).strip()]


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


@pytest.mark.slow
def test_an_encoder_decoder_without_a_named_start_begins_as_the_library_does(tmp_path: Path) -> None:
    model = hf.load("t5gemma2", str(build_checkpoint("t5gemma2", tmp_path / "t5gemma2")), device="cpu")
    inputs = model.collate([model.encode(picture(1), QUESTION)])
    start = inputs.pop("decoder_input_ids")
    output = model.module.generate(**inputs, max_new_tokens=1, do_sample=False)
    assert output[0, :1].tolist() == start[0].tolist()
