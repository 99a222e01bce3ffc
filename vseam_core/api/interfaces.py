"""The abstract classes that plugins implement.

Tracers and head interventions are declarative: they say which runs to make and what an effect means; only the engine runs
models. That is why a third-party tracer gets batching, the memory budget, the self-check and resume without doing anything. What edits
images stands in `editing`, what methods are given in `contexts`; all of it is imported from here.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from vseam_core.api.contexts import HeadContext, ModelShape, Needs, TraceContext, Variant
from vseam_core.api.editing import EditedImages, Editor, EditPlan, EditPlanner, MaskProvider, Painter
from vseam_core.api.interventions import AnswerIds, Run, RunResult
from vseam_core.api.presentation import Presentation, Replacement
from vseam_core.api.types import Answered, HeadId, ModelInfo, Pair, PoolChoice, RoleSpan, Sample, TraceEffect
from vseam_core.errors import UnsupportedError

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from vseam_core.api.prompts import EncodedPrompt

__all__ = [
    "Benchmark",
    "EditPlan",
    "EditPlanner",
    "EditedImages",
    "Editor",
    "HeadContext",
    "HeadIntervention",
    "MaskProvider",
    "ModelShape",
    "Needs",
    "Painter",
    "TraceContext",
    "Tracer",
    "Variant",
    "VisionLanguageModel",
]


class VisionLanguageModel(ABC):
    """A loaded model with its processor: encodes image and question, finds answer ids, answers."""

    info: ModelInfo
    module: torch.nn.Module

    @property
    def pads_left(self) -> bool:
        """Whether `collate` takes prompts of different length, because pads in front change no answer of this model."""
        return False

    @abstractmethod
    def encode(self, image: Image, question: str, roles: Sequence[RoleSpan] = (), answer_prefix: Sequence[int] = ()) -> EncodedPrompt:
        """Image and question in this family's prompt, with every position classified.

        `roles` are character spans of the question. `answer_prefix` are token ids appended after the prompt (the part that
        two answers share, teacher-forced). Raises `SampleError` when the image or question cannot be encoded.
        """

    def encode_instructed(
        self, image: Image, question: str, instruction: str, roles: Sequence[RoleSpan] = (), answer_prefix: Sequence[int] = ()
    ) -> EncodedPrompt:
        """As `encode`, with `instruction` (a text with `{question}` in it) in place of what the family itself asks around a question.

        Raises `UnsupportedError` where the plugin cannot ask otherwise, and as `encode` does.
        """
        raise UnsupportedError(f"model {self.info.name!r}: its plugin takes no instruction from a dataset")

    @abstractmethod
    def answer_ids(self, prompt: EncodedPrompt, gold: str, competitor: str | None) -> AnswerIds:
        """Where and by which token ids the two answers are told apart after `prompt`'s own separator.

        tokens(prompt + answer) minus tokens(prompt), surface variants ("Yes", "yes") combined, checked by decoding
        again. Raises `SampleError` for unknown or identical ids.
        """

    @abstractmethod
    def answer_tokens(self, prompt: EncodedPrompt, answer: str) -> tuple[int, ...]:
        """The token ids of a whole answer after `prompt`'s own separator, for the log-probability of the sequence.

        Raises `SampleError` for an answer that the tokenizer does not know.
        """

    def token_texts(self, ids: Sequence[int]) -> list[str]:
        """Token ids as a person reads them, one by one; by default their numbers."""
        return [f"#{number}" for number in ids]

    @abstractmethod
    def collate(self, prompts: Sequence[EncodedPrompt]) -> dict[str, torch.Tensor]:
        """The forward arguments of several prompts as one batch `[batch, …]`.

        Prompts of different length are padded on the left where `pads_left` says so, so that all end at the last position. Raises
        `ValueError` for prompts that cannot stand in one batch.
        """

    @abstractmethod
    def generate(self, prompts: Sequence[EncodedPrompt], max_new_tokens: int = 8) -> list[str]:
        """The greedy answers as text, special tokens removed, in order."""

    def respond(self, prompts: Sequence[EncodedPrompt], max_new_tokens: int = 8) -> tuple[list[str], torch.Tensor]:
        """The greedy answers, and the logits that chose the first token of each, `[prompts, vocabulary]`.

        By default the logits come from forward passes of their own; a plugin that can read them off the generation overrides this.
        """
        import torch

        texts = self.generate(prompts, max_new_tokens)
        with torch.no_grad():
            rows = [self.module(**self.collate([prompt]), use_cache=False).logits[0, -1] for prompt in prompts]
        return texts, torch.stack(rows)

    @property
    def reads_without_image(self) -> bool:
        """Whether a prompt without its image (no image positions, no image inputs) can be read, also beside prompts that have one."""
        return False

    def respond_together(
        self, rows: Sequence[EncodedPrompt], combine: Callable[[torch.Tensor, int], torch.Tensor], max_new_tokens: int = 8
    ) -> tuple[list[str], torch.Tensor]:
        """As `respond`, of prompts in one batch, where `combine(logits, step)` stands between a step's logits and the tokens it chooses.

        Both are `[rows, vocabulary]`, steps count from 0. Raises `UnsupportedError` where the plugin cannot, and `ValueError` for prompts
        that cannot stand in one batch.
        """
        raise UnsupportedError(f"model {self.info.name!r}: its plugin does not let several prompts answer together")

    def save(self, folder: Path) -> None:
        """Write the model as it is now to a checkpoint folder that can be loaded by its path.

        Raises `UnsupportedError` where the plugin offers no such folder.
        """
        raise UnsupportedError(f"model {self.info.name!r}: its plugin cannot write checkpoint folders")


class Benchmark(ABC):
    """A set of questions about images with gold answers and the official rule that judges an answer.

    `version` numbers the rule: raise it when `judge` or `score` changes. It is for people: stored answers get the verdict of the rule as it
    is whenever they are asked for. `endless` says that samples are made as they are asked for: without a limit there is no end, and
    `all` has no size.
    """

    version: ClassVar[int] = 1
    endless: ClassVar[bool] = False
    name: str
    level: str
    category: str

    @abstractmethod
    def samples(self, pool: PoolChoice, split: str = "plain", limit: int | None = None, seed: int = 0) -> Iterator[Sample]:
        """Samples of one pool in a fixed order: the first `n` are the same whatever the limit.

        Pools share no image; `all` is every sample in the order of the benchmark's own files, whatever its pool. A sample that
        cannot be used is yielded all the same and fails at `image.load()`.
        """

    @abstractmethod
    def judge(self, sample: Sample, answer: str) -> bool:
        """Whether a free-text answer is right by the benchmark's official rule."""

    def score(self, sample: Sample, answer: str) -> float:
        """What the official rule gives a free-text answer, from 0 to 1; rules that give part marks (VQA accuracy) override this."""
        return float(self.judge(sample, answer))

    def metrics(self, answered: Sequence[Answered]) -> Mapping[str, float | None]:
        """The official figures over a whole set of answers beyond the mean score (POPE's F1 and yes-ratio …), by name.

        None stands for a figure that these answers do not determine.
        """
        return {}

    def splits(self) -> tuple[str, ...]:
        """The splits that each pool has, the easiest first."""
        return ("plain",)

    def control_edit(self, sample: Sample) -> Pair | None:
        """An edit of the same size on something not asked about, where the benchmark can make one itself."""
        return None


