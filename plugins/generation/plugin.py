"""Registers the built-in ways to change how answers are generated."""

from __future__ import annotations

from collections.abc import Iterator

from vseam_core.plugins.hookspecs import hookimpl
from vseam_core.plugins.records import GenerationMethodRecord

PLUGIN_API = 1

_METHODS = (
    ("vcd", "contrast:NoisedImageContrast", "contrasts the image with a noised one (VCD, Leng et al. 2023)"),
    ("steer", "steering:Steering", "adds a direction of `vseam directions fit` to the residual, or takes it out"),
    ("redirect", "redirecting:AttentionRedirect", "makes heads look at the edited region, or at a box, of the image"),
    ("pai", "contrast:ImageAttention", "more attention to the image, contrasted with the text alone (PAI, Liu et al. 2024)"),
)
_MITIGV = {
    "agla": "adds the logits of the region that attention finds salient (AGLA, An et al. 2025)",
    "icd": "contrasts with a misleading instruction (ICD, Wang et al. 2024)",
    "m3id": "contrasts with the text alone, more with every token (M3ID, Favero et al. 2024)",
    "only": "contrasts with one layer's textual heads (ONLY, Wan et al. 2025)",
    "opera": "beam search that punishes over-trusted tokens (OPERA, Huang et al. 2024)",
    "pai": "more attention to the image (PAI, Liu et al. 2024)",
    "vcd": "contrasts the image with a noised one (VCD, Leng et al. 2023)",
    "vista": "steers with what the image adds to the residual (VISTA, Li and Shi 2025)",
}


@hookimpl
def vseam_generation_methods() -> Iterator[GenerationMethodRecord]:
    """Contrastive decoding, image attention, redirected heads, steering, and the methods of the package `mitigv`."""
    for name, factory, summary in _METHODS:
        yield GenerationMethodRecord(name=name, summary=summary, factory=f"vseam_plugins.generation.{factory}")
    yield GenerationMethodRecord(
        name="redirect/random",
        summary="the control of redirect: the same heads look at another place of the same size",
        factory="vseam_plugins.generation.redirecting:AttentionRedirect",
        options={"region": "random"},
    )
    for name, summary in _MITIGV.items():
        yield GenerationMethodRecord(
            name=f"mitigv/{name}",
            summary=f"the package mitigv: {summary}",
            factory="vseam_plugins.generation.wrapped_mitigv:MitigvMethod",
            options={"algorithm": name},
            extra="mitigv",
        )
