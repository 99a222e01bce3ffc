"""Region patching: the residual stream where the image was edited, beside the rest of the image and a random region."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from vseam_core.errors import SampleError, UnsupportedError
from vseam_core.interfaces import TraceContext
from vseam_core.prompts import EncodedPrompt
from vseam_plugins.tracers.grids import PatchGrid, PatchingTracer, residual_rows

COLUMNS: tuple[str, ...] = ("region", "complement", "random")


class RegionPatching(PatchingTracer):
    """Patches the residual at the image positions that look at the edited boxes, at all others, and at a random region.

    Effects are `[layers + 1, 3]`, patched minus base, rows as in group patching. The random region has as many positions as the
    edited one, is compact like it, and lies outside it as far as room allows; it depends only on the seed and the pair. Vision
    towers attend globally, so the complement carries some of the edit too: that is why it is always shown.
    """

    name: ClassVar[str] = "regions"

    def grids(self, context: TraceContext) -> Sequence[PatchGrid]:
        """One grid. Raises `UnsupportedError` behind a Q-Former, `SampleError` where there is no region or no complement."""
        regions = region_positions(context)
        layers, sites = residual_rows(context.shape)
        return [
            PatchGrid(
                site_kind="residual_after",
                layers=layers,
                sites=sites,
                columns=COLUMNS,
                roles=COLUMNS,
                positions=regions,
                column_kind="group",
            )
        ]


def region_positions(context: TraceContext) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Image positions of the edited region, of its complement, and of a random region of equal size.

    Raises `UnsupportedError` where image positions have no place in the picture, `SampleError` where the pair names no edited
    box, or the box leaves nothing of the image over.
    """
    prompt, pair = context.clean, context.pair
    if prompt.image_boxes is None or not prompt.positions("image"):
        raise UnsupportedError(
            "region patching needs image positions that look at one place of the picture; in this family they look at all of it "
            "(a Q-Former or cross-attention)"
        )
    region = prompt.image_positions_in(pair.boxes, context.image_size)
    complement = tuple(position for position in prompt.positions("image") if position not in set(region))
    if not region or not complement:
        what = "no image position" if not region else "every image position"
        raise SampleError(f"{pair.identifier}: the edited boxes cover {what}; region patching needs a part of the image")
    return region, complement, _random_region(prompt, region, _generator(context))


def _generator(context: TraceContext) -> np.random.Generator:
    # Seeded by the pair too, else every pair of a study would draw the same place.
    digest = hashlib.sha256(context.pair.identifier.encode()).digest()
    return np.random.default_rng([context.seed, int.from_bytes(digest[:8], "big")])


def _random_region(prompt: EncodedPrompt, region: tuple[int, ...], generator: np.random.Generator) -> tuple[int, ...]:
    """Grows a compact region from a random position outside `region`, nearest positions first, those inside `region` last."""
    image = np.array(prompt.positions("image"))
    boxes = np.array(prompt.image_boxes)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = np.isin(image, region)
    start = generator.choice(np.flatnonzero(~inside))
    distance = np.linalg.norm(centres - centres[start], axis=1)
    # Rounded, so that equal distances tie whatever the last bit says, and the tie is broken by chance.
    order = np.lexsort((generator.permutation(len(image)), distance.round(9), inside))
    return tuple(sorted(int(position) for position in image[order[: len(region)]]))
