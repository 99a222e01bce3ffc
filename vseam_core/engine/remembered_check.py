"""What the self-check found is kept with the model that it was made on, and holds until anything of that model has changed.

A workspace lets a model go after each study, so that what its engine recorded takes no memory, and a model of the caller's comes
back with the next one. The engine is then built again, in a fraction of the time that its check takes.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import nn

from vseam_core.api.interfaces import VisionLanguageModel
from vseam_core.engine.base import Engine
from vseam_core.engine.budgeted import BudgetedEngine, FullPassEngine
from vseam_core.engine.probe import probe
from vseam_core.engine.replay import ReplayEngine
from vseam_core.engine.selfcheck import checked_engine

_PLACE = "_vseam_check"
_CHUNK = 2**20
_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_PLAIN = (type(None), bool, int, float, str)


@dataclass(frozen=True)
class _Check:
    """What a check found, in plain values: no engine, and nothing that an engine records."""

    state: str
    memory_budget: int | None
    replays: bool
    unreadable: str
    alone_because: str
    no_lens_because: str
    generator_unreadable: str
    generator_has_lens: bool
    record: dict[str, Any]

    def engine_of(self, model: VisionLanguageModel) -> BudgetedEngine:
        """An engine as the check left the one that it was made on."""
        if self.replays:
            engine: BudgetedEngine = ReplayEngine(model, self.memory_budget)
        else:
            engine = full_passes = FullPassEngine(model, self.memory_budget)
            if self.unreadable:
                full_passes.only_answer(self.unreadable)
        if self.alone_because:
            engine.answer_alone(self.alone_because)
        engine.no_lens_because = self.no_lens_because
        if self.generator_unreadable:
            engine.without_generator(self.generator_unreadable)
        elif not self.generator_has_lens:
            engine.without_lens_on_generator()
        return engine


def engine_checked_once(model: VisionLanguageModel, memory_budget: int | None = None) -> tuple[Engine, dict[str, Any]]:
    """`checked_engine`, whose check is made once for a model object in a process, and again when the model has changed.

    Raises as `checked_engine` does; a check that refused a model is not kept.
    """
    kept: _Check | None = vars(model).get(_PLACE)
    if kept is not None and kept.state and (kept.state, kept.memory_budget) == (state_of(model), memory_budget):
        return kept.engine_of(model), copy.deepcopy(kept.record)
    engine, record = checked_engine(model, memory_budget)
    generator = engine.decoder.generator
    vars(model)[_PLACE] = _Check(
        state=state_of(model),  # as the first forward pass left it: with it the library attaches hooks of its own
        memory_budget=memory_budget,
        replays=isinstance(engine, ReplayEngine),
        unreadable=engine.decoder.unreadable,
        alone_because=engine.alone_because,
        no_lens_because=engine.no_lens_because,
        generator_unreadable="" if generator is None else generator.unreadable,
        generator_has_lens=generator is None or generator.unembedding is not None,
        record=copy.deepcopy(record),
    )
    return engine, record


def state_of(model: VisionLanguageModel) -> str:
    """A hash of all that a check depends on: how the model encodes, its modules, settings and hooks, and the content of its weights.

    It takes about as long as reading the weights once. "" where some are not in memory: such a model is checked every time.
    """
    tensors = dict(chain(model.module.named_parameters(), model.module.named_buffers()))
    if any(tensor.is_meta or tensor.layout != torch.strided for tensor in tensors.values()):
        return ""
    digest = hashlib.sha256(repr((type(model), model.info, model.pads_left, probe(model).key)).encode())
    for part in _settings(model.module):
        digest.update(part.encode())
    with torch.no_grad():
        sums = [_content(tensor.detach()) for tensor in tensors.values()]
    for (name, tensor), value in zip(tensors.items(), sums, strict=True):
        digest.update(f"{name}|{tensor.dtype}|{tensor.device}|{tuple(tensor.shape)}|{int(value)}".encode())
    return digest.hexdigest()


def _settings(module: nn.Module) -> Iterator[str]:
    """What the modules are and how they are set: the attention implementation stands in their configurations."""
    seen: set[int] = set()
    for name, part in module.named_modules():
        own = vars(part)
        plain = sorted((key, value) for key, value in own.items() if isinstance(value, _PLAIN) and key != "training")
        # Handles of hooks are numbered through a process; a method that was put in place of a module's own is in its `__dict__`.
        hooks = [list(own[key]) for key in ("_forward_pre_hooks", "_forward_hooks")]
        yield repr((name, type(part), plain, hooks, id(own.get("forward"))))
        configuration = own.get("config")
        if configuration is not None and id(configuration) not in seen:
            seen.add(id(configuration))
            yield repr(getattr(configuration, "__dict__", configuration))


def _content(tensor: torch.Tensor) -> torch.Tensor:
    """A sum over the bits of a tensor, word by word, each times an odd number of its own: it changes with any entry and their order."""
    flat = (torch.view_as_real(tensor) if tensor.is_complex() else tensor).contiguous().reshape(-1)
    whole = flat.nbytes % 8 == 0 and flat.storage_offset() * flat.element_size() % 8 == 0
    words = flat.view(torch.int64 if whole else _BITS[flat.element_size()])
    factors = torch.arange(1, 2 * min(len(words), _CHUNK), 2, device=tensor.device)
    found = torch.zeros((), dtype=torch.int64, device=tensor.device)
    for chunk in words.split(_CHUNK):
        found = 1_000_003 * found + (chunk.to(torch.int64) * factors[: len(chunk)]).sum()
    return found
