"""From a sample to what the engine runs: the encoded prompt, the answer's ids, the pair, and the identity of a unit of work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vseam_core.api.interfaces import Editor, VisionLanguageModel
from vseam_core.api.interventions import AnswerIds
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.api.types import Pair, Sample
from vseam_core.errors import SampleError, UnsupportedError
from vseam_core.runs.identity import unit_key
from vseam_core.runs.runner import Unit

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, eq=False)
class Prepared:
    """A sample ready to run. `prompt` ends with the prefix that both answers share; `size` is the image's (width, height)."""

    sample: Sample
    prompt: EncodedPrompt
    answer: AnswerIds
    size: tuple[int, int]

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


def prepare(model: VisionLanguageModel, sample: Sample) -> Prepared:
    """Load the image, encode the prompt, find the answer's ids. Raises `SampleError` for a sample that cannot be used."""
    if not sample.answer.strip():
        raise SampleError(f"{sample.identifier}: the gold answer is empty")
    image = sample.image.load()
    prompt = encode_sample(model, sample, image)
    answer = model.answer_ids(prompt, sample.answer, sample.competitor)
    if answer.prefix:
        prompt = encode_sample(model, sample, image, answer.prefix)
    return Prepared(sample, prompt, answer, image.size)


def encode_sample(model: VisionLanguageModel, sample: Sample, image: Image | None = None, prefix: Sequence[int] = ()) -> EncodedPrompt:
    """A sample's prompt in the instruction of its benchmark, where it has one. Raises `SampleError` and `UnsupportedError`."""
    picture = sample.image.load() if image is None else image
    if not sample.instruction:
        return model.encode(picture, sample.question, sample.roles, prefix)
    return model.encode_instructed(picture, sample.question, sample.instruction, sample.roles, prefix)


def prepare_pair(model: VisionLanguageModel, pair: Pair) -> PreparedPair:
    """Both sides of a pair. The competitor of the clean answer is the corrupt answer."""
    return PreparedPair(pair, prepare(model, pair.clean), prepare(model, pair.corrupt))


def make_pairs(editor: Editor, samples: Iterable[Sample], seed: int) -> Iterator[Pair | Unit]:
    """The edited pair of each sample, or a unit that stands for the sample that could not be edited, with the reason."""
    for sample in samples:
        try:
            yield editor.edit(sample, seed)
        except SampleError as error:
            yield Unit(unit_key(editor=editor.name, sample=sample.identifier, problem=str(error)), sample.identifier, None, str(error))


def model_identity(model: VisionLanguageModel) -> dict[str, Any]:
    """What about a model changes its numbers: weights, precision, attention implementation, processor."""
    info = model.info
    return {"weights": info.weights_hash, "dtype": info.dtype, "attention": info.attention, "processor": info.processor_hash}


def prompt_identity(prepared: Prepared) -> dict[str, Any]:
    """What about a sample changes its numbers: the encoded inputs and the answer's ids (not its name)."""
    answer = prepared.answer
    return {
        "prompt": prepared.prompt.key,
        "gold": list(answer.gold),
        "competitor": list(answer.competitor),
        "published": list(answer.published),
        "roles": list(prepared.prompt.roles),
    }


def sample_unit(model: VisionLanguageModel, sample: Sample, method: Mapping[str, Any]) -> Unit:
    """A unit for one sample: prepared, or with the problem that keeps it from being prepared."""
    try:
        prepared = prepare(model, sample)
    except (SampleError, UnsupportedError) as error:
        key = unit_key(**method, **model_identity(model), sample=sample.identifier, problem=str(error))
        return Unit(key, sample.identifier, None, str(error))
    key = unit_key(**method, **model_identity(model), sample=sample.identifier, **prompt_identity(prepared))
    return Unit(key, sample.identifier, prepared)


def pair_unit(model: VisionLanguageModel, pair: Pair | Unit, method: Mapping[str, Any]) -> Unit:
    """A unit for one pair: prepared, or with the problem that keeps it from being prepared."""
    if isinstance(pair, Unit):
        return pair
    try:
        prepared = prepare_pair(model, pair)
    except (SampleError, UnsupportedError) as error:
        key = unit_key(**method, **model_identity(model), sample=pair.identifier, problem=str(error))
        return Unit(key, pair.identifier, None, str(error))
    key = unit_key(
        **method,
        **model_identity(model),
        sample=pair.identifier,
        clean=prompt_identity(prepared.clean),
        corrupt=prompt_identity(prepared.corrupt),
    )
    return Unit(key, pair.identifier, prepared)
