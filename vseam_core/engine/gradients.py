"""The slope of an answer's logit difference around a prompt: its gradient at every site, by one forward and one backward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from vseam_core.api.interventions import AnswerIds, Run
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.config.bytes import readable_bytes
from vseam_core.engine.base import Engine
from vseam_core.engine.hooks import SiteHooks, SiteKey
from vseam_core.engine.memory import MemoryBudgetError
from vseam_core.errors import UnsupportedError

ROWS_PER_PASS = 4
"""Points of the integrated line in one backward pass: each keeps the whole decoder's activations in memory."""
HALF_SCALE = 2.0**10
"""Float16 has no gradients below 6e-8: they are computed this many times too large, which is exact, and divided in float32."""


def line_to_donor(engine: Engine, run: Run, steps: int) -> tuple[torch.Tensor, list[float]]:
    """The donor's decoder input minus the base's, `[positions, width]`, and the midpoints of `steps` equal parts of the way."""
    assert run.donor is not None
    if len(run.donor) != len(run.base):
        raise UnsupportedError(f"donor and base differ in length ({len(run.donor)} and {len(run.base)} positions)")
    start: SiteKey = (0, "residual_before")
    base, donor = (engine.activations(prompt, [start])[start] for prompt in (run.base, run.donor))
    return donor - base, [(step + 0.5) / steps for step in range(steps)]


@dataclass(frozen=True, eq=False)
class Slope:
    """The base run and the slope around it: `live` and `gradients` are `[positions, width]` by site."""

    base: float
    live: dict[SiteKey, torch.Tensor]
    gradients: dict[SiteKey, torch.Tensor]


def slope_at(
    engine: Engine, base: EncodedPrompt, answer: AnswerIds, sites: Sequence[SiteKey], line: tuple[torch.Tensor, list[float]] | None
) -> Slope:
    """Live values and gradients of the logit difference at the base; along `line`, the mean gradient of its points."""
    if line is None:
        difference, live, gradients = _backward(engine, base, answer=answer, sites=sites, direction=None, along=[0.0], weights=[1.0])
        return Slope(float(difference[0]), live, gradients)
    direction, points = line
    # The base itself is the first row: it gives the live values and has no weight in the mean.
    rows = [(0.0, 0.0), *((point, 1 / len(points)) for point in points)]
    try:
        return _along(engine, base, answer=answer, sites=sites, direction=direction, rows=rows, together=ROWS_PER_PASS)
    except MemoryBudgetError:
        return _along(engine, base, answer=answer, sites=sites, direction=direction, rows=rows, together=1)


def _along(
    engine: Engine,
    base: EncodedPrompt,
    answer: AnswerIds,
    sites: Sequence[SiteKey],
    direction: torch.Tensor,
    rows: Sequence[tuple[float, float]],
    together: int,
) -> Slope:
    """The weighted sum of the gradients at the points of a line, given as (point, weight), so many `together` in one pass."""
    slope: Slope | None = None
    for start in range(0, len(rows), together):
        along, weights = zip(*rows[start : start + together], strict=True)
        difference, live, gradients = _backward(engine, base, answer=answer, sites=sites, direction=direction, along=along, weights=weights)
        if slope is None:
            slope = Slope(float(difference[0]), live, gradients)
        else:
            for site, gradient in gradients.items():
                slope.gradients[site] += gradient
    assert slope is not None
    return slope


def _backward(
    engine: Engine,
    base: EncodedPrompt,
    answer: AnswerIds,
    sites: Sequence[SiteKey],
    direction: torch.Tensor | None,
    along: Sequence[float],
    weights: Sequence[float],
) -> tuple[torch.Tensor, dict[SiteKey, torch.Tensor], dict[SiteKey, torch.Tensor]]:
    """One forward and backward pass with a row per point of the line: differences `[rows]`, live values of the first row, and
    the weighted sum over rows of the gradients."""
    live: dict[SiteKey, torch.Tensor] = {}
    taps: dict[SiteKey, torch.Tensor] = {}
    start: SiteKey = (0, "residual_before")

    def move(_: SiteKey, value: torch.Tensor) -> torch.Tensor | None:
        return None if direction is None else value + torch.tensor(along).to(value)[:, None, None] * direction.to(value)

    def tap(site: SiteKey, value: torch.Tensor) -> torch.Tensor:
        # A zero that is added is a leaf whose gradient is the site's, even where the model goes on to change the sum in place.
        # Some families hand over `[rows × positions, width]`.
        rows = value.detach().reshape(len(along), -1, value.shape[-1])
        live[site], taps[site] = rows[0].clone(), torch.zeros_like(rows, requires_grad=True)
        return value + taps[site].view(value.shape)

    module = engine.model.module
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(_without_parameter_gradients(module))
        if engine.budget_for_batches is not None:
            stack.enter_context(_SavedWithin(engine.budget_for_batches, module, len(base)))
        if direction is None:
            # The pass is a plain one but for its gradients: what is run exactly afterwards can start from it.
            stack.enter_context(engine.watching(base))
        stack.enter_context(SiteHooks(engine.decoder, [start], move))
        stack.enter_context(SiteHooks(engine.decoder, sites, tap))
        logits = module(**engine.model.collate([base] * len(along)), use_cache=False).logits[:, -1]
        scale = HALF_SCALE if logits.dtype == torch.float16 else 1.0
        gold, *rivals = (logits.double()[:, list(tokens)].logsumexp(-1) for tokens in (answer.gold, *answer.competitors))
        difference = gold - torch.stack(rivals).amax(0)
        objective = scale * (difference * torch.tensor(weights).to(difference)).sum()
        leaves = [taps[site] for site in sites]
        found = torch.autograd.grad(objective, leaves, allow_unused=True) if leaves else ()
    # A site that the answer cannot see (no path to the last position) has no gradient and no effect.
    gradients = {
        site: torch.zeros_like(live[site]) if gradient is None else at_least_float32(gradient.detach()).sum(0) / scale
        for site, gradient in zip(sites, found, strict=True)
    }
    return difference.detach(), live, {site: at_least_float32(gradient) for site, gradient in gradients.items()}


def at_least_float32(value: torch.Tensor) -> torch.Tensor:
    """At least float32: products of activations and gradients are summed over many features."""
    return value.to(torch.promote_types(value.dtype, torch.float32))


class _SavedWithin(torch.autograd.graph.saved_tensors_hooks):
    """Counts what a forward pass keeps for its backward pass, and stops with `MemoryBudgetError` as soon as that exceeds a budget.

    Parameters are no part of it: the model holds them anyway.
    """

    def __init__(self, budget: int, module: nn.Module, positions: int):
        held = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
        total = 0

        def keep(value: torch.Tensor) -> torch.Tensor:
            nonlocal total
            storage = value.untyped_storage()
            if storage.data_ptr() not in held:
                held.add(storage.data_ptr())
                total += storage.nbytes()
            if total > budget:
                raise MemoryBudgetError(
                    f"the backward pass of a screening over {positions} positions keeps more than the {readable_bytes(budget)} that the "
                    "memory budget leaves for it: raise --memory-budget, or scan with --method exact"
                )
            # Detached: the same storage, without a cycle through the graph.
            return value.detach()

        super().__init__(keep, lambda value: value)


@contextmanager
def _without_parameter_gradients(module: nn.Module) -> Iterator[None]:
    """Parameters ask for no gradients inside, and again what they asked for outside."""
    asking = [parameter for parameter in module.parameters() if parameter.requires_grad]
    try:
        for parameter in asking:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)
