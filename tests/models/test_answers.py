"""Where two answers are told apart, by which ids, and which answers are refused."""

from __future__ import annotations

import pytest
import torch
from transformers.models.qwen3_5.tokenization_qwen3_5 import Qwen3_5Tokenizer

from vseam_core.api.interventions import AnswerIds
from vseam_core.engine.readouts import answer_values
from vseam_core.errors import SampleError
from vseam_core.huggingface.answers import AnswerReader
from vseam_core.huggingface.prompting import default_separator
from vseam_plugins.models.hf import HuggingFaceModel

from .builders import build_tokenizer, picture

QUESTION = "Is the red dog left of the cat?"
BOTH = ("llava", "instructblip")


def read(model: HuggingFaceModel, gold: str, competitor: str | None) -> AnswerIds:
    return model.answer_ids(model.encode(picture(), QUESTION), gold, competitor)


def names(model: HuggingFaceModel, ids: tuple[int, ...]) -> list[str]:
    return model.tokenizer.convert_ids_to_tokens(list(ids))


@pytest.mark.parametrize("family", BOTH)
def test_surface_variants_are_combined_the_given_one_first(loaded: dict[str, HuggingFaceModel], family: str) -> None:
    model = loaded[f"{family}-words"]
    answer = read(model, "Yes", "No")
    assert (names(model, answer.gold), names(model, answer.competitor)) == (["Yes", "yes"], ["No", "no"])
    assert (answer.prefix, names(model, answer.published)) == ((), ["Yes"])
    assert names(model, answer.variants) == ["yes"]
    swapped = read(model, "no", "yes")
    assert (names(model, swapped.gold), names(model, swapped.competitor)) == (["no", "No"], ["yes", "Yes"])


@pytest.mark.parametrize("family", BOTH)
def test_ids_carry_the_leading_space_that_the_template_asks_for(loaded: dict[str, HuggingFaceModel], family: str) -> None:
    model = loaded[f"{family}-subwords"]
    answer = read(model, "Yes", "No")
    assert names(model, answer.gold) == ["▁Yes", "▁yes"]
    assert names(model, answer.competitor) == ["▁No", "▁no"]


@pytest.mark.parametrize("family", BOTH)
def test_answers_that_begin_alike_are_read_where_they_part(loaded: dict[str, HuggingFaceModel], family: str) -> None:
    model = loaded[f"{family}-subwords"]
    answer = read(model, "striped", "straight")
    assert names(model, answer.prefix) == ["▁str"]
    assert (names(model, answer.gold), names(model, answer.competitor)) == (["iped"], ["aight"])
    assert names(model, answer.published) == ["▁str", "iped"]


def test_digits_are_read_after_the_space_token_that_all_numbers_share(llava_subwords: HuggingFaceModel) -> None:
    answer = read(llava_subwords, "2", "3")
    assert names(llava_subwords, answer.prefix) == ["▁"]
    assert (names(llava_subwords, answer.gold), names(llava_subwords, answer.competitor)) == (["2"], ["3"])
    alone = read(llava_subwords, "2", None)
    assert (alone.prefix, alone.gold, alone.competitor) == (answer.prefix, answer.gold, ())


def test_prompt_prefix_and_answer_are_the_tokens_of_the_whole_text(llava_subwords: HuggingFaceModel) -> None:
    model = llava_subwords
    answer = read(model, "straight", "striped")
    prompt = model.encode(picture(), QUESTION, (), answer.prefix)
    whole = model.tokenizer(f"{prompt.text} straight")["input_ids"]
    kept = [token for token in prompt.ids if token != model.image_id]
    assert [token for token in whole if token != model.image_id] == [*kept, answer.gold[0]]


def test_a_form_of_many_pieces_does_not_stand_for_the_answer(llava_subwords: HuggingFaceModel) -> None:
    answer = read(llava_subwords, "Red", "blue")  # "Red" is written letter by letter, "red" is one token
    assert names(llava_subwords, answer.gold) == ["▁red"]
    assert names(llava_subwords, answer.published) == ["▁", "R", "e", "d"]


def test_an_unknown_case_falls_back_to_the_known_one(llava_words: HuggingFaceModel) -> None:
    answer = read(llava_words, "Red", "Blue")
    assert (names(llava_words, answer.gold), names(llava_words, answer.competitor)) == (["red"], ["blue"])
    assert names(llava_words, answer.published) == ["red"]


