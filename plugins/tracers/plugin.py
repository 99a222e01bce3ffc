"""Registers the built-in causal tracing methods."""

from __future__ import annotations

from collections.abc import Iterator

from vseam_core.plugins.hookspecs import hookimpl
from vseam_core.plugins.records import TracerRecord

PLUGIN_API = 1


@hookimpl
def vseam_tracers() -> Iterator[TracerRecord]:
    """Activation patching by token, group, region and path; the logit lens; attention knockout and attention maps."""
    yield TracerRecord(
        name="tokenwise",
        summary="patches attention, MLP and residual at every layer and text position",
        factory="vseam_plugins.tracers.tokenwise:TokenwisePatching",
    )
    yield TracerRecord(
        name="groups",
        summary="patches the residual at all image, question, structural or last positions, layer by layer",
        factory="vseam_plugins.tracers.groups:GroupPatching",
    )
    yield TracerRecord(
        name="regions",
        summary="patches the image positions of the edited region, beside its complement and a random region",
        factory="vseam_plugins.tracers.regions:RegionPatching",
    )
    yield TracerRecord(
        name="lens",
        summary="reads the answer from inner layers: logit lens and direct logit attribution",
        factory="vseam_plugins.tracers.lens:LogitLens",
    )
    yield TracerRecord(
        name="knockout",
        summary="cuts attention between groups of positions, layer by layer",
        factory="vseam_plugins.tracers.knockout:AttentionKnockout",
    )
    yield TracerRecord(
        name="attention_maps",
        summary="reads attention weights: where layers and heads look, from the last position or others",
        factory="vseam_plugins.tracers.attention_maps:AttentionMaps",
    )
    yield TracerRecord(
        name="paths",
        summary="path patching: what one head, MLP or the embeddings write for another component alone",
        factory="vseam_plugins.tracers.paths:PathPatching",
    )
    yield TracerRecord(
        name="gaze",
        summary="reads how much attention each head gives to what was edited, against its area and a random region",
        factory="vseam_plugins.tracers.gaze:Gaze",
    )
