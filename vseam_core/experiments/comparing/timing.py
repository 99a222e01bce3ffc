"""What an answer costs: seconds and forward passes, measured one question at a time, without anything that is remembered of images."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from vseam_core.api.types import Sample
from vseam_core.engine.base import Engine
from vseam_core.errors import SampleError, UnsupportedError
from vseam_core.experiments.encoding import ask
from vseam_core.experiments.heads.changes import Change
from vseam_core.runs.workspace import LoadedModel


@dataclass(frozen=True)
class Cost:
    """Means over `n` answers: seconds, and passes of one prompt through the whole model (two for a token where two are contrasted)."""

    seconds: float
    forward_passes: float
    n: int


def cost_of(loaded: LoadedModel, change: Change, samples: Sequence[Sample], max_new_tokens: int) -> Cost | None:
    """What answering some samples costs; the first is answered once before, unmeasured. None where none of them can be answered."""
    questions = []
    for sample in samples:
        try:
            prepared = ask(loaded, sample)
            questions.append(change.question(prepared, prepared.free, None))
        except (SampleError, UnsupportedError):
            continue
    if not questions:
        return None
    # The engine's own answering, without the memory of images that budgeted engines keep: every answer encodes its image.
    Engine.respond(loaded.engine, questions[:1], max_new_tokens, 1)
    with _counting(loaded.model.module) as passes:
        started = time.perf_counter()
        Engine.respond(loaded.engine, questions, max_new_tokens, 1)
        taken = time.perf_counter() - started
        return Cost(taken / len(questions), passes() / len(questions), len(questions))


@contextmanager
def _counting(module: torch.nn.Module) -> Iterator[Callable[[], int]]:
    """Counts the prompts that go through a model, each pass on its own."""
    rows = 0

    def count(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal rows
        given = kwargs.get("input_ids", kwargs.get("decoder_input_ids", kwargs.get("inputs_embeds")))
        given = args[0] if given is None and args else given
        rows += 1 if given is None else len(given)

    handle = module.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield lambda: rows
    finally:
        handle.remove()
