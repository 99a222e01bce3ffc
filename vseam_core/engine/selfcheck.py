"""The trust record: what was checked about an engine and a model before their numbers are believed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, cast

import numpy as np
import torch

from vseam_core.api.interfaces import VisionLanguageModel
from vseam_core.api.interventions import AnswerIds, AnswerScore, Patch, Run, Scale, Site, SiteEdit, SiteKind, Stack, Zero
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.engine.base import Engine
from vseam_core.engine.budgeted import BudgetedEngine, FullPassEngine
from vseam_core.engine.capabilities import of_structure, with_checks
from vseam_core.engine.decoder import CROSS_KINDS, Decoder
from vseam_core.engine.lanes import ReadLanes
from vseam_core.engine.memory import MemoryBudgetError, is_out_of_memory
from vseam_core.engine.probe import probe
from vseam_core.engine.reference import ReferenceEngine
from vseam_core.engine.replay import ReplayEngine
from vseam_core.engine.states import PackedStates
from vseam_core.errors import SampleError, UnsupportedError, VseamError

_IDENTITY_KINDS: tuple[SiteKind, ...] = (
    "residual_before", "residual_after", "attention_output", "mlp_output", "head_output", *CROSS_KINDS,
)  # fmt: skip
# The largest difference of a logit that is still rounding; coarser for half precision.
_TOLERANCE = {"float32": 1e-3, "float64": 1e-6}
_EAGER_IN_FLOAT64 = 1e-5
_COARSE_TOLERANCE = 0.25
_ROUNDING = 1e-6
_STATE_NOISES = 10
BOUNDED = ("logits_error", "replay_error", "packed_error", "edit_error", "noise_floor", "batch_error", "padded_error")


def checked_engine(model: VisionLanguageModel, memory_budget: int | None = None) -> tuple[Engine, dict[str, Any]]:
    """The engine for a model, with its trust record: replay where it is exact, else full forward passes.

    In the second case the record's `fallback` says why. A model in which no stack of layers is found still answers; its record says
    so, and methods that would change something are refused with the reason. Raises `UnsupportedError` where full forward passes do not
    work either.
    """
    try:
        engine: BudgetedEngine = ReplayEngine(model, memory_budget)
        record, fallback = trust_record(model, engine), ""
    except (MemoryBudgetError, SampleError):
        raise
    except Exception as error:
        # A layer that replay does not know may fail in any way: whatever it is, full passes are there.
        if is_out_of_memory(error):
            raise
        fallback = reason_of(error)
        if not isinstance(error, VseamError):
            fallback = f"its layers cannot be called as replay calls them ({fallback})"
        engine, record = _by_full_passes(model, memory_budget)
        record["fallback"] = fallback
    prompt = probe(model)
    found = with_checks(of_structure(engine.decoder, prompt, engine.tower.stack), fallback, engine.no_lens_because, len(prompt))
    return engine, {**record, "capabilities": [asdict(one) for one in found]}


def _by_full_passes(model: VisionLanguageModel, memory_budget: int | None) -> tuple[FullPassEngine, dict[str, Any]]:
    """Full passes of a model; of one whose parts are not what they seemed, the answers alone."""
    engine = FullPassEngine(model, memory_budget)
    if engine.decoder.unreadable:
        return engine, trust_record(model, engine)
    try:
        return engine, trust_record(model, engine)
    except UnsupportedError as error:
        engine = FullPassEngine(model, memory_budget)
        engine.only_answer(str(error))
        return engine, trust_record(model, engine)


def reason_of(error: Exception) -> str:
    """What went wrong in one line: the message of our own errors, the kind and first line of others."""
    text = next(iter(str(error).splitlines()), "an error without a message")
    return text if isinstance(error, VseamError) else f"{type(error).__name__}: {text[:200]}"


def trust_record(model: VisionLanguageModel, engine: Engine) -> dict[str, Any]:
    """Check the engine on one seeded noise image, and say how far everything was off, in units of logits.

    `logits_error`: final norm and unembedding of the last residual against the model's own logits, over the whole vocabulary.
    `replay_error`: the same after every layer was computed again from the recorded embeddings. `edit_error`: the residual scaled
    by 1.5 after the first and a middle layer, everywhere and late in the prompt, against full forward passes; it shows what a model
    does between its layers. `packed_error`: runs that start at several late positions and change nothing, in one batch as large as
    the largest in use, against the model's own logits; it shows what a model makes of the place in a batch, and the shared prefix.
    `state_noise`: where mixers carry a state, how far they come out otherwise when the library's own cache breaks them off in the prompt
    and goes on; they compute in float32 chunks whatever the format, so up to ten times that is rounding there (`tolerance`).
    `batch_error`: two prompts in one batch against one. `padded_error`: in one batch with a longer prompt, padded (None where the
    family cannot be padded). `noise_floor`: the largest change of `logit_diff` when a site is replaced by its own value, in a batch
    of the shape that sweeps use: effects below three times that are noise. `ablation_effect`: how far zeroing all heads of a
    layer moves it, at most. `generator_error`: where a decoder generates from an encoder, the largest change when a site of it is
    replaced by its own value; where that is more than rounding, or zeroing its heads moves nothing, it cannot be changed. `recomputed`:
    the share of the prompt that an edit of the last ten positions reaches (all of it where words see later ones). Raises
    `UnsupportedError` where engine and model disagree, where ablating heads moves nothing (the wrong module was found), or where the
    model itself cannot be run.
    """
    prompt = probe(model)
    logits = _own_logits(model, prompt)
    record: dict[str, Any] = {
        "engine": type(engine).__name__,
        "attention": model.info.attention,
        "dtype": model.info.dtype,
        "revision": model.info.revision,
        "batch_error": float((plain_logits(model, [prompt, prompt]) - logits).abs().max()),
        "padded_error": _padded_error(model, prompt, logits),
        "state_noise": _state_noise(model, engine.decoder, prompt, logits),
    }
    tolerance = record["tolerance"] = _tolerance(model, record["state_noise"])
    if not record["batch_error"] <= tolerance and isinstance(engine, BudgetedEngine):
        engine.answer_alone(f"two prompts in one batch change each other's logits by {record['batch_error']:.3g}")
    record["alone"] = engine.alone_because
    names = ("logits_error", "replay_error", "packed_error", "edit_error", "noise_floor", "ablation_effect", "recomputed")
    record |= dict.fromkeys((*names, "generator_error"))
    if not engine.decoder.unreadable:
        _refuse_other_positions(engine, prompt)
        record |= _checks_of_runs(model, engine, prompt, logits)
        record["generator_error"] = _generator_error(engine, prompt, logits, tolerance)
        record["noise_floor"] = _largest([record["noise_floor"], record["generator_error"] or 0.0])
        if record["logits_error"] == float("inf"):
            # There is nothing to compare: something between the last residual and the unembedding was not found.
            record["logits_error"] = None
            engine.no_lens_because = "something between the last residual and the unembedding was not found"
        elif not isinstance(engine, ReplayEngine) and not record["logits_error"] <= tolerance:
            # Full passes read the model's own logits: only the lens needs the final norm and the unembedding.
            engine.no_lens_because = f"final norm and unembedding give other logits than the model, by {record['logits_error']:.3g}"
    _refuse_if_wrong(model, engine, record)
    return record


def _refuse_other_positions(engine: Engine, prompt: EncodedPrompt) -> None:
    """Raise `UnsupportedError` where the layers hold another number of positions than the prompt says: edits would stand elsewhere."""
    site = (0, cast(SiteKind, "residual_before"))
    held = len(engine.plain_activations(prompt, [site])[site])
    if held != len(prompt):
        raise UnsupportedError(
            f"{engine.model.info.name}: its {engine.shape.stack} holds {held} positions for a prompt of {len(prompt)}: "
            "where its words stand among them is not known"
        )


def _checks_of_runs(model: VisionLanguageModel, engine: Engine, prompt: EncodedPrompt, logits: torch.Tensor) -> dict[str, Any]:
    """What runs of the engine are off by."""
    top = [int(index) for index in logits.topk(2).indices]
    answer = AnswerIds((top[0],), (top[1],), (top[0],))
    own = float(logits[top[0]] - logits[top[1]])

    def score(*edits: SiteEdit) -> Run:
        return Run(prompt, (AnswerScore(answer),), edits, prompt)

    base = engine.run([score()])[0].answer.logit_diff
    whole = engine.run([score(SiteEdit(_site(engine, 0, "residual_before"), Patch()))])[0].answer.logit_diff
    late = (len(prompt) // 2, len(prompt) - 1)
    changed = [
        score(SiteEdit(_site(engine, layer, "residual_after"), Scale(1.5), positions))
        for layer in (0, engine.shape.layers // 2)
        for positions in (None, late)
    ]
    return {
        "logits_error": _logits_error(engine, prompt, logits, abs(base - own)),
        "replay_error": max(abs(whole - own), abs(base - own)),
        "packed_error": _packed_error(engine, prompt, score, own),
        "edit_error": _edit_error(model, engine, changed),
        "noise_floor": _noise_floor(engine, score, base),
        "ablation_effect": _ablation_effect(engine, score, base),
        "recomputed": engine.recomputed_share(prompt, max(0, len(prompt) - 10)),
    }


def _generator_error(engine: Engine, prompt: EncodedPrompt, logits: torch.Tensor, tolerance: float) -> float | None:
    """None where no decoder generates from an encoder, or where its layers cannot be changed: the engine then knows the reason."""
    generator = engine.decoder.generator
    if generator is None or generator.unreadable or not isinstance(engine, BudgetedEngine):
        return None
    top = [int(index) for index in logits.topk(2).indices]
    readout, layers = AnswerScore(AnswerIds((top[0],), (top[1],), (top[0],))), range(generator.shape.layers)

    def scores(changes: Sequence[Sequence[SiteEdit]]) -> list[float]:
        return [result.answer.logit_diff for result in engine.run([Run(prompt, (readout,), tuple(edits), prompt) for edits in changes])]

    sites = [Site(layer, kind) for layer in layers for kind in _IDENTITY_KINDS if not generator.lacks(layer, kind)]
    heads = [site for site in sites if site.kind in ("head_output", "cross_head_output")]
    try:
        base, *same = scores([(), *([SiteEdit(site, Patch())] for site in sites)])
        zeroed = scores([[SiteEdit(site, Zero())] for site in heads])
    except UnsupportedError as error:
        engine.without_generator(str(error))
        return None
    floor = _largest(value - base for value in same)
    if not floor <= tolerance:
        engine.without_generator(f"sites of its decoder are not what they seem: their own values change a logit by {floor:.3g}")
    elif heads and not _largest(value - base for value in zeroed) > max(10 * _ROUNDING, 10 * floor):
        engine.without_generator("zeroing the heads of its decoder moves no logit: they were not found")
    elif not _error_of_lens(engine, generator, prompt, logits) <= tolerance:
        engine.without_lens_on_generator()
    return floor


@torch.no_grad()
def _error_of_lens(engine: Engine, generator: Decoder, prompt: EncodedPrompt, logits: torch.Tensor) -> float:
    """How far final norm and unembedding of a decoder that generates are off from the model's own logits."""
    site = (generator.shape.layers - 1, cast(SiteKind, "residual_after"))
    last = engine.generator_activations(prompt, [site])[site][-1]
    try:
        return float((generator.logits(last).double() - logits).abs().max())
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        return float("inf")  # what was found has another width


