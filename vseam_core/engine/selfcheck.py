"""The trust record: what was checked about an engine and a model before their numbers are believed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from PIL import Image

from vseam_core.api.interfaces import VisionLanguageModel
from vseam_core.api.interventions import AnswerIds, AnswerScore, Patch, Run, Scale, Site, SiteEdit, SiteKind, Stack, Zero
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.engine.base import Engine
from vseam_core.engine.budgeted import FullPassEngine
from vseam_core.engine.reference import ReferenceEngine
from vseam_core.engine.replay import ReplayEngine
from vseam_core.errors import SampleError, UnsupportedError

_IDENTITY_KINDS: tuple[SiteKind, ...] = ("residual_before", "residual_after", "attention_output", "mlp_output", "head_output")
# The largest difference of a logit that is still rounding; coarser for half precision.
_TOLERANCE = {"float32": 1e-3, "float64": 1e-6}
_COARSE_TOLERANCE = 0.25
_ROUNDING = 1e-6
BOUNDED = ("logits_error", "replay_error", "edit_error", "noise_floor", "batch_error", "padded_error")


def checked_engine(model: VisionLanguageModel, memory_budget: int | None = None) -> tuple[Engine, dict[str, Any]]:
    """The engine for a model, with its trust record: replay where it is exact, else full forward passes.

    In the second case the record's `fallback` says why. Raises `UnsupportedError` where full forward passes do not work either.
    """
    try:
        engine: Engine = ReplayEngine(model, memory_budget)
        return engine, trust_record(model, engine)
    except UnsupportedError as error:
        engine = FullPassEngine(model, memory_budget)
        return engine, {**trust_record(model, engine), "fallback": str(error)}


def trust_record(model: VisionLanguageModel, engine: Engine) -> dict[str, Any]:
    """Check the engine on one seeded noise image, and say how far everything was off, in units of logits.

    `logits_error`: final norm and unembedding of the last residual against the model's own logits, over the whole vocabulary.
    `replay_error`: the same after every layer was computed again from the recorded embeddings. `edit_error`: the residual scaled
    by 1.5 after the first and a middle layer, against full forward passes; it shows what a model does between its layers.
    `batch_error`: two prompts in one batch against one. `padded_error`: in one batch with a longer prompt, padded (None where the
    family cannot be padded). `noise_floor`: the largest change of `logit_diff` when a site is replaced by its own value, in a batch
    of the shape that sweeps use: effects below three times that are noise. `ablation_effect`: how far zeroing all heads of a
    layer moves it, at most. `recomputed`: the share of the prompt that an edit of the last ten positions reaches (all of it where
    words see later ones). Raises `UnsupportedError` where engine and model disagree, or where ablating heads moves nothing (the
    wrong module was found).
    """
    prompt = probe(model)
    logits = plain_logits(model, [prompt])[0]
    top = [int(index) for index in logits.topk(2).indices]
    answer = AnswerIds((top[0],), (top[1],), (top[0],))
    own = float(logits[top[0]] - logits[top[1]])

    def score(*edits: SiteEdit) -> Run:
        return Run(prompt, (AnswerScore(answer),), edits, prompt)

    base = engine.run([score()])[0].answer.logit_diff
    whole = engine.run([score(SiteEdit(_site(engine, 0, "residual_before"), Patch()))])[0].answer.logit_diff
    changed = [score(SiteEdit(_site(engine, layer, "residual_after"), Scale(1.5))) for layer in (0, engine.shape.layers // 2)]
    record: dict[str, Any] = {
        "engine": type(engine).__name__,
        "attention": model.info.attention,
        "dtype": model.info.dtype,
        "revision": model.info.revision,
        "logits_error": _logits_error(engine, prompt, logits, abs(base - own)),
        "replay_error": abs(whole - own),
        "edit_error": _edit_error(model, engine, changed),
        "batch_error": float((plain_logits(model, [prompt, prompt]) - logits).abs().max()),
        "padded_error": _padded_error(model, prompt, logits),
        "noise_floor": _noise_floor(engine, score, base),
        "ablation_effect": _ablation_effect(engine, score, base),
        "recomputed": engine.recomputed_share(prompt, max(0, len(prompt) - 10)),
    }
    _refuse_if_wrong(model, record)
    return record


def probe(model: VisionLanguageModel, question: str = "Is the dog red?") -> EncodedPrompt:
    """A prompt with a picture of noise, always the same."""
    generator = np.random.default_rng(0)
    picture = Image.fromarray(generator.integers(0, 256, (120, 120, 3), dtype=np.uint8))
    return model.encode(picture, question)


@torch.no_grad()
def plain_logits(model: VisionLanguageModel, prompts: list[EncodedPrompt]) -> torch.Tensor:
    """The model's own logits at the last position, float64 `[batch, vocabulary]`."""
    return cast(torch.Tensor, model.module(**model.collate(prompts), use_cache=False).logits[:, -1].double())


