"""Group patching: the residual stream at all positions of one group at once, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from vseam_core.api.interfaces import TraceContext
from vseam_core.api.presentation import Presentation
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.errors import UnsupportedError
from vseam_plugins.tracers.grids import PATCH_DIRECTIONS, PATCH_MEASURES, PatchGrid, PatchingTracer, chosen_names, residual_rows

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


class GroupPatching(PatchingTracer):
    """Patches the residual at every position of a group: the image, the question, the last position, …

    Effects are `[layers + 1, groups]`, patched minus base; the first row (layer −1) is the residual before the first layer (the
    embeddings), the others the residual after each layer. Groups without positions are left out. `text_published` is everything
    after the image, as the V-SEAM scripts take it. `all` patches every position and must give the donor's own answer exactly:
    a check of the whole chain. In a causal decoder image effects end at 0 and text effects at 1 whatever the weights, so a curve
    only means something beside those of randomly initialised models.
    """

    name: ClassVar[str] = "groups"

    def __init__(
        self,
        groups: Sequence[str] = GROUPS,
        directions: Sequence[str] = PATCH_DIRECTIONS,
        measures: Sequence[str] = PATCH_MEASURES,
    ) -> None:
        super().__init__(directions, measures)
        self.groups = chosen_names("group", groups, GROUPS)

    def grids(self, context: TraceContext) -> Sequence[PatchGrid]:
        """One grid. Raises `UnsupportedError` where the image has no positions in the decoder's sequence."""
        members = group_positions(context.clean)
        groups = tuple(group for group in self.groups if members[group])
        layers, sites = residual_rows(context.shape)
        return [
            PatchGrid(
                site_kind="residual_after",
                layers=layers,
                sites=sites,
                columns=groups,
                roles=groups,
                positions=tuple(members[group] for group in groups),
                column_kind="group",
            )
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
            columns={"image": "image", "question": "question", "template": "template", "last": "last position"},
            everything="all",
            against_random_models=True,
        )

    def options(self) -> Mapping[str, object]:
        """Groups, directions and measures."""
        return {"groups": list(self.groups), **super().options()}


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
