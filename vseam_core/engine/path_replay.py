"""The first runs of path patching, replayed: a layer is computed only at the changed positions, its attention taken from the recording."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from vseam_core.api.interventions import Patch
from vseam_core.engine.hooks import SiteHooks, SiteKey
from vseam_core.engine.layout import Layout
from vseam_core.engine.operations import EditOfRow
from vseam_core.engine.paths import Opening, on_host
from vseam_core.engine.plan import PlannedRun
from vseam_core.engine.recording import Recording
from vseam_core.engine.replay_batch import ReplayBatch


def planned_opening(index: int, opening: Opening, base: Recording) -> PlannedRun:
    """The way of a first run: it joins where its first sender lies, with the changed positions alone."""
    return PlannedRun(
        index=index,
        run=opening.run,
        base=base,
        first_layer=opening.first_layer,
        start=opening.positions[0],
        entry=opening.positions,
        last_positions=(),
    )


def held_mlps(openings: Sequence[Opening], bases: Sequence[Recording], layers: int) -> dict[SiteKey, list[EditOfRow]]:
    """The edits that hold the MLPs of a batch of first runs at their recordings, but those that send."""
    edits: dict[SiteKey, list[EditOfRow]] = defaultdict(list)
    for row, (opening, base) in enumerate(zip(openings, bases, strict=True)):
        sending = {edit.site.layer for edit in opening.senders if edit.site.kind == "mlp_output"}
        for layer in range(layers) if not opening.through_mlps else ():
            if layer not in sending:
                site: SiteKey = (layer, "mlp_output")
                edits[site].append(EditOfRow(row, Patch(), None, None, base.sites[site]))
    return edits


class OpeningBatch(ReplayBatch):
    """Carries first runs of path patching through the layers. Enter `capturing(…)` before the edits' hooks: what an MLP makes of a
    change is wanted, and then its recording put in its place."""

    wanted: Sequence[Opening] = ()

    def capturing(self, openings: Sequence[Opening]) -> SiteHooks:
        """Hooks that keep what receivers hold."""
        self.wanted = openings
        return SiteHooks(self._decoder, {site for opening in openings for site in opening.sites}, self._keep)

    def received(self) -> list[Mapping[SiteKey, np.ndarray]]:
        """What every opening wanted, in order."""
        self._values: list[dict[SiteKey, np.ndarray]] = [{} for _ in self._plans]
        order = sorted(range(len(self._plans)), key=lambda row: self._plans[row].first_layer)
        active: list[int] = []
        for layer in range(self._plans[order[0]].first_layer, max(opening.last_layer for opening in self.wanted) + 1):
            joining = [row for row in order if self._plans[row].first_layer == layer]
            rows = [row for row in active if self.wanted[row].last_layer >= layer]
            self._drop_done(active, rows)
            layout = Layout([(row, self._entry(row)) for row in [*rows, *joining]], self._device)
            entered = [span for span in layout.spans if span.row in joining]
            hidden = torch.cat([self._hidden, self._recorded_at((layer, "residual_before"), entered)])
            active = [*rows, *joining]
            output = self._call(layer, layout, hidden, active)
            if any(layer in plan.base.between for plan in self._plans):
                output = output + self._gathered(layout.spans, lambda base, at=layer: self._between(base, at))  # type: ignore[misc]
            self._hidden = output
        return list(self._values)

    def _drop_done(self, active: Sequence[int], kept: Sequence[int]) -> None:
        """Leave behind the tokens of runs whose receivers have all been passed."""
        if len(kept) < len(active):
            parts, offset = [], 0
            for row in active:
                length = len(self._entry(row))
                if row in kept:
                    parts.append(self._hidden[offset : offset + length])
                offset += length
            self._hidden = torch.cat(parts) if parts else self._hidden[:0]

    def _keep(self, site: SiteKey, value: torch.Tensor) -> None:
        flat = value.reshape(-1, value.shape[-1])
        for span in self._layout.spans:
            if span.row >= 0 and site in self.wanted[span.row].sites:
                self._values[span.row][site] = on_host(flat[span.offset : span.offset + len(span.positions)])
