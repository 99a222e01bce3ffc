"""Head ablation: what the outputs of a set of attention heads are replaced with.

Every operation plans edits of z, the input of the attention output projection, at the positions that the context names
(`None`: all of them). All heads of a set are edited in the same run, so that means over other heads leave the whole set out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, cast

import numpy as np

from vseam_core.api import interventions as operations
from vseam_core.api.interfaces import HeadContext, HeadIntervention, Needs, Variant
from vseam_core.api.interventions import Operation, Site, SiteEdit, Stack
from vseam_core.api.presentation import Replacement
from vseam_core.api.prompts import comparable, same_template
from vseam_core.api.types import HeadId
from vseam_core.errors import SampleError, UnsupportedError, VseamError


def head_edits(heads: Sequence[HeadId], context: HeadContext, operation: Callable[[HeadId], Operation]) -> tuple[SiteEdit, ...]:
    """One edit per head at the context's positions; a head that is named twice is edited once.

    Raises `UnknownNameError` for a head that the model does not have.
    """
    edits = []
    for head in dict.fromkeys(heads):
        context.shape.require(head)
        site = Site(head.layer, "head_output", head.head, cast(Stack, head.stack))
        edits.append(SiteEdit(site, operation(head), context.positions))
    return tuple(edits)


class Zero(HeadIntervention):
    """Sets the heads' outputs to zero."""

    name: ClassVar[str] = "zero"

    def replacement(self) -> Replacement:
        """What stands in place of a head."""
        return Replacement("zero")

    def interventions(self, heads: Sequence[HeadId], context: HeadContext) -> Sequence[Variant]:
        """One variant."""
        return [Variant(head_edits(heads, context, lambda head: operations.Zero()))]


class MeanOfOthers(HeadIntervention):
    """Replaces each head's output by the mean, per position, of the layer's heads outside the set (live values).

    The published V-SEAM operation, kept for parity only: its scores change when a head's values are rotated against W_O,
    although the model does not. Raises `UnsupportedError` where the set holds every head of a layer.
    """

    name: ClassVar[str] = "mean_of_others"

    def replacement(self) -> Replacement:
        """What stands in place of a head."""
        return Replacement("the mean of the layer's other heads", parity=True)

    def interventions(self, heads: Sequence[HeadId], context: HeadContext) -> Sequence[Variant]:
        """One variant."""
        edits = head_edits(heads, context, lambda head: operations.MeanOfOthers())
        for layer in sorted({head.layer for head in heads}):
            if len({head.head for head in heads if head.layer == layer}) == context.shape.heads_in(layer):
                raise UnsupportedError(f"mean_of_others: every head of layer {layer} is in the set, so no other is left")
        return [Variant(edits)]


class DatasetMean(HeadIntervention):
    """Replaces the heads' outputs by their means over a reference set, for the token role at each position."""

    name: ClassVar[str] = "dataset_mean"

    def needs(self) -> Needs:
        """Dataset means."""
        return Needs(means=True)

    def replacement(self) -> Replacement:
        """What stands in place of a head."""
        return Replacement("the mean over a reference set")

    def interventions(self, heads: Sequence[HeadId], context: HeadContext) -> Sequence[Variant]:
        """One variant. Raises `ValueError` where the context's means are missing or of another shape."""
        return [Variant(head_edits(heads, context, lambda head: operations.Replace(_means_at(head, context))))]


def _means_at(head: HeadId, context: HeadContext) -> np.ndarray:
    """The head's means at the context's positions, float32 `[positions, head_dim]`."""
    shape = context.shape
    means = (context.means or {}).get(head.layer)
    # Where layers differ in heads, theirs may be narrower than the widest.
    width = means.shape[-1] if means is not None and shape.heads_by_layer else shape.head_dim
    expected = (len(context.base), shape.heads_in(head.layer), width)
    if means is None or means.shape != expected:
        got = "none" if means is None else f"{means.shape}"
        raise ValueError(f"dataset_mean needs means {expected} [positions, heads, head_dim] for layer {head.layer}, got {got}")
    positions = slice(None) if context.positions is None else list(context.positions)
    return np.asarray(means[positions, head.head], dtype=np.float32)


class Resample(HeadIntervention):
    """Replaces the heads' outputs by what they are on other images with the same template and length; effects are averaged.

    Resample ablation (Chan et al. 2022, causal scrubbing): the primary operation, since it keeps activations in distribution.
    """

    name: ClassVar[str] = "resample"

    def __init__(self, donors: int = 5) -> None:
        if donors < 1:
            raise VseamError(f"resample: donors must be at least 1, got {donors}")
        self.donors = donors

    def needs(self) -> Needs:
        """The donors."""
        return Needs(donors=self.donors)

    def replacement(self) -> Replacement:
        """What stands in place of a head."""
        return Replacement("another image's activation")

    def interventions(self, heads: Sequence[HeadId], context: HeadContext) -> Sequence[Variant]:
        """One variant per donor. Raises `SampleError` where fewer than `donors` others fit the prompt's template."""
        fitting = [donor for donor in context.donors if donor.key != context.base.key and same_template(context.base, donor)]
        if len(fitting) < self.donors:
            found = f"{len(fitting)} of {len(context.donors)} fit"
            raise SampleError(f"resample: {self.donors} donors of the same template and length are needed, {found}")
        edits = head_edits(heads, context, lambda head: operations.Patch())
        return [Variant(edits, donor) for donor in fitting[: self.donors]]

    def options(self) -> Mapping[str, object]:
        """The number of donors."""
        return {"donors": self.donors}


class PatchFromPair(HeadIntervention):
    """Replaces the heads' outputs by what they are on the other image of the pair.

    With the clean prompt as base this is noising, with the corrupt one denoising.
    """

    name: ClassVar[str] = "patch"

    def needs(self) -> Needs:
        """The other image of the pair."""
        return Needs(pair=True)

    def replacement(self) -> Replacement:
        """What stands in place of a head."""
        return Replacement("the edited image's activation")

    def interventions(self, heads: Sequence[HeadId], context: HeadContext) -> Sequence[Variant]:
        """One variant. Raises `SampleError` where there is no other image or its prompt differs in a token."""
        if context.other is None:
            raise SampleError("patch: this sample has no other image to patch from; edit it first")
        if not comparable(context.base, context.other):
            raise SampleError("patch: the two prompts of the pair differ in their tokens or image grid")
        return [Variant(head_edits(heads, context, lambda head: operations.Patch()), context.other)]
