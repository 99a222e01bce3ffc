"""From a sample to what a model runs: the prompt, encoded once for all the roles that a question plays, and the answer's ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from vseam_core.api.interventions import AnswerIds
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.api.types import Pair, Sample
from vseam_core.errors import SampleError, UnsupportedError
from vseam_core.runs.identity import image_digest
from vseam_core.runs.workspace import KeptPrompt, LoadedModel

if TYPE_CHECKING:
    from PIL.Image import Image

NO_IDS = AnswerIds((), (), ())
NO_COMPETITOR = "no competing answer is known"
_OTHER_WORD = {"yes": "No", "no": "Yes"}


@dataclass(frozen=True, eq=False)
class Prepared:
    """A sample as it is put to a model.

    `free` is the prompt that the model answers by itself; `prompt` ends with what gold and competing answer share, where that is anything.
    `answer` are the ids read after `prompt`: `NO_IDS` where the answers cannot be told apart, for the reason in `note`. `size` is the
    image's (width, height).
    """

    sample: Sample
    prompt: EncodedPrompt
    answer: AnswerIds
    size: tuple[int, int]
    free: EncodedPrompt
    note: str = ""

    @property
    def gold_yes(self) -> bool:
        """Whether the gold answer of a yes/no question is yes."""
        return self.sample.answer.strip().lower() == "yes"


@dataclass(frozen=True, eq=False)
class PreparedPair:
    """A pair ready to run; the answer's ids are the clean answer against the corrupt one, for both prompts."""

    pair: Pair
    clean: Prepared
    corrupt: Prepared


def ask(loaded: LoadedModel, sample: Sample) -> Prepared:
    """A sample as it is put to a model, to be judged by its text at least.

    Raises `SampleError` and `UnsupportedError` for a sample that cannot be answered or judged at all.
    """
    free = encode_sample(loaded, sample)  # first: a record that cannot be used says why here, whatever else it lacks
    if not sample.answer.strip():
        raise SampleError(f"{sample.identifier}: the gold answer is empty")
    try:
        answer = _answer_ids(loaded, free.prompt, sample)
        prompt = encode_sample(loaded, sample, answer.prefix).prompt if answer.prefix else free.prompt
    except (SampleError, UnsupportedError) as error:
        return Prepared(sample=sample, prompt=free.prompt, answer=NO_IDS, size=free.size, free=free.prompt, note=str(error))
    return Prepared(
        sample=sample, prompt=prompt, answer=answer, size=free.size, free=free.prompt, note="" if answer.competitor else NO_COMPETITOR
    )


def prepare(loaded: LoadedModel, sample: Sample) -> Prepared:
    """A sample whose answer can be read from logits. Raises `SampleError` for one that cannot be used, and `UnsupportedError`."""
    prepared = ask(loaded, sample)
    if not prepared.answer.gold:
        raise SampleError(prepared.note)
    return prepared


def competitors_of(sample: Sample) -> tuple[str, ...]:
    """The answers that the gold one is held against: the sample's own, the other options, or for yes/no questions the other word."""
    if sample.competitor is not None:
        return (sample.competitor,)
    if sample.options:
        return tuple(option for option in sample.options if option != sample.answer)
    other = _OTHER_WORD.get(sample.answer.strip().casefold()) if sample.form == "yes_no" else None
    return () if other is None else (other,)


def _answer_ids(loaded: LoadedModel, prompt: EncodedPrompt, sample: Sample) -> AnswerIds:
    """The ids of the gold answer and of all its competitors. Raises `SampleError` where they are not told apart at one place."""
    competitors = competitors_of(sample)
    found = [loaded.model.answer_ids(prompt, sample.answer, other) for other in competitors or (None,)]
    if len({(each.gold, each.prefix) for each in found}) > 1:
        raise SampleError(f"no one token tells {sample.answer!r} apart from all of {', '.join(competitors)}")
    first = found[0]
    if not sample.options:
        return first
    # An article begins with the token of a small letter; a letter that is offered as an option is a capital one.
    spelt = partial(_spelt, loaded)
    gold = spelt(sample.answer, first.gold) or first.gold
    rivals = [spelt(other, each.competitor) or each.competitor for other, each in zip(competitors, found, strict=False)]
    competitor, others = (rivals[0], tuple(rivals[1:])) if rivals else ((), ())
    return replace(first, gold=gold, competitor=competitor, others=others, variants=spelt(sample.answer, first.variants))


def _spelt(loaded: LoadedModel, option: str, tokens: tuple[int, ...]) -> tuple[int, ...]:
    """Those of some ids that begin an option in its own capitals and small letters."""
    texts = [text.strip() for text in loaded.model.token_texts(tokens)]
    return tuple(token for token, text in zip(tokens, texts, strict=True) if text and option.startswith(text))


def encode_sample(loaded: LoadedModel, sample: Sample, prefix: Sequence[int] = ()) -> KeptPrompt:
    """A sample's prompt in the instruction of its benchmark, where it has one, followed by the token ids of `prefix`.

    Encoded once: what else asks the same question about the same image is given the same prompt, as long as the model keeps it.
    Raises `SampleError` and `UnsupportedError`.
    """
    image: Image | None = None
    stamp: Any = getattr(sample.image, "stamp", None)
    if stamp is None:
        # An image that cannot say what it is has to be looked at.
        image = sample.image.load()
    known = image_digest(image) if image is not None else stamp()
    key = (known, sample.question, sample.instruction, tuple(sample.roles), tuple(prefix))
    kept = loaded.prompts.get(key)
    if kept is None:
        image = sample.image.load() if image is None else image
        if sample.instruction:
            prompt = loaded.model.encode_instructed(image, sample.question, sample.instruction, sample.roles, prefix)
        else:
            prompt = loaded.model.encode(image, sample.question, sample.roles, prefix)
        kept = KeptPrompt(prompt, image.size)
        loaded.prompts.put(key, kept, sum(value.nbytes for value in prompt.inputs.values()))
    return kept


def prepare_pair(loaded: LoadedModel, pair: Pair) -> PreparedPair:
    """Both sides of a pair. The competitor of the clean answer is the corrupt answer."""
    return PreparedPair(pair, prepare(loaded, pair.clean), prepare(loaded, pair.corrupt))


def prompt_identity(prepared: Prepared) -> dict[str, Any]:
    """What about a sample changes its numbers: the encoded inputs and the answer's ids (not its name)."""
    answer = prepared.answer
    return {
        "prompt": prepared.prompt.key,
        "gold": list(answer.gold),
        "competitor": list(answer.competitor),
        "published": list(answer.published),
        "variants": list(answer.variants),
        "roles": list(prepared.prompt.roles),
        **({"others": [list(tokens) for tokens in answer.others]} if answer.others else {}),
    }
