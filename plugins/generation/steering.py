"""Steering: a direction is added to the residual, or taken out of it, while a model answers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, cast

import numpy as np

from vseam_core.analysis.direction_files import read_direction
from vseam_core.analysis.directions import KINDS
from vseam_core.api.generation import Branch, BranchedGeneration, GenerationContext
from vseam_core.api.interventions import Add, Remove, Site, SiteEdit, SiteKind, Stack
from vseam_core.errors import UnknownNameError, UnsupportedError, VseamError, did_you_mean


class Steering(BranchedGeneration):
    """Adds `strength` times a direction of `vseam directions fit` at its site in one layer, at all positions and every generated one.

    Strength 1 is the difference of the classes' means, negative strengths lead the other way. `ablate` takes the component along the
    direction out instead. `kind` is difference, probe, or random (the control, as long as the others). A file belongs to the weights that
    it was fitted to. Source: Panickssery et al. 2023, arXiv 2312.06681 (contrastive activation addition).
    """

    name: ClassVar[str] = "steer"

    def __init__(self, file: str, layer: int, strength: float = 1.0, kind: str = "difference", ablate: bool = False) -> None:
        if kind not in KINDS:
            raise UnknownNameError(f"unknown kind {kind!r}: {did_you_mean(kind, KINDS)}")
        if ablate and strength != 1.0:
            raise VseamError("steer: ablate takes a direction out altogether, so that it has no strength")
        self.vector, self.about = read_direction(Path(file), int(layer), kind)
        self.layer, self.strength, self.kind, self.ablate = int(layer), float(strength), kind, bool(ablate)

    def branches(self, context: GenerationContext) -> Sequence[Branch]:
        """The question, answered with the direction added or taken out. Raises `UnsupportedError` for other weights than the file's."""
        info = context.model.info
        if info.weights_hash != self.about["weights_hash"]:
            raise UnsupportedError(f"these directions were fitted to other weights ({self.about['model']}) than those of {info.name}")
        site = Site(self.layer, cast(SiteKind, self.about["site"]), stack=cast(Stack, context.shape.stack))
        operation = Remove(self.vector) if self.ablate else Add((self.strength * self.vector).astype(np.float32))
        return (Branch(context.prompt, (SiteEdit(site, operation),)),)

    def options(self) -> Mapping[str, object]:
        """The direction by its content, not by the name of its file."""
        return {
            "file": hashlib.sha256(self.vector.tobytes()).hexdigest(),
            "layer": self.layer,
            "strength": self.strength,
            "kind": self.kind,
            "ablate": self.ablate,
        }
