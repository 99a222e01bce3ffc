"""Every promise of the suite for edited images is broken once by images that are wrong in one way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conformance.support import assert_broken
from vseam_core.api.interfaces import EditedImages, EditPlan
from vseam_core.api.types import Sample
from vseam_core.errors import SampleError
from vseam_core.testing import EditedImagesConformance
from vseam_core.testing.images import BOX, Noise, sample


class Careless(EditedImages):
    """The edited twins of the suites' own samples, with a fault."""

    name = "careless"

    def __init__(self, fault: str = ""):
        self.fault = fault
        if fault == "composites":
            self.composites = "yes"  # type: ignore[assignment]

    def _random(self, fault: str) -> int:
        return int(np.random.default_rng().integers(1 << 30)) if self.fault == fault else 0

    def plan(self, sample: Sample) -> Any:
        if self.fault == "no plan":
            return {"source_term": "red"}
        return EditPlan("red", "blue", "", None, 2.0 if self.fault == "sure" else 1.0, str(self._random("another plan")))

    def image(self, sample: Sample) -> Any:
        if not sample.question_id.isdigit() and self.fault != "guessing":
            raise SampleError("no image\nnone at all" if self.fault == "two lines" else "no image")
        if self.fault == "array":
            return np.zeros((4, 4, 3), np.uint8)
        image = Noise(self._random("another image"), edited=self.fault != "unedited").load()
        # Images from elsewhere may have another size: the core brings them to that of the original.
        return image if self.fault else image.resize((2 * image.width, 2 * image.height))

    def mask(self, sample: Sample, clean: Image.Image, edited: Image.Image) -> Any:
        mask = np.zeros((edited.height, edited.width), dtype=bool)
        x0, y0, x1, y1 = map(int, BOX)
        mask[y0:y1, x0:x1] = self.fault != "empty"
        match self.fault:
            case "numbers":
                return mask.astype(float)
            case "turned":
                return mask.T
            case "another mask":
                return np.random.default_rng().random(mask.shape) > 0.5
            case "painting":
                edited.putpixel((0, 0), (1, 2, 3))
            case "elsewhere":
                same = (np.asarray(clean) == np.asarray(edited)).all(-1)
                return same if same.any() else mask
        return mask


def samples(self: Any) -> list[Sample]:
    return [sample(0)]


@pytest.mark.parametrize(
    ("fault", "test", "message"),
    [
        ("array", "test_there_is_an_edited_image_of_every_sample", "a PIL image"),
        ("unedited", "test_there_is_an_edited_image_of_every_sample", "is another one"),
        ("another image", "test_there_is_an_edited_image_of_every_sample", "the same image each time"),
        ("composites", "test_there_is_an_edited_image_of_every_sample", "true or false"),
        ("no plan", "test_a_plan_says_what_is_known_of_the_edit", "an EditPlan"),
        ("sure", "test_a_plan_says_what_is_known_of_the_edit", "between 0 and 1"),
        ("another plan", "test_a_plan_says_what_is_known_of_the_edit", "the same plan each time"),
        ("numbers", "test_a_mask_is_boolean_as_large_as_the_image_and_covers_the_edit", "boolean"),
        ("turned", "test_a_mask_is_boolean_as_large_as_the_image_and_covers_the_edit", "boolean"),
        ("empty", "test_a_mask_is_boolean_as_large_as_the_image_and_covers_the_edit", "neither empty"),
        ("another mask", "test_a_mask_is_boolean_as_large_as_the_image_and_covers_the_edit", "the same mask each time"),
        ("painting", "test_a_mask_is_boolean_as_large_as_the_image_and_covers_the_edit", "neither image is changed"),
        ("elsewhere", "test_a_mask_is_boolean_as_large_as_the_image_and_covers_the_edit", "differs inside the mask"),
        ("guessing", "test_a_sample_without_an_edited_image_is_refused", "nothing was raised"),
        ("two lines", "test_a_sample_without_an_edited_image_is_refused", "one line"),
    ],
)
def test_careless_edited_images_are_caught(fault: str, test: str, message: str) -> None:
    assert_broken(EditedImagesConformance, lambda: Careless(fault), test, message, samples=samples)


def test_sound_edited_images_pass() -> None:
    suite = type("TestIt", (EditedImagesConformance,), {"make": lambda self: Careless(), "samples": samples, "not_in_identity": ("fault",)})
    for name in dir(suite):
        if name.startswith("test_"):
            getattr(suite(), name)()
