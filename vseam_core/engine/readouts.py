"""From logits and residuals to answer values: the answer at the last position, the logit lens, direct logit attribution."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vseam_core.api.interfaces import ModelShape
from vseam_core.api.interventions import AnswerIds, AnswerScore, AnswerValues, LensScore, Run, RunResult
from vseam_core.api.stored_weights import stored_weight
from vseam_core.engine.decoder import Decoder
from vseam_core.engine.direct_attribution import scaled_by_final_norm, through_projection
from vseam_core.engine.hooks import SiteHooks, SiteKey
from vseam_core.errors import UnsupportedError

_NOT_DEFINED = float("nan")
Activation = Callable[[int, SiteKey, Sequence[int]], Float[Tensor, "positions width"]]


def answer_values(logits: Float[Tensor, "rows vocabulary"], answers: Sequence[AnswerIds]) -> list[AnswerValues]:
    """What each answer scores in its row of `logits`, computed in float64."""
    logits = logits.detach().double()
    log_probabilities = torch.log_softmax(logits, -1).cpu().numpy()
    tops = logits.argmax(-1).tolist()
    raw = logits.cpu().numpy()
    values = []
    for row, answer in enumerate(answers):
        gold = _log_sum_exp(log_probabilities[row], answer.gold)
        rivals = [_log_sum_exp(log_probabilities[row], tokens) for tokens in answer.competitors]
        difference = gold - max(rivals) if rivals else _NOT_DEFINED
        probabilities = [math.exp(float(log_probabilities[row, token])) for token in answer.published]
        others = sum(math.exp(float(log_probabilities[row, token])) for token in answer.variants)
        mean_logit = sum(float(raw[row, token]) for token in answer.published) / len(answer.published)
        values.append(
            AnswerValues(
                logit_diff=difference,
                logprob=gold,
                published_prob=probabilities[0] + others,
                prob_sum=sum(probabilities) + others,
                logit=_log_sum_exp(raw[row], (*answer.published, *answer.variants)) if answer.variants else mean_logit,
                top=tops[row],
            )
        )
    return values


def _log_sum_exp(row: np.ndarray, tokens: Sequence[int]) -> float:
    return float(np.logaddexp.reduce([row[token] for token in tokens]))


def lens_sites(runs: Sequence[Run], shape: ModelShape) -> set[SiteKey]:
    """The sites of a stack that the lens readouts of a batch need, with the last residual, whose scale attributions are read through."""
    sites: set[SiteKey] = set()
    for run in runs:
        for readout in run.readouts:
            if isinstance(readout, LensScore) and readout.site.stack == shape.stack:
                sites |= {(readout.site.layer, readout.site.kind), (shape.layers - 1, "residual_after")}
    return sites


class GeneratorLens:
    """Holds what the lens readouts of a batch need of a decoder that generates from an encoder, while it runs."""

    def __init__(self, decoder: Decoder, runs: Sequence[Run]):
        self._held: dict[SiteKey, Float[Tensor, "runs rows width"]] = {}
        sites = set() if decoder.generator is None else lens_sites(runs, decoder.generator.shape)
        self._hooks = None if decoder.generator is None else SiteHooks(decoder.generator, sites, self._held.__setitem__)

    def __enter__(self) -> GeneratorLens:
        if self._hooks is not None:
            self._hooks.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._hooks is not None:
            self._hooks.__exit__(*exception)

    def activation(self, row: int, site: SiteKey, positions: Sequence[int]) -> Float[Tensor, "positions width"]:
        """What a site holds in a run. Raises `UnsupportedError` for rows that it does not have."""
        held = self._held[site][row]
        outside = [position for position in positions if not -len(held) <= position < len(held)]
        if outside:
            raise UnsupportedError(f"row {outside[0]} lies outside the {len(held)} rows of the decoder that generates")
        return held[list(positions)]


def results_of(
    decoder: Decoder, runs: Sequence[Run], logits: Float[Tensor, "runs vocabulary"], activation: Activation, generated: GeneratorLens
) -> list[RunResult]:
    """The readouts of a batch: `logits` of the last position; `activation(row, site, positions)` is what a
    site of a run holds, `generated` what those of a decoder that generates do."""
    wanted = [(row, readout.answer) for row, run in enumerate(runs) for readout in run.readouts if isinstance(readout, AnswerScore)]
    rows = torch.tensor([row for row, _ in wanted], dtype=torch.long, device=logits.device)
    scores = iter(answer_values(logits[rows], [answer for _, answer in wanted]))
    results = []
    for row, run in enumerate(runs):
        readouts: list[tuple[AnswerValues, ...]] = []
        for readout in run.readouts:
            if isinstance(readout, AnswerScore):
                readouts.append((next(scores),))
            else:
                if decoder.generator is not None:
                    value = generated.activation(row, (readout.site.layer, readout.site.kind), readout.positions or (-1,))
                    readouts.append(tuple(answer_values(decoder.generator.logits(value), [readout.answer] * len(value))))
                    continue
                held = partial(activation, row)
                readouts.append(tuple(_lens_values(decoder, readout, run, held, logits[row])))
        results.append(RunResult(tuple(readouts)))
    return results


def _lens_values(
    decoder: Decoder,
    readout: LensScore,
    run: Run,
    held: Callable[[SiteKey, Sequence[int]], Float[Tensor, "positions width"]],
    logits: Float[Tensor, " vocabulary"],
) -> list[AnswerValues]:
    site = readout.site
    positions = list(readout.positions or (run.base.last,))
    value = held((site.layer, site.kind), positions)
    if site.kind in ("residual_before", "residual_after"):
        return answer_values(decoder.logits(value), [readout.answer] * len(positions))
    if site.kind == "head_output":
        value = through_projection(decoder, site.layer, site.head, value)
    final = held((decoder.shape.layers - 1, "residual_after"), positions)
    contribution = scaled_by_final_norm(decoder.final_norm, value, final)
    return [_attributed(decoder, readout.answer, row, logits) for row in contribution]


def check_lens(decoder: Decoder, readout: LensScore) -> None:
    """Refuses lens readouts that would not mean what they say in this family, with the reason; whether an output is written to the
    residual as it is, `direct_attribution` measures."""
    if decoder.generator is not None:
        if readout.site.stack != decoder.generator.shape.stack:
            raise UnsupportedError("the logit lens reads the last norm and the unembedding of a decoder; these layers are an encoder's")
        if decoder.generator.unembedding is None:
            raise UnsupportedError("final norm and unembedding of the decoder that generates give other logits than the model")
        if readout.site.kind not in ("residual_before", "residual_after"):
            raise UnsupportedError(f"a {readout.site.kind} of the decoder that generates has no logit attribution: its residual is read")
    if readout.site.kind in ("query", "key", "value"):
        raise UnsupportedError(f"a {readout.site.kind} is not added to the residual: it has no logit attribution")


def _attributed(
    decoder: Decoder, answer: AnswerIds, contribution: Float[Tensor, " width"], logits: Float[Tensor, " vocabulary"]
) -> AnswerValues:
    """Direct logit attribution of one component: its share of `logit_diff` and of the mean published logit.

    Variants of an answer are weighted by their softmax in the run's own logits (the gradient of logsumexp); of several competitors it is
    the one that is strongest there. Probabilities have no additive share, hence NaN.
    """
    unembedding = stored_weight(decoder.unembedding).to(contribution.device)

    def share(tokens: Sequence[int]) -> float:
        index = torch.tensor(tokens, device=logits.device)
        weights = torch.softmax(logits[index].double(), -1)
        return float((unembedding[index].double() @ contribution.double() * weights).sum()) * decoder.logit_scale

    strongest = max(answer.competitors, key=lambda tokens: float(logits[list(tokens)].double().logsumexp(-1)), default=())
    difference = share(answer.gold) - share(strongest) if strongest else _NOT_DEFINED
    if answer.variants:
        return AnswerValues(
            logit_diff=difference,
            logprob=_NOT_DEFINED,
            published_prob=_NOT_DEFINED,
            prob_sum=_NOT_DEFINED,
            logit=share((*answer.published, *answer.variants)),
            top=-1,
        )
    mean_logit = float((unembedding[list(answer.published)].double() @ contribution.double()).mean()) * decoder.logit_scale
    return AnswerValues(
        logit_diff=difference, logprob=_NOT_DEFINED, published_prob=_NOT_DEFINED, prob_sum=_NOT_DEFINED, logit=mean_logit, top=-1
    )
