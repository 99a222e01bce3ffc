"""Path patching: what receivers are given when only direct paths from some senders carry a change, and the runs that go on from there.

A run with a `PathPatch` is made of two: the first gives what its receivers compute while every attention and MLP between is held
at the base; the second is a plain run of the base with that put in the receivers' place. The first depends on the senders only, so all
runs of the same senders share it (`Opening`). Attention and MLPs work position by position on what reaches them, so a change at some
positions stays at those until a receiver's key or value, or what lies behind it, spreads it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from vseam_core.api.interventions import PathPatch, Replace, Run, RunResult, SiteEdit, SiteKind
from vseam_core.engine.decoder import Decoder
from vseam_core.engine.hooks import SiteKey, heads_at
from vseam_core.errors import UnsupportedError

if TYPE_CHECKING:
    from vseam_core.engine.base import Advance, Engine

SENDERS: tuple[SiteKind, ...] = ("head_output", "attention_output", "mlp_output", "residual_before")
RECEIVERS: tuple[SiteKind, ...] = ("query", "key", "value", "mlp_output", "residual_after")
# What receivers were given is kept on the host until their runs are made: at most about so much at once.
BYTES_AT_ONCE = 2**29

Received = Mapping[SiteKey, np.ndarray]
"""What some sites hold at an opening's positions, `[positions, width]`."""


@dataclass(frozen=True, eq=False)
class Opening:
    """The first run of path patching: `run` is the base with the senders' edits, `sites` are those whose values are wanted.

    `positions` are those at which values are wanted, ascending: anything else stays at the base.
    """

    run: Run
    sites: frozenset[SiteKey]
    positions: tuple[int, ...]
    through_mlps: bool

    @property
    def first_layer(self) -> int:
        """The first layer that a sender changes."""
        return min(edit.site.layer for edit in self.senders)

    @property
    def last_layer(self) -> int:
        """The last layer in which a receiver lies."""
        return max(layer for layer, _ in self.sites)

    @property
    def senders(self) -> tuple[SiteEdit, ...]:
        """The edits that senders are changed by."""
        return tuple(edit for edit in self.run.interventions if isinstance(edit, SiteEdit))


def path_of(run: Run) -> PathPatch | None:
    """The path patch of a run, where it has one."""
    return next((change for change in run.interventions if isinstance(change, PathPatch)), None)


def run_paths(engine: Engine, runs: Sequence[Run], advance: Advance | None) -> list[RunResult]:
    """Runs of which some carry path patches, in order: their first runs are made, and then all as plain runs."""
    results: dict[int, RunResult] = {}
    for chunk in _chunks(engine.decoder, runs):
        plain = without_paths(engine, [runs[index] for index in chunk])
        results.update(zip(chunk, engine.run(plain, advance), strict=True))
    return [results[index] for index in range(len(runs))]


def without_paths(engine: Engine, runs: Sequence[Run]) -> list[Run]:
    """The same runs with plain edits of the receivers in the place of path patches."""
    groups = _openings(engine.decoder, runs)
    openings = list(groups.values())
    found = {id(opening): received for opening, received in zip(openings, engine.received(openings), strict=True)} if openings else {}
    plain = []
    for run in runs:
        path = path_of(run)
        if path is None:
            plain.append(run)
            continue
        opening = groups.get(_key(run, path))
        edits = () if opening is None else _edits(engine.decoder, path, opening, found[id(opening)])
        plain.append(replace(run, interventions=edits, donor=None))
    return plain


def _edits(decoder: Decoder, path: PathPatch, opening: Opening, received: Received) -> tuple[SiteEdit, ...]:
    edits = []
    for site in path.receivers:
        values = received[site.layer, site.kind]
        if site.head is not None:
            size = values.shape[-1] // (heads_at(decoder, (site.layer, site.kind)) or 1)
            values = values[:, site.head * size : (site.head + 1) * size]
        edits.append(SiteEdit(site, Replace(values), opening.positions))
    return tuple(edits)


def _key(run: Run, path: PathPatch) -> tuple[object, ...]:
    return (run.base.key, None if run.donor is None else run.donor.key, path.senders, path.through_mlps, _where(path))


def _where(path: PathPatch) -> str:
    """The positions at which receivers are given what they had in the first run.

    One receiver need only be given it where it changed. Of several, one in turn, the later ones are held everywhere: what the earlier ones
    change must not reach them.
    """
    if all(site.kind == "residual_after" for site in path.receivers):
        return "logits"
    return "changed" if len({(site.layer, site.kind in ("query", "key", "value")) for site in path.receivers}) == 1 else "all"


