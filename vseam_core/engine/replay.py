"""The engine that replays only the layers an intervention can reach.

A change at layer ℓ alters nothing below ℓ. So each base prompt is recorded once, and a run starts at the first layer it touches,
from the recorded residual, with the layer's own recorded arguments. Runs on one base grow into one batch: sorted by their
first layer, they join as the replay passes it. Equal to the reference engine within rounding (tests hold it to 1e-4).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch

from vseam_core.engine.base import Advance, Engine, blocks_of, donor_sites, edits_by_site, lens_sites
from vseam_core.engine.hooks import EditHooks, SiteHooks, SiteKey
from vseam_core.engine.readouts import results_of
from vseam_core.engine.recording import Recording, RecordingCache
from vseam_core.interfaces import VisionLanguageModel
from vseam_core.interventions import AttentionBlock, LensScore, Run, RunResult
from vseam_core.prompts import EncodedPrompt


class ReplayEngine(Engine):
    """Records each prompt once and replays layers from the first that a run touches.

    `max_rows` bounds the runs in one batch; `cache_bytes` the recordings kept.
    """

    def __init__(self, model: VisionLanguageModel, max_rows: int = 64, cache_bytes: int = 512 * 2**20):
        super().__init__(model)
        self._max_rows = max_rows
        self._cache = RecordingCache(model, self.decoder, cache_bytes)

    @torch.no_grad()
    def run(self, runs: Sequence[Run], advance: Advance | None = None) -> list[RunResult]:
        self.check(runs)
        results: dict[int, RunResult] = {}
        by_base: dict[str, list[int]] = defaultdict(list)
        for index, run in enumerate(runs):
            by_base[run.base.key].append(index)
        for indices in by_base.values():
            indices.sort(key=lambda index: self._first_layer(runs[index]))
            for start in range(0, len(indices), self._max_rows):
                chunk = indices[start : start + self._max_rows]
                results.update(zip(chunk, self._replay([runs[index] for index in chunk]), strict=True))
                if advance:
                    advance(len(chunk))
        return [results[index] for index in range(len(runs))]

    def activations(self, prompt: EncodedPrompt, sites: Iterable[SiteKey]) -> dict[SiteKey, torch.Tensor]:
        wanted = set(sites)
        kept = self._cache.get(prompt, {kind for _, kind in wanted}).sites
        return {site: kept[site] for site in wanted}

    def _first_layer(self, run: Run) -> int:
        """The first layer that must run again; the number of layers when none must."""
        first = self.shape.layers
        for intervention in run.interventions:
            layers = intervention.layers if isinstance(intervention, AttentionBlock) else (intervention.site.layer,)
            first = min(first, *layers)
        for readout in run.readouts:
            if isinstance(readout, LensScore):
                first = min(first, readout.site.layer)
        return first

    def _replay(self, runs: list[Run]) -> list[RunResult]:
        base = self._cache.get(runs[0].base)
        wanted = donor_sites(runs)
        prompts = {run.donor.key: run.donor for run in runs if run.donor is not None}
        donors = {key: self._cache.get(prompts[key], {kind for _, kind in sites}) for key, sites in wanted.items()}
        edits = edits_by_site(runs, lambda run, site: donors[run.donor.key].sites[site])  # type: ignore[union-attr]
        captured: dict[SiteKey, torch.Tensor] = {}
        with (
            EditHooks(self.decoder, edits, blocks_of(runs)),
            SiteHooks(self.decoder, lens_sites(runs, self.shape.layers), captured.__setitem__),
        ):
            hidden = self._layers(base, [self._first_layer(run) for run in runs])
        logits = self.decoder.logits(hidden[:, -1])
        return results_of(self.decoder, runs, logits, _aligned(captured, len(runs)))

    def _layers(self, base: Recording, first_layers: list[int]) -> torch.Tensor:
        """The last residual `[rows, positions, width]` of rows that join at their ascending `first_layers`."""
        width = base.sites[(0, "residual_before")]
        hidden = width.new_empty(0, *width.shape)
        for layer in range(first_layers[0], self.shape.layers):
            joining = first_layers.count(layer)
            if joining:
                start = base.sites[(layer, "residual_before")].expand(joining, -1, -1)
                hidden = torch.cat([hidden, start])
            output = self.decoder.layers[layer].module(hidden, **base.arguments[layer])
            hidden = output[0] if isinstance(output, tuple) else output
            if layer in base.between:
                hidden = hidden + base.between[layer]
        untouched = first_layers.count(self.shape.layers)
        if untouched:
            end = base.sites[(self.shape.layers - 1, "residual_after")].expand(untouched, -1, -1)
            hidden = torch.cat([hidden, end])
        return hidden


def _aligned(captured: dict[SiteKey, torch.Tensor], rows: int) -> dict[SiteKey, torch.Tensor]:
    """Captured sites with one entry per row: rows that had not joined yet did not ask for that layer, and are filled with NaN."""
    aligned = {}
    for site, value in captured.items():
        missing = rows - value.shape[0]
        filler = value.new_full((missing, *value.shape[1:]), float("nan"))
        aligned[site] = torch.cat([value, filler]) if missing else value
    return aligned
