"""The slow, obvious engine: every run is one full forward pass of the whole model with plain hooks.

This is what faster engines are compared with. Runs on prompts of equal length share a batch; nothing else is clever here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch

from vseam_core.api.interfaces import VisionLanguageModel
from vseam_core.api.interventions import Run, RunResult
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.engine.attention_weights import WeightHooks
from vseam_core.engine.base import Advance, Engine, batches_of, blocks_of, donor_sites, edits_by_site
from vseam_core.engine.hooks import BlockHooks, EditHooks, SiteHooks, SiteKey
from vseam_core.engine.layout import Layout
from vseam_core.engine.readouts import lens_sites, results_of
from vseam_core.engine.vision_tower import edits_tower, sites_patched


class ReferenceEngine(Engine):
    """Full forward passes, `batch_size` runs at a time."""

    def __init__(self, model: VisionLanguageModel, batch_size: int = 16):
        super().__init__(model)
        self.batch_size = batch_size
        # What sites of the vision tower held in the donors of the runs that are being made.
        self._of_donors: dict[str, dict[SiteKey, torch.Tensor]] = {}

    @torch.no_grad()
    def run(self, runs: Sequence[Run], advance: Advance | None = None) -> list[RunResult]:
        self.check(runs)
        results: dict[int, RunResult] = {}
        for chunk in self._chunks(runs):
            results.update(zip(chunk, self._run_batch([runs[index] for index in chunk]), strict=True))
            if advance:
                advance(len(chunk))
        return [results[index] for index in range(len(runs))]

    def _chunks(self, runs: Sequence[Run]) -> Iterator[list[int]]:
        """The runs in batches; one that changes something in the vision tower stands alone."""
        together = [index for index, run in enumerate(runs) if not edits_tower(run)]
        for chunk in batches_of([runs[index].base for index in together], 1 if self.alone_because else self.batch_size):
            yield [together[place] for place in chunk]
        in_tower = [index for index, run in enumerate(runs) if edits_tower(run)]
        wanted = sites_patched([runs[index] for index in in_tower])
        self._of_donors.clear()
        for index in in_tower:
            self.tower.check_reach(runs[index])
            donor = runs[index].donor
            if donor is not None and donor.key in wanted and donor.key not in self._of_donors:
                self._of_donors[donor.key] = self.tower.held(donor, wanted[donor.key])
            yield [index]
        self._of_donors.clear()

    def _run_batch(self, runs: list[Run]) -> list[RunResult]:
        wanted = donor_sites(runs)
        distinct = {run.donor.key: run.donor for run in runs if run.donor is not None}
        donors = {key: self.activations(donor, wanted[key]) for key, donor in distinct.items() if key in wanted}
        edits = edits_by_site(runs, lambda run, site: donors[run.donor.key][site])  # type: ignore[union-attr]
        captured: dict[SiteKey, torch.Tensor] = {}
        inputs = self.model.collate([run.base for run in runs])
        lengths = [len(run.base) for run in runs]
        layout = Layout.of_batch(lengths, max(lengths), next(self.model.module.parameters()).device)
        # The edits' hooks come first, so that what is captured is what the rest of the model sees.
        with (
            self._editing_tower(runs[0]),
            EditHooks(self.decoder, edits) as hooks,
            BlockHooks(self.decoder, blocks_of(runs)) as blocks,
            WeightHooks(self.decoder, runs) as weights,
            SiteHooks(self.decoder, lens_sites(runs, self.decoder.shape.layers), captured.__setitem__),
        ):
            hooks.layout = blocks.layout = weights.layout = layout
            logits = self.model.module(**inputs, use_cache=False).logits[:, -1]

        def activation(row: int, site: SiteKey, positions: Sequence[int]) -> torch.Tensor:
            selection = layout.select(row, positions)
            assert selection is not None
            return captured[site].reshape(layout.tokens, -1)[selection.tokens]

        found = results_of(self.decoder, runs, logits, activation)
        return [replace(result, attention=weights.of(row, run)) for row, (run, result) in enumerate(zip(runs, found, strict=True))]

    def _editing_tower(self, run: Run) -> AbstractContextManager[object]:
        if not edits_tower(run):
            return nullcontext()
        return self.tower.editing(run, self._of_donors.get(run.donor.key, {}) if run.donor is not None else {})

    def activations(self, prompt: EncodedPrompt, sites: Iterable[SiteKey]) -> dict[SiteKey, torch.Tensor]:
        return self.plain_activations(prompt, sites)
