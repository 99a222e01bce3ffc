"""The suites for editing: editors, painters, mask providers, planners."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from vseam_core.api.interfaces import Editor, EditPlan, EditPlanner, MaskProvider, Painter
from vseam_core.api.types import Pair, Sample
from vseam_core.errors import SampleError
from vseam_core.testing.images import BOX, SIZE, Noise, sample
from vseam_core.testing.promises import promise, promise_identified, promise_plain

PLAN = EditPlan("red", "blue", "a blue dog", "No", level="attribute", boxes=(BOX,), region_prompt="a blue dog")


class EditorConformance:
    """Inherit, name it Test…, and let `make` return the editor and `samples` some samples that it can edit."""

    not_in_identity: Sequence[str] = ()
    """Constructor options that change no result, or that `identity()` says by another name."""

    @abstractmethod
    def make(self) -> Editor:
        """The editor under test."""

    @abstractmethod
    def samples(self) -> Sequence[Sample]:
        """Samples that it can edit."""

    def _pairs(self) -> list[Pair]:
        editor = self.make()
        return [editor.edit(one) for one in self.samples()]

    def test_a_pair_asks_one_question_about_two_images(self) -> None:
        for pair in self._pairs():
            clean, corrupt = pair.clean.image.load(), pair.corrupt.image.load()
            promise(pair.clean.question == pair.corrupt.question, f"{pair.identifier}: both images are asked the same question")
            promise(pair.clean.identifier != pair.corrupt.identifier, f"{pair.identifier}: the edited sample has a name of its own")
            promise(
                pair.clean.pool == pair.corrupt.pool and pair.clean.image_id == pair.corrupt.image_id,
                f"{pair.identifier}: both are of one pool and cluster",
            )
            promise(
                clean.size == corrupt.size and clean.mode == corrupt.mode == "RGB",
                f"{pair.identifier}: both images are RGB and of one size",
            )
            promise(clean.tobytes() != corrupt.tobytes(), f"{pair.identifier}: the image is changed")
            promise(pair.kind == "edit" and pair.source_term and pair.target_term, f"{pair.identifier}: it says what became what")

    def test_pairs_are_told_apart_and_name_their_editor(self) -> None:
        pairs = self._pairs()
        promise(len({pair.identifier for pair in pairs}) == len(pairs), "every pair has an identifier of its own")
        promise(all(pair.editor == self.make().name for pair in pairs), "a pair names the editor that made it")

    def test_the_true_answer_changes(self) -> None:
        for pair in self._pairs():
            promise(pair.corrupt.answer.lower() != pair.clean.answer.lower(), f"{pair.identifier}: the edited image has another answer")

    def test_nothing_changes_outside_the_edited_region(self) -> None:
        for pair in self._pairs():
            clean, corrupt = (np.asarray(one.image.load()) for one in (pair.clean, pair.corrupt))
            inside = np.zeros(clean.shape[:2], dtype=bool)
            for x0, y0, x1, y1 in pair.boxes:
                inside[int(np.floor(y0)) : int(np.ceil(y1)), int(np.floor(x0)) : int(np.ceil(x1))] = True
            if pair.mask is not None:
                inside = pair.mask.load()
                promise(inside.shape == clean.shape[:2], f"{pair.identifier}: the mask is as large as the image")
            changed = (clean != corrupt).any(-1)
            promise(not (changed & ~inside).any(), f"{pair.identifier}: no pixel changes outside the edited region")

    def test_the_same_seed_gives_the_same_image(self) -> None:
        for one in self.samples():
            first, second = (self.make().edit(one, seed=3).corrupt.image.load().tobytes() for _ in range(2))
            promise(first == second, f"{one.identifier}: the same seed gives the same pixels")

    def test_a_control_keeps_the_answer(self) -> None:
        editor = self.make()
        for one in self.samples():
            control = editor.control(one)
            if control is not None:
                promise(control.kind == "control", f"{control.identifier}: it says that it is a control")
                promise(control.corrupt.answer == one.answer, f"{control.identifier}: a control keeps the answer")

    def test_it_says_what_identifies_its_results(self) -> None:
        promise_identified(self.make(), self.not_in_identity)


class PainterConformance:
    """Inherit, name it Test…, and let `make` return the painter; `plan` is what it is asked to paint into `BOX`."""

    plan: EditPlan = PLAN
    size = SIZE
    not_in_identity: Sequence[str] = ()
    """Constructor options that change no result, or that `identity()` says by another name."""

    @abstractmethod
    def make(self) -> Painter:
        """The painter under test."""

    def _paint(self, seed: int = 0) -> np.ndarray:
        image = Noise(0).load().resize(self.size)
        scale = (self.size[0] / SIZE[0], self.size[1] / SIZE[1])
        mask = np.zeros((self.size[1], self.size[0]), dtype=bool)
        mask[int(BOX[1] * scale[1]) : int(BOX[3] * scale[1]), int(BOX[0] * scale[0]) : int(BOX[2] * scale[0])] = True
        painted = self.make().paint(image, mask, self.plan, seed)
        promise(painted.size == image.size and painted.mode == "RGB", "a painter returns RGB at the size that it was given")
        promise((np.asarray(painted)[mask] != np.asarray(image)[mask]).any(), "something changes inside the mask")
        return np.asarray(painted)

    def test_it_paints_inside_the_mask(self) -> None:
        promise(self.make().name, "a painter has a name")
        self._paint()

    def test_the_same_seed_gives_the_same_pixels(self) -> None:
        promise(np.array_equal(self._paint(7), self._paint(7)), "the same seed gives the same pixels")

    def test_it_leaves_what_it_is_given_alone(self) -> None:
        image = Noise(0).load().resize(self.size)
        mask = np.zeros((self.size[1], self.size[0]), dtype=bool)
        mask[: self.size[1] // 2] = True
        before = image.tobytes(), mask.tobytes()
        self.make().paint(image, mask, self.plan, 0)
        promise((image.tobytes(), mask.tobytes()) == before, "a painter changes neither the image nor the mask that it is given")

    def test_its_identity_is_plain(self) -> None:
        promise_plain(self.make().identity(), "a painter's identity")

    def test_it_says_what_identifies_its_results(self) -> None:
        promise_identified(self.make(), self.not_in_identity)

    def test_its_working_size_is_a_size(self) -> None:
        width, height = self.make().working_size((500, 375))
        promise(width > 0 and height > 0, "the working size is positive")


class MaskProviderConformance:
    """Inherit, name it Test…, and let `make` return the mask provider."""

    plan: EditPlan = PLAN
    not_in_identity: Sequence[str] = ()
    """Constructor options that change no result, or that `identity()` says by another name."""

    @abstractmethod
    def make(self) -> MaskProvider:
        """The mask provider under test."""

    def test_a_mask_is_boolean_as_large_as_the_image_and_not_empty(self) -> None:
        mask = self.make().mask(sample(), self.plan)
        promise(mask.dtype == bool and mask.shape == (SIZE[1], SIZE[0]), "a mask is boolean [height, width]")
        promise(mask.any() and not mask.all(), "a mask is neither empty nor everything")

    def test_it_is_the_same_each_time(self) -> None:
        provider = self.make()
        promise(np.array_equal(provider.mask(sample(), self.plan), provider.mask(sample(), self.plan)), "the same mask each time")

    def test_it_says_what_identifies_its_results(self) -> None:
        promise_identified(self.make(), self.not_in_identity)


class EditPlannerConformance:
    """Inherit, name it Test…, and let `make` return the planner and `samples` samples that it can plan for."""

    not_in_identity: Sequence[str] = ()
    """Constructor options that change no result, or that `identity()` says by another name."""

    @abstractmethod
    def make(self) -> EditPlanner:
        """The planner under test."""

    def samples(self) -> Sequence[Sample]:
        """Samples to plan for."""
        return [sample(seed) for seed in range(3)]

    def test_a_plan_says_what_becomes_what(self) -> None:
        planner = self.make()
        for one in self.samples():
            plan = planner.plan(one)
            promise(
                plan.source_term.strip() and plan.target_term.strip() and plan.prompt.strip(),
                f"{one.identifier}: terms and prompt are not empty",
            )
            promise(plan.source_term.lower() != plan.target_term.lower(), f"{one.identifier}: source and target differ")
            promise(0 <= plan.confidence <= 1, f"{one.identifier}: confidence lies between 0 and 1")
            promise(plan.target_answer is None or plan.target_answer.lower() != one.answer.lower(), f"{one.identifier}: the answer changes")
            promise(planner.plan(one) == plan, f"{one.identifier}: the same plan each time")

    def test_what_it_cannot_read_is_refused(self) -> None:
        from dataclasses import replace

        try:
            self.make().plan(replace(sample(), question="Xyzzy plugh?", objects=(), roles=()))
        except SampleError as error:
            promise(str(error) and "\n" not in str(error), "the reason is one line")

    def test_it_says_what_identifies_its_results(self) -> None:
        promise_identified(self.make(), self.not_in_identity)
