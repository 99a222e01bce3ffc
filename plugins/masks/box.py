"""Masks from annotated boxes alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vseam_core.api.interfaces import EditPlan, MaskProvider
from vseam_core.api.types import Box, Sample
from vseam_core.editing.masks import check_boxes
from vseam_core.errors import SampleError, VseamError


class BoxMask(MaskProvider):
    """The boxes of a plan, grown by a share of their size on every side and cut at the image's edge.

    Raises `VseamError` for a padding that is negative.
    """

    name = "box"

    def __init__(self, padding: float = 0.05) -> None:
        if not padding >= 0:
            raise VseamError(f"mask {self.name!r}: padding {padding!r}: expected a share of the box's size, 0 or more")
        self.padding = padding

    def identity(self) -> Mapping[str, object]:
        """The padding."""
        return {"padding": self.padding}

    def mask(self, sample: Sample, plan: EditPlan) -> np.ndarray:
        """The union of the boxes. Raises `SampleError` where the plan has none, or one lies outside the image."""
        size = sample.image.load().size
        found = np.zeros((size[1], size[0]), dtype=bool)
        for box in boxes_of(sample, plan, size, self.name):
            self._paint(found, self._padded(box))
        return found

    def _padded(self, box: Box) -> Box:
        x0, y0, x1, y1 = box
        wide, high = self.padding * (x1 - x0), self.padding * (y1 - y0)
        return x0 - wide, y0 - high, x1 + wide, y1 + high

    def _paint(self, found: np.ndarray, box: Box) -> None:
        x0, y0, x1, y1 = box
        found[max(0, int(np.floor(y0))) : max(0, int(np.ceil(y1))), max(0, int(np.floor(x0))) : max(0, int(np.ceil(x1)))] = True


class EllipseMask(BoxMask):
    """The ellipses inside the (padded) boxes: leaves a box's corners, which seldom belong to the thing, as they are."""

    name = "ellipse"

    def _paint(self, found: np.ndarray, box: Box) -> None:
        x0, y0, x1, y1 = box
        rows, columns = np.mgrid[: found.shape[0], : found.shape[1]] + 0.5
        across, down = (columns - (x0 + x1) / 2) / ((x1 - x0) / 2), (rows - (y0 + y1) / 2) / ((y1 - y0) / 2)
        found |= across**2 + down**2 <= 1


def boxes_of(sample: Sample, plan: EditPlan, size: tuple[int, int], name: str) -> tuple[Box, ...]:
    """The boxes of a plan, checked. Raises `SampleError` where there is none or one lies outside the image."""
    if not plan.boxes:
        raise SampleError(
            f"{sample.identifier}: mask {name!r} needs a box of {plan.find or plan.source_term!r}, and the dataset annotates none; "
            "--mask grounded-sam finds things by words"
        )
    check_boxes(plan.boxes, size, sample.identifier)
    return plan.boxes
