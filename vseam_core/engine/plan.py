"""What of a run must be computed again: from which layer, from which position, and where its first layer can start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vseam_core.api.interfaces import ModelShape
from vseam_core.api.interventions import AttentionBlock, Intervention, LensScore, Run, SiteEdit
from vseam_core.engine.recording import Recording
from vseam_core.engine.vision_tower import stack_of

# Sites after the attention of their layer: nothing before them in that layer changes, and no other position of that layer.
AFTER_ATTENTION = frozenset({"head_output", "attention_output", "mlp_output", "residual_after"})
# A run that starts this early starts at 0 instead: the few positions cost less than a shared prefix saves.
_NEARLY_ALL = 1 / 8


@dataclass(frozen=True, eq=False)
class PlannedRun:
    """One run's way through a replay.

    It joins at `first_layer` (the number of layers when nothing is changed) and recomputes its prompt from `start` on. `entry` are the
    positions that its first layer changes when all edits there come after attention: only these are computed in that layer.
    None when the whole layer must run. `last_positions` are those whose last residual is read.
    """

    index: int
    run: Run
    base: Recording
    first_layer: int
    start: int
    entry: tuple[int, ...] | range | None
    last_positions: tuple[int, ...]

    @property
    def length(self) -> int:
        return len(self.run.base)

    @property
    def suffix(self) -> range:
        """The positions that are computed again."""
        return range(self.start, self.length)

    @property
    def tokens(self) -> int:
        """How many positions the widest layer computes for this run."""
        return max(1, self.length - self.start)


def planned(index: int, run: Run, recording: Recording, shape: ModelShape) -> PlannedRun:
    """The way of one run through the stack of this shape, given the recording of its base prompt.

    What it changes in a decoder that reads this stack's output lies behind all layers.
    """
    layers = shape.layers
    changes = {change: _layers_of(change) for change in run.interventions if stack_of(change) == shape.stack}
    first = min((min(touched) for touched in changes.values() if touched), default=layers)
    last = _last_positions(run, shape)
    if first == layers:
        return PlannedRun(index=index, run=run, base=recording, first_layer=layers, start=len(run.base), entry=None, last_positions=last)
    start = recording.safe_start(min(min(_positions_of(change, run)) for change in changes))
    if start <= _NEARLY_ALL * len(run.base):
        start = 0
    here = [change for change, touched in changes.items() if first in touched]
    entry: tuple[int, ...] | range | None = None
    if all(isinstance(change, SiteEdit) and change.site.kind in AFTER_ATTENTION for change in here):
        changed = [_positions_of(change, run) for change in here]
        whole = next((positions for positions in changed if isinstance(positions, range)), None)
        entry = whole if whole is not None else tuple(sorted({position for positions in changed for position in positions}))
    return PlannedRun(index=index, run=run, base=recording, first_layer=first, start=start, entry=entry, last_positions=last)


def _layers_of(intervention: Intervention) -> tuple[int, ...]:
    return intervention.layers if isinstance(intervention, AttentionBlock) else (_edit(intervention).site.layer,)


def _edit(intervention: Intervention) -> SiteEdit:
    """What is no knockout: paths are plain edits by now."""
    assert isinstance(intervention, SiteEdit)
    return intervention


def _positions_of(intervention: Intervention, run: Run) -> Sequence[int]:
    """Where an intervention changes something: a knockout at its queries."""
    if isinstance(intervention, AttentionBlock):
        return intervention.targets or (len(run.base) - 1,)
    positions = _edit(intervention).positions
    return range(len(run.base)) if positions is None else positions or (len(run.base) - 1,)


def _last_positions(run: Run, shape: ModelShape) -> tuple[int, ...]:
    wanted = {run.base.last}
    for readout in run.readouts:
        if not isinstance(readout, LensScore) or readout.site.stack != shape.stack:
            continue
        # Attributions are read through the scale of the final norm at their own positions.
        if readout.site.layer == shape.layers - 1 or not readout.site.kind.startswith("residual"):
            wanted |= set(readout.positions)
    return tuple(sorted(wanted))