@torch.no_grad()
def plain_logits(model: VisionLanguageModel, prompts: list[EncodedPrompt]) -> torch.Tensor:
    """The model's own logits at the last position, float64 `[batch, vocabulary]`."""
    return cast(torch.Tensor, model.module(**model.collate(prompts), use_cache=False).logits[:, -1].double())


def _own_logits(model: VisionLanguageModel, prompt: EncodedPrompt) -> torch.Tensor:
    """`plain_logits` of one prompt. Raises `UnsupportedError` where the library's own forward pass does not end."""
    try:
        return plain_logits(model, [prompt])[0]
    except Exception as error:
        if is_out_of_memory(error) or isinstance(error, VseamError):
            raise
        raise UnsupportedError(f"{model.info.name}: the library's own forward pass of this model fails: {reason_of(error)}") from error


def _site(engine: Engine, layer: int, kind: SiteKind, head: int | None = None) -> Site:
    return Site(layer, kind, head, cast(Stack, engine.shape.stack))


def _logits_error(engine: Engine, prompt: EncodedPrompt, logits: torch.Tensor, of_answer: float) -> float:
    if engine.decoder.generator is not None:
        # The last residual of an encoder has no logits; the answer was read through the decoder.
        return of_answer
    site = (engine.shape.layers - 1, cast(SiteKind, "residual_after"))
    last = engine.activations(prompt, [site])[site][-1]
    with torch.no_grad():
        narrower = getattr(engine.decoder.unembedding, "in_features", last.shape[-1]) != last.shape[-1]
        if isinstance(engine, FullPassEngine) and narrower and not isinstance(engine.decoder.final_norm, ReadLanes):
            return float("inf")  # something between the last residual and the unembedding was not found
        return _largest([of_answer, float((engine.decoder.logits(last).double() - logits).abs().max())])