def _openings(decoder: Decoder, runs: Sequence[Run]) -> dict[tuple[object, ...], Opening]:
    """The distinct first runs; none for senders that cannot change anything that is read."""
    groups: dict[tuple[object, ...], tuple[Run, PathPatch, set[SiteKey]]] = {}
    for run in runs:
        path = path_of(run)
        if path is not None:
            _, _, sites = groups.setdefault(_key(run, path), (run, path, set()))
            sites |= {(site.layer, site.kind) for site in path.receivers}
    openings = {}
    for key, (run, path, sites) in groups.items():
        positions = tuple(position for position in range(len(run.base)) if _changes(path, position))
        if key[-1] == "logits" and not decoder.is_bidirectional:
            # Logits are read at the last position, and nothing moves between positions on the way there.
            positions = positions[-1:] if positions and positions[-1] == run.base.last else ()
        if positions:
            everywhere = tuple(range(len(run.base)))
            changed = replace(run, interventions=path.senders, readouts=(), attention=())
            openings[key] = Opening(changed, frozenset(sites), everywhere if key[-1] == "all" else positions, path.through_mlps)
    return openings


def _changes(path: PathPatch, position: int) -> bool:
    return any(edit.positions is None or position in edit.positions for edit in path.senders)


def _chunks(decoder: Decoder, runs: Sequence[Run]) -> Iterator[list[int]]:
    """The runs in parts whose receivers' values fit into memory together; runs of the same senders stay together."""
    alike: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for index, run in enumerate(runs):
        path = path_of(run)
        alike[() if path is None else _key(run, path)].append(index)
    chunk: list[int] = []
    held = 0
    for indices in alike.values():
        size = sum(_bytes(decoder, opening) for opening in _openings(decoder, [runs[index] for index in indices]).values())
        if chunk and held + size > BYTES_AT_ONCE:
            yield chunk
            chunk, held = [], 0
        chunk += indices
        held += size
    if chunk:
        yield chunk


def _bytes(decoder: Decoder, opening: Opening) -> int:
    parameter = next(decoder.layers[0].module.parameters())
    width = max(decoder.shape.heads * decoder.shape.head_dim, getattr(decoder.unembedding, "in_features", 0))
    return len(opening.positions) * width * max(4, parameter.element_size()) * len(opening.sites)


def on_host(value: torch.Tensor) -> np.ndarray:
    """A tensor as an array of at least float32."""
    wide: np.ndarray = value.detach().to(torch.promote_types(value.dtype, torch.float32)).cpu().numpy()
    return wide


def check_path(run: Run, path: PathPatch, decoder: Decoder) -> None:
    """Refuses paths that this model cannot have, with the reason. Sites, heads and positions are checked as those of plain edits."""
    _check_family(decoder)
    if len(run.interventions) > 1:
        raise UnsupportedError("a path patch is the only intervention of its run: change more senders, or more receivers, in it")
    if not path.senders or not path.receivers:
        raise UnsupportedError("a path patch needs a sender and a receiver")
    for edit in path.senders:
        if edit.site.kind not in SENDERS or (edit.site.kind == "residual_before" and edit.site.layer):
            raise UnsupportedError(f"a {edit.site.kind} is no sender: choose a head, an attention, an MLP or the embeddings")
    for site in path.receivers:
        if site.kind not in RECEIVERS or (site.kind == "residual_after" and site.layer != decoder.shape.layers - 1):
            raise UnsupportedError(f"a {site.kind} is no receiver: choose a head's query, key or value, an MLP or the logits")
    if not path.leads:
        layer = min(site.layer for site in path.receivers)
        raise UnsupportedError(f"no path: a receiver in layer {layer} reads before the senders have written")


def _check_family(decoder: Decoder) -> None:
    for index, layer in enumerate(decoder.layers):
        reason = (
            next(iter(layer.missing.values()), "")
            or ("it is attention or an MLP alone" if layer.is_single else "")
            or ("it carries a state in attention's place" if layer.keeps_state else "")
            or ("it is a cross-attention layer" if layer.is_cross_attention else "")
            or ("it looks at the image beside its own attention" if layer.cross_projection is not None else "")
            or ("it reads the keys of another layer" if layer.keys_from is not None else "")
        )
        if reason:
            raise UnsupportedError(f"path patching needs attention and an MLP in every layer, and layer {index} differs: {reason}")
