"""The suite for methods that change how answers are generated: tried on a tiny model, alone and in batches."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch

from vseam_core.api.generation import BranchedGeneration, GenerationContext, GenerationMethod, OwnGeneration
from vseam_core.api.interventions import AnswerValues
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.engine.budgeted import FullPassEngine
from vseam_core.engine.generation import Question, Response, question_of
from vseam_core.testing.images import sample
from vseam_core.testing.promises import promise, promise_identified, promise_plain
from vseam_core.testing.tiny import TinyModel

_TOLERANCE = 1e-3


class _Padded(TinyModel):
    """The tiny model, which takes prompts of different length, padded on the left, with or without an image."""

    @property
    def pads_left(self) -> bool:
        return True

    def collate(self, prompts: Sequence[EncodedPrompt]) -> dict[str, torch.Tensor]:
        longest = max(len(prompt) for prompt in prompts)
        pads = [longest - len(prompt) for prompt in prompts]
        rows = zip(prompts, pads, strict=True)
        batch = {
            "input_ids": torch.cat([torch.nn.functional.pad(prompt.inputs["input_ids"], (pad, 0)) for prompt, pad in rows]),
            "attention_mask": torch.tensor([[0] * pad + [1] * (longest - pad) for pad in pads]),
        }
        images = [prompt.inputs["pixel_values"] for prompt in prompts if "pixel_values" in prompt.inputs]
        return {**batch, "pixel_values": torch.cat(images)} if images else batch


class GenerationMethodConformance:
    """Inherit, name it Test…, and let `make` return the method.

    `not_in_identity` are constructor options that change no answer, or that `options()` says by another name. A method that runs a model of
    its own kind only says so by `model`, which is the tiny one otherwise.
    """

    not_in_identity: Sequence[str] = ()
    _made: Any = None

    @abstractmethod
    def make(self) -> GenerationMethod:
        """The method under test."""

    def neutral(self) -> GenerationMethod | None:
        """The method with options under which it changes nothing, or None where there are none."""
        return None

    def model(self) -> Any:
        """A model that the method works with."""
        return _Padded()

    def _contexts(self) -> tuple[FullPassEngine, list[GenerationContext]]:
        cls = type(self)
        if cls._made is None:
            cls._made = self.model()
        model, engine = cls._made, FullPassEngine(cls._made)
        prompts = [(sample(seed), model.encode(sample(seed).image.load(), sample(seed).question)) for seed in range(2)]
        return engine, [GenerationContext(prompt, engine.shape, model, one.image.load) for one, prompt in prompts]

    def _answers(self, method: GenerationMethod | None = None, together: bool = True) -> list[Response]:
        engine, contexts = self._contexts()
        answer = engine.model.answer_ids(contexts[0].prompt, "Yes", "No")
        method = method or self.make()
        questions = [question_of(method, context, context.prompt, answer) for context in contexts]
        if together:
            return engine.respond(questions, 3)
        return [engine.respond([question], 3)[0] for question in questions]

    def _plain(self) -> list[Response]:
        engine, contexts = self._contexts()
        answer = engine.model.answer_ids(contexts[0].prompt, "Yes", "No")
        return engine.respond([Question(context.prompt, answer) for context in contexts], 3)

    def test_it_is_a_method_that_answers(self) -> None:
        method = self.make()
        promise(isinstance(method, BranchedGeneration | OwnGeneration), "make returns a BranchedGeneration or an OwnGeneration")
        answers = self._answers()
        promise(all(isinstance(one.text, str) for one in answers), "every question is answered by a text")
        values = [one.values for one in answers if one.values is not None]
        promise(all(abs(value.logit_diff) < float("inf") for value in values), "the logits of the first token are numbers, or -inf")

    def test_its_first_branch_is_the_question(self) -> None:
        method = self.make()
        if not isinstance(method, BranchedGeneration):
            return
        _, contexts = self._contexts()
        for context in contexts:
            branches = list(method.branches(context))
            promise(branches and branches[0].prompt.ids == context.prompt.ids, "the first branch is the question itself")
            promise(len({branch.prompt.key for branch in branches}) == len(branches), "branches differ, and so do their keys")

    def test_logits_of_branches_become_one_row(self) -> None:
        method = self.make()
        if not isinstance(method, BranchedGeneration):
            return
        _, contexts = self._contexts()
        count = len(list(method.branches(contexts[0])))
        logits = torch.randn(count, 50, generator=torch.Generator().manual_seed(0))
        for step in (0, 1):
            kept = logits.clone()
            combined = method.combine(logits, step)
            promise(combined.shape == (50,), "combine gives one row of logits over the vocabulary")
            promise(not combined.isnan().any() and not combined.isposinf().any(), "combined logits are numbers, or -inf")
            promise(not combined.isneginf().all(), "some token is left to choose")
            promise(torch.equal(logits, kept), "the logits that it is given stay as they are")

    def test_it_changes_the_answer_unless_it_is_meant_not_to(self) -> None:
        plain, changed = self._plain(), self._answers()
        promise(any(_differ(one, other) for one, other in zip(plain, changed, strict=True)), "the method changes what is answered")
        neutral = self.neutral()
        if neutral is not None:
            unchanged = self._answers(neutral)
            promise(not any(_differ(one, other) for one, other in zip(plain, unchanged, strict=True)), "neutral() changes nothing")

    def test_a_batch_gives_what_single_questions_give(self) -> None:
        together, alone = self._answers(), self._answers(together=False)
        promise(not any(_differ(one, other) for one, other in zip(together, alone, strict=True)), "a batch gives what questions alone give")

    def test_it_is_the_same_each_time(self) -> None:
        first, second = self._answers(), self._answers()
        promise(not any(_differ(one, other) for one, other in zip(first, second, strict=True)), "the same answers each time")

    def test_the_model_is_left_as_it_was(self) -> None:
        before = self._plain()
        self._answers()
        promise(not any(_differ(one, other) for one, other in zip(before, self._plain(), strict=True)), "the model answers as before")

    def test_its_settings_can_be_made(self) -> None:
        method = self.make()
        settings = list(method.settings())
        promise(settings, "there is at least one setting, the usual one")
        for setting in settings:
            promise_plain(setting, "a setting's options")
        promise(len({str(sorted(setting.items())) for setting in settings}) == len(settings), "no setting is listed twice")

    def test_it_says_what_identifies_its_results(self) -> None:
        promise_plain(self.make().options(), "a generation method's options")
        promise_identified(self.make(), self.not_in_identity)


def _differ(one: Response, other: Response) -> bool:
    """Another text, or another value of the first token: a method that rules both answers out says so by their log-probability alone."""
    if one.text != other.text or one.values is None or other.values is None:
        return one.text != other.text or one.values is not other.values
    pairs = zip(_read(one.values), _read(other.values), strict=True)
    return not all(abs(first - second) <= _TOLERANCE for first, second in pairs)


def _read(values: AnswerValues) -> tuple[float, float, float]:
    return values.logit_diff, values.logprob, values.logit
