"""Where all heads look in a scanned image: read beside a scan, so that a report can lay it over the image."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from vseam_core.api.interventions import AnswerScore, AttentionWeights, Run, Stack
from vseam_core.errors import UnsupportedError
from vseam_core.experiments.encoding import Prepared
from vseam_core.results.image_attention import NAME, attention_over_image
from vseam_core.runs.workspace import LoadedModel


def image_attention(loaded: LoadedModel, prepared: Prepared) -> dict[str, Any]:
    """Attention of all heads from the last position to the image, as details of a unit: one forward pass.

    Empty where image positions have no place in the image, and where a family's attention cannot be read.
    """
    shape, prompt = loaded.engine.shape, prepared.prompt
    if not prompt.image_boxes or not shape.attention_layers:
        return {}
    wanted = tuple(AttentionWeights(layer, (prompt.last,), cast(Stack, shape.stack)) for layer in shape.attention_layers)
    try:
        (read,) = loaded.engine.run([Run(prompt, (AnswerScore(prepared.answer),), attention=wanted)])
    except UnsupportedError:
        return {}
    positions = list(prompt.positions("image"))
    weights = np.zeros((shape.layers, shape.heads, len(positions)))
    for layer, found in zip(shape.attention_layers, read.attention, strict=True):
        weights[layer, : len(found)] = found[:, 0, positions]
    return {NAME: attention_over_image(weights, prompt.image_boxes).record()}
