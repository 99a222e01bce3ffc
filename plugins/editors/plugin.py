"""Registers the built-in painters: without weights, and with a diffusion model."""

from __future__ import annotations

from collections.abc import Iterator

from vseam_core.plugins.hookspecs import hookimpl
from vseam_core.plugins.records import EditorRecord

PLUGIN_API = 1


@hookimpl
def vseam_editors() -> Iterator[EditorRecord]:
    """Recolouring, pixel-level baselines, painters with diffusion models, a benchmark's own pairs, images that were edited elsewhere."""
    yield EditorRecord(
        name="recolor",
        summary="gives the masked thing another colour and keeps its shading; no weights",
        factory="vseam_plugins.editors.recolor:RecolorPainter",
    )
    for name, summary in (
        ("noise", "adds Gaussian noise in the mask: a pixel-level baseline"),
        ("blur", "blurs what lies in the mask: a pixel-level baseline"),
        ("grey", "fills the mask with grey: a pixel-level baseline"),
    ):
        yield EditorRecord(name=name, summary=summary, factory=f"vseam_plugins.editors.pixels:{name.capitalize()}Painter")
    yield EditorRecord(
        name="paired",
        summary="takes the second image of benchmarks of pairs (naturalbench, winoground); nothing is painted",
        factory="vseam_plugins.editors.paired:PairedEditor",
    )
    yield EditorRecord(
        name="precomputed",
        summary="takes your own edited images by a path pattern: --editor-option images={question_id}.png",
        factory="vseam_plugins.editors.precomputed:PrecomputedImages",
        renamed_options={"pictures": "images"},
    )
    yield EditorRecord(
        name="inpaint",
        summary="paints with any inpainting pipeline of diffusers; option source names the checkpoint",
        factory="vseam_plugins.editors.diffusion.inpaint:InpaintPainter",
        extra="diffusion",
    )
    yield EditorRecord(
        name="powerpaint",
        summary="PowerPaint v1 or v2, the painter of the V-SEAM paper; option source names the checkpoint",
        factory="vseam_plugins.editors.diffusion.powerpaint:powerpaint",
        extra="diffusion",
    )
