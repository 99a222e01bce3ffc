"""Attribution patching: what interventions would do to `logit_diff`, estimated from gradients instead of run one by one.

To first order, changing an activation a into a′ changes an answer's logit difference by (a′ − a) · ∂logit_diff/∂a. One forward and
one backward pass give the gradient at every site of every layer, so any number of heads, tokens and layers costs about two
forward passes (Nanda 2023, "Attribution patching"; Syed, Rager & Conmy 2023, arXiv 2310.10348). It is an estimate: where a softmax
or a norm is saturated the gradient is near zero although the effect is not, so what is selected by it has to be run exactly.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from vseam_core.api.interventions import AnswerIds, AnswerScore, AttentionBlock, MeanOfOthers, Patch, PathPatch, Run, Site, SiteEdit
from vseam_core.engine.base import Advance, Engine
from vseam_core.engine.gradients import at_least_float32, line_to_donor, slope_at
from vseam_core.engine.hooks import SiteKey, heads_at
from vseam_core.engine.layout import Layout
from vseam_core.engine.operations import EditOfRow, apply_edits
from vseam_core.engine.paths import Opening, on_host, without_paths
from vseam_core.engine.vision_tower import changes_the_image, stack_of
from vseam_core.errors import UnsupportedError

CHUNK_BYTES = 256 * 2**20


class Estimate(NamedTuple):
    """The logit difference without intervention, and by how much a run's interventions are estimated to change it, in nats."""

    base: float
    change: float


def estimate(engine: Engine, runs: Sequence[Run], integrated_steps: int = 0, advance: Advance | None = None) -> list[Estimate]:
    """The first-order change of each run's `logit_diff` (first answer readout), in order.

    For each run, Σ over its edits, positions and features of (edited − live) · gradient; edits of several sites add up, as they do to
    first order. All operations of `SiteEdit` work at all kinds of site. Runs on one base prompt and answer share one forward and one
    backward pass; donors cost a plain forward pass each.

    With `integrated_steps` m the gradient is the mean over m midpoints of the straight line from the base's decoder input (the
    residual before the first layer) to the donor's: integrated gradients on the inputs (Hanna, Pezzelle & Belinkov 2024, "Have
    faith in faithfulness", arXiv 2403.17806, EAP-IG), m + 1 rows of forward and backward for each base and donor. What a family adds
    to later layers directly (deepstack features) stays the base's along that line.

    `advance(n)` is called as runs are done. Raises `UnsupportedError` for attention blocks, for an answer without a competitor, and,
    with integrated steps, for a run without a donor: there is no second input to draw the line to.
    """
    runs = engine.as_computed(runs)
    donors = [run.donor for run in runs]
    runs = [replace(plain, donor=donor) for plain, donor in zip(without_paths(engine, runs), donors, strict=True)]
    groups: dict[tuple[str, AnswerIds, str], list[int]] = defaultdict(list)
    for index, run in enumerate(runs):
        answer = _checked(run, engine.shape.stack, integrated_steps)
        line_to = run.donor.key if integrated_steps and run.donor is not None else ""
        groups[run.base.key, answer, line_to].append(index)
    found: dict[int, Estimate] = {}
    for (_, answer, _), indices in groups.items():
        found.update(zip(indices, _of_one_base(engine, [runs[index] for index in indices], answer, integrated_steps), strict=True))
        if advance:
            advance(len(indices))
    return [found[index] for index in range(len(runs))]


def _checked(run: Run, stack: str, integrated_steps: int) -> AnswerIds:
    """The answer whose logit difference a run is about, where it can be estimated at all."""
    if any(isinstance(intervention, AttentionBlock) for intervention in run.interventions):
        raise UnsupportedError(
            "attribution cannot estimate attention knockout: a masked edge is no change of an activation; run it exactly"
        )
    if changes_the_image(run):
        raise UnsupportedError("attribution does not follow changes of the vision tower or a Q-Former: run them exactly")
    if any(stack_of(change) not in (stack, "") for change in run.interventions):
        raise UnsupportedError("attribution does not follow changes of a decoder that generates from an encoder: run them exactly")
    score = next((readout for readout in run.readouts if isinstance(readout, AnswerScore)), None)
    if score is None or not score.answer.competitor:
        raise UnsupportedError("attribution needs an answer with a competitor: it estimates the change of their logit difference")
    if integrated_steps and run.donor is None:
        names = " and ".join(sorted({type(edit.operation).__name__ for edit in run.interventions if isinstance(edit, SiteEdit)}))
        raise UnsupportedError(f"integrated steps lead from the base to a donor prompt, and {names or 'this run'} has none: use 0 steps")
    return score.answer


