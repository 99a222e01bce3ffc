"""Group patching: the residual stream at all positions of one group at once, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from vseam_core.api.interfaces import ModelShape, TraceContext
from vseam_core.api.interventions import IMAGE_STACKS, Site, SiteKind
from vseam_core.api.presentation import Presentation
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.errors import UnsupportedError
from vseam_plugins.tracers.grids import (
    PATCH_DIRECTIONS,
    PATCH_MEASURES,
    PatchGrid,
    PatchingTracer,
    chosen_names,
    residual_rows,
    stack_of,
)

GROUPS: tuple[str, ...] = (
    "image",
    "question",
    "template",
    "last",
    "structural_before",
    "structural_after",
    "text_published",
    "all",
)
SITES: tuple[SiteKind, ...] = ("residual_after", "attention_output", "mlp_output")
_CROSS_SITES: tuple[SiteKind, ...] = ("attention_output",)
_CAPTION = (
    "What {what} holds in all of its rows at one layer in the clean run is put into the corrupt run (emb: before the first layer); what "
    "stands behind it runs on that. Share = Σ (patched − corrupt) / Σ (clean − corrupt) of the logit difference. The residual is the whole "
    "image up to there, so it restores everything, less what leaves between the layers (deepstack features); attention and MLP outputs say "
    "what a layer adds. Layers behind the one that image features are taken from have no effect by construction."
)
_OF_GENERATOR = (
    "What the decoder that generates holds in all of its rows at one layer in the clean run is put into the corrupt run (emb: before the "
    "first layer), whose decoder goes on reading the corrupt encoder behind it. Share = Σ (patched − corrupt) / Σ (clean − corrupt) of the "
    "logit difference. The residual after the last layer is the answer, whatever the weights."
)
_OF_CROSS = (
    "What cross-attention adds at one layer in the clean run, in all rows, is put into the corrupt run. Share = Σ (patched − corrupt) / "
    "Σ (clean − corrupt) of the logit difference."
)


class GroupPatching(PatchingTracer):
    """Patches the residual at every position of a group: the image, the question, the last position, …

    Effects are `[layers + 1, groups]`, patched minus base; the first row (layer −1) is the residual before the first layer (the
    embeddings), the others the residual after each layer. Groups without positions are left out. `text_published` is everything
    after the image, as the V-SEAM scripts take it. `all` patches every position and must give the donor's own answer exactly:
    a check of the whole chain. In a causal decoder image effects end at 0 and text effects at 1 whatever the weights, so a curve
    only means something beside those of randomly initialised models. With `sites` attention and MLP outputs are patched too.

    In the vision tower and a Q-Former, the group is the image: all rows that a layer holds; in a decoder that generates from an encoder
    and in cross-attention it is `rows`, all of them. Of cross-attention the site is what it adds.
    """

    name: ClassVar[str] = "groups"
    stacks: ClassVar[tuple[str, ...]] = ("decoder", "encoder", "vision", "connector", "cross")

    def __init__(
        self,
        groups: Sequence[str] = GROUPS,
        directions: Sequence[str] = PATCH_DIRECTIONS,
        measures: Sequence[str] = PATCH_MEASURES,
        sites: Sequence[str] = ("residual_after",),
    ) -> None:
        super().__init__(directions, measures)
        self.groups = chosen_names("group", groups, GROUPS)
        self.sites = chosen_names("site", sites, SITES)

    def grids(self, context: TraceContext) -> Sequence[PatchGrid]:
        """One grid for each site. Raises `UnsupportedError` where the image has no positions in the decoder's sequence."""
        kinds = _CROSS_SITES if context.shape.stack == "cross" else self.sites
        if context.shape.stack in IMAGE_STACKS:
            members: Mapping[str, tuple[int, ...] | None] = {"image": None}
        elif context.stack:
            members = {"rows": None}
        else:
            found = group_positions(context.clean)
            members = {group: found[group] for group in self.groups if found[group]}
        groups = tuple(members)
        return [
            PatchGrid(
                site_kind=kind,
                layers=layers,
                sites=sites,
                columns=groups,
                roles=groups,
                positions=tuple(members.values()),
                column_kind="group",
            )
            for kind, (layers, sites) in ((kind, rows_of(context.shape, kind)) for kind in kinds)
        ]

    def presentation(self) -> Presentation:
        """A curve for each of the main groups; the others are in the database."""
        return Presentation(
            view="curve",
            title="share of the answer that a group of positions restores",
            caption="The residual stream of the clean run is put into the corrupt run at all positions of a group, at one layer (emb: "
            "before the first). Share = Σ (patched − corrupt) / Σ (clean − corrupt) of the logit difference. That image effects end at 0 "
            "and text effects at 100 % is true of any causal decoder, whatever its weights: only what leaves the range of random models "
            "says something about training.",
            columns={"image": "image", "question": "question", "template": "template", "last": "last position", "rows": "all rows"},
            everything="all",
            against_random_models=True,
            captions={
                "vision": _CAPTION.format(what="the vision tower"),
                "connector": _CAPTION.format(what="the Q-Former"),
                "decoder": _OF_GENERATOR,
                "cross": _OF_CROSS,
            },
        )

    def options(self) -> Mapping[str, object]:
        """Groups, sites, directions and measures."""
        return {"groups": list(self.groups), "sites": list(self.sites), **super().options()}


def rows_of(shape: ModelShape, kind: SiteKind) -> tuple[tuple[int, ...], tuple[Site, ...]]:
    """Layer labels and sites of one kind, layer by layer; residuals begin before the first layer."""
    if kind == "residual_after":
        return residual_rows(shape)
    layers = tuple(range(shape.layers))
    return layers, tuple(Site(layer, kind, stack=stack_of(shape)) for layer in layers)


def group_positions(prompt: EncodedPrompt) -> dict[str, tuple[int, ...]]:
    """The positions of every group of `GROUPS`, ascending.

    Raises `UnsupportedError` where the prompt has no image positions (families whose image enters by cross-attention).
    """
    image = prompt.positions("image")
    if not image:
        raise UnsupportedError("group patching needs image positions in the decoder's sequence; this family has none")
    return {
        "image": image,
        "question": prompt.positions("question"),
        "template": prompt.positions("template"),
        "last": prompt.positions("last"),
        "structural_before": prompt.positions("structural_before"),
        "structural_after": prompt.positions("structural_after"),
        "text_published": tuple(range(image[-1] + 1, len(prompt))),
        "all": tuple(range(len(prompt))),
    }
