"""A tiny model with one question, its references, and both ways to what changing heads does: by the engine, and by plain hooks."""

from __future__ import annotations

import numpy as np
import torch

from tests.tracers.support import ANSWER, CLASSES, SHAPE
from tests.tracers.tiny_llava import HEAD_DIM, HEADS, LAYERS, PlainModel, TinyLlava, image_prompt, measures
from vseam_core.api.interfaces import HeadContext
from vseam_core.api.interventions import AnswerScore, Run
from vseam_core.engine.replay import ReplayEngine

MEASURES = ("logit_diff", "published_prob")


class Scene:
    """A model and a sample with its references: donors, means, the other image of the pair."""

    def __init__(self, module):
        self.plain = PlainModel(module)
        self.base, self.other = image_prompt(1), image_prompt(2)
        self.donors = tuple(image_prompt(seed) for seed in range(10, 15))
        self.engine = ReplayEngine(TinyLlava(module))
        self.sites = {given.key: self.plain.activations(given) for given in (self.base, self.other, *self.donors)}
        self.unchanged = measures(self.plain.logits(self.base), ANSWER)
        stacked = [[self.sites[donor.key][layer, "z"] for donor in self.donors] for layer in range(LAYERS)]
        self.means = {
            layer: torch.stack(values).mean(0).view(len(CLASSES), HEADS, HEAD_DIM).numpy() for layer, values in enumerate(stacked)
        }

    def effects(self, method, sets, positions, wanted=MEASURES):
        """Base minus replaced `[sets, measures]`, averaged over variants, as a head scan computes it."""
        given = HeadContext(self.base, SHAPE, positions, self.donors, self.means, self.other)
        variants = [method.interventions(heads, given) for heads in sets]
        readouts = (AnswerScore(ANSWER),)
        runs = [Run(self.base, readouts, variant.edits, variant.donor) for group in variants for variant in group]
        answers = iter([result.answer for result in self.engine.run([Run(self.base, readouts), *runs])])
        base = next(answers)
        found = []
        for group in variants:
            replaced = [next(answers) for _ in group]
            found.append([getattr(base, name) - np.mean([getattr(answer, name) for answer in replaced]) for name in wanted])
        return np.array(found)

    def changed(self, changes):
        """Base minus changed `[measures]`, by one full forward pass with plain hooks.

        `changes` says by layer what becomes of z `[positions, heads × head_dim]` (one head's slice: `of_head`).
        """
        found = measures(self.plain.logits(self.base, {(layer, "z"): change for layer, change in changes.items()}), ANSWER)
        return [self.unchanged[measure] - found[measure] for measure in MEASURES]
