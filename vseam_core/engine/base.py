"""What every engine does: make the runs that a method planned, and give their readouts back in order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property

import torch

from vseam_core.api.interfaces import ModelShape, VisionLanguageModel
from vseam_core.api.interventions import (
    IMAGE_STACKS,
    AnswerIds,
    AnswerValues,
    AttentionBlock,
    LensScore,
    Patch,
    PathPatch,
    Run,
    RunResult,
    SiteEdit,
)
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.api.types import HeadId
from vseam_core.engine.attention_boost import BoostHooks
from vseam_core.engine.attention_weights import check_attention
from vseam_core.engine.checks import check_change, check_lens_places, check_path_run
from vseam_core.engine.cross_attention import CROSS, GENERATOR, as_computed, cross_shape, in_generator
from vseam_core.engine.decoder import Decoder, readable_decoder
from vseam_core.engine.direct_attribution import DirectWrites, direct_writes, sites_to_hold
from vseam_core.engine.generation import GenerationHooks, Question, Response, combined, readable
from vseam_core.engine.hooks import SiteKey, held_while
from vseam_core.engine.operations import EditOfRow
from vseam_core.engine.paths import Opening, Received, path_of
from vseam_core.engine.probe import probe
from vseam_core.engine.readouts import answer_values
from vseam_core.engine.vision_tower import ImageStack, ImageStacks, changes_the_image, is_before_the_model, stack_of
from vseam_core.errors import UnsupportedError

Advance = Callable[[int], None]
DonorActivation = Callable[[Run, SiteKey], torch.Tensor]


class Engine(ABC):
    """Runs a model under interventions. The model is put in evaluation mode and never changed.

    `memory_budget` is the most bytes that the engine holds beside the model, None where it keeps to none.
    """

    memory_budget: int | None = None

    def __init__(self, model: VisionLanguageModel):
        self.model = model
        # Why prompts must not share a batch, and why there is no logit lens; "" where nothing stands against it.
        self.alone_because = ""
        self.no_lens_because = ""
        model.module.eval()
        self.decoder: Decoder = readable_decoder(model.module)
        self._direct_writes: DirectWrites | None = None

    @property
    def shape(self) -> ModelShape:
        """The stack that methods address. Raises `UnsupportedError` for a model that only answers, with the reason."""
        if self.decoder.unreadable:
            raise UnsupportedError(f"{self.model.info.name} answers, but nothing in it can be traced: {self.decoder.unreadable}")
        return self.decoder.shape

    def require(self, head: HeadId) -> None:
        """Raise `UnknownNameError` for a head that the model does not have, `UnsupportedError` for one that cannot change an answer."""
        shape = self.shape_of(head.stack if self._has_beside(head.stack) else "")
        if head.stack in IMAGE_STACKS and shape.layers <= head.layer < self.image_stacks[head.stack].stack.shape.layers:
            raise UnsupportedError(self.image_stacks[head.stack].without_effect(head.layer))
        shape.require(head)

    def _has_beside(self, stack: str) -> bool:
        """Whether a name may stand for a stack beside the one that methods address."""
        return stack in (*IMAGE_STACKS, CROSS) or (stack == GENERATOR and self.decoder.generator is not None)

    @abstractmethod
    def run(self, runs: Sequence[Run], advance: Advance | None = None) -> list[RunResult]:
        """The readouts of each run, in order. `advance(n)` is called as runs finish. Raises `UnsupportedError` for a run
        whose sites this model does not have."""

    @abstractmethod
    def received(self, openings: Sequence[Opening]) -> list[Received]:
        """What the receivers of path patches are given: the first runs, in order."""

    @abstractmethod
    def activations(self, prompt: EncodedPrompt, sites: Iterable[SiteKey]) -> Mapping[SiteKey, torch.Tensor]:
        """What some sites hold in a plain forward pass of one prompt, each `[positions, width]`."""

    def recording_bytes(self, prompt: EncodedPrompt) -> int:
        """The memory that this engine keeps of a prompt while runs on it are made, by the shapes of what it records."""
        return 0

    def recomputed_share(self, prompt: EncodedPrompt, position: int) -> float:
        """The share of a prompt's positions that this engine computes again for an edit at `position`."""
        return 1.0

    @torch.no_grad()
    def answers(self, prompts: Sequence[EncodedPrompt], answers: Sequence[AnswerIds], batch_size: int = 32) -> list[AnswerValues]:
        """The answers of plain forward passes, batched: what a baseline needs, without keeping anything."""
        values: dict[int, AnswerValues] = {}
        for chunk in batches_of(prompts, 1 if self.alone_because else batch_size, self.model.pads_left):
            inputs = self.model.collate([prompts[index] for index in chunk])
            logits = self.model.module(**inputs, use_cache=False).logits[:, -1]
            values.update(zip(chunk, answer_values(logits, [answers[index] for index in chunk]), strict=True))
        return [values[index] for index in range(len(prompts))]

    @cached_property
    def image_stacks(self) -> ImageStacks:
        """What looks at the image before the language model does, whose sites runs may change too."""
        return ImageStacks(self.model.module, self._last_logits)

    @property
    def tower(self) -> ImageStack:
        """The vision tower."""
        return self.image_stacks["vision"]

    def shape_of(self, stack: str = "") -> ModelShape:
        """The shape of the stack of that name; "" is the one that methods address unless they name another.

        Of the vision tower and a Q-Former the layers that can reach the language model, found by running one prompt. Raises
        `UnsupportedError` where the model has no such stack, with the reason.
        """
        if stack in IMAGE_STACKS:
            return self.image_stacks[stack].shape(probe(self.model))
        if stack == CROSS:
            return cross_shape(self.decoder)
        if stack == GENERATOR and self.decoder.generator is not None:
            return _shape_of_generator(self.decoder.generator)
        if stack not in ("", self.shape.stack):
            raise UnsupportedError(f"{self.model.info.name}: image and text stand in the {self.shape.stack}; there is no {stack} to change")
        return self.shape

    @torch.no_grad()
    def _last_logits(self, prompt: EncodedPrompt) -> torch.Tensor:
        logits: torch.Tensor = self.model.module(**self.model.collate([prompt]), use_cache=False).logits[0, -1]
        return logits

    @property
    def budget_for_batches(self) -> int | None:
        """The bytes that one batch, or one backward pass, may take; None without a limit."""
        return None

    @contextmanager
    def watching(self, prompt: EncodedPrompt) -> Iterator[None]:
        """While entered, one forward pass of `prompt` alone is made outside the engine: an engine that records may keep it."""
        yield

    @torch.no_grad()
    def generate(self, prompts: Sequence[EncodedPrompt], max_new_tokens: int = 8, batch_size: int = 32) -> list[str]:
        """The greedy answers as text, in order, of at most `batch_size` prompts at a time."""
        batch_size = 1 if self.alone_because else batch_size
        starts = range(0, len(prompts), batch_size)
        return [text for start in starts for text in self.model.generate(prompts[start : start + batch_size], max_new_tokens)]

    @torch.no_grad()
    def respond(self, questions: Sequence[Question], max_new_tokens: int = 8, batch_size: int = 32) -> list[Response]:
        """The greedy answer to each question, in order, with the score that its first step read: one generation gives both.

        Interventions are held while the answer is generated. Raises `UnsupportedError` as `run` does, and for attention knockouts.
        """
        self.check_questions(questions)
        runs = [Run(each.prompt, (), each.interventions, each.donor) for each in questions]
        found: dict[int, Response] = {}
        batch_size = 1 if self.alone_because else batch_size
        together = [index for index, run in enumerate(runs) if not changes_the_image(run)]
        for chunk in batches_of([questions[index].prompt for index in together], batch_size, self.model.pads_left):
            indices = [together[place] for place in chunk]
            found.update(zip(indices, self._respond_together([questions[index] for index in indices], max_new_tokens), strict=True))
        for index, run in enumerate(runs):
            if index not in found:
                # The image is looked at once, while the prompt is read.
                self.image_stacks.check_reach(run)
                with self.image_stacks.editing(run, self.image_stacks.held([run], run.donor)):
                    found[index] = self._respond_together([questions[index]], max_new_tokens)[0]
        return [found[index] for index in range(len(questions))]

    def check_questions(self, questions: Sequence[Question]) -> None:
        """Refuses questions that cannot be answered with what is changed in the model, as `check` does for runs."""
        asked = self.as_computed(_runs_of(questions))
        if any(map(path_of, asked)):
            raise UnsupportedError("path patches cannot be held while a model generates")
        for each in questions:
            several = bool(each.beside) or each.decode is not None
            if several and any(is_before_the_model(change) for branch in each.branches for change in branch.interventions):
                raise UnsupportedError("changes of the vision tower are held by a model that answers by itself, not by a method")
        for each in questions:
            if each.beside and self.alone_because:
                raise UnsupportedError(f"several prompts cannot answer together, because {self.alone_because}")
            if len({len(branch.prompt) for branch in each.branches}) > 1 and not self.model.pads_left:
                raise UnsupportedError("prompts of different length cannot answer together: this model is not padded")

    def _respond_together(self, questions: Sequence[Question], max_new_tokens: int) -> list[Response]:
        """The responses to questions whose prompts can stand in one batch."""
        if any(each.decode is not None for each in questions):
            return [self._decoded(each, max_new_tokens) for each in questions]
        runs = [as_computed(run, self.decoder) for run in _runs_of(questions)]
        if blocks_of(runs):
            raise UnsupportedError("attention knockouts cannot be held while a model generates")
        stack = self.decoder.shape.stack
        wanted = donor_sites(runs, stack)
        donors = {run.donor.key: run.donor for run in runs if run.donor is not None and run.donor.key in wanted}
        held = {key: self.activations(donor, wanted[key]) for key, donor in donors.items()}
        edits = edits_by_site(runs, stack, lambda run, site: held[run.donor.key][site])  # type: ignore[union-attr]
        prompts, lengths = [run.base for run in runs], [len(run.base) for run in runs]
        boosts = [branch.boosts for each in questions for branch in each.branches]
        holding = GenerationHooks(self.decoder, edits, len(runs), lengths)
        with holding, self.editing_the_generator(runs), BoostHooks(self.decoder, boosts, lengths):
            if all(each.combine is None for each in questions):
                texts, logits = self.model.respond(prompts, max_new_tokens)
            else:
                texts, logits = self.model.respond_together(prompts, combined(questions), max_new_tokens)
        firsts = [sum(len(each.branches) for each in questions[:row]) for row in range(len(questions))]
        return _responses(questions, [texts[row] for row in firsts], readable(logits[firsts]))

    def _decoded(self, question: Question, max_new_tokens: int) -> Response:
        """The answer to a question that is generated by a function of its own."""
        if question.decode is None:
            return self._respond_together([question], max_new_tokens)[0]
        decoded = question.decode(max_new_tokens)
        if decoded.logits is None:
            return Response(decoded.text)
        return _responses([question], [decoded.text], readable(decoded.logits[None].float()))[0]

    @torch.no_grad()
    def sequence_logprob(self, prompt: EncodedPrompt, tokens: Sequence[int]) -> float:
        """The log-probability of a whole answer: `prompt` ends with all but the last of `tokens`, teacher-forced."""
        logits = self.model.module(**self.model.collate([prompt]), use_cache=False).logits[0, -len(tokens) :]
        log_probabilities = torch.log_softmax(logits.double(), -1)
        return float(sum(log_probabilities[index, token] for index, token in enumerate(tokens)))

    def check(self, runs: Iterable[Run]) -> None:
        """Refuses runs that name sites, heads or positions outside the model and the prompt, or lack a donor."""
        for run in runs:
            if changes_the_image(run):
                self.image_stacks.check(run)
            for intervention in run.interventions:
                if isinstance(intervention, PathPatch):
                    check_path_run(run, intervention, self.decoder)
                else:
                    check_change(intervention, run, self._stack_of(intervention), self.decoder)
            check_attention(self.decoder, run)
            for readout in run.readouts:
                if isinstance(readout, LensScore):
                    check_lens_places(readout, run, self.decoder)
                    if self.no_lens_because:
                        raise UnsupportedError(f"no logit lens on {self.model.info.name}: {self.no_lens_because}")
                    if not readout.site.kind.startswith("residual"):
                        self.direct_writes(run.base).require(readout.site)

    def _stack_of(self, change: SiteEdit | AttentionBlock) -> Decoder:
        if is_before_the_model(change):
            return self.image_stacks[stack_of(change)].stack
        if self.decoder.generator is not None and in_generator(change, self.decoder):
            return self.decoder.generator
        return self.decoder

    def as_computed(self, runs: Sequence[Run]) -> list[Run]:
        """Runs as the model holds their sites, checked. Raises `UnsupportedError` as `run` does."""
        found = [as_computed(run, self.decoder) for run in runs]
        self.check(found)
        return found

    def editing_the_generator(self, runs: Sequence[Run]) -> AbstractContextManager[object]:
        """While entered, the decoder that generates carries the edits out that a batch of runs makes in it, in one pass or generation."""
        generator = self.decoder.generator
        if generator is None:
            return nullcontext()
        wanted = donor_sites(runs, GENERATOR)
        prompts = {run.donor.key: run.donor for run in runs if run.donor is not None}
        donors = {key: self.generator_activations(prompts[key], sites) for key, sites in wanted.items()}
        edits = edits_by_site(runs, GENERATOR, lambda run, site: donors[run.donor.key][site])  # type: ignore[union-attr]
        return GenerationHooks(generator, edits, len(runs)) if edits else nullcontext()

    def generator_activations(self, prompt: EncodedPrompt, sites: Iterable[SiteKey]) -> Mapping[SiteKey, torch.Tensor]:
        """What some sites of the decoder that generates hold in a plain forward pass of one prompt, each `[rows, width]`."""
        return self.plain_activations(prompt, sites, self.decoder.generator)

    def direct_writes(self, prompt: EncodedPrompt) -> DirectWrites:
        """Which parts of the model have a direct logit attribution: measured once, on the first prompt asked with."""
        if self._direct_writes is None:
            self._direct_writes = direct_writes(self.decoder, self.plain_activations(prompt, sites_to_hold(self.decoder)))
        return self._direct_writes

    @torch.no_grad()
    def plain_activations(
        self, prompt: EncodedPrompt, sites: Iterable[SiteKey], stack: Decoder | None = None
    ) -> dict[SiteKey, torch.Tensor]:
        """What some sites (of another `stack`) hold in a plain forward pass of one prompt, each `[positions, width]`; nothing is kept."""
        return held_while(stack or self.decoder, sites, lambda: self.model.module(**self.model.collate([prompt]), use_cache=False))