class Tracer(ABC):
    """Plans the runs of a causal trace on one pair, and says what their results mean.

    `stacks` are those that it can trace: with `vision` or `connector` in it, a context's shape may be that of the vision tower or of a
    Q-Former, whose rows are no positions of the prompt; with `cross` in it, that of cross-attention or of a decoder that generates from the
    encoder in which the prompt stands.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    stacks: ClassVar[tuple[str, ...]] = ("decoder", "encoder")

    @abstractmethod
    def plan(self, context: TraceContext) -> Sequence[Run]:
        """The runs to make. Raises `UnsupportedError` where the family lacks what the method needs, with the reason."""

    @abstractmethod
    def effects(self, context: TraceContext, results: Sequence[RunResult]) -> list[TraceEffect]:
        """The planned runs' results, in order, as arrays of layers × columns."""

    def options(self) -> Mapping[str, object]:
        """The options that change the result: part of every stored unit's identity."""
        return {}

    def presentation(self) -> Presentation:
        """How tables and figures show the effects; by default a heat map of token positions, a curve for each group of positions."""
        return Presentation()


class HeadIntervention(ABC):
    """Replaces or rescales the outputs of a set of attention heads.

    One that amounts to other weights, whatever the input, may say so by `folded`, so that it can be saved as a checkpoint.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1

    @classmethod
    def accepts(cls, option: str) -> bool:
        """Whether the constructor takes an option of that name: the core sets `donors` where it is taken and not given."""
        takes = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        parameter = inspect.signature(cls).parameters.get(option)
        return parameter is not None and parameter.kind in takes

    @abstractmethod
    def interventions(self, heads: Sequence[HeadId], context: HeadContext) -> Sequence[Variant]:
        """The variants that intervene on all `heads` at once; effects are averaged over them."""

    def folded(self, model: VisionLanguageModel) -> AbstractContextManager[object]:
        """A context in which the model's own weights carry this intervention; on leaving it they are back as they were.

        Raises `UnsupportedError` where the intervention depends on the input.
        """
        raise UnsupportedError(f"{self.name}: what it puts in place of a head depends on the input, so no weights can carry it")

    def needs(self) -> Needs:
        """The reference statistics that `interventions` must be given in its context."""
        return Needs()

    def replacement(self) -> Replacement:
        """What tables and figures say stands in place of a head; changes no identity."""
        return Replacement()

    def options(self) -> Mapping[str, object]:
        """The options that change the result: part of every stored unit's identity."""
        return {}