def _packed_error(engine: Engine, prompt: EncodedPrompt, score: Callable[..., Run], own: float) -> float:
    if not isinstance(engine, ReplayEngine):
        return 0.0
    length, tokens = len(prompt), 0
    starts = sorted({length * part // 8 for part in range(2, 8)})
    runs: list[Run] = []
    while tokens < engine.most_tokens:
        start = starts[len(runs) % len(starts)]
        runs.append(score(SiteEdit(_site(engine, 0, "residual_before"), Patch(), (start,))))
        tokens += engine.counted(length - start)
    return _largest(result.answer.logit_diff - own for result in engine.run(runs))


def _edit_error(model: VisionLanguageModel, engine: Engine, runs: Sequence[Run]) -> float:
    if not isinstance(engine, ReplayEngine):
        return 0.0
    reference = ReferenceEngine(model)
    reference.alone_because = engine.alone_because  # what shares a batch changes such a model, in full passes too
    found, expected = engine.run(runs), reference.run(runs)
    return _largest(one.answer.logit_diff - other.answer.logit_diff for one, other in zip(found, expected, strict=True))


def _largest(values: Iterable[float]) -> float:
    """The largest magnitude; NaN where any value is NaN, which Python's own `max` would hide."""
    return float(np.abs(list(values)).max())


@torch.no_grad()
def _state_noise(model: VisionLanguageModel, decoder: Decoder, prompt: EncodedPrompt, logits: torch.Tensor) -> float | None:
    """None where nothing carries a state, or what does cannot go on from one."""
    try:
        states = PackedStates(decoder)
        if not any(layer.keeps_state for layer in decoder.layers):
            return None
        found = []
        for position in (1, len(prompt) // 2, len(prompt) - 1):
            with states.broken_at(position):
                found.append(float((plain_logits(model, [prompt])[0] - logits).abs().max()))
    except UnsupportedError:
        return None
    return _largest(found)


def _tolerance(model: VisionLanguageModel, state_noise: float | None) -> float:
    """What counts as rounding in this model; never more than in float32, so that a wrong state is not taken for noise."""
    usual = tolerance_of(model.info.dtype, model.info.attention)
    return usual if state_noise is None else max(usual, min(_STATE_NOISES * state_noise, _TOLERANCE["float32"]))


def _padded_error(model: VisionLanguageModel, prompt: EncodedPrompt, logits: torch.Tensor) -> float | None:
    try:
        longer = probe(model, "Is the dog red? Is the dog red?")
        together = plain_logits(model, [prompt, longer])
    except (SampleError, UnsupportedError, ValueError):
        return None
    return float((together[0] - logits).abs().max())


def _noise_floor(engine: Engine, score: Callable[..., Run], base: float) -> float:
    layers = range(engine.shape.layers)
    sites = [_site(engine, layer, kind) for layer in layers for kind in _IDENTITY_KINDS if not engine.decoder.lacks(layer, kind)]
    return _largest(result.answer.logit_diff - base for result in engine.run([score(SiteEdit(site, Patch())) for site in sites]))


def _ablation_effect(engine: Engine, score: Callable[..., Run], base: float) -> float | None:
    """None where no layer has heads."""
    runs = []
    for layer, part in enumerate(engine.decoder.layers):
        if part.heads:
            runs.append(score(*(SiteEdit(_site(engine, layer, "head_output", head), Zero()) for head in range(part.heads))))
    return _largest(result.answer.logit_diff - base for result in engine.run(runs)) if runs else None


def tolerance_of(dtype: str, attention: str = "") -> float:
    """The largest difference of a logit that counts as rounding in this number format.

    The library's eager attention takes its softmax in float32 whatever the format: a float64 model then is no better than 1e-5.
    """
    dtype = dtype.removeprefix("torch.")
    if dtype == "float64" and attention == "eager":
        return _EAGER_IN_FLOAT64
    return _TOLERANCE.get(dtype, _COARSE_TOLERANCE)


def least_effect(record: Mapping[str, Any]) -> float:
    """What zeroing heads must move the answer by, at least, to be more than rounding."""
    measured = [record["noise_floor"], record["logits_error"] if record["engine"] == ReplayEngine.__name__ else None]
    if not record.get("alone"):
        measured.append(record["batch_error"])
    return 10 * max([_ROUNDING, *(value for value in measured if value is not None)])


def _refuse_if_wrong(model: VisionLanguageModel, engine: Engine, record: dict[str, Any]) -> None:
    tolerance = record["tolerance"]
    for name in BOUNDED:
        if (name == "batch_error" and engine.alone_because) or (name == "logits_error" and not isinstance(engine, ReplayEngine)):
            continue
        # Written as "not (… <= …)" so that NaN is refused too.
        if record[name] is not None and not record[name] <= tolerance:
            raise UnsupportedError(
                f"{model.info.name}: the engine's logits differ from the model's own by {record[name]:.3g} ({name}, allowed: {tolerance})"
            )
    # Rounding alone moves logits too, by more in some batches than in others.
    if record["ablation_effect"] is not None and not record["ablation_effect"] > least_effect(record):
        raise UnsupportedError(f"{model.info.name}: zeroing every head of a layer moves no logit: the heads were not found")
