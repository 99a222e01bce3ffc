"""The suite for images that were edited elsewhere."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from vseam_core.api.interfaces import EditedImages, EditPlan
from vseam_core.api.types import Sample
from vseam_core.testing.promises import promise, promise_identified, promise_refusal

if TYPE_CHECKING:
    from PIL.Image import Image


class EditedImagesConformance:
    """Inherit, name it Test…, and let `make` return the edited images and `samples` some samples that they hold an image of."""

    not_in_identity: Sequence[str] = ()
    """Constructor options that change no result, or that `identity()` says by another name."""

    @abstractmethod
    def make(self) -> EditedImages:
        """The edited images under test."""

    @abstractmethod
    def samples(self) -> Sequence[Sample]:
        """Samples that there is an edited image of."""

    def unknown(self) -> Sample | None:
        """A sample that there is no edited image of; None where there is one of every sample."""
        one = self.samples()[0]
        return replace(one, identifier=f"{one.identifier}/unknown", question_id="unknown-sample", image_id="unknown-sample", metadata={})

    def _both(self, sample: Sample) -> tuple[Image, Image]:
        """The sample's own image and the edited one, brought to one size as the core does."""
        from PIL import Image as images

        clean, edited = sample.image.load(), self.make().image(sample)
        promise(isinstance(edited, images.Image), f"{sample.identifier}: the edited image is a PIL image")
        edited = edited.convert("RGB")
        return clean, edited if edited.size == clean.size else edited.resize(clean.size, images.Resampling.LANCZOS)

    def test_there_is_an_edited_image_of_every_sample(self) -> None:
        images = self.make()
        promise(isinstance(images, EditedImages) and images.name, "make returns EditedImages with a name")
        promise(isinstance(images.composites, bool), "composites is true or false")
        promise(self.samples(), "samples returns some")
        for one in self.samples():
            clean, edited = self._both(one)
            promise(clean.tobytes() != edited.tobytes(), f"{one.identifier}: the edited image is another one")
            promise(images.image(one).tobytes() == images.image(one).tobytes(), f"{one.identifier}: the same image each time")

    def test_a_plan_says_what_is_known_of_the_edit(self) -> None:
        images = self.make()
        for one in self.samples():
            plan = images.plan(one)
            promise(isinstance(plan, EditPlan), f"{one.identifier}: a plan is an EditPlan; words that are not known are empty")
            promise(0 <= plan.confidence <= 1, f"{one.identifier}: confidence lies between 0 and 1")
            promise(images.plan(one) == plan, f"{one.identifier}: the same plan each time")

    def test_a_mask_is_boolean_as_large_as_the_image_and_covers_the_edit(self) -> None:
        images = self.make()
        for one in self.samples():
            clean, edited = self._both(one)
            before = clean.tobytes(), edited.tobytes()
            mask = images.mask(one, clean, edited)
            promise(
                mask.dtype == bool and mask.shape == (clean.height, clean.width), f"{one.identifier}: a mask is boolean [height, width]"
            )
            promise(mask.any() and not mask.all(), f"{one.identifier}: a mask is neither empty nor everything")
            promise(np.array_equal(images.mask(one, clean, edited), mask), f"{one.identifier}: the same mask each time")
            promise((clean.tobytes(), edited.tobytes()) == before, f"{one.identifier}: neither image is changed")
            changed = (np.asarray(clean) != np.asarray(edited)).any(-1)
            promise((changed & mask).any(), f"{one.identifier}: something differs inside the mask")

    def test_a_sample_without_an_edited_image_is_refused(self) -> None:
        unknown = self.unknown()
        if unknown is None:
            return
        promise_refusal(lambda: self.make().image(unknown), "a sample without an edited image is refused")

    def test_it_says_what_identifies_its_results(self) -> None:
        promise_identified(self.make(), self.not_in_identity)