def _shape_of_generator(generator: Decoder) -> ModelShape:
    if generator.unreadable:
        raise UnsupportedError(generator.unreadable)
    return generator.shape


def _runs_of(questions: Sequence[Question]) -> list[Run]:
    """One run for each branch of each question: what is changed in the model, without anything to read."""
    return [Run(one.prompt, (), one.interventions, one.donor) for each in questions for one in each.branches]


def _responses(questions: Sequence[Question], texts: Sequence[str], logits: torch.Tensor) -> list[Response]:
    """Texts with the scores of the answers that were asked about, from the logits `[questions, vocabulary]` of the first tokens."""
    scored = [(row, each.answer) for row, each in enumerate(questions) if each.answer is not None]
    values = answer_values(logits[[row for row, _ in scored]], [answer for _, answer in scored]) if scored else []
    score_of = {row: value for (row, _), value in zip(scored, values, strict=True)}
    return [Response(text, score_of.get(row)) for row, text in enumerate(texts)]


def batches_of(prompts: Sequence[EncodedPrompt], size: int, pads: bool = False) -> Iterator[list[int]]:
    """The indices of `prompts` in batches that a model can collate, at most `size` in each.

    Only inputs of equal shape stand in one batch; if the model `pads`, lengths may differ, and neighbours in length share a batch.
    """
    alike: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for index, prompt in enumerate(prompts):
        fixed = (item for item in prompt.inputs.items() if item[1].is_floating_point() or item[0] == "decoder_input_ids")
        shapes = tuple((name, tuple(value.shape[1:])) for name, value in fixed)
        alike[tuple(prompt.inputs), shapes, None if pads else len(prompt)].append(index)
    for indices in alike.values():
        indices.sort(key=lambda index: len(prompts[index]))
        for start in range(0, len(indices), size):
            yield indices[start : start + size]


