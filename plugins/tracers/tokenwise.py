"""Token-wise activation patching: one site, one layer, one position at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from vseam_core.api.interfaces import TraceContext
from vseam_core.api.interventions import Site, SiteKind
from vseam_core.api.presentation import Presentation
from vseam_core.api.prompts import POSITION_CLASSES, PositionClass, role_of_positions
from vseam_core.errors import SampleError
from vseam_plugins.tracers.grids import PATCH_DIRECTIONS, PATCH_MEASURES, PatchGrid, PatchingTracer, chosen_names, stack_of

SITES: tuple[SiteKind, ...] = ("attention_output", "mlp_output", "residual_after", "cross_attention_output")


class TokenwisePatching(PatchingTracer):
    """Patches the attention or MLP output (optionally the residual) at every layer and every text position by itself.

    In layers that look at the image beside their own attention (BLIP, Pix2Struct), `cross_attention_output` is a site too: where words take
    up what the image shows.

    `positions` names other classes of positions: with `image` the report lays effects over the image, layer by layer. Effects are
    `[layers, positions]`, patched minus base: denoising patched − corrupt, noising patched − clean. Columns are
    position indices; roles are what averages over samples go by. Source: the token-wise traces of V-SEAM (arXiv 2509.14837).
    """

    name: ClassVar[str] = "tokenwise"

    def __init__(
        self,
        sites: Sequence[str] = ("attention_output", "mlp_output"),
        directions: Sequence[str] = PATCH_DIRECTIONS,
        measures: Sequence[str] = PATCH_MEASURES,
        positions: Sequence[str] = (),
    ) -> None:
        super().__init__(directions, measures)
        self.sites = chosen_names("site", sites, SITES)
        self.positions: tuple[PositionClass, ...] = chosen_names("position class", positions, POSITION_CLASSES) if positions else ()

    def grids(self, context: TraceContext) -> Sequence[PatchGrid]:
        """One grid per site kind. Raises `SampleError` where the prompt has none of the positions."""
        positions = self._positions(context)
        layers = tuple(range(context.shape.layers))
        stack = stack_of(context.shape)
        return [
            PatchGrid(
                site_kind=kind,
                layers=layers,
                sites=tuple(Site(layer, kind, stack=stack) for layer in layers),
                columns=tuple(str(position) for position in positions),
                roles=role_of_positions(context.clean, positions),
                positions=tuple((position,) for position in positions),
                column_kind="position",
            )
            for kind in self.sites
        ]

    def _positions(self, context: TraceContext) -> Sequence[int]:
        if not self.positions:
            return context.clean.text_positions
        found = sorted(position for name in self.positions for position in context.clean.positions(name))
        if not found:
            raise SampleError(f"tokenwise: the prompt has no position of class {', '.join(self.positions)}")
        return found

    def presentation(self) -> Presentation:
        """A heat map of token roles × layers for each site."""
        return Presentation(
            view="map",
            title="share of the answer that one token's activation carries",
            caption="Activation patching of one site at one token: Σ (patched − base) / Σ (donor − base) of the logit difference over "
            "pairs, averaged over all tokens of a role. 100 % is the whole way to the donor image's answer. What comes before the image "
            "is the same in both runs and cannot carry anything.",
        )

    def options(self) -> Mapping[str, object]:
        """Sites, directions and measures, and the positions where they are not those of the text."""
        positions = {"positions": list(self.positions)} if self.positions else {}
        return {"sites": list(self.sites), **super().options(), **positions}