def _of_one_base(engine: Engine, runs: Sequence[Run], answer: AnswerIds, steps: int) -> list[Estimate]:
    by_site: dict[SiteKey, dict[int, list[SiteEdit]]] = defaultdict(lambda: defaultdict(list))
    for index, run in enumerate(runs):
        for edit in _edits(run):
            by_site[_key(edit)][index].append(edit)
    donors = _donor_activations(engine, runs)
    slope = slope_at(engine, runs[0].base, answer, sorted(by_site), line_to_donor(engine, runs[0], steps) if steps else None)
    changes = [0.0] * len(runs)
    for site, edits_of_runs in by_site.items():
        heads = heads_at(engine.decoder, site)
        rows: list[_Row] = []
        for index, edits in edits_of_runs.items():
            donor = runs[index].donor
            _pack(rows, index, edits, donors[donor.key].get(site) if donor else None, (len(runs[0].base), heads))
        for index, change in _changes_at(slope.live[site], slope.gradients[site], rows, heads):
            changes[index] += change
    return [Estimate(slope.base, change) for change in changes]


def _edits(run: Run) -> list[SiteEdit]:
    return [edit for edit in run.interventions if isinstance(edit, SiteEdit)]


def _key(edit: SiteEdit) -> SiteKey:
    return (edit.site.layer, edit.site.kind)


def _donor_activations(engine: Engine, runs: Sequence[Run]) -> dict[str, Mapping[SiteKey, torch.Tensor]]:
    """What the sites that are patched hold in each donor, by the donor's key."""
    prompts = {run.donor.key: run.donor for run in runs if run.donor is not None}
    wanted: dict[str, set[SiteKey]] = {key: set() for key in prompts}
    for run in runs:
        if run.donor is not None:
            wanted[run.donor.key] |= {_key(edit) for edit in _edits(run) if isinstance(edit.operation, Patch)}
    return {key: engine.activations(prompts[key], sites) if sites else {} for key, sites in wanted.items()}


@dataclass(eq=False)
class _Row:
    """Edits of several runs that touch different positions or heads of one site, so that one edited copy serves them all.

    `taken` bool `[positions, heads]` is where they touch it; `regions` say where each run does.
    """

    taken: np.ndarray
    edits: list[EditOfRow]
    regions: list[tuple[int, np.ndarray]]
    shared: bool


def _pack(rows: list[_Row], index: int, edits: Sequence[SiteEdit], donor: torch.Tensor | None, shape: tuple[int, int | None]) -> None:
    """Put a run's edits of a site of `shape` (positions, heads) into the first copy where they meet no other run's.

    A mean of other heads depends on the run's whole set, so such a run has a copy of its own.
    """
    region = _region(edits, *shape)
    alone = any(isinstance(edit.operation, MeanOfOthers) for edit in edits)
    at = next((at for at, row in enumerate(rows) if row.shared and not alone and not (row.taken & region).any()), len(rows))
    if at == len(rows):
        rows.append(_Row(np.zeros_like(region), [], [], not alone))
    row = rows[at]
    row.taken |= region
    row.edits += [EditOfRow(at, edit.operation, edit.positions, edit.site.head, donor) for edit in edits]
    row.regions.append((index, region))


def _region(edits: Sequence[SiteEdit], positions: int, heads: int | None) -> np.ndarray:
    """Where edits touch a site: bool `[positions, heads]` (one column where the site has no heads)."""
    region = np.zeros((positions, heads or 1), dtype=bool)
    for edit in edits:
        if edit.site.head is not None and heads is None:
            raise UnsupportedError("a head index needs a head_output, query, key or value site")
        where = slice(None) if edit.positions is None else list(edit.positions)
        region[where, slice(None) if edit.site.head is None else edit.site.head] = True
    return region


