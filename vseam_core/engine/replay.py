"""The engine that computes only what an intervention can reach.

A change at layer ℓ and position t alters nothing below ℓ and, in a causal decoder, nothing before t. So each prompt is recorded once; a
run joins at the first layer that it changes, with the recorded residual of the positions from t on, and what it attends to before
t is the recording's, shared by all runs. The runs of a batch lie packed one after another, without padding, and grow in number
as the replay passes the layers where they join. In the last layer only the positions that are read are computed. Equal to the
reference engine within rounding: the tests hold every site, operation and family to 1e-4 in float32 and 1e-10 in float64.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch

from vseam_core.api.interfaces import VisionLanguageModel
from vseam_core.api.interventions import LensScore, Run, RunResult, SiteEdit, SiteKind
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.engine.attention import PackedAttention
from vseam_core.engine.base import Advance, donor_sites, edits_by_site
from vseam_core.engine.budgeted import LENGTH_STEP, TRIED, BudgetedEngine
from vseam_core.engine.decoder import Decoder, find_decoder
from vseam_core.engine.hooks import EditHooks, SiteKey, held_while
from vseam_core.engine.operations import EditOfRow
from vseam_core.engine.path_replay import OpeningBatch, held_mlps, planned_opening
from vseam_core.engine.paths import Opening, Received, path_of, run_paths
from vseam_core.engine.plan import PlannedRun, planned
from vseam_core.engine.recording import ALWAYS, Recording, RecordingCache, keeping
from vseam_core.engine.replay_batch import ReplayBatch
from vseam_core.engine.states import CHUNK, PackedStates
from vseam_core.engine.vision_tower import changes_the_image
from vseam_core.errors import UnsupportedError

_FEW_RUNS = 2
_ENOUGH_TO_TRY = 4096


class ReplayEngine(BudgetedEngine):
    """Records each prompt once and computes, per run, only the layers and positions that it can reach.

    `memory_budget` is the most bytes that recordings and batches may hold together, beside the model itself (default: part of
    what is available now). `most_tokens` bounds the positions of one batch further.
    """

    def __init__(self, model: VisionLanguageModel, memory_budget: int | None = None, most_tokens: int | None = None):
        decoder = find_decoder(model.module)
        if decoder.reason_against_replay:
            raise UnsupportedError(decoder.reason_against_replay)
        super().__init__(model, _only_device(decoder), memory_budget, most_tokens)
        self._cache = RecordingCache(model, self.decoder, self.budget_for_recordings)
        attention = [(layer.attention, layer.output_projection) for layer in self.decoder.layers if layer.attends]
        self._attention = PackedAttention(attention)
        self._states = PackedStates(self.decoder, self.budget_for_recordings // 2)
        self._chunk = CHUNK if any(layer.keeps_state for layer in self.decoder.layers) else 1

    @torch.no_grad()
    def run(self, runs: Sequence[Run], advance: Advance | None = None) -> list[RunResult]:
        runs = self.as_computed(runs)
        if any(map(path_of, runs)):
            return run_paths(self, runs, advance)
        with self._images:
            return self._run(runs, advance)

    @torch.no_grad()
    def received(self, openings: Sequence[Opening]) -> list[Received]:
        by_base: dict[str, list[int]] = defaultdict(list)
        for index, opening in enumerate(openings):
            by_base[opening.run.base.key].append(index)
        found: dict[int, Received] = {}
        with self._images:
            for indices in by_base.values():
                base = self._cache.get(openings[indices[0]].run.base, ALWAYS | {"mlp_output"})
                plans = [planned_opening(index, openings[index], base) for index in indices]
                batches = self._in_batches(
                    sorted(plans, key=lambda plan: plan.first_layer),
                    lambda plan: ("opening", -(-len(plan.entry or ()) // LENGTH_STEP)),
                    lambda plan: len(plan.entry or ()),
                    lambda some: self._open(some, openings),
                )
                for chunk, received in batches:
                    found.update(zip((plan.index for plan in chunk), received, strict=True))
        return [found[index] for index in range(len(openings))]

    def _open(self, plans: Sequence[PlannedRun], openings: Sequence[Opening]) -> list[Received]:
        """One batch of first runs of path patching on one base."""
        opened = [openings[plan.index] for plan in plans]
        edits = held_mlps(opened, [plan.base for plan in plans], self.shape.layers)
        for site, sending in self._edits_of([plan.run for plan in plans]).items():
            edits[site] = [*edits.get(site, []), *sending]
        with self._attention.installed() as attention, self._states.installed() as states:
            hooks = EditHooks(self.decoder, edits)
            batch = OpeningBatch(self.decoder, attention, states, plans, hooks)
            with batch.capturing(opened), hooks:
                return batch.received()

    def _run(self, runs: Sequence[Run], advance: Advance | None) -> list[RunResult]:
        results: dict[int, RunResult] = {}
        by_base: dict[str, list[int]] = defaultdict(list)
        for index, run in enumerate(runs):
            if not _needs_all(run):
                by_base[run.base.key].append(index)
        self._in_full(runs, [index for index, run in enumerate(runs) if _needs_all(run)], results, advance)
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
            pending += [planned(index, runs[index], base, self.shape) for index in indices]
        self._finish(pending, results, advance)
        return [results[index] for index in range(len(runs))]

    def _is_cheaper_in_full(self, runs: Sequence[Run], indices: Sequence[int]) -> bool:
        """Whether recording a prompt costs more than its few runs would save: they then share full forward passes with others."""
        return len(indices) <= _FEW_RUNS and runs[indices[0]].base.key not in self._cache

    def _has_room(self, pending: Sequence[PlannedRun], base: Recording) -> bool:
        """Whether another prompt's runs may join those that wait: a batch is not full yet, and their recordings fit into memory."""
        recordings = {id(plan.base): plan.base for plan in pending}
        donors = {plan.run.donor.key for plan in pending if plan.run.donor is not None}
        kind = _kind(pending[-1])
        return (
            pending[0].base.packs_with_others
            and sum(map(self._tokens, pending)) < (self._sizer.tokens(kind) if self._sizer.knows(kind) else _ENOUGH_TO_TRY)
            # Donors hold about as much as bases, at most.
            and sum(recording.bytes for recording in recordings.values()) + (1 + len(donors)) * base.bytes <= self._cache.budget
        )

    def _finish(self, pending: Sequence[PlannedRun], results: dict[int, RunResult], advance: Advance | None) -> None:
        order = {id(plan.base): place for place, plan in reversed(list(enumerate(pending)))}
        plans = sorted(pending, key=lambda plan: (plan.start == 0, plan.first_layer, order[id(plan.base)], plan.start))

        def to_try(alike: Sequence[PlannedRun]) -> Sequence[PlannedRun]:
            # Some that are soon done, but still pass a whole layer.
            whole = [plan for plan in alike if plan.first_layer < self.shape.layers - 2]
            return whole[-TRIED:] if whole else alike[:TRIED]

        for chunk, found in self._in_batches(plans, _kind, self._tokens, self._replay, to_try=to_try):
            results.update(zip((plan.index for plan in chunk), found, strict=True))
            if advance:
                advance(len(chunk))

    def counted(self, positions: int) -> int:
        """How many positions a run of so many counts for in a batch: mixers with a state work through them in chunks."""
        return -(-positions // self._chunk) * self._chunk

    def _tokens(self, plan: PlannedRun) -> int:
        return self.counted(plan.tokens)

    @contextmanager
    def watching(self, prompt: EncodedPrompt) -> Iterator[None]:
        if prompt.key in self._cache:
            yield
            return
        with keeping(self.decoder, prompt, ALWAYS) as recording:
            yield
        self._cache.put(recording)

    def recording_bytes(self, prompt: EncodedPrompt) -> int:
        with self._images:
            return self._cache.get(prompt, ALWAYS).bytes

    def recomputed_share(self, prompt: EncodedPrompt, position: int) -> float:
        with self._images:
            return 1.0 - self._cache.get(prompt, ALWAYS).safe_start(position) / len(prompt)

    def activations(self, prompt: EncodedPrompt, sites: Iterable[SiteKey]) -> dict[SiteKey, torch.Tensor]:
        wanted = set(sites)
        with self._images:
            kept = self._cache.get(prompt, {kind for _, kind in wanted}).sites
        return {site: kept[site] for site in wanted}

    def _replay(self, plans: list[PlannedRun]) -> list[RunResult]:
        runs = [plan.run for plan in plans]
        edits, generating = self._edits_of(runs), self.editing_the_generator(runs)
        with (
            self._attention.installed() as attention,
            self._states.installed() as states,
            EditHooks(self.decoder, edits) as hooks,
            generating,
        ):
            return ReplayBatch(self.decoder, attention, states, plans, hooks).results()

    def generator_activations(self, prompt: EncodedPrompt, sites: Iterable[SiteKey]) -> dict[SiteKey, torch.Tensor]:
        generator = self.decoder.generator
        assert generator is not None
        recording = self._cache.get(prompt)
        return held_while(generator, sites, lambda: generator.stack(**recording.arguments_of_generator))

    def _edits_of(self, runs: Sequence[Run]) -> dict[SiteKey, list[EditOfRow]]:
        """The edits of a batch of runs by site, with what their donors hold."""
        stack = self.decoder.shape.stack
        wanted = donor_sites(runs, stack)
        prompts = {run.donor.key: run.donor for run in runs if run.donor is not None}
        donors = {key: self._cache.get(prompts[key], {kind for _, kind in sites}) for key, sites in wanted.items()}
        return edits_by_site(runs, stack, lambda run, site: donors[run.donor.key].sites[site])  # type: ignore[union-attr]


def _needs_all(run: Run) -> bool:
    """Whether a run is a full forward pass in any case: attention is read where it is computed whole (a recording holds no more of it than
    its result), and what changes in the vision tower changes every image position."""
    return bool(run.attention) or changes_the_image(run)


def _starts_late(run: Run) -> bool:
    """Whether a run may leave its first positions alone, so that it looks at the recorded keys and values."""
    return any(not isinstance(change, SiteEdit) or change.positions is not None for change in run.interventions)


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
    return (-(-plan.length // LENGTH_STEP), plan.start > 0)