def edits_by_site(runs: Sequence[Run], stack: str, donor_activation: DonorActivation) -> dict[SiteKey, list[EditOfRow]]:
    """A batch's edits of one stack (row i = run i), gathered per site so that each site is visited once."""
    edits: dict[SiteKey, list[EditOfRow]] = defaultdict(list)
    for row, run in enumerate(runs):
        for intervention in run.interventions:
            if isinstance(intervention, SiteEdit) and intervention.site.stack == stack:
                key: SiteKey = (intervention.site.layer, intervention.site.kind)
                donor = donor_activation(run, key) if isinstance(intervention.operation, Patch) else None
                operation, positions = intervention.operation, intervention.positions
                edits[key].append(EditOfRow(row, operation, positions, intervention.site.head, donor))
    return dict(edits)


def blocks_of(runs: Sequence[Run]) -> list[tuple[int, AttentionBlock]]:
    """The attention blocks of a batch of runs, each with its row."""
    return [(row, change) for row, run in enumerate(runs) for change in run.interventions if isinstance(change, AttentionBlock)]


def donor_sites(runs: Iterable[Run], stack: str) -> Mapping[str, set[SiteKey]]:
    """For each donor (by its key) the sites of a stack that some run patches from it."""
    wanted: dict[str, set[SiteKey]] = defaultdict(set)
    for run in runs:
        for intervention in run.interventions:
            patches = isinstance(intervention, SiteEdit) and isinstance(intervention.operation, Patch)
            if isinstance(intervention, SiteEdit) and patches and run.donor is not None and intervention.site.stack == stack:
                wanted[run.donor.key].add((intervention.site.layer, intervention.site.kind))
    return wanted
