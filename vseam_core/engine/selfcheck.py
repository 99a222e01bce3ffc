"""The trust record: what was checked about an engine and a model before their numbers are believed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image

from vseam_core.engine.base import Engine
from vseam_core.errors import UnsupportedError
from vseam_core.interfaces import VisionLanguageModel
from vseam_core.interventions import AnswerIds, AnswerScore, Patch, Run, Site, SiteEdit, SiteKind, Zero
from vseam_core.prompts import EncodedPrompt

_IDENTITY_KINDS: tuple[SiteKind, ...] = ("residual_after", "attention_output", "mlp_output", "head_output")
_TOLERANCE = {"torch.float32": 1e-3, "torch.float64": 1e-6}
_COARSE_TOLERANCE = 0.25
_ROUNDING = 1e-6


def trust_record(model: VisionLanguageModel, engine: Engine) -> dict[str, Any]:
    """Check the engine on one seeded noise image, and say how far everything was off.

    `logits_error`: the engine's answer without intervention against the model's own logits. `noise_floor`: the largest change of a
    log-probability when a site is replaced by its own value, in a batch of the shape that sweeps use: effects below three times
    that are noise. `ablation_effect`: how far zeroing all heads of a layer moves it, at least. Raises `UnsupportedError`
    where the engine and the model disagree, or where ablating heads moves nothing (the wrong module was found).
    """
    prompt = _probe(model)
    inputs = model.collate([prompt])
    with torch.no_grad():
        logits = model.module(**inputs, use_cache=False).logits[0, -1].double()
        twice = model.module(**model.collate([prompt, prompt]), use_cache=False).logits[:, -1].double()
    top = [int(index) for index in logits.topk(2).indices]
    answer = AnswerIds((top[0],), (top[1],), (top[0],))
    base = engine.run([Run(prompt, (AnswerScore(answer),))])[0].answer
    own = float(logits[top[0]] - logits[top[1]])
    record = {
        "engine": type(engine).__name__,
        "attention": model.info.attention,
        "dtype": model.info.dtype,
        "logits_error": abs(base.logit_diff - own),
        "batch_error": float((twice - logits).abs().max()),
        "noise_floor": _noise_floor(engine, prompt, answer, base.logit_diff),
        "ablation_effect": _ablation_effect(engine, prompt, answer, base.logit_diff),
    }
    _refuse_if_wrong(model, record)
    return record


def _probe(model: VisionLanguageModel) -> EncodedPrompt:
    generator = np.random.default_rng(0)
    picture = Image.fromarray(generator.integers(0, 256, (120, 120, 3), dtype=np.uint8))
    return model.encode(picture, "Is the dog red?")


def _noise_floor(engine: Engine, prompt: EncodedPrompt, answer: AnswerIds, base: float) -> float:
    runs = []
    for layer in range(engine.shape.layers):
        for kind in _IDENTITY_KINDS:
            edit = SiteEdit(Site(layer, kind), Patch())
            runs.append(Run(prompt, (AnswerScore(answer),), (edit,), prompt))
    return max(abs(result.answer.logit_diff - base) for result in engine.run(runs))


def _ablation_effect(engine: Engine, prompt: EncodedPrompt, answer: AnswerIds, base: float) -> float:
    runs = []
    for layer in range(engine.shape.layers):
        edits = tuple(SiteEdit(Site(layer, "head_output", head), Zero()) for head in range(engine.shape.heads))
        runs.append(Run(prompt, (AnswerScore(answer),), edits))
    return max(abs(result.answer.logit_diff - base) for result in engine.run(runs))


def _refuse_if_wrong(model: VisionLanguageModel, record: dict[str, Any]) -> None:
    tolerance = _TOLERANCE.get(f"torch.{model.info.dtype.removeprefix('torch.')}", _COARSE_TOLERANCE)
    # Written as "not (… <= …)" so that NaN is refused too.
    if not record["logits_error"] <= tolerance:
        raise UnsupportedError(
            f"{model.info.name}: the engine's logits differ from the model's own by {record['logits_error']:.3g} (allowed: {tolerance})"
        )
    # Rounding alone moves logits too, by more in some batches than in others.
    rounding = max(record["noise_floor"], record["batch_error"], record["logits_error"], _ROUNDING)
    if not record["ablation_effect"] > 10 * rounding:
        raise UnsupportedError(f"{model.info.name}: zeroing every head of a layer moves no logit: the heads were not found")
