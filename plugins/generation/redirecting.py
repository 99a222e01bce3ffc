"""Redirecting heads: some heads are made to look at a region of the image while a model answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import ClassVar

from vseam_core.api.generation import AttentionShare, Branch, BranchedGeneration, GenerationContext
from vseam_core.api.types import parse_head
from vseam_core.config.defaults import EDITOR
from vseam_core.errors import SampleError, UnknownNameError, UnsupportedError, VseamError, did_you_mean
from vseam_plugins.tracers.regions import COVERAGE, regions_of

REGIONS = ("edit", "random", "image", "box")


class AttentionRedirect(BranchedGeneration):
    """At least `share` of the attention of `heads` goes to a region's image positions, at the prompt's end and at generated positions.

    `region` is what `editor` edits in this image (`edit`), another place of the same size (`random`, the control), the whole image
    (`image`), or a `box` in fractions of the image. The edit's positions are those of region patching. A head that looks there as much
    already is left alone; weights within and outside the region keep their proportions. docs/compare.md.
    """

    name: ClassVar[str] = "redirect"

    def __init__(
        self,
        heads: str | Sequence[str],
        share: float = 0.5,
        region: str = "edit",
        box: Sequence[float] | None = None,
        editor: str = EDITOR,
        coverage: float = COVERAGE,
    ) -> None:
        named = heads.split("+") if isinstance(heads, str) else heads
        self.heads = tuple(sorted({parse_head(str(name)) for name in named if str(name).strip()}))
        if not self.heads:
            raise VseamError("redirect: name heads, such as heads=L5H3+L4H1")
        if not 0 <= share < 1:
            raise VseamError(f"redirect: share is {share}, expected a number from 0 to below 1")
        if region not in REGIONS:
            raise UnknownNameError(f"redirect: unknown region {region!r}: {did_you_mean(region, REGIONS)}")
        if not 0 < coverage <= 1:
            raise VseamError(f"redirect: coverage is {coverage}, expected a share above 0 and at most 1")
        self.box = None if box is None else _checked_box(box)
        self.region = "box" if self.box is not None else region
        if self.region == "box" and self.box is None:
            raise VseamError("redirect: region=box needs a box, such as box=[0.25,0.25,0.75,0.75] in fractions of the image")
        self.share, self.coverage = float(share), float(coverage)
        self.editor = str(editor) if self.region in ("edit", "random") else None

    def branches(self, context: GenerationContext) -> Sequence[Branch]:
        """The question, its heads looking at the region. Raises `UnsupportedError` where image positions have no place in the image."""
        sources = self._positions(context)
        by_layer: dict[int, list[int]] = defaultdict(list)
        for head in self.heads:
            context.shape.require(head)
            by_layer[head.layer].append(head.head)
        shares = tuple(AttentionShare(layer, tuple(heads), sources, self.share) for layer, heads in by_layer.items())
        return (Branch(context.prompt, boosts=shares),)

    def _positions(self, context: GenerationContext) -> tuple[int, ...]:
        prompt = context.prompt
        image = prompt.positions("image")
        if not image:
            raise UnsupportedError("redirect: heads look at the image where it has positions in the prompt; here it has none")
        if self.region == "image":
            return image
        if self.box is not None:
            found = prompt.image_positions_in([self.box], (1, 1))
            if not found:
                raise SampleError(f"redirect: no image position looks at the box {list(self.box)}")
            return found
        if context.edited is None:
            raise UnsupportedError("redirect: nothing here can edit the image, so its region is not known: give a box")
        region, _, random = regions_of(prompt, context.edited(), context.image().size, context.seed, self.coverage)
        return random if self.region == "random" else region

    def options(self) -> Mapping[str, object]:
        """Heads, share, and the region with what it comes from."""
        where = {"box": None if self.box is None else list(self.box), "editor": self.editor, "coverage": self.coverage}
        return {"heads": [str(head) for head in self.heads], "share": self.share, "region": self.region, **where}

    def settings(self) -> Sequence[Mapping[str, object]]:
        """Half of a head's attention, then less and more."""
        return [{"share": share} for share in (0.5, 0.25, 0.9)]


def _checked_box(box: Sequence[float]) -> tuple[float, float, float, float]:
    try:
        x0, y0, x1, y1 = (float(side) for side in box)
    except (TypeError, ValueError):
        raise VseamError(f"redirect: box is {box!r}, expected four fractions of the image: [x0, y0, x1, y1]") from None
    if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
        raise VseamError(f"redirect: box is {list(box)}, expected fractions with 0 ≤ x0 < x1 ≤ 1 and 0 ≤ y0 < y1 ≤ 1")
    return x0, y0, x1, y1