def _site(engine: Engine, layer: int, kind: SiteKind, head: int | None = None) -> Site:
    return Site(layer, kind, head, cast(Stack, engine.shape.stack))


def _logits_error(engine: Engine, prompt: EncodedPrompt, logits: torch.Tensor, of_answer: float) -> float:
    if engine.decoder.generator is not None:
        # The last residual of an encoder has no logits; the answer was read through the decoder.
        return of_answer
    site = (engine.shape.layers - 1, cast(SiteKind, "residual_after"))
    last = engine.activations(prompt, [site])[site][-1]
    with torch.no_grad():
        return _largest([of_answer, float((engine.decoder.logits(last).double() - logits).abs().max())])


def _edit_error(model: VisionLanguageModel, engine: Engine, runs: Sequence[Run]) -> float:
    if not isinstance(engine, ReplayEngine):
        return 0.0
    found, expected = engine.run(runs), ReferenceEngine(model).run(runs)
    return _largest(one.answer.logit_diff - other.answer.logit_diff for one, other in zip(found, expected, strict=True))


def _largest(values: Iterable[float]) -> float:
    """The largest magnitude; NaN where any value is NaN, which Python's own `max` would hide."""
    return float(np.abs(list(values)).max())


def _padded_error(model: VisionLanguageModel, prompt: EncodedPrompt, logits: torch.Tensor) -> float | None:
    try:
        longer = probe(model, "Is the dog red? Is the dog red?")
        together = plain_logits(model, [prompt, longer])
    except (SampleError, UnsupportedError, ValueError):
        return None
    return float((together[0] - logits).abs().max())


def _noise_floor(engine: Engine, score: Callable[..., Run], base: float) -> float:
    sites = [_site(engine, layer, kind) for layer in range(engine.shape.layers) for kind in _IDENTITY_KINDS]
    return _largest(result.answer.logit_diff - base for result in engine.run([score(SiteEdit(site, Patch())) for site in sites]))


def _ablation_effect(engine: Engine, score: Callable[..., Run], base: float) -> float:
    runs = []
    for layer in range(engine.shape.layers):
        runs.append(score(*(SiteEdit(_site(engine, layer, "head_output", head), Zero()) for head in range(engine.shape.heads))))
    return _largest(result.answer.logit_diff - base for result in engine.run(runs))


def tolerance_of(dtype: str) -> float:
    """The largest difference of a logit that counts as rounding in this number format."""
    return _TOLERANCE.get(dtype.removeprefix("torch."), _COARSE_TOLERANCE)


def least_effect(record: Mapping[str, Any]) -> float:
    """What zeroing heads must move the answer by, at least, to be more than rounding."""
    return 10 * max(record["noise_floor"], record["batch_error"], record["logits_error"], _ROUNDING)


def _refuse_if_wrong(model: VisionLanguageModel, record: dict[str, Any]) -> None:
    tolerance = tolerance_of(model.info.dtype)
    for name in BOUNDED:
        # Written as "not (… <= …)" so that NaN is refused too.
        if record[name] is not None and not record[name] <= tolerance:
            raise UnsupportedError(
                f"{model.info.name}: the engine's logits differ from the model's own by {record[name]:.3g} ({name}, allowed: {tolerance})"
            )
    # Rounding alone moves logits too, by more in some batches than in others.
    if not record["ablation_effect"] > least_effect(record):
        raise UnsupportedError(f"{model.info.name}: zeroing every head of a layer moves no logit: the heads were not found")
