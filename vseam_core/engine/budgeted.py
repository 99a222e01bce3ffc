"""What engines share that keep to a memory budget: batches as large as it allows, full forward passes, answers and generated text."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import torch

from vseam_core.api.interfaces import VisionLanguageModel
from vseam_core.api.interventions import AnswerIds, AnswerValues, Run, RunResult
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.engine.base import Advance, Engine, batches_of
from vseam_core.engine.decoder import Decoder, unreadable_decoder
from vseam_core.engine.generation import Question, Response
from vseam_core.engine.hooks import SiteKey
from vseam_core.engine.memory import BatchSizer, default_budget, is_out_of_memory, out_of_memory
from vseam_core.engine.paths import Opening, Received, path_of, run_paths
from vseam_core.engine.reference import ReferenceEngine
from vseam_core.engine.vision_cache import ImageCache

Item = TypeVar("Item")
Result = TypeVar("Result")

# Batches are kept within this part of the memory budget, what is kept of images within that; recordings have the rest.
_SHARE_OF_BATCHES = 0.5
_SHARE_OF_IMAGES = 1 / 16
LENGTH_STEP = 64
# So many runs of a kind are tried before its batches are made: one, one more, and the others together.
TRIED = 8
_FEW = 4 * TRIED


class BudgetedEngine(Engine):
    """An engine whose batches, kept images and recordings stay within `memory_budget` bytes beside the model itself.

    `most_tokens` bounds the positions of one batch further.
    """

    def __init__(self, model: VisionLanguageModel, device: torch.device, memory_budget: int | None = None, most_tokens: int | None = None):
        super().__init__(model)
        budget = self.memory_budget = memory_budget or default_budget(device)
        self.budget_for_recordings = int(budget * (1 - _SHARE_OF_BATCHES - _SHARE_OF_IMAGES))
        self._sizer = BatchSizer(int(budget * _SHARE_OF_BATCHES), device, most_tokens)
        self._images = ImageCache(model.module, int(budget * _SHARE_OF_IMAGES))
        self._reference = ReferenceEngine(model)

    def answer_alone(self, reason: str) -> None:
        """From now on no two prompts share a batch."""
        self.alone_because = self._reference.alone_because = reason

    def without_generator(self, reason: str) -> None:
        """From now on the decoder that generates from the encoder cannot be changed: what was found in it is not what it computes with."""
        assert self.decoder.generator is not None
        self._use_generator(unreadable_decoder(self.decoder.generator.stack, reason))

    def without_lens_on_generator(self) -> None:
        """From now on what the decoder that generates holds has no logits: its final norm and unembedding give others than the model."""
        assert self.decoder.generator is not None
        self._use_generator(replace(self.decoder.generator, unembedding=None))

    def _use_generator(self, generator: Decoder) -> None:
        self.decoder = self._reference.decoder = replace(self.decoder, generator=generator)

    @property
    def budget_for_batches(self) -> int:
        """The bytes that one batch may take."""
        return self._sizer.budget

    @property
    def most_tokens(self) -> int:
        """The most positions of one batch, whatever the memory budget."""
        return self._sizer.most

    @torch.no_grad()
    def answers(self, prompts: Sequence[EncodedPrompt], answers: Sequence[AnswerIds], batch_size: int = 32) -> list[AnswerValues]:
        if not prompts:
            return []

        def work(some: Sequence[tuple[EncodedPrompt, AnswerIds]]) -> list[AnswerValues]:
            return super(BudgetedEngine, self).answers([prompt for prompt, _ in some], [answer for _, answer in some], len(some))

        with self._images:
            size = self._batch_size("answers", list(zip(prompts, answers, strict=True)), prompts, work)
            return super().answers(prompts, answers, min(batch_size, size))

    @torch.no_grad()
    def generate(self, prompts: Sequence[EncodedPrompt], max_new_tokens: int = 8, batch_size: int = 32) -> list[str]:
        if not prompts:
            return []

        def work(some: Sequence[EncodedPrompt]) -> list[str]:
            return self.model.generate(some, max_new_tokens)

        with self._images:
            size = self._batch_size(f"{max_new_tokens} new tokens", prompts, prompts, work)
            return super().generate(prompts, max_new_tokens, min(batch_size, size))

    @torch.no_grad()
    def respond(self, questions: Sequence[Question], max_new_tokens: int = 8, batch_size: int = 32) -> list[Response]:
        if not questions:
            return []
        self.check_questions(questions)

        def work(some: Sequence[Question]) -> list[Response]:
            return super(BudgetedEngine, self).respond(some, max_new_tokens, len(some))

        found: dict[int, Response] = {}
        with self._images:
            prompts = [each.prompt for each in questions]
            branches = max(len(each.branches) for each in questions)
            what = f"responses of {max_new_tokens} tokens{f' by {branches} prompts' if branches > 1 else ''}"
            self._batch_size(what, questions, prompts, work)
            for alike in batches_of(prompts, len(prompts), self.model.pads_left):
                kind = (what, -(-max(map(len, prompts)) // LENGTH_STEP))
                waiting = deque(alike)
                while waiting:
                    chunk = _next_chunk(waiting, lambda index: len(prompts[index]), self._sizer.tokens(kind), batch_size)
                    tokens = len(chunk) * max(len(prompts[index]) for index in chunk)
                    made = self._attempt(kind, tokens, len(chunk) == 1, partial(work, [questions[index] for index in chunk]))
                    if made is None:
                        waiting.extendleft(reversed(chunk))
                    else:
                        found.update(zip(chunk, made, strict=True))
        return [found[index] for index in range(len(questions))]

    @torch.no_grad()
    def sequence_logprob(self, prompt: EncodedPrompt, tokens: Sequence[int]) -> float:
        with self._images:
            return super().sequence_logprob(prompt, tokens)

    def _batch_size(
        self, what: str, items: Sequence[Item], prompts: Sequence[EncodedPrompt], work: Callable[[list[Item]], Sequence[Any]]
    ) -> int:
        """How many of the longest prompts fit into a batch; the first two are tried where that is not known."""
        longest = max(range(len(prompts)), key=lambda index: len(prompts[index]))
        length = len(prompts[longest])
        kind = (what, -(-length // LENGTH_STEP))
        if not self._sizer.knows(kind):
            self._try_out(kind, [(length, items[longest])] * 2, work)
        return max(1, self._sizer.tokens(kind) // length)

    def _in_full(self, runs: Sequence[Run], indices: Sequence[int], results: dict[int, RunResult], advance: Advance | None) -> None:
        """Make some of the runs by full forward passes, those of about the same length together."""
        order = sorted(indices, key=lambda index: len(runs[index].base))

        def kind_of(index: int) -> Hashable:
            return ("full", -(-len(runs[index].base) // LENGTH_STEP))

        def work(chunk: Sequence[int]) -> list[RunResult]:
            return self._reference.run([runs[index] for index in chunk])

        batches = self._in_batches(order, kind_of, lambda index: len(runs[index].base), work, self._reference.batch_size)
        for chunk, found in batches:
            results.update(zip(chunk, found, strict=True))
            if advance:
                advance(len(chunk))

    def _in_batches(
        self,
        items: Sequence[Item],
        kind_of: Callable[[Item], Hashable],
        tokens_of: Callable[[Item], int],
        work: Callable[[list[Item]], list[Result]],
        most: int | None = None,
        to_try: Callable[[Sequence[Item]], Sequence[Item]] = lambda alike: alike[:TRIED],
    ) -> Iterator[tuple[list[Item], list[Result]]]:
        """The items and their results, in batches (of one kind) as large as the memory budget allows, of at most `most` items.

        Of an unknown kind some are tried first: `to_try` chooses them. Where there are few, what the trial gave counts, and the same few
        make the same batches when the kind is known; of many they are made again in their batches. So batches do not depend on what
        ran before.
        """
        by_kind: dict[Hashable, list[Item]] = defaultdict(list)
        for item in items:
            by_kind[kind_of(item)].append(item)
        for kind, alike in by_kind.items():
            first = list(to_try(alike))
            known = self._sizer.knows(kind)
            made = [] if known else self._try_out(kind, [(tokens_of(item), item) for item in first], work)
            if len(alike) <= _FEW:
                made = made or self._as_tried(kind, first, tokens_of, work)
                yield from made
                done = {id(item) for chunk, _ in made for item in chunk}
                alike = [item for item in alike if id(item) not in done]
            waiting = deque(alike)
            while waiting:
                chunk = _next_chunk(waiting, tokens_of, self._sizer.tokens(kind), most)
                found = self._attempt(kind, sum(map(tokens_of, chunk)), len(chunk) == 1, partial(work, chunk))
                if found is None:
                    waiting.extendleft(reversed(chunk))
                else:
                    yield chunk, found

    def _as_tried(
        self, kind: Hashable, first: Sequence[Item], tokens_of: Callable[[Item], int], work: Callable[[list[Item]], list[Result]]
    ) -> list[tuple[list[Item], list[Result]]]:
        """The batches that a trial of a known kind would have made, as far as they fit."""
        made = []
        for part in (first[:1], first[1:2], first[2:TRIED]):
            tokens = sum(map(tokens_of, part))
            found = (
                self._attempt(kind, tokens, len(part) == 1, partial(work, list(part))) if 0 < tokens <= self._sizer.tokens(kind) else None
            )
            if found is not None:
                made.append((list(part), found))
        return made

    def _try_out(
        self, kind: Hashable, first: Sequence[tuple[int, Item]], work: Callable[[list[Item]], Sequence[Result]]
    ) -> list[tuple[list[Item], list[Result]]]:
        """Measure a single run of an unknown kind, and a few together. What they gave is returned: nothing is made twice without need."""
        done: list[tuple[list[Item], list[Result]]] = []
        single, few = first[1:2] or first[:1], first[2:TRIED]

        def trial(part: Sequence[tuple[int, Item]]) -> tuple[int, Callable[[], object]]:
            items = [item for _, item in part]
            return sum(tokens for tokens, _ in part), lambda: done.append((items, list(work(items))))

        trials = [trial(part) for part in (single, few) if part]
        for tried in (trials, trials[:1]):
            try:
                if not done:
                    # What is kept from now on (recordings, keys and values) is made first, and is no part of what a batch takes.
                    trial(first[:1])[1]()
                self._sizer.try_out(kind, tried)
                return list({id(items[0]): (items, found) for items, found in done}.values())
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                # The few did not fit: the single run alone must say what a position takes.
                self._sizer.halve(kind, tried[-1][0])
                reason = error
        raise out_of_memory(trials[0][0]) from reason

    def _attempt(self, kind: Hashable, tokens: int, single: bool, work: Callable[[], list[Result]]) -> list[Result] | None:
        """The results of one batch; None when memory ran out, after which batches of this kind are half as large."""
        try:
            return self._sizer.measured(kind, tokens, work)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if single:
                raise out_of_memory(tokens) from error
            self._sizer.halve(kind, tokens)
            return None


class FullPassEngine(BudgetedEngine):
    """Every run a full forward pass: for models that replay would not be exact on. As the reference, but within a memory budget."""

    def __init__(self, model: VisionLanguageModel, memory_budget: int | None = None):
        super().__init__(model, next(model.module.parameters()).device, memory_budget)

    @torch.no_grad()
    def run(self, runs: Sequence[Run], advance: Advance | None = None) -> list[RunResult]:
        runs = self.as_computed(runs)
        if any(map(path_of, runs)):
            return run_paths(self, runs, advance)
        results: dict[int, RunResult] = {}
        with self._images:
            self._in_full(runs, range(len(runs)), results, advance)
        return [results[index] for index in range(len(runs))]

    def received(self, openings: Sequence[Opening]) -> list[Received]:
        with self._images:
            return self._reference.received(openings)

    def only_answer(self, reason: str) -> None:
        """From now on the model answers and nothing else: what was found in it is not what it computes with."""
        self.decoder = self._reference.decoder = unreadable_decoder(self.model.module, reason)

    def activations(self, prompt: EncodedPrompt, sites: Any) -> dict[SiteKey, torch.Tensor]:
        with self._images:
            return self._reference.activations(prompt, sites)


def _next_chunk(waiting: deque[Item], tokens_of: Callable[[Item], int], most_tokens: int, most: int | None) -> list[Item]:
    """The first waiting items that together hold at most so many positions, but at least one."""
    chunk = [waiting.popleft()]
    tokens = tokens_of(chunk[0])
    while waiting and (most is None or len(chunk) < most) and tokens + tokens_of(waiting[0]) <= most_tokens:
        chunk.append(waiting.popleft())
        tokens += tokens_of(chunk[-1])
    return chunk
