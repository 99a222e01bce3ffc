"""Where all heads look in a scanned image: read beside a scan, so that a report can lay it over the image."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from vseam_core.api.interfaces import HeadIntervention
from vseam_core.api.interventions import AnswerScore, AttentionWeights, Run, Stack
from vseam_core.api.prompts import PositionClass
from vseam_core.errors import UnsupportedError
from vseam_core.experiments.encoding import Prepared
from vseam_core.results.image_attention import NAME, attention_over_image
from vseam_core.runs.workspace import LoadedModel, Workspace

LOOKS_FROM: tuple[PositionClass, ...] = ("last", "question")
"""From where heads look: the position that the answer is read at, and the words of the question (their mean)."""


def keeps_attention(workspace: Workspace, intervention: HeadIntervention, stack: str) -> bool:
    """Whether a scan keeps where heads look: beside small images, of the language model, and not once more beside a scan for parity."""
    return workspace.thumbnails and not stack and not intervention.replacement().parity


def looking_run(loaded: LoadedModel, prepared: Prepared) -> Run | None:
    """The forward pass that reads all heads' attention from `LOOKS_FROM`; None where image positions have no place in the image."""
    shape, prompt = loaded.engine.shape, prepared.prompt
    if not prompt.image_boxes or not shape.attention_layers:
        return None
    every = tuple(position for name in LOOKS_FROM for position in prompt.positions(name))
    wanted = tuple(AttentionWeights(layer, every, cast(Stack, shape.stack)) for layer in shape.attention_layers)
    return Run(prompt, (AnswerScore(prepared.answer),), attention=wanted)


def image_attention(loaded: LoadedModel, prepared: Prepared) -> dict[str, Any]:
    """Attention of all heads from `LOOKS_FROM` to the image, as details of a unit.

    Empty where image positions have no place in the image, and where a family's attention cannot be read.
    """
    shape, prompt, run = loaded.engine.shape, prepared.prompt, looking_run(loaded, prepared)
    if run is None or prompt.image_boxes is None:
        return {}
    try:
        (read,) = loaded.engine.run([run])
    except UnsupportedError:
        return {}
    image, found, start = list(prompt.positions("image")), {}, 0
    for name in LOOKS_FROM:
        count = len(prompt.positions(name))
        weights = np.zeros((shape.layers, shape.heads, len(image)))
        for layer, one in zip(shape.attention_layers, read.attention, strict=True):
            if count:
                weights[layer, : len(one)] = one[:, start : start + count, image].mean(1)
        found[name] = attention_over_image(weights, prompt.image_boxes).record()
        start += count
    return {NAME: found}
