"""Region patching by the edit's mask: which positions count, against a computation on a finely divided image."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from vseam_core.api.types import Box, Pair
from vseam_core.errors import SampleError, VseamError
from vseam_plugins.tracers.regions import RegionPatching, covered_shares

from .support import GRID, IMAGE_POSITIONS, SIZE, context, pair


@dataclass(frozen=True)
class Mask:
    """A mask in memory."""

    values: tuple[tuple[bool, ...], ...]

    def load(self) -> np.ndarray:
        return np.array(self.values)


def masked(*rectangles: tuple[int, int, int, int], size: tuple[int, int] = SIZE) -> Pair:
    mask = np.zeros((size[1], size[0]), dtype=bool)
    for x0, y0, x1, y1 in rectangles:
        mask[y0:y1, x0:x1] = True
    return replace(pair(), mask=Mask(tuple(map(tuple, mask.tolist()))))


def regions(edit: Pair, **options: float) -> tuple[tuple[int, ...], ...]:
    runs = RegionPatching(directions=["denoising"], **options).plan(context(edit=edit))  # type: ignore[arg-type]
    return tuple(run.interventions[0].positions for run in runs[2:5])


def slow_share(mask: np.ndarray, box: Box, fine: int) -> float:
    """The share of covered points among fine × fine points in each pixel that lie in the box."""
    height, width = mask.shape
    inside = covered = 0
    for y in range(height * fine):
        for x in range(width * fine):
            px, py = (x + 0.5) / fine / width, (y + 0.5) / fine / height
            if box[0] <= px < box[2] and box[1] <= py < box[3]:
                inside += 1
                covered += mask[y // fine, x // fine]
    return covered / inside


def test_shares_equal_those_counted_point_by_point_whatever_cuts_a_pixel() -> None:
    mask = np.random.default_rng(0).random((6, 8)) < 0.4
    fine = 12
    # Edges on the fine grid, most of them inside a pixel; every box is in parts of the image.
    generator = np.random.default_rng(1)
    boxes = []
    for _ in range(12):
        x, y = np.sort(generator.choice(8 * fine + 1, 2, replace=False)), np.sort(generator.choice(6 * fine + 1, 2, replace=False))
        boxes.append((x[0] / (8 * fine), y[0] / (6 * fine), x[1] / (8 * fine), y[1] / (6 * fine)))
    expected = [slow_share(mask, box, fine) for box in boxes]
    np.testing.assert_allclose(covered_shares(mask, boxes), expected, atol=1e-9)


def test_the_whole_image_and_a_box_without_area() -> None:
    mask = np.zeros((5, 4), dtype=bool)
    mask[:2, 3] = True
    np.testing.assert_allclose(covered_shares(mask, [(0, 0, 1, 1), (0.75, 0, 1, 0.4), (0.5, 0.5, 0.5, 1)]), [0.1, 1.0, 0.0])


def test_a_patch_counts_from_the_stated_share_on() -> None:
    # Patches are 8 × 8 pixels: 16, 8, 7 and 64 of their 64 pixels are covered.
    edit = masked((0, 0, 8, 2), (8, 0, 16, 1), (16, 0, 23, 1), (24, 0, 32, 8))
    assert regions(edit)[0] == (IMAGE_POSITIONS[0], IMAGE_POSITIONS[3])
    assert regions(edit, coverage=0.26)[0] == (IMAGE_POSITIONS[3],)
    assert regions(edit, coverage=0.12)[0] == (IMAGE_POSITIONS[0], IMAGE_POSITIONS[1], IMAGE_POSITIONS[3])


def test_the_mask_decides_and_not_the_boxes_beside_it() -> None:
    edit = replace(masked((0, 24, 8, 32)), boxes=((0.0, 0.0, 32.0, 32.0),))
    region, complement, random = regions(edit)
    assert region == (IMAGE_POSITIONS[3 * GRID],)
    assert sorted(region + complement) == list(IMAGE_POSITIONS)
    assert len(random) == 1
    assert random != region


def test_of_something_moved_both_places_count() -> None:
    assert regions(masked((0, 0, 8, 8), (24, 24, 32, 32)))[0] == (IMAGE_POSITIONS[0], IMAGE_POSITIONS[-1])


def test_something_smaller_than_a_patch_is_where_most_of_it_lies() -> None:
    assert regions(masked((6, 0, 9, 2)))[0] == (IMAGE_POSITIONS[0],)


def test_a_mask_that_cannot_be_used_is_a_skip() -> None:
    with pytest.raises(SampleError, match="the mask is 8×8 pixels large, the image 32×32"):
        regions(masked((0, 0, 4, 4), size=(8, 8)))
    with pytest.raises(SampleError, match="the edited mask covers every image position"):
        regions(masked((0, 0, 32, 32)))
    with pytest.raises(SampleError, match="the edited mask covers no image position"):
        regions(masked())


def test_the_coverage_is_part_of_the_identity_and_a_share_above_0() -> None:
    assert RegionPatching().options()["coverage"] == 0.25
    assert RegionPatching(coverage=0.5).options()["coverage"] == 0.5
    with pytest.raises(VseamError, match="coverage is 0, expected a share above 0"):
        RegionPatching(coverage=0)
