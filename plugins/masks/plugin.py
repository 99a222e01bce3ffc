"""Registers the built-in mask providers."""

from __future__ import annotations

from collections.abc import Iterator

from vseam_core.plugins.hookspecs import hookimpl
from vseam_core.plugins.records import MaskProviderRecord

PLUGIN_API = 1


@hookimpl
def vseam_mask_providers() -> Iterator[MaskProviderRecord]:
    """Annotated boxes, Segment Anything in a box, and both from words alone."""
    yield MaskProviderRecord(name="box", summary="the annotated boxes, a little padded", factory="vseam_plugins.masks.box:BoxMask")
    yield MaskProviderRecord(
        name="ellipse", summary="the ellipses inside the annotated boxes", factory="vseam_plugins.masks.box:EllipseMask"
    )
    yield MaskProviderRecord(
        name="sam",
        summary="Segment Anything (SAM 1) inside the annotated boxes; option source names the checkpoint",
        factory="vseam_plugins.masks.sam:SamMask",
    )
    yield MaskProviderRecord(
        name="grounded-sam",
        summary="Grounding DINO finds boxes by words, SAM 1 segments them: for images without annotation",
        factory="vseam_plugins.masks.sam:GroundedSamMask",
    )