@pytest.mark.parametrize(
    ("gold", "competitor", "reason"),
    [
        ("zebra", "red", "'zebra' cannot be written"),
        ("red", "zebra", "'zebra' cannot be written"),
        ("red", "red", "the same token ids"),
        ("yes", "Yes", "no token tells"),
        ("", "red", "empty"),
        ("red", " ", "empty"),
        ("<image>", "red", "cannot be written"),
        ("</s>", "red", "cannot be written"),
    ],
)
def test_answers_that_cannot_be_told_apart_skip_the_sample(llava_words: HuggingFaceModel, gold: str, competitor: str, reason: str) -> None:
    with pytest.raises(SampleError, match=reason):
        read(llava_words, gold, competitor)


@pytest.mark.parametrize(
    ("gold", "competitor", "reason"),
    [("dog", "dogs", "begins with the other"), ("5", "dog", "white space"), ("ß", "dog", "cannot be written")],
)
def test_answers_in_pieces_that_cannot_be_told_apart_skip_the_sample(
    llava_subwords: HuggingFaceModel, gold: str, competitor: str, reason: str
) -> None:
    with pytest.raises(SampleError, match=reason):
        read(llava_subwords, gold, competitor)


@pytest.mark.parametrize("family", BOTH)
def test_every_writing_of_a_gold_answer_has_the_same_published_measures(loaded: dict[str, HuggingFaceModel], family: str) -> None:
    model = loaded[f"{family}-words"]
    logits = torch.randn(1, 200, generator=torch.Generator().manual_seed(0))
    given = [read(model, gold, other) for gold, other in (("Yes", "No"), ("yes", "no"))]
    first, second = (answer_values(logits, [answer])[0] for answer in given)
    both = torch.softmax(logits[0].double(), 0)[list(given[0].gold)].sum()
    for values in (first, second):
        assert values.published_prob == pytest.approx(float(both))
        assert values.prob_sum == pytest.approx(float(both))
        assert values.logit == pytest.approx(float(torch.logsumexp(logits[0, list(given[0].gold)].double(), 0)))
    assert {given[1].published, given[1].variants} == {given[0].published, given[0].variants}


def test_the_whole_answer_is_read_as_given(loaded: dict[str, HuggingFaceModel]) -> None:
    model = loaded["instructblip-subwords"]
    prompt = model.encode(picture(), QUESTION)
    assert names(model, model.answer_tokens(prompt, "striped")) == ["▁str", "iped"]
    with pytest.raises(SampleError, match="cannot be written"):
        model.answer_tokens(prompt, "ß")


@pytest.mark.parametrize(("ending", "separator"), [("ASSISTANT:", " "), ("assistant\n", ""), ("<|assistant|>", "")])
def test_the_separator_follows_the_end_of_the_template(ending: str, separator: str) -> None:
    assert default_separator(f"question {ending}", ["<|assistant|>", "</s>"]) == separator


def test_a_tokenizer_that_merges_prompt_and_answer_is_refused() -> None:
    reader = AnswerReader(build_tokenizer("words"), "Is the red", "", frozenset())
    with pytest.raises(SampleError, match="cannot be written"):
        reader.answer_ids("dog", "cat")


def test_a_byte_level_vocabulary_without_the_word_writes_an_answer_in_pieces() -> None:
    """The library's tokenizer of Qwen3.5, which it makes whatever pre-tokenizer a checkpoint's file names."""
    letters = {piece: index for index, piece in enumerate(("<|endoftext|>", *"ĠĊYesNoIthdgr:?"))}
    tokenizer = Qwen3_5Tokenizer(vocab=letters, merges=[])
    after_template = AnswerReader(tokenizer, "Is the dog red?\n", "", frozenset({0})).answer_ids("Yes", "No")
    assert (after_template.gold, after_template.competitor, after_template.prefix) == ((letters["Y"],), (letters["N"],), ())
    after_colon = AnswerReader(tokenizer, "dog:", " ", frozenset({0})).answer_ids("Yes", "No")
    assert (after_colon.gold, after_colon.competitor, after_colon.prefix) == ((letters["Y"],), (letters["N"],), (letters["Ġ"],))
    with pytest.raises(SampleError, match="'Zebra' cannot be written"):
        AnswerReader(tokenizer, "dog:", " ", frozenset({0})).answer_ids("Zebra", "No")
