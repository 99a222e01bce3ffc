"""The slow, obvious engine: every run is one full forward pass of the whole model with plain hooks.

This is what faster engines are compared with. Runs on prompts of equal length share a batch; nothing else is clever here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch

from vseam_core.api.interfaces import VisionLanguageModel
from vseam_core.api.interventions import Run, RunResult, SiteKind
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.engine.attention_weights import WeightHooks
from vseam_core.engine.base import Advance, Engine, batches_of, blocks_of, donor_sites, edits_by_site
from vseam_core.engine.hooks import BlockHooks, EditHooks, SiteHooks, SiteKey, heads_at
from vseam_core.engine.layout import Layout
from vseam_core.engine.operations import apply_edits
from vseam_core.engine.paths import Opening, Received, on_host, path_of, run_paths
from vseam_core.engine.readouts import GeneratorLens, lens_sites, results_of
from vseam_core.engine.vision_tower import Held, changes_the_image


class ReferenceEngine(Engine):
    """Full forward passes, `batch_size` runs at a time."""

    def __init__(self, model: VisionLanguageModel, batch_size: int = 16):
        super().__init__(model)
        self.batch_size = batch_size
        # What sites of the vision tower held in the donors of the runs that are being made.
        self._of_donors: dict[str, Mapping[str, Held]] = {}

    @torch.no_grad()
    def run(self, runs: Sequence[Run], advance: Advance | None = None) -> list[RunResult]:
        runs = self.as_computed(runs)
        if any(map(path_of, runs)):
            return run_paths(self, runs, advance)
        results: dict[int, RunResult] = {}
        for chunk in self._chunks(runs):
            results.update(zip(chunk, self._run_batch([runs[index] for index in chunk]), strict=True))
            if advance:
                advance(len(chunk))
        return [results[index] for index in range(len(runs))]

    def _chunks(self, runs: Sequence[Run]) -> Iterator[list[int]]:
        """The runs in batches; one that changes something in the vision tower stands alone."""
        together = [index for index, run in enumerate(runs) if not changes_the_image(run)]
        for chunk in batches_of([runs[index].base for index in together], 1 if self.alone_because else self.batch_size):
            yield [together[place] for place in chunk]
        alone = [index for index, run in enumerate(runs) if changes_the_image(run)]
        self._of_donors.clear()
        for index in alone:
            self.image_stacks.check_reach(runs[index])
            donor = _donor_key(runs[index])
            if donor not in self._of_donors:
                self._of_donors[donor] = self.image_stacks.held([runs[other] for other in alone], runs[index].donor)
            yield [index]
        self._of_donors.clear()

    def _run_batch(self, runs: list[Run]) -> list[RunResult]:
        stack = self.decoder.shape.stack
        wanted = donor_sites(runs, stack)
        distinct = {run.donor.key: run.donor for run in runs if run.donor is not None}
        donors = {key: self.activations(donor, wanted[key]) for key, donor in distinct.items() if key in wanted}
        edits = edits_by_site(runs, stack, lambda run, site: donors[run.donor.key][site])  # type: ignore[union-attr]
        captured: dict[SiteKey, torch.Tensor] = {}
        inputs = self.model.collate([run.base for run in runs])
        lengths = [len(run.base) for run in runs]
        layout = Layout.of_batch(lengths, max(lengths), next(self.model.module.parameters()).device)
        # The edits' hooks come first, so that what is captured is what the rest of the model sees.
        with (
            self._editing_the_image(runs[0]),
            self.editing_the_generator(runs),
            EditHooks(self.decoder, edits) as hooks,
            BlockHooks(self.decoder, blocks_of(runs)) as blocks,
            WeightHooks(self.decoder, runs) as weights,
            SiteHooks(self.decoder, lens_sites(runs, self.decoder.shape), captured.__setitem__),
            GeneratorLens(self.decoder, runs) as generated,
        ):
            hooks.layout = blocks.layout = weights.layout = layout
            logits = self.model.module(**inputs, use_cache=False).logits[:, -1]

        def activation(row: int, site: SiteKey, positions: Sequence[int]) -> torch.Tensor:
            selection = layout.select(row, positions)
            assert selection is not None
            return captured[site].reshape(layout.tokens, -1)[selection.tokens]

        found = results_of(self.decoder, runs, logits, activation, generated)
        return [replace(result, attention=weights.of(row, run)) for row, (run, result) in enumerate(zip(runs, found, strict=True))]

    def _editing_the_image(self, run: Run) -> AbstractContextManager[object]:
        return self.image_stacks.editing(run, self._of_donors[_donor_key(run)]) if changes_the_image(run) else nullcontext()

    @torch.no_grad()
    def received(self, openings: Sequence[Opening]) -> list[Received]:
        return [self._received(opening) for opening in openings]

    def _received(self, opening: Opening) -> Received:
        """One full forward pass in which attention and MLPs output what they do in the base, wherever nothing else is said."""
        run, layers = opening.run, range(self.decoder.shape.layers)
        held_kinds: tuple[SiteKind, ...] = ("head_output",) if opening.through_mlps else ("head_output", "mlp_output")
        held = self.activations(run.base, [(layer, kind) for layer in layers for kind in held_kinds])
        stack = self.decoder.shape.stack
        given = self.activations(run.donor, donor_sites([run], stack).get(run.donor.key, ())) if run.donor is not None else {}
        edits = edits_by_site([run], stack, lambda _, site: given[site])
        layout, found = Layout([(0, range(len(run.base)))], next(self.model.module.parameters()).device), {}

        def visit(site: SiteKey, value: torch.Tensor) -> torch.Tensor:
            flat = value.reshape(-1, value.shape[-1])
            if site in opening.sites:
                found[site] = on_host(flat[list(opening.positions)])
            flat = held.get(site, flat)
            return apply_edits(flat, edits.get(site, ()), layout, heads_at(self.decoder, site)).reshape(value.shape)

        with SiteHooks(self.decoder, {*held, *edits, *opening.sites}, visit):
            self.model.module(**self.model.collate([run.base]), use_cache=False)
        return found

    def activations(self, prompt: EncodedPrompt, sites: Iterable[SiteKey]) -> dict[SiteKey, torch.Tensor]:
        return self.plain_activations(prompt, sites)


def _donor_key(run: Run) -> str:
    return run.donor.key if run.donor is not None else ""