@torch.no_grad()
def _changes_at(live: torch.Tensor, gradient: torch.Tensor, rows: Sequence[_Row], heads: int | None) -> Iterator[tuple[int, float]]:
    """For each run with edits at a site (`[positions, width]`), its index and the estimated change through that site."""
    size = max(1, CHUNK_BYTES // (gradient.numel() * gradient.element_size()))
    for start in range(0, len(rows), size):
        chunk = rows[start : start + size]
        edits = [EditOfRow(edit.row - start, edit.operation, edit.positions, edit.head, edit.donor) for row in chunk for edit in row.edits]
        copies = live.repeat(len(chunk), 1)
        layout = Layout.of_batch([len(live)] * len(chunk), len(live), live.device)
        # `edited` is a copy of our own, so it may become the product in place.
        edited = apply_edits(copies, edits, layout, heads).view(len(chunk), *live.shape)
        product = at_least_float32(edited).sub_(at_least_float32(live)).mul_(gradient)
        contributions = product.reshape(*product.shape[:2], heads or 1, -1).sum(-1).double().cpu().numpy()
        for row, contribution in zip(chunk, contributions, strict=True):
            for index, region in row.regions:
                yield index, float(contribution[region].sum())


def edge_estimates(
    engine: Engine,
    run: Run,
    answer: AnswerIds,
    *,
    senders: Sequence[Site],
    receivers: Sequence[SiteKey],
    positions: tuple[int, ...] | None = None,
    integrated_steps: int = 0,
) -> tuple[float, list[dict[SiteKey, np.ndarray]]]:
    """The estimated change by every direct path, in nats: edge attribution patching, with integrated steps EAP-IG.

    `run` names base and donor; a sender's output is taken from the donor at `positions` (None: all). For each sender, by each receiving
    site that it leads to: Σ over positions and features of (what the site is given by that sender alone − live) · gradient, float64
    `[heads]`, or `[1]` where a site has none. The site's own norm and projection are exact, so that only what lies behind it is
    linearised; the published score also linearises them (Syed, Rager & Conmy 2023, arXiv 2310.10348; Hanna, Pezzelle & Belinkov 2024,
    arXiv 2403.17806). The first value is the base's logit difference. Costs as `estimate` does, and a position-wise pass per sender.
    """
    paths = [_paths_of(sender, receivers, positions) for sender in senders]
    engine.check([replace(run, interventions=(path,)) for path in paths if path is not None])
    line = line_to_donor(engine, run, integrated_steps) if integrated_steps else None
    slope = slope_at(engine, run.base, answer, sorted(set(receivers)), line)
    found: list[dict[SiteKey, np.ndarray]] = [{} for _ in senders]
    for place, path in enumerate(paths):
        if path is None:
            continue
        opening = Opening(
            replace(run, interventions=path.senders, readouts=()),
            frozenset((site.layer, site.kind) for site in path.receivers),
            tuple(range(len(run.base))) if positions is None else positions,
            through_mlps=False,
        )
        (received,) = engine.received([opening])
        rows = list(opening.positions)
        for site, values in received.items():
            change = values - on_host(slope.live[site][rows])
            product = (change * on_host(slope.gradients[site][rows])).sum(axis=0, dtype=np.float64)
            found[place][site] = product.reshape(heads_at(engine.decoder, site) or 1, -1).sum(axis=1)
    return slope.base, found


def _paths_of(sender: Site, receivers: Sequence[SiteKey], positions: tuple[int, ...] | None) -> PathPatch | None:
    """The paths of a sender to all of the receivers that it leads to; None where there are none."""
    edit = SiteEdit(sender, Patch(), positions)
    led = tuple(site for layer, kind in receivers if PathPatch((edit,), (site := Site(layer, kind, None, sender.stack),)).leads)
    return PathPatch((edit,), led) if led else None
