"""What is explained: the model's own answer unless another is named, and what it is held against."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vseam_core.api.prompts import EncodedPrompt
from vseam_core.api.types import Pair, Sample
from vseam_core.datasets.answers import normal_answer, other_word
from vseam_core.errors import SampleError, VseamError
from vseam_core.experiments.answering import MAX_NEW_TOKENS
from vseam_core.experiments.encoding import encode_sample, prepare_pair
from vseam_core.experiments.explain.options import ExplainOptions
from vseam_core.runs.identity import image_digest, unit_key
from vseam_core.runs.workspace import LoadedModel

DATASET = "explain"
"""What the question is stored under: a dataset of one sample."""
_RUNNERS_UP = 32


@dataclass(frozen=True)
class Opponent:
    """What the answer is held against, and why where nobody named it."""

    text: str
    remark: str = ""


def question_of(options: ExplainOptions, answer: str) -> Sample:
    """The question as a sample with that answer. Raises `SampleError` for an image that cannot be read."""
    image = options.image.load()
    key = unit_key(image=image_digest(image), question=options.question, answer=answer)[:16]
    return Sample(
        identifier=f"{DATASET}/plain/{key}",
        dataset=DATASET,
        question_id=key,
        image_id=image_digest(image)[:16],
        image=options.image,
        question=options.question.strip(),
        answer=answer,
        competitor=options.against or other_word(answer),
        level="object",
        category=DATASET,
        pool="score",
        form="open" if other_word(answer) is None else "yes_no",
    )


def own_answer(loaded: LoadedModel, sample: Sample) -> str:
    """What the model answers. Raises `SampleError` for an image or question that it cannot be asked."""
    prompt = encode_sample(loaded, sample).prompt
    return loaded.engine.generate([prompt], MAX_NEW_TOKENS)[0].strip()


def explained_answer(loaded: LoadedModel, options: ExplainOptions) -> str:
    """The answer that is named, else the model's own. Raises `VseamError` where the model says nothing."""
    if options.answer:
        return options.answer.strip()
    text = own_answer(loaded, question_of(options, ""))
    if not text:
        raise VseamError("the model answers nothing; name the answer that is to be explained by --answer")
    return text


def opponent_of(loaded: LoadedModel, options: ExplainOptions, sample: Sample, edited: Sample) -> Opponent:
    """What the answer is held against: the one that is named, the other word of a yes/no question, the answer on the edited image, or
    the likeliest other word."""
    named = options.against or other_word(sample.answer)
    if named:
        return Opponent(named.strip())
    text = own_answer(loaded, edited)
    if text and normal_answer(text) != normal_answer(sample.answer):
        return Opponent(text, f"{sample.answer!r} is held against {text!r}, the answer on the edited image")
    word = _likeliest_other(loaded, encode_sample(loaded, sample).prompt, sample.answer)
    return Opponent(
        word,
        f"the answer stays {sample.answer!r} on the edited image; it is held against {word!r}, the likeliest other word",
    )


def _likeliest_other(loaded: LoadedModel, prompt: EncodedPrompt, answer: str) -> str:
    """The word with the largest logit that can be told from the answer. Raises `VseamError` where the model gives no words."""
    _, logits = loaded.model.respond([prompt], 1)
    ids = logits[0].topk(min(_RUNNERS_UP, logits.shape[-1])).indices.tolist()
    for text in loaded.model.token_texts(ids):
        if not text.strip() or not text[0].isalnum():
            continue
        try:
            loaded.model.answer_ids(prompt, answer, text)
        except SampleError:
            continue
        return text
    raise VseamError(f"nothing is known that the answer {answer!r} could be held against; name something by --against")


def with_answers(pair: Pair, answer: str, against: str) -> Pair:
    """The pair with its clean answer and, on the edited image, the one that it is held against."""
    # What the answer is held against is part of the sample: the same question held against another word is another sample.
    key = unit_key(sample=pair.clean.question_id, answer=answer, against=against, pair=pair.record.key if pair.record else "")[:16]
    name = f"{DATASET}/plain/{key}"
    clean = replace(pair.clean, identifier=name, question_id=key, answer=answer, competitor=against)
    corrupt = replace(pair.corrupt, identifier=f"{name}/{pair.editor}", question_id=key, answer=against, competitor=answer)
    return replace(pair, clean=clean, corrupt=corrupt)


def check_answers(loaded: LoadedModel, pair: Pair) -> None:
    """Raise `VseamError` where the two answers cannot be told apart by their tokens, or the two images read differently."""
    prepared = prepare_pair(loaded, pair)
    if prepared.clean.prompt.ids != prepared.corrupt.prompt.ids:
        raise VseamError("the two images make prompts of different tokens, so nothing can be patched between them: give them one size")
    if not prepared.clean.answer.competitor:
        raise VseamError(f"{pair.clean.answer!r} and {pair.corrupt.answer!r} cannot be told apart by this model's tokens")
