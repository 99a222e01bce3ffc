"""The engine that computes only what an intervention can reach.

A change at layer ℓ and position t alters nothing below ℓ and, in a causal decoder, nothing before t. So each prompt is recorded once; a
run joins at the first layer that it changes, with the recorded residual of the positions from t on, and what it attends to before
t is the recording's, shared by all runs. The runs of a batch lie packed one after another, without padding, and grow in number
as the replay passes the layers where they join. In the last layer only the positions that are read are computed. Equal to the
reference engine within rounding: the tests hold every site, operation and family to 1e-4 in float32 and 1e-10 in float64.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import torch

from vseam_core.engine.attention import PackedAttention
from vseam_core.engine.base import Advance, Engine, donor_sites, edits_by_site
from vseam_core.engine.decoder import Decoder
from vseam_core.engine.hooks import EditHooks, SiteKey
from vseam_core.engine.memory import BatchSizer, default_budget, is_out_of_memory, out_of_memory
from vseam_core.engine.plan import PlannedRun, planned
from vseam_core.engine.recording import ALWAYS, Recording, RecordingCache
from vseam_core.engine.reference import ReferenceEngine
from vseam_core.engine.replay_batch import ReplayBatch
from vseam_core.errors import UnsupportedError
from vseam_core.interfaces import VisionLanguageModel
from vseam_core.interventions import AnswerIds, AnswerValues, AttentionBlock, LensScore, Run, RunResult, SiteKind
from vseam_core.prompts import EncodedPrompt

# Recordings are kept within this part of the memory budget, batches within the rest.
_SHARE_OF_RECORDINGS = 0.5
_LENGTH_STEP = 64
_FEW_RUNS = 2
# So many runs of a kind are tried together before its batches are made.
_TRIED = 8
_ENOUGH_TO_TRY = 4096


class ReplayEngine(Engine):
    """Records each prompt once and computes, per run, only the layers and positions that it can reach.

    `memory_budget` is the most bytes that recordings and batches may hold together, beside the model itself (default: part of
    what is available now). `most_tokens` bounds the positions of one batch further.
    """

    def __init__(self, model: VisionLanguageModel, memory_budget: int | None = None, most_tokens: int | None = None):
        super().__init__(model)
        device = _only_device(self.decoder)
        budget = memory_budget or default_budget(device)
        self._cache = RecordingCache(model, self.decoder, int(budget * _SHARE_OF_RECORDINGS))
        self._sizer = BatchSizer(int(budget * (1 - _SHARE_OF_RECORDINGS)), device, most_tokens)
        self._reference = ReferenceEngine(model)
        self._attention = PackedAttention([layer.attention for layer in self.decoder.layers if not layer.is_cross_attention])

    @torch.no_grad()
    def run(self, runs: Sequence[Run], advance: Advance | None = None) -> list[RunResult]:
        self.check(runs)
        results: dict[int, RunResult] = {}
        by_base: dict[str, list[int]] = defaultdict(list)
        for index, run in enumerate(runs):
            by_base[run.base.key].append(index)
        in_full = [index for indices in by_base.values() if self._is_cheaper_in_full(runs, indices) for index in indices]
        # Two or three full passes are no batch: replay is as good for them.
        if len(in_full) > _FEW_RUNS + 1:
            self._in_full(runs, in_full, results, advance)
        pending: list[PlannedRun] = []
        for indices in by_base.values():
            if indices[0] in results:
                continue
            mine = [runs[index] for index in indices]
            base = self._cache.get(mine[0].base, ALWAYS | _kinds_read(mine), any(map(_starts_late, mine)))
            if pending and not (base.packs_with_others and self._has_room(pending, base)):
                self._finish(pending, results, advance)
                pending = []
            pending += [planned(index, runs[index], base, self.shape.layers) for index in indices]
        self._finish(pending, results, advance)
        return [results[index] for index in range(len(runs))]

    def _is_cheaper_in_full(self, runs: Sequence[Run], indices: Sequence[int]) -> bool:
        """Whether recording a prompt costs more than its few runs would save: they then share full forward passes with others."""
        return len(indices) <= _FEW_RUNS and runs[indices[0]].base.key not in self._cache

    def _in_full(self, runs: Sequence[Run], indices: Sequence[int], results: dict[int, RunResult], advance: Advance | None) -> None:
        waiting = deque(sorted(indices, key=lambda index: len(runs[index].base)))
        while waiting:
            length = len(runs[waiting[0]].base)
            kind = ("full", -(-length // _LENGTH_STEP))

            def work(chunk: Sequence[int]) -> list[RunResult]:
                return self._reference.run([runs[index] for index in chunk])

            self._try_out(kind, [(length, waiting[0])], work)
            count = min(len(waiting), max(1, self._sizer.tokens(kind) // length), self._reference.batch_size)
            chunk = [waiting.popleft() for _ in range(count)]
            tokens = sum(len(runs[index].base) for index in chunk)
            found = self._attempt(kind, tokens, count == 1, partial(work, chunk))
            if found is None:
                waiting.extendleft(reversed(chunk))
                continue
            results.update(zip(chunk, found, strict=True))
            if advance:
                advance(count)

    def _try_out(self, kind: Hashable, first: Sequence[tuple[int, Any]], work: Callable[[list[Any]], object]) -> None:
        """Measure the first run of an unknown kind, and the first few together; their results are made again later."""
        if self._sizer.knows(kind):
            return
        single, few = first[:1], first[:_TRIED]
        trials = [(sum(tokens for tokens, _ in part), partial(work, [one for _, one in part])) for part in (single, few)]
        for tried in (trials, trials[:1]):
            try:
                # What is kept from now on (recordings, keys and values) is made first, and is no part of what a batch takes.
                tried[0][1]()
                self._sizer.try_out(kind, tried)
                return
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                # The few did not fit: the single run alone must say what a position takes.
                self._sizer.halve(kind, tried[-1][0])
                reason = error
        raise out_of_memory(trials[0][0]) from reason

    def _attempt(self, kind: Hashable, tokens: int, single: bool, work: Callable[[], list[RunResult]]) -> list[RunResult] | None:
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

    def _has_room(self, pending: Sequence[PlannedRun], base: Recording) -> bool:
        """Whether another prompt's runs may join those that wait: a batch is not full yet, and their recordings fit into memory."""
        recordings = {id(plan.base): plan.base for plan in pending}
        donors = {plan.run.donor.key for plan in pending if plan.run.donor is not None}
        kind = _kind(pending[-1])
        return (
            pending[0].base.packs_with_others
            and sum(plan.tokens for plan in pending) < (self._sizer.tokens(kind) if self._sizer.knows(kind) else _ENOUGH_TO_TRY)
            # Donors hold about as much as bases, at most.
            and sum(recording.bytes for recording in recordings.values()) + (1 + len(donors)) * base.bytes <= self._cache.budget
        )

    def _finish(self, pending: Sequence[PlannedRun], results: dict[int, RunResult], advance: Advance | None) -> None:
        order = {id(plan.base): place for place, plan in reversed(list(enumerate(pending)))}
        plans = sorted(pending, key=lambda plan: (plan.start == 0, plan.first_layer, order[id(plan.base)], plan.start))
        for chunk, found in self._in_batches(plans):
            results.update(zip((plan.index for plan in chunk), found, strict=True))
            if advance:
                advance(len(chunk))

    def _in_batches(self, plans: Sequence[PlannedRun]) -> Iterator[tuple[list[PlannedRun], list[RunResult]]]:
        """The planned runs and their results, in batches as large as the memory budget allows."""
        waiting = deque(plans)
        while waiting:
            kind = _kind(waiting[0])
            self._try_out(kind, [(plan.tokens, plan) for plan in _to_try(plans, kind, self.shape.layers)], self._replay)
            chunk = _next_chunk(waiting, self._sizer.tokens(kind))
            tokens = sum(plan.tokens for plan in chunk)
            found = self._attempt(kind, tokens, len(chunk) == 1, partial(self._replay, chunk))
            if found is None:
                waiting.extendleft(reversed(chunk))
                continue
            yield chunk, found

    @torch.no_grad()
    def answers(self, prompts: Sequence[EncodedPrompt], answers: Sequence[AnswerIds], batch_size: int = 32) -> list[AnswerValues]:
        if not prompts:
            return []
        longest = max(len(prompt) for prompt in prompts)
        kind = ("answers", -(-longest // _LENGTH_STEP))

        def work(some: Sequence[tuple[EncodedPrompt, AnswerIds]]) -> list[AnswerValues]:
            return super(ReplayEngine, self).answers([prompt for prompt, _ in some], [answer for _, answer in some], len(some))

        self._try_out(kind, [(len(prompt), (prompt, answer)) for prompt, answer in zip(prompts[:2], answers[:2], strict=True)], work)
        return super().answers(prompts, answers, max(1, min(batch_size, self._sizer.tokens(kind) // longest)))

    def recomputed_share(self, prompt: EncodedPrompt, position: int) -> float:
        return 1.0 - self._cache.get(prompt, ALWAYS).safe_start(position) / len(prompt)

    def activations(self, prompt: EncodedPrompt, sites: Iterable[SiteKey]) -> dict[SiteKey, torch.Tensor]:
        wanted = set(sites)
        kept = self._cache.get(prompt, {kind for _, kind in wanted}).sites
        return {site: kept[site] for site in wanted}

    def _replay(self, plans: list[PlannedRun]) -> list[RunResult]:
        runs = [plan.run for plan in plans]
        wanted = donor_sites(runs)
        prompts = {run.donor.key: run.donor for run in runs if run.donor is not None}
        donors = {key: self._cache.get(prompts[key], {kind for _, kind in sites}) for key, sites in wanted.items()}
        edits = edits_by_site(runs, lambda run, site: donors[run.donor.key].sites[site])  # type: ignore[union-attr]
        with self._attention.installed() as attention, EditHooks(self.decoder, edits) as hooks:
            return ReplayBatch(self.decoder, attention, plans, hooks).results()


def _starts_late(run: Run) -> bool:
    """Whether a run may leave its first positions alone, so that it looks at the recorded keys and values."""
    return any(isinstance(change, AttentionBlock) or change.positions is not None for change in run.interventions)


def _kinds_read(runs: Sequence[Run]) -> set[SiteKind]:
    return {readout.site.kind for run in runs for readout in run.readouts if isinstance(readout, LensScore)}


def _only_device(decoder: Decoder) -> torch.device:
    """The device of all layers. Raises `UnsupportedError` where they lie on several, or on none (offloaded)."""
    devices = {parameter.device for layer in decoder.layers for parameter in layer.module.parameters()}
    if len(devices) != 1 or "meta" in {device.type for device in devices}:
        names = ", ".join(sorted(map(str, devices)))
        raise UnsupportedError(f"its layers lie on several devices ({names}), which replay does not follow")
    return devices.pop()


def _kind(plan: PlannedRun) -> tuple[int, bool]:
    """Runs whose positions cost about the same memory: those that share a prefix need other space than those that start at 0."""
    return (-(-plan.length // _LENGTH_STEP), plan.start > 0)


def _to_try(plans: Sequence[PlannedRun], kind: Hashable, layers: int) -> list[PlannedRun]:
    """Some runs of a kind that are soon done, but still pass a whole layer."""
    alike = [plan for plan in plans if _kind(plan) == kind]
    whole = [plan for plan in alike if plan.first_layer < layers - 2]
    return whole[-_TRIED:] if whole else alike[:_TRIED]


def _next_chunk(waiting: deque[PlannedRun], most_tokens: int) -> list[PlannedRun]:
    """The first waiting runs that together hold at most so many positions, but at least one; all of one kind."""
    chunk = [waiting.popleft()]
    tokens = chunk[0].tokens
    while waiting and tokens + waiting[0].tokens <= most_tokens and _kind(waiting[0]) == _kind(chunk[0]):
        chunk.append(waiting.popleft())
        tokens += chunk[-1].tokens
    return chunk
