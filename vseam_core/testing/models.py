"""The suite for models: encoding, answers, batches, generation, and whether the engine can trust it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from vseam_core.api.interfaces import VisionLanguageModel
from vseam_core.api.prompts import POSITION_CLASSES
from vseam_core.api.types import RoleSpan
from vseam_core.errors import SampleError, UnsupportedError
from vseam_core.testing.images import Noise
from vseam_core.testing.promises import promise, promise_refusal


class ModelConformance:
    """Inherit, name it Test…, and let `make` return the model (made once for each class).

    `question` must contain `word`; `answers` are two answers that the model can write. `tolerance` is how far logits may differ
    between a batch and a single prompt.
    """

    question = "Is the dog red?"
    word = "dog"
    answers = ("Yes", "No")
    tolerance = 1e-3
    _made: Any = None

    @abstractmethod
    def make(self) -> VisionLanguageModel:
        """The model under test."""

    @property
    def model(self) -> VisionLanguageModel:
        """The model, made on first use."""
        cls = type(self)
        if cls._made is None:
            cls._made = self.make()
        return cls._made

    def _prompt(self, image: int = 0, question: str | None = None, roles: Sequence[RoleSpan] = ()) -> Any:
        return self.model.encode(Noise(image).load(), question or self.question, roles)

    def test_it_is_a_model_that_says_what_identifies_it(self) -> None:
        info = self.model.info
        promise(isinstance(self.model, VisionLanguageModel), "make returns a VisionLanguageModel")
        promise(not self.model.module.training, "the module is in eval mode: dropout would make every number random")
        promise(info.name and info.weights_hash and info.dtype, "info names the model, its weights and its number format")
        promise(min(info.layers, info.heads, info.head_dim) > 0, "info counts layers, heads and head width")

    def test_every_position_has_a_class_a_role_and_a_token(self) -> None:
        prompt = self._prompt()
        promise(len(prompt.ids) == len(prompt.classes) == len(prompt.roles) == len(prompt.tokens), "one class, role and token per position")
        promise(set(prompt.classes) <= set(POSITION_CLASSES), f"classes are among {', '.join(POSITION_CLASSES)}")
        promise(prompt.classes[-1] == "last" and prompt.classes.count("last") == 1, "the last position, and no other, has the class last")
        promise(prompt.positions("question"), "the question has positions")

    def test_words_get_their_roles(self) -> None:
        start = self.question.index(self.word)
        prompt = self._prompt(roles=[RoleSpan(start, start + len(self.word), "object")])
        promise("object" in prompt.roles, "a word that is given a role has it at its positions")
        promise(
            all(prompt.classes[at] in ("question", "last") for at, role in enumerate(prompt.roles) if role), "roles lie in the question"
        )
        outside = [RoleSpan(0, len(self.question) + 5, "object")]
        promise_refusal(lambda: self._prompt(roles=outside), "a role outside the question is refused")

    def test_keys_identify_image_and_question(self) -> None:
        first = self._prompt()
        promise(first.key == self._prompt().key, "encoding the same again gives the same key")
        promise(first.key != self._prompt(image=1).key, "another image is another key")
        promise(first.ids == self._prompt(image=1).ids, "images of one size give the same ids: pairs are patched position by position")
        promise(first.key != self._prompt(question=f"{self.question} {self.question}").key, "another question is another key")

    def test_image_positions_have_a_place_or_are_said_to_have_none(self) -> None:
        prompt = self._prompt()
        if prompt.image_boxes is None:
            return
        promise(len(prompt.image_boxes) == len(prompt.positions("image")), "one box per image position")
        promise(all(0 <= x0 <= x1 <= 1 and 0 <= y0 <= y1 <= 1 for x0, y0, x1, y1 in prompt.image_boxes), "boxes are fractions of the image")

    def test_an_empty_question_is_refused(self) -> None:
        promise_refusal(lambda: self.model.encode(Noise(0).load(), "  "), "an empty question is refused")

    def test_answers_are_told_apart(self) -> None:
        prompt = self._prompt()
        gold, other = self.answers
        found = self.model.answer_ids(prompt, gold, other)
        promise(found.gold and found.competitor and not set(found.gold) & set(found.competitor), "two answers have ids, and none in common")
        turned = self.model.answer_ids(prompt, other, gold)
        swapped = (turned.gold, turned.competitor) == (found.competitor, found.gold)
        promise(swapped, "answers that change places change their ids' places, so that logit_diff changes its sign")
        alone = self.model.answer_ids(prompt, gold, None)
        promise(alone.gold and not alone.competitor, "without a competitor there are ids of the gold answer alone")
        promise_refusal(lambda: self.model.answer_ids(prompt, gold, gold), "an answer against itself is refused")
        promise_refusal(lambda: self.model.answer_ids(prompt, "", other), "an empty answer is refused")
        promise(self.model.answer_tokens(prompt, gold), "the whole answer has token ids")

    def test_an_answer_prefix_stands_before_what_is_read(self) -> None:
        tokens = self.model.answer_tokens(self._prompt(), self.answers[0])
        try:
            longer = self.model.encode(Noise(0).load(), self.question, (), tokens)
        except UnsupportedError as error:  # an appended token would change what a model reads that looks both ways
            promise("\n" not in str(error) and str(error).strip(), "an answer prefix is refused with the reason in one line")
            return
        plain = self._prompt()
        grown = len(longer) - len(plain)
        in_decoder = "decoder_input_ids" in longer.inputs
        promise(grown == (0 if in_decoder else len(tokens)), "an answer prefix adds its tokens after the prompt (or to the decoder)")
        promise(longer.key != plain.key, "an answer prefix is part of the key")

    def test_a_batch_gives_what_single_prompts_give(self) -> None:
        prompts = [self._prompt(image) for image in range(3)]
        together, alone = self._logits(prompts), [self._logits([prompt])[0] for prompt in prompts]
        for row, single in zip(together, alone, strict=True):
            difference = float((row - single).abs().max())
            promise(difference <= self.tolerance, f"a batch gives what single prompts give (differs by {difference:.2g})")

    def test_the_image_reaches_the_answer(self) -> None:
        first, second = self._logits([self._prompt()])[0], self._logits([self._prompt(image=1)])[0]
        promise((first - second).abs().max() > 0, "another image gives other logits")

    def test_an_empty_batch_is_refused(self) -> None:
        try:
            self.model.collate([])
        except ValueError:
            return
        except Exception as error:
            raise AssertionError(f"broken promise: an empty batch is a ValueError, got {type(error).__name__}") from error
        raise AssertionError("broken promise: an empty batch is a ValueError, nothing was raised")

    def test_prompts_of_different_length_are_padded_rightly_or_refused(self) -> None:
        prompts = [self._prompt(), self._prompt(question=f"{self.question} {self.question}")]
        if not self.model.pads_left:
            try:
                self.model.collate(prompts)
            except ValueError:
                return
            raise AssertionError("broken promise: a model that does not pad refuses prompts of different length with ValueError")
        for row, prompt in zip(self._logits(prompts), prompts, strict=True):
            difference = float((row - self._logits([prompt])[0]).abs().max())
            promise(difference <= self.tolerance, f"pads in front change no answer (differs by {difference:.2g})")

    def test_it_generates_text_in_order(self) -> None:
        prompts = [self._prompt(image) for image in range(3)]
        texts = self.model.generate(prompts, max_new_tokens=4)
        promise(len(texts) == 3 and all(isinstance(text, str) for text in texts), "one text per prompt")
        promise(texts == self.model.generate(prompts, max_new_tokens=4), "generation is greedy: the same again")
        promise(
            texts == [self.model.generate([prompt], max_new_tokens=4)[0] for prompt in prompts], "a batch generates what single prompts do"
        )

    def test_the_engine_computes_what_the_model_computes(self) -> None:
        from vseam_core.engine.selfcheck import checked_engine

        try:
            engine, trust = checked_engine(self.model)
        except SampleError as error:  # pragma: no cover - the probe is an ordinary question
            raise AssertionError(f"broken promise: an ordinary question can be encoded: {error}") from error
        info, shape = self.model.info, engine.shape
        said, found = (info.layers, info.heads, info.head_dim), (shape.layers, shape.heads, shape.head_dim)
        promise(said == found, f"info counts layers, heads and head width as the module has them, {found}, not {said}")
        promise(trust["logits_error"] <= self.tolerance, "final norm and unembedding of the last residual give the model's logits")

    def _logits(self, prompts: Sequence[Any]) -> Any:
        import torch

        with torch.no_grad():
            return self.model.module(**self.model.collate(prompts), use_cache=False).logits[:, -1].double()
