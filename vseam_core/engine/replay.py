"""The engine that computes only what an intervention can reach.

A change at layer ℓ and position t alters nothing below ℓ and, in a causal decoder, nothing before t. So each prompt is recorded once; a
run joins at the first layer that it changes, with the recorded residual of the positions from t on, and what it attends to before
t is the recording's, shared by all runs. The runs of a batch lie packed one after another, without padding, and grow in number
as the replay passes the layers where they join. In the last layer only the positions that are read are computed. Equal to the
reference engine within rounding: the tests hold every site, operation and family to 1e-4 in float32 and 1e-10 in float64.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch

from vseam_core.engine.attention import PackedAttention
from vseam_core.engine.base import Advance, Engine, donor_sites, edits_by_site
from vseam_core.engine.hooks import EditHooks, SiteKey
from vseam_core.engine.plan import PlannedRun, planned
from vseam_core.engine.recording import Recording, RecordingCache
from vseam_core.engine.replay_batch import ReplayBatch
from vseam_core.interfaces import VisionLanguageModel
from vseam_core.interventions import LensScore, Run, RunResult, SiteKind
from vseam_core.prompts import EncodedPrompt


class ReplayEngine(Engine):
    """Records each prompt once and computes, per run, only the layers and positions that it can reach.

    `max_tokens` bounds the positions computed in one batch; `cache_bytes` the recordings kept.
    """

    def __init__(self, model: VisionLanguageModel, max_tokens: int = 8192, cache_bytes: int = 512 * 2**20):
        super().__init__(model)
        self._max_tokens = max_tokens
        self._cache = RecordingCache(model, self.decoder, cache_bytes)
        self._attention = PackedAttention([layer.attention for layer in self.decoder.layers if not layer.is_cross_attention])

    @torch.no_grad()
    def run(self, runs: Sequence[Run], advance: Advance | None = None) -> list[RunResult]:
        self.check(runs)
        results: dict[int, RunResult] = {}
        by_base: dict[str, list[int]] = defaultdict(list)
        for index, run in enumerate(runs):
            by_base[run.base.key].append(index)
        for indices in by_base.values():
            base = self._cache.get(runs[indices[0]].base, _kinds_read([runs[index] for index in indices]))
            plans = sorted(
                (planned(index, runs[index], base, self.shape.layers) for index in indices), key=lambda plan: (plan.first_layer, plan.start)
            )
            for chunk in _chunks(plans, self._max_tokens):
                found = self._replay(base, chunk)
                results.update(zip((plan.index for plan in chunk), found, strict=True))
                if advance:
                    advance(len(chunk))
        return [results[index] for index in range(len(runs))]

    def activations(self, prompt: EncodedPrompt, sites: Iterable[SiteKey]) -> dict[SiteKey, torch.Tensor]:
        wanted = set(sites)
        kept = self._cache.get(prompt, {kind for _, kind in wanted}).sites
        return {site: kept[site] for site in wanted}

    def _replay(self, base: Recording, plans: list[PlannedRun]) -> list[RunResult]:
        runs = [plan.run for plan in plans]
        wanted = donor_sites(runs)
        prompts = {run.donor.key: run.donor for run in runs if run.donor is not None}
        donors = {key: self._cache.get(prompts[key], {kind for _, kind in sites}) for key, sites in wanted.items()}
        edits = edits_by_site(runs, lambda run, site: donors[run.donor.key].sites[site])  # type: ignore[union-attr]
        with self._attention.installed() as attention, EditHooks(self.decoder, edits) as hooks:
            return ReplayBatch(self.decoder, attention, base, plans, hooks).results()


def _kinds_read(runs: Sequence[Run]) -> set[SiteKind]:
    return {readout.site.kind for run in runs for readout in run.readouts if isinstance(readout, LensScore)}


def _chunks(plans: Sequence[PlannedRun], max_tokens: int) -> Iterable[list[PlannedRun]]:
    chunk: list[PlannedRun] = []
    tokens = 0
    for plan in plans:
        if chunk and tokens + plan.tokens > max_tokens:
            yield chunk
            chunk, tokens = [], 0
        chunk.append(plan)
        tokens += plan.tokens
    if chunk:
        yield chunk
