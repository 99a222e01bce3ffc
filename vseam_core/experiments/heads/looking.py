"""Where all heads look in a scanned image: read beside a scan, so that a report can lay it over the image."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from vseam_core.api.interventions import AnswerScore, AttentionWeights, Run, Stack
from vseam_core.api.prompts import PositionClass
from vseam_core.errors import UnsupportedError
from vseam_core.experiments.encoding import Prepared
from vseam_core.results.image_attention import NAME, attention_over_image
from vseam_core.runs.workspace import LoadedModel

LOOKS_FROM: tuple[PositionClass, ...] = ("last", "question")
"""From where heads look: the position that the answer is read at, and the words of the question (their mean)."""


def image_attention(loaded: LoadedModel, prepared: Prepared) -> dict[str, Any]:
    """Attention of all heads from `LOOKS_FROM` to the image, as details of a unit: one forward pass.

    Empty where image positions have no place in the image, and where a family's attention cannot be read.
    """
    shape, prompt = loaded.engine.shape, prepared.prompt
    if not prompt.image_boxes or not shape.attention_layers:
        return {}
    targets = {name: prompt.positions(name) for name in LOOKS_FROM if prompt.positions(name)}
    every = tuple(position for positions in targets.values() for position in positions)
    wanted = tuple(AttentionWeights(layer, every, cast(Stack, shape.stack)) for layer in shape.attention_layers)
    try:
        (read,) = loaded.engine.run([Run(prompt, (AnswerScore(prepared.answer),), attention=wanted)])
    except UnsupportedError:
        return {}
    image, found, start = list(prompt.positions("image")), {}, 0
    for name, positions in targets.items():
        weights = np.zeros((shape.layers, shape.heads, len(image)))
        for layer, one in zip(shape.attention_layers, read.attention, strict=True):
            weights[layer, : len(one)] = one[:, start : start + len(positions), image].mean(1)
        found[name] = attention_over_image(weights, prompt.image_boxes).record()
        start += len(positions)
    return {NAME: found}
