"""Region patching: the residual stream where the image was edited, beside the rest of the image and a random region."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from vseam_core.api.interfaces import TraceContext
from vseam_core.api.presentation import Presentation
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.api.types import Box, Pair
from vseam_core.errors import SampleError, UnsupportedError, VseamError
from vseam_plugins.tracers.grids import PATCH_DIRECTIONS, PATCH_MEASURES, PatchGrid, PatchingTracer, residual_rows

COLUMNS: tuple[str, ...] = ("region", "complement", "random")
COVERAGE = 0.25
"""An image position belongs to the region when the edit's mask covers at least this share of its patch."""


class RegionPatching(PatchingTracer):
    """Patches the residual at the image positions that look at what was edited, at all others, and at a random region.

    Where the pair has a mask, the region is every position of whose patch the mask covers at least the share `coverage` (where none
    is, the one that it covers most); else every position whose patch overlaps one of the edited boxes (of something that
    moved, both places).

    Effects are `[layers + 1, 3]`, patched minus base, rows as in group patching. The random region has as many positions as the
    edited one, is compact like it, and lies outside it as far as room allows; it depends only on the seed and the pair. Vision
    towers attend globally, so the complement carries some of the edit too: that is why it is always shown.
    """

    name: ClassVar[str] = "regions"

    def __init__(
        self, directions: Sequence[str] = PATCH_DIRECTIONS, measures: Sequence[str] = PATCH_MEASURES, coverage: float = COVERAGE
    ) -> None:
        super().__init__(directions, measures)
        if not 0 < coverage <= 1:
            raise VseamError(f"regions: coverage is {coverage}, expected a share above 0 and at most 1")
        self.coverage = coverage

    def presentation(self) -> Presentation:
        """A curve for the edited region, the rest of the image and the random region."""
        return Presentation(
            view="curve",
            title="share of the answer that a part of the image restores",
            caption="The residual stream of the clean run is put into the corrupt run at all image positions of a region, at one layer "
            "(emb: before the first). Share = Σ (patched − corrupt) / Σ (clean − corrupt) of the logit difference. The edited region has "
            "to restore more than a random region of the same size; vision towers attend globally, so the rest of the image carries "
            "some of the edit too.",
            columns={"region": "edited region", "complement": "rest of the image", "random": "random region"},
        )

    def options(self) -> Mapping[str, object]:
        """Directions, measures and coverage."""
        return {**super().options(), "coverage": self.coverage}

    def grids(self, context: TraceContext) -> Sequence[PatchGrid]:
        """One grid. Raises `UnsupportedError` behind a Q-Former, `SampleError` where there is no region or no complement."""
        regions = region_positions(context, self.coverage)
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


Regions = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def region_positions(context: TraceContext, coverage: float = COVERAGE) -> Regions:
    """Image positions of the edited region of a traced pair, of its complement, and of a random region of equal size (`regions_of`)."""
    return regions_of(context.clean, context.pair, context.image_size, context.seed, coverage)


def regions_of(prompt: EncodedPrompt, pair: Pair, size: tuple[int, int], seed: int, coverage: float = COVERAGE) -> Regions:
    """Image positions of a pair's edited region, of its complement, and of a random region of equal size; `size` is the image's.

    Raises `UnsupportedError` where image positions have no place in the image, `SampleError` where the pair names no edited
    region, its mask has another size than the image, or the region leaves nothing of the image over.
    """
    if prompt.image_boxes is None or not prompt.positions("image"):
        reason = prompt.notes.get("no_regions", "in this family they look at all of it (a Q-Former or cross-attention)")
        raise UnsupportedError(f"region patching needs image positions that look at one place of the image: {reason}")
    region = _masked_positions(prompt, pair, size, coverage) if pair.mask else prompt.image_positions_in(pair.boxes, size)
    complement = tuple(position for position in prompt.positions("image") if position not in set(region))
    if not region or not complement:
        what = "no image position" if not region else "every image position"
        by = "mask covers" if pair.mask else "boxes cover"
        raise SampleError(f"{pair.identifier}: the edited {by} {what}; region patching needs a part of the image")
    return region, complement, _random_region(prompt, region, _generator(seed, pair))


def _masked_positions(prompt: EncodedPrompt, pair: Pair, size: tuple[int, int], coverage: float) -> tuple[int, ...]:
    assert pair.mask is not None
    assert prompt.image_boxes is not None
    mask = pair.mask.load()
    width, height = size
    if mask.shape != (height, width):
        raise SampleError(f"{pair.identifier}: the mask is {mask.shape[1]}×{mask.shape[0]} pixels large, the image {width}×{height}")
    shares = covered_shares(mask, prompt.image_boxes)
    # Something smaller than a patch may reach the share nowhere: then it is where most of it lies.
    needed = (min(coverage, float(shares.max())) if shares.any() else coverage) - 1e-9
    return tuple(position for position, share in zip(prompt.positions("image"), shares, strict=True) if share >= needed)


def covered_shares(mask: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
    """The share of each box that a mask covers, exactly: a pixel that a box cuts counts by the part that lies in the box.

    `mask` is boolean `[height, width]`, boxes are fractions `(x0, y0, x1, y1)` of the image; 0 for a box without any area.
    """
    height, width = mask.shape
    # The integral of the mask from the corner to (x, y) is piecewise bilinear: exact between the whole pixels too.
    integral = np.zeros((height + 1, width + 1))
    integral[1:, 1:] = mask.cumsum(0, dtype=float).cumsum(1)
    x0, y0, x1, y1 = np.clip(np.asarray(boxes, dtype=float).reshape(-1, 4), 0.0, 1.0).T * np.array([[width], [height], [width], [height]])

    def at(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        left, top = np.minimum(x.astype(int), width - 1), np.minimum(y.astype(int), height - 1)
        right, low = x - left, y - top
        upper = integral[top, left] * (1 - right) + integral[top, left + 1] * right
        lower = integral[top + 1, left] * (1 - right) + integral[top + 1, left + 1] * right
        return upper * (1 - low) + lower * low

    area = (x1 - x0) * (y1 - y0)
    covered = at(x1, y1) - at(x0, y1) - at(x1, y0) + at(x0, y0)
    return np.divide(covered, area, out=np.zeros_like(covered), where=area > 0)


def _generator(seed: int, pair: Pair) -> np.random.Generator:
    # Seeded by the pair too, else every pair of a study would draw the same place.
    digest = hashlib.sha256(pair.identifier.encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])


def _random_region(prompt: EncodedPrompt, region: tuple[int, ...], generator: np.random.Generator) -> tuple[int, ...]:
    """Grows a compact region from a random position outside `region`, nearest positions first, those inside `region` last."""
    image = np.array(prompt.positions("image"))
    boxes = np.array(prompt.image_boxes)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    # Positions without a place of their own (ends of rows, padding) come last too.
    inside = np.isin(image, region) | (boxes[:, 0] >= boxes[:, 2]) | (boxes[:, 1] >= boxes[:, 3])
    start = generator.choice(np.flatnonzero(~inside))
    distance = np.linalg.norm(centres - centres[start], axis=1)
    # Rounded, so that equal distances tie whatever the last bit says, and the tie is broken by chance.
    order = np.lexsort((generator.permutation(len(image)), distance.round(9), inside))
    return tuple(sorted(int(position) for position in image[order[: len(region)]]))
