"""A tiny model with a pair of prompts, and both ways to what happens to them: by a tracer and the engine, and by plain hooks."""

from __future__ import annotations

import torch

from vseam_core.engine.reference import ReferenceEngine

from .support import ANSWER, context
from .tiny_llava import PlainModel, TinyLlava, image_prompt, measures

SITE_NAMES = {"attention_output": "attention", "mlp_output": "mlp", "residual_after": "after", "residual_before": "before"}


class Scene:
    """A model and a pair of prompts. Sites are named by `SITE_NAMES`, such as `(layer, "mlp")`."""

    def __init__(self, module, dtype=torch.float64, answer=ANSWER):
        self.module, self.plain, self.answer = module, PlainModel(module), answer
        self.prompts = {"clean": image_prompt(1, dtype), "corrupt": image_prompt(2, dtype)}
        self.context = context(self.prompts["clean"], self.prompts["corrupt"], answer=answer)
        self.engine = ReferenceEngine(TinyLlava(module))
        self.sites = {name: self.plain.activations(given) for name, given in self.prompts.items()}
        self.base = {name: measures(self.plain.logits(given), answer) for name, given in self.prompts.items()}

    def traced(self, tracer):
        """The tracer's effects by site kind, direction and measure."""
        effects = tracer.effects(self.context, self.engine.run(tracer.plan(self.context)))
        return {(effect.site_kind, effect.direction, effect.measure): effect for effect in effects}

    def patched(self, direction, measure, site, positions):
        """One cell by hand: the measure of the base run, some positions of one site replaced, less that of the base run."""
        base, donor = ("corrupt", "clean") if direction == "denoising" else ("clean", "corrupt")

        def replace(value):
            changed = value.clone()
            changed[list(positions)] = self.sites[donor][site][list(positions)]
            return changed

        logits = self.plain.logits(self.prompts[base], {site: replace})
        return measures(logits, self.answer)[measure] - self.base[base][measure]

    def cut(self, layers, targets, sources):
        """One knockout by hand: logit_diff of the clean run without some attention, less that of the clean run."""
        logits = self.plain.logits(self.prompts["clean"], cuts=[(layer, targets, sources) for layer in layers])
        return measures(logits, self.answer)["logit_diff"] - self.base["clean"]["logit_diff"]
